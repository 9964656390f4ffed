"""What becomes of a benchmark's figures: a table, JSON, a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidtok_runtime.bench import Bench
from vidtok_runtime.files import PartFile
from vidtok_runtime.plot import check_picture, speeds


def table(bench: Bench) -> Iterator[str]:
    """Lines of a table for each case."""
    for case, rows in bench.by_case().items():
        rate = rows[0].matmul_rate
        yield f"{bench.bundle} ({bench.variant}): {case}" + (
            f"; limit {rate / 1e9:.1f} G multiply-adds/s" if rate else ""
        )
        yield f"{'':<34}{'first s':>9}{'call s':>9}{'frames/s':>10}{'of limit':>10}{'peak MiB':>10}{'ratio':>8}"
        for row in rows:
            share = "-" if row.limit_share is None else f"{row.limit_share:.1%}"
            peak = "-" if row.peak_mib is None else f"{row.peak_mib:.0f}"
            yield (
                f"{row!s:<34}{row.first_s:>9.3f}{row.call_s:>9.3f}{row.frames_per_second:>10.1f}"
                f"{share:>10}{peak:>10}{row.ratio:>7.2f}x"
            )
        yield ""
    yield from (f"left out: {name}: {reason}" for name, reason in bench.left_out.items())
    yield bench.how


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
