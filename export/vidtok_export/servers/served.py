"""What model servers need to know of a bundle: a graph for each role at one picture size, and how a client calls it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from vidtok_export.compact import TWO_GB
from vidtok_export.errors import ExportError
from vidtok_export.servers.joined import joined
from vidtok_export.servers.repository import model_name
from vidtok_runtime.bundle.graph_entry import ROLES, GraphEntry, Port, shape_of
from vidtok_runtime.bundle.manifest import Manifest, check_file, sizes_of_graphs
from vidtok_runtime.bundle.stream_spec import FIRST_CALL, CallSpec
from vidtok_runtime.streaming.geometry import padded_size


@dataclass(frozen=True)
class Served:
    """The graphs of a role as one model of a server; `sizes` has N, and H and W in pixels.

    entry, graph: the joined ones, the weights of which may lie in files of the bundle's folder.
    """

    manifest: Manifest
    entry: GraphEntry
    graph: onnx.ModelProto
    sizes: dict[str, int]

    @property
    def role(self) -> str:
        """`encoder` or `decoder`."""
        return self.entry.role

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return model_name(self.manifest.name, self.role)

    @property
    def calls(self) -> CallSpec:
        """How the model is called."""
        return self.manifest.stream.calls(self.role)

    @property
    def start_flag(self) -> Port | None:
        """The flag that is true in the first call and no other."""
        return next((flag for flag in self.entry.flags if self.calls.flags[flag.name] == (FIRST_CALL,)), None)

    @property
    def other_flags(self) -> list[Port]:
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

    Raises BundleError, ExportError.
    """
    spec = manifest.stream
    height, width = padded_size(size[1], size[0], spec.side_multiple, square=spec.square)
    models = []
    for role in ROLES:
        chain = manifest.chain(role, provider, precision)
        if sum(sizes_of_graphs(manifest, chain)) > TWO_GB:
            raise ExportError(
                f"the {role} of {manifest.name} has more than the 2 GB that a graph with its weights inside may have; "
                "`vidtok-export triton` takes it with --backend python, or in a smaller --precision of the bundle"
            )
        graphs = [onnx.load(check_file(manifest, entry)[0]) for entry in chain]
        models.append(Served(manifest, *joined(chain, graphs), {"N": 1, "H": height, "W": width}))
    return models
