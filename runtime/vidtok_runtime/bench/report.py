"""What becomes of a benchmark's figures: JSON and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidtok_runtime.bench.plot import speeds
from vidtok_runtime.bench.run import Bench
from vidtok_runtime.files import PartFile
from vidtok_runtime.quality.picture import check_picture


@dataclass(frozen=True)
class Files:
    """Files to write, each only when named."""

    json: Path | None = None
    plot: Path | None = None
    force: bool = False

    def open(self) -> dict[str, PartFile]:
        """The targets by name; raises OutputError when one exists or cannot be, InputError for a wrong picture."""
        if self.plot:
            check_picture(self.plot)
        named = {"json": self.json, "plot": self.plot}
        return {name: PartFile(path, force=self.force) for name, path in named.items() if path}


def write(bench: Bench, targets: dict[str, PartFile]) -> None:
    """Fill the files that `Files.open` gave; raises OutputError."""
    if "json" in targets:
        targets["json"].write_whole(bench.to_json().encode())
    if "plot" in targets:
        targets["plot"].write_whole(speeds(bench, targets["plot"].path.suffix))
