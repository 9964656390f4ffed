"""The parts of a lowered network as ONNX graphs with their temporal memory as inputs and outputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from vidtok_export.footprint import smallest_input, stages
from vidtok_export.lowering.attention import fuse_attention
from vidtok_export.lowering.lower import lower
from vidtok_export.lowering.winograd import write_out
from vidtok_export.parts import Part, numbered, parts_of
from vidtok_export.simplify import simplified
from vidtok_export.trace import trace
from vidtok_ref.regularizers.base import Quantizer
from vidtok_ref.regularizers.kl import DiagonalGaussian
from vidtok_ref.streaming.parts import Coder
from vidtok_ref.streaming.state import Call, flatten, unflatten
from vidtok_ref.streaming.state import State as StateTree
from vidtok_ref.tokenizer import VideoTokenizer
from vidtok_runtime.bundle.graph_entry import Port, State
from vidtok_runtime.bundle.stream_spec import StreamSpec

_SYMBOLS = ("N", "T", "H", "W")


FEATURES = "features"  # what one part gives to the next


@dataclass(frozen=True)
class Graph:
    """An ONNX model, its ports in the graph's own order, and what it takes to run (see docs/format.md)."""

    role: str
    part: Part
    model: onnx.ModelProto
    inputs: list[Port]
    outputs: list[Port]
    flags: list[Port]
    states: list[State]
    stages: list[dict[str, Any]]


class Network(nn.Module):
    """The traced function of one part: `(x, flags, states) -> (outputs..., new states...)`.

    The first part of a decoder takes tokens, where there are any, and the last one of an encoder gives them.
    """

    def __init__(self, model: VideoTokenizer, coder: Coder, role: str, parts: Sequence[Part], number: int) -> None:
        super().__init__()
        self.role, self.part = role, parts[number]
        self.regularization = model.regularization
        self.coder = coder
        self.paths: list[str] = []
        self.flags = list(model.stream.calls(role).flags)
        self.encodes = role == "encoder" and number == len(parts) - 1
        self.takes_indices = role == "decoder" and number == 0 and isinstance(self.regularization, Quantizer)

    def forward(self, x: Tensor, flags: list[Tensor], states: list[Tensor]) -> tuple[Tensor, ...]:
        state = unflatten(dict(zip(self.paths, states, strict=True)), self.paths) if states else None
        if self.takes_indices and isinstance(self.regularization, Quantizer):
            x = self.regularization.from_indices(x)
        call = Call(**dict(zip(self.flags, flags, strict=True))) if flags else None
        y, state = self.coder.step(x, state, call, self.part.paths)
        new = [t for _, t in flatten(state)]
        if not self.encodes:
            return (y, *new)
        encoded = self.regularization(y)
        if encoded.indices is not None:
            return (encoded.indices, encoded.latent, *new)
        return (*(t for t in (encoded.latent, encoded.log_variance) if t is not None), *new)


def _over(symbol: str, divisor: int) -> str:
    return symbol if divisor == 1 else f"{symbol}/{divisor}"


def data_ports(model: VideoTokenizer, role: str) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs of a role besides the states."""
    spec = model.stream
    space = spec.spatial_multiple
    grid = f"{_over('T', spec.time_factor)} {_over('H', space)} {_over('W', space)}"
    video = Port("video", "float32", "N 3 T H W")
    latent = Port("latent", "float32", f"N {spec.latent_channels} {grid}")
    tokens = latent if spec.codebook_size is None else Port("indices", "int32", f"N {grid}")
    if role == "decoder":
        return [tokens], [video]
    if isinstance(model.regularization, DiagonalGaussian):
        return [video], [latent, Port("log_variance", "float32", latent.axes)]
    return [video], [latent] if tokens is latent else [tokens, latent]


def state_ports(state: StateTree, pixels: int) -> list[State]:
    """Ports of the states that a step leaves; pixels: the side that the step's input stands for."""
    found = list(flatten(state))
    digits = len(str(len(found) - 1))
    ports = []
    for i, (path, tensor) in enumerate(found):
        _, channels, frames, height, _ = tensor.shape
        divisor = pixels // height
        name = f"state.{i:0{digits}d}.{path}"
        axes = f"N {channels} {frames} {_over('H', divisor)} {_over('W', divisor)}"
        ports.append(State(name, f"new_{name}", "float32", axes, "zeros"))
    return ports


def _example(port: Port | State, unit: dict[str, int], dims: dict[str, Any]) -> tuple[Tensor, dict[int, Any]]:
    """A tensor of a port's shape and its dynamic axes; unit: the least of each symbol, and all where dims lack it."""
    shape, dynamic = [], {}
    for i, axis in enumerate(port.axes.split()):
        symbol, _, divisor = axis.partition("/")
        if symbol.isdigit():
            shape.append(int(symbol))
            continue
        factor = -(-unit[symbol] // int(divisor or 1))
        if symbol not in dims:
            shape.append(factor)
            continue
        # At least 2 along every dynamic axis: the tracer takes 0 and 1 for constants.
        shape.append(factor * (3 if symbol == "W" and dims["W"] is not dims["H"] else 2))
        dynamic[i] = dims[symbol] if factor == 1 else factor * dims[symbol]
    return torch.zeros(shape, dtype=getattr(torch, port.dtype)), dynamic


def frame_unit(spec: StreamSpec) -> int:
    """What the frames of every call of an encoder are a multiple of."""
    return math.gcd(spec.length.first, spec.length.multiple, spec.encoder.first or 0, spec.encoder.multiple)


def make_graphs(model: VideoTokenizer, role: str, *, simplify: bool = True) -> list[Graph]:
    """Trace the parts of the encoder or the decoder, in the order of the data; raises ExportError.

    N, H, W and the number of latents are dynamic; H and W are one where frames are squares, and the number of latents
    is constant where all calls have the same.
    """
    published = getattr(model, role)
    coder = lower(published)
    bare, bare_published = (copy.deepcopy(network).to("meta") for network in (coder, published))
    inputs, last = data_ports(model, role)
    spec = model.stream
    f, pixels = spec.time_factor, spec.side_multiple
    x = smallest_input(spec, role)
    length = -(-x.shape[2] // f) * f if role == "encoder" else x.shape[2] * f
    unit = {"N": 1, "T": frame_unit(spec) if role == "encoder" else f, "H": pixels, "W": pixels}
    dims = {symbol: Dim(symbol.lower()) for symbol in _SYMBOLS}
    if spec.square:
        dims["W"] = dims["H"]
    if spec.groups is not None and spec.length.multiple == spec.group_length("encoder"):  # no call is shorter
        unit["T"] = spec.length.multiple
        del dims["T"]
    graphs: list[Graph] = []
    parts = parts_of(bare, x, pixels, spec.spatial_multiple)
    for number, part in enumerate(parts):
        y, state = bare.step(x, None, None, part.paths)
        _, channels, frames, height, _ = y.shape
        axes = (
            f"N {channels} {_over('T', length // frames)} {_over('H', pixels // height)} {_over('W', pixels // height)}"
        )
        outputs = last if part is parts[-1] else [Port(numbered(FEATURES, number), "float32", axes)]
        states = state_ports(state, pixels)
        network = Network(model, coder, role, parts, number).eval()
        network.paths = [s.input.split(".", 2)[2] for s in states]
        proto, flags = _traced(network, inputs, outputs, states, unit, dims, simplify)
        fuse_attention(proto)
        write_out(proto, x.shape[3])
        own = stages(bare_published, x, pixels, length, part.paths)
        graphs.append(Graph(role, part, proto, inputs, outputs, flags, states, own))
        x, inputs = y, outputs
    return graphs


def _traced(
    network: Network,
    inputs: list[Port],
    outputs: list[Port],
    states: list[State],
    unit: dict[str, int],
    dims: dict[str, Any],
    simplify: bool,
) -> tuple[onnx.ModelProto, list[Port]]:
    """A part's graph, and those of the flags that it looks at; unit, dims: as for `_example`."""
    flags = [Port(name, "bool", "1") for name in network.flags]
    x, x_dims = _example(inputs[0], unit, dims)
    set_examples = [_example(f, unit, dims) for f in flags]
    examples = [_example(s, unit, dims) for s in states]
    what = f"the {network.part.kind} part of the {network.role}"
    proto = trace(
        network,
        (x, [tensor for tensor, _ in set_examples], [tensor for tensor, _ in examples]),
        (x_dims, [axes for _, axes in set_examples], [axes for _, axes in examples]),
        (
            [inputs[0].name, *(f.name for f in flags), *(s.input for s in states)],
            [*(p.name for p in outputs), *(s.output for s in states)],
        ),
        what,
    )
    if simplify:
        proto = simplified(proto, what)
    used = {name for node in proto.graph.node for name in node.input}
    unused = {flag.name for flag in flags} - used
    for port in [port for port in proto.graph.input if port.name in unused]:
        proto.graph.input.remove(port)
    return proto, [flag for flag in flags if flag.name not in unused]
