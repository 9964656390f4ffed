"""What model servers need to know of a bundle: its graphs at one picture size, and how a client calls them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidtok_export.servers.repository import model_name
from vidtok_runtime.bundle.graph_entry import FIRST_CALL, ROLES, Flag, GraphEntry, shape_of
from vidtok_runtime.bundle.manifest import Manifest, check_file


@dataclass(frozen=True)
class Served:
    """A graph of a bundle as a server's model; `sizes` has N, and H and W in pixels."""

    manifest: Manifest
    entry: GraphEntry
    file: Path
    sizes: dict[str, int]

    @property
    def role(self) -> str:
        """`encoder` or `decoder`."""
        return self.entry.role

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return model_name(self.manifest.variant, self.role)

    @property
    def start_flag(self) -> Flag | None:
        """The flag that is true in the first call and no other."""
        return next((flag for flag in self.entry.flags if flag.set == (FIRST_CALL,)), None)

    @property
    def other_flags(self) -> list[Flag]:
        """Flags for calls that a server knows nothing about."""
        return [flag for flag in self.entry.flags if flag is not self.start_flag]

    def dims(self, axes: str) -> list[int]:
        """Numbers for axes as text, -1 where any will do."""
        return [
            -1 if axis[0].isalpha() and axis[0] not in self.sizes else shape_of(axis, self.sizes)[0]
            for axis in axes.split()
        ]


def served(manifest: Manifest, size: tuple[int, int], provider: str, precision: str | None) -> list[Served]:
    """Encoder and decoder for frames of a size (width, height), which is rounded up to what the graphs take.

    Raises BundleError.
    """
    width, height = (-(-n // manifest.spatial_multiple) * manifest.spatial_multiple for n in size)
    sizes = {"N": 1, "H": height, "W": width}
    entries = [manifest.graph(role, provider, precision) for role in ROLES]
    return [Served(manifest, entry, check_file(manifest, entry), sizes) for entry in entries]
