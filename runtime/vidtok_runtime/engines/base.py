"""One interface over the inference engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.arguments import whole

Array = NDArray[Any]
Shapes = dict[str, tuple[str, tuple[int | None, ...]]]  # of each name its type and sizes, None where any will do


def copied(value: Array, into: Array | None) -> Array:
    """A copy of what an engine owns, in memory that is there already if it fits: what is fresh is slower to write."""
    if into is None or into.shape != value.shape:
        return value.copy()
    np.copyto(into, value)
    return into


class Session(Protocol):
    """A loaded graph."""

    inputs: Shapes
    outputs: Shapes

    def run(
        self, inputs: Mapping[str, Array], into: Mapping[str, Array] | None = None, *, release: bool = False
    ) -> dict[str, Array]:
        """Outputs by name; state outputs may be engine-owned values that only feed the next call.

        into: where outputs may go, by name: arrays, which may be inputs of this call, since they are written when it
        is over, or engine-owned values of an earlier call. release: give memory back that would only make the next
        call faster.
        """
        ...


@dataclass(frozen=True)
class Options:
    """Settings of a session: CPU threads (None: one per core), device number, outputs that only feed the next call.

    handed_on: outputs that only feed another graph. weights: files that the graph keeps tensors in. left: names of
    nodes that the provider has no kernel for.
    provider_options: names and values for the engine itself: of the CUDA provider (`use_tf32`, `enable_cuda_graph`,
    `cudnn_conv_algo_search`, `gpu_mem_limit`...), attributes and configuration of ONNX Runtime's session on the CPU,
    properties of OpenVINO. Raises InputError.
    """

    threads: int | None = None
    device_id: int = 0
    provider_options: tuple[tuple[str, str], ...] = ()
    resident: frozenset[str] = frozenset()
    handed_on: frozenset[str] = frozenset()
    weights: tuple[Path, ...] = ()
    left: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.threads is not None:
            object.__setattr__(self, "threads", whole("threads", self.threads, 1))
        object.__setattr__(self, "device_id", whole("device_id", self.device_id, 0))


@dataclass(frozen=True)
class Provider:
    """An engine on a device, by the name that people ask for.

    module: what it needs in Python. cure: what brings it. load: makes a session of a graph. executions: names of
    ONNX Runtime for it, and for what takes the nodes that it leaves before the CPU does; none for other engines.
    plugin: the module of a package that brings it to an ONNX Runtime without it. device: where ONNX Runtime keeps
    states. graphs: the provider whose graphs of a bundle it takes, itself where empty. settings: of its own, where
    none are asked for. leaves: the setting that names nodes for the CPU. wrong: operators whose results are wrong
    there. numbered: whether a device number chooses one of several. tested: whether this project's tests run it.
    """

    name: str
    module: str
    cure: str
    load: Callable[[Provider, Path, Options], Session]
    executions: tuple[str, ...] = ()
    plugin: str | None = None
    device: str = "cpu"
    graphs: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    leaves: str | None = None
    wrong: tuple[str, ...] = ()
    numbered: bool = True
    tested: bool = True

    @property
    def listed_as(self) -> str:
        """The provider by which bundles list the graphs that it takes."""
        return self.graphs or self.name

    def open(self, path: Path, options: Options) -> Session:
        """Load a graph; raises BundleError, ProviderError."""
        return self.load(self, path, options)
