"""What a stream will need at its peak, from the manifest and costs that were measured."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidtok_runtime.bundle.graph_entry import GraphEntry, shape_of
from vidtok_runtime.bundle.manifest import Manifest, size_of
from vidtok_runtime.errors import BundleError, InputError
from vidtok_runtime.machine import free_memory
from vidtok_runtime.streaming.tiles import Tiling

_FLOAT = 4
_MIB = 2**20
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_memory(value: int | str) -> int:
    """Bytes of a number or of text such as `4GB`, `1.5 GiB`, `800M`; raises InputError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(value).upper())
    unit = _UNITS.get(match[2]) if match else None
    if match is None or unit is None or not 0 < float(match[1]) * unit < 2**63:
        raise InputError(f"an amount of memory is bytes or text such as 4GB or 800MiB, got {value!r:.60}")
    return int(float(match[1]) * unit)


def format_memory(size: float) -> str:
    """Bytes as text with a decimal unit, rounded up to two digits or so: what it says is enough."""
    if size >= 10**9:
        return f"{-(-size // 10**8) / 10:.1f}GB"
    return f"{-(-size // 10**7) * 10:.0f}MB"


@dataclass(frozen=True)
class Costs:
    """Measured by `scripts/memory.py fit`: peak bytes as multiples of what is counted.

    process: MiB of Python and the engine. weights: of the graph files. widest: of the widest activation of a call,
    with the two frames that temporal layers carry. scores: of the attention scores of a call, `(h*w)^2` a position in
    time. states: of the state of the tile in turn. idle: of the states of the other tiles.
    """

    process: float
    weights: float
    widest: float
    scores: float
    states: float
    idle: float


COSTS = {
    ("cpu", "encoder"): Costs(63.8, 3.7, 8.2, 1.2, 1.9, 1.3),
    ("cpu", "decoder"): Costs(63.8, 3.7, 8.0, 0.8, 1.3, 1.3),
    ("openvino", "encoder"): Costs(105.2, 5.0, 8.5, 1.9, 3.0, 1.0),
    ("openvino", "decoder"): Costs(105.2, 5.0, 8.4, 1.9, 2.5, 1.0),
}
# Copies of a chunk's pixels in float32 that numpy holds at once: see `geometry.to_network`, `from_network`.
PIXEL_COPIES = {"encoder": 3, "decoder": 4}
# What `vidtok-run` takes beside: MiB of PyAV, OpenCV and the command line with an engine; bytes for each pixel of a
# frame to read a clip (the decoder's frames, colours in float) and to write one (x264 looks ahead by 40 frames).
COMMAND = {"cpu": 40, "openvino": 60}
CLIP_BYTES = {"encoder": 70, "decoder": 240}
IN_HAND = 0.1  # share of a limit that a prediction may be wrong by


@dataclass(frozen=True)
class Counts:
    """Bytes that a stream's peak is made of, before the costs; `height`, `width` of `tiles` are in latents."""

    weights: int
    widest: float
    scores: int
    states: int
    idle_states: int
    pixels: int
    frame: int

    @classmethod
    def of(cls, manifest: Manifest, chain: Sequence[GraphEntry], tiles: Tiling, chunk: int) -> Counts:
        """Count for one stream of calls of `chunk` latents; raises BundleError where the graphs tell no stages."""
        multiple, frames = manifest.stream.spatial_multiple, chunk * manifest.stream.time_factor
        height, width = tiles.rows.size * multiple, tiles.columns.size * multiple
        sizes = {"N": 1, "T": frames, "H": height, "W": width}
        stages = [stage for graph in chain for stage in graph.stages]
        if not stages:
            raise BundleError(f"{manifest.folder} tells no stages, so its memory cannot be predicted; export it again")
        states = 0
        for graph in chain:
            for state in graph.states:
                states += _FLOAT * math.prod(shape_of(state.axes, sizes))
        looking = [s for s in stages if s.attention]
        return cls(
            weights=size_of(manifest, chain),
            widest=max(_FLOAT * s.channels * (frames / s.time + 2) * height * width / s.space**2 for s in stages),
            scores=max(
                (_FLOAT * (height * width // s.space**2) ** 2 * -(-frames // s.time) for s in looking), default=0
            ),
            states=states,
            idle_states=states * (tiles.count - 1),
            pixels=_FLOAT * 3 * frames * tiles.rows.length * tiles.columns.length * multiple**2,
            frame=tiles.rows.length * tiles.columns.length * multiple**2,
        )

    def peak(self, costs: Costs, role: str) -> float:
        """Bytes beside those of the process."""
        return (
            costs.weights * self.weights
            + costs.widest * self.widest
            + costs.scores * self.scores
            + costs.states * self.states
            + costs.idle * self.idle_states
            + PIXEL_COPIES[role] * self.pixels
        )


def affordable(provider: str) -> int | None:
    """Bytes that a `vidtok-run` of this machine may come to at its peak; None where that is not known."""
    free = free_memory()
    if free is None or provider not in COMMAND:
        return None
    return free + round((COSTS[provider, "encoder"].process + COMMAND[provider]) * _MIB)  # which it has by now


def predict(
    manifest: Manifest,
    chains: Mapping[str, Sequence[GraphEntry]],
    provider: str,
    tiles: dict[str, Tiling],
    chunk: int,
) -> int:
    """Peak bytes of a `vidtok-run` that takes one stream through the chain of each role, with a tenth in hand.

    Raises InputError where nothing was measured, BundleError where the graphs tell no stages.
    """
    if provider not in COMMAND:
        measured = sorted(COMMAND)
        raise InputError(f"memory was measured on {', '.join(measured)}, not on {provider}; leave max-memory out")
    costs = {role: COSTS[provider, role] for role in chains}
    total = (max(c.process for c in costs.values()) + COMMAND[provider]) * _MIB
    for role, chain in chains.items():
        counts = Counts.of(manifest, chain, tiles[role], chunk)
        total += counts.peak(costs[role], role) + CLIP_BYTES[role] * counts.frame
    return round(total / (1 - IN_HAND))
