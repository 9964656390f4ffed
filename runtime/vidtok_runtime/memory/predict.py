"""What a stream will need at its peak, from the manifest and costs that were measured."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vidtok_runtime.bundle.graph_entry import GraphEntry, shape_of
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.errors import BundleError, InputError
from vidtok_runtime.machine import cores, free_memory
from vidtok_runtime.streaming.tiles import Tiling
from vidtok_runtime.video.look_ahead import frames_ahead

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
    """Measured by `scripts/memory.py fit`, for C++ written by its `header`: peak bytes as multiples of what is counted.

    process: MiB of Python and the engine. loading: beside that of the largest graph file, while it is read. weights: of
    the graph files. widest: of the widest activations of a call, with the two frames that temporal layers carry.
    states: of the states of a call as they come out.
    """

    process: float
    loading: float
    weights: float
    widest: float
    states: float


COSTS = {
    ("cpu", "encoder"): Costs(66.5, 3.0, 2.2, 6.9, 0.3),
    ("cpu", "decoder"): Costs(66.5, 3.0, 2.2, 6.3, 0.2),
    ("openvino", "encoder"): Costs(113.1, 0.0, 4.5, 7.5, 1.7),
    ("openvino", "decoder"): Costs(113.1, 0.0, 4.5, 8.0, 1.3),
}
# Whose costs are taken for a provider that was not measured, and how many times.
UNMEASURED = ("cpu", 1.5)
# Copies of a chunk's pixels in float32 that numpy holds at once: as they come or go, joined or cut, and for the graph.
PIXEL_COPIES = {"encoder": 3, "decoder": 2}
# What `vidtok-run` takes beside, in MiB: PyAV, OpenCV and the command line with an engine.
COMMAND = {"cpu": 40, "openvino": 60}
# And in bytes a pixel of a frame: to read a clip; to write one, with each frame that the H.264 encoder holds.
READ, WRITE, WRITE_FRAME = 70, 25, 3.5
WRITERS_A_CORE = 1.5  # threads of x264, each with a frame
# Engines whose memory grows by doubling, past what a call needs where frames are large: by 25% when whole frames of
# 1280x720 were decoded. So what is free is given back after every call where calls are as short as they can be.
GROWING = frozenset({"cpu"})
IN_HAND = 0.1  # share by which what an engine takes may be more than predicted
# Share by which the calls of tiles take more for each doubling of their number: of what one tile leaves, not all has a
# size that the next, whose shape may be another, can use.
DOUBLING = 0.1
# Share of what the calls of one part take that is still there while those of another run, though they gave it back.
KEPT = 0.4


class CallBytes(NamedTuple):
    """Of a graph's call, or of those for its tiles: of the widest activations and of the states."""

    widest: float
    states: float

    def peak(self, costs: Costs) -> float:
        """What the engine takes."""
        return costs.widest * self.widest + costs.states * self.states


@dataclass(frozen=True)
class Counts:
    """Bytes that a stream's peak is made of, before the costs; clip: to read or write the file.

    calls: of each graph. together: sums of those whose memory is there at the same time: of all graphs, as it is kept
    from call to call; in tiles of those of one part, which gives most back before the other runs. beside: what numpy
    holds all the time: states that go into a call, those of frames that are cut, with the room beside them, what one
    graph hands to the next, and copies of pixels. held: of that between two calls, states and frames that wait.
    """

    weights: tuple[int, ...]
    calls: tuple[CallBytes, ...]
    together: tuple[CallBytes, ...]
    beside: int
    clip: int
    held: int

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        chain: Sequence[GraphEntry],
        tilings: Sequence[Tiling],
        chunk: int,
        weights: tuple[int, ...],
        clips: int = 1,
    ) -> Counts:
        """Count for one stream of calls of `chunk` latents of so many clips; weights: bytes of each graph's files.

        Raises BundleError where the graphs tell no stages.
        """
        if not tells_stages(chain):
            raise BundleError(f"{manifest.folder} tells no stages, so its memory cannot be predicted; export it again")
        multiple, frames = manifest.stream.spatial_multiple, chunk * manifest.stream.time_factor
        height, width = tilings[0].rows.length, tilings[0].columns.length
        whole = _sizes(clips, frames, height * multiple, width * multiple)
        parts: dict[str, list[CallBytes]] = {}
        calls, is_cut = [], any(tiling.count > 1 for tiling in tilings)
        pixels = 3 * clips * frames * whole["H"] * whole["W"]
        beside = PIXEL_COPIES[chain[0].role] * _FLOAT * pixels
        held = 2 * pixels  # bytes: those of a call wait, and about as many come in the meantime
        for graph, tiling in zip(chain, tilings, strict=True):
            in_tiles = tiling.count > 1
            sizes = _sizes(clips, frames, tiling.rows.size * multiple, tiling.columns.size * multiple)
            positions = clips * sizes["H"] * sizes["W"]
            widest = max(
                (_FLOAT * s.channels * (frames / s.time + 2) * positions / s.space**2 for s in graph.stages), default=0
            )
            states = _states(graph, sizes)
            times = 1 + DOUBLING * math.log2(tiling.count)
            calls.append(CallBytes(times * widest, round(times * states)))
            parts.setdefault(graph.part if is_cut else "", []).append(calls[-1])
            beside += states
            kept = round(_states(graph, whole) * (1 + tiling.beside)) if in_tiles else 0
            beside += kept
            held += kept or states
            if graph is not chain[-1]:
                beside += _FLOAT * math.prod(shape_of(graph.outputs[0].axes, whole))
        return cls(
            weights=weights,
            calls=tuple(calls),
            together=tuple(CallBytes(*map(sum, zip(*some, strict=True))) for some in parts.values()),
            beside=beside,
            clip=round(whole["H"] * whole["W"] * _clip_bytes(chain[0].role, whole["H"], whole["W"])),
            held=held,
        )

    def running(self, costs: Costs) -> CallBytes:
        """As one call, the calls that take most together and what others keep."""
        most, *others = sorted(self.together, key=lambda call: call.peak(costs), reverse=True)
        return CallBytes(*(top + KEPT * sum(rest) for top, *rest in zip(most, *others, strict=True)))

    def peak(self, costs: Costs) -> float:
        """Bytes beside those of the process."""
        running = self.running(costs).peak(costs) + self.beside
        return costs.weights * sum(self.weights) + max(running, costs.loading * max(self.weights))


def _clip_bytes(role: str, height: int, width: int) -> float:
    """Bytes a pixel of a frame."""
    if role == "encoder":
        return READ
    return WRITE + WRITE_FRAME * (frames_ahead(height, width) + WRITERS_A_CORE * cores())


def _sizes(clips: int, frames: int, height: int, width: int) -> dict[str, int]:
    return {"N": clips, "T": frames, "H": height, "W": width}


def _states(graph: GraphEntry, sizes: Mapping[str, int]) -> int:
    """Bytes of the states of a graph for data of these sizes."""
    return sum(_FLOAT * math.prod(shape_of(state.axes, sizes)) for state in graph.states)


def tells_stages(chain: Sequence[GraphEntry]) -> bool:
    """Whether the graphs tell what a prediction needs."""
    return any(graph.stages for graph in chain)


def is_measured(provider: str) -> bool:
    """Whether its costs are its own."""
    return provider in COMMAND


def costs_of(provider: str, role: str) -> Costs:
    """Its own, or those that are taken for it."""
    return COSTS[provider if is_measured(provider) else UNMEASURED[0], role]


def affordable(provider: str) -> int | None:
    """Bytes that a `vidtok-run` of this machine may come to at its peak; None where that is not known."""
    free = free_memory()
    if free is None or not is_measured(provider):
        return None
    return free + round((COSTS[provider, "encoder"].process + COMMAND[provider]) * _MIB)  # which it has by now


def predict(provider: str, streams: Mapping[str, Counts]) -> int:
    """Peak bytes of a `vidtok-run` that takes one stream through the chain of each role, with a tenth in hand.

    That is a tenth of what engines take: what numpy holds is known.
    """
    engine, times = (provider, 1.0) if is_measured(provider) else UNMEASURED
    known = sum(counts.beside for counts in streams.values())
    total = (max(costs_of(provider, role).process for role in streams) + COMMAND[engine]) * _MIB
    for role, counts in streams.items():
        total += counts.peak(costs_of(provider, role)) + counts.clip
    return round(times * (known + (total - known) / (1 - IN_HAND)))
