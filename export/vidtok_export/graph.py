"""One lowered network as an ONNX graph with its temporal memory as inputs and outputs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import onnx
import onnxsim
import torch
from torch import Tensor, nn
from torch.export import Dim

from vidtok_export.errors import ExportError
from vidtok_export.lower import lower
from vidtok_ref.model import VidTok
from vidtok_ref.regularizer import FiniteScalarQuantizer
from vidtok_ref.state import flatten, unflatten


@dataclass(frozen=True)
class Port:
    """An input or output: name, dtype, and axes as text in terms of N and the clip's T, H, W."""

    name: str
    dtype: str
    axes: str


@dataclass(frozen=True)
class StatePort:
    """A state: input name, the output that replaces it, dtype, axes, and what it holds at first."""

    input: str
    output: str
    dtype: str
    axes: str
    initial: str = "zeros"


@dataclass(frozen=True)
class Graph:
    """An ONNX model and the description of its ports, in the order of the graph's own."""

    role: str
    model: onnx.ModelProto
    inputs: list[Port]
    outputs: list[Port]
    states: list[StatePort]


class Network(nn.Module):
    """The traced function: `(x, states) -> (outputs..., new states...)`, all flat."""

    def __init__(self, model: VidTok, role: str) -> None:
        super().__init__()
        self.role = role
        self.regularization = model.regularization
        self.coder = lower(model.encoder if role == "encoder" else model.decoder)
        shape = (1, 3, f, s, s) if (f := model.variant.time_factor) and (s := model.variant.spatial_factor) else ()
        if role == "decoder":
            shape = (1, model.variant.z_channels, 1, 1, 1)
        # The layers themselves tell which states there are and how large: one step without storage.
        with torch.device("meta"):
            example = torch.empty(shape)
        _, state = lower_to_meta(self.coder).step(example, None)  # type: ignore[operator]
        self.state_shapes = {path: tuple(t.shape) for path, t in flatten(state)}

    def forward(self, x: Tensor, states: list[Tensor]) -> tuple[Tensor, ...]:
        paths = list(self.state_shapes)
        state = unflatten(dict(zip(paths, states, strict=True)), paths)
        if self.role == "decoder" and isinstance(self.regularization, FiniteScalarQuantizer):
            x = self.regularization.from_indices(x)
        y, state = self.coder.step(x, state)  # type: ignore[operator]
        new = [t for _, t in flatten(state)]
        if self.role == "decoder":
            return (y, *new)
        encoded = self.regularization(y)
        if encoded.indices is not None:
            return (encoded.indices, encoded.latent, *new)
        return (encoded.latent, encoded.log_variance, *new)


def lower_to_meta(coder: nn.Module) -> nn.Module:
    """The same network without storage, to ask for shapes."""
    import copy

    return copy.deepcopy(coder).to("meta")


def _over(symbol: str, divisor: int) -> str:
    return symbol if divisor == 1 else f"{symbol}/{divisor}"


def make_graph(model: VidTok, role: str, *, simplify: bool = True) -> Graph:
    """Trace, simplify and describe the encoder or the decoder; raises ExportError."""
    v = model.variant
    f, s = v.time_factor, v.spatial_factor
    network = Network(model, role).eval()
    latent_axes = f"{_over('T', f)} {_over('H', s)} {_over('W', s)}"
    video = Port("video", "float32", "N 3 T H W")
    latent = Port("latent", "float32", f"N {v.z_channels} {latent_axes}")
    indices = Port("indices", "int32", f"N {latent_axes}")
    if role == "encoder":
        inputs = [video]
        spread = Port("log_variance", "float32", latent.axes)
        outputs = [latent, spread] if v.regularizer == "kl" else [indices, latent]
    else:
        inputs = [latent if v.regularizer == "kl" else indices]
        outputs = [video]

    states = []
    digits = len(str(len(network.state_shapes)))
    for i, (path, shape) in enumerate(network.state_shapes.items()):
        name = f"state.{i:0{digits}d}.{path}"
        size = s // shape[3] if role == "encoder" else s // shape[3]
        axes = f"N {shape[1]} {shape[2]} {_over('H', size)} {_over('W', size)}"
        states.append(StatePort(name, f"new_{name}", "float32", axes))
    return Graph(role, _trace(network, v.time_factor, s, inputs, outputs, states, simplify), inputs, outputs, states)


def _trace(
    network: Network,
    f: int,
    s: int,
    inputs: list[Port],
    outputs: list[Port],
    states: list[StatePort],
    simplify: bool,
) -> onnx.ModelProto:
    # Sizes of 2 and more in every dynamic axis: the tracer takes 0 and 1 for constants.
    n, t, h, w = 2, 2, 2, 3
    dims = [Dim(name) for name in ("n", "t", "h", "w")]
    port = inputs[0]
    if port.name == "video":
        x = torch.zeros(n, 3, f * t, s * h, s * w)
        x_dims: dict[int, Any] = {0: dims[0], 2: f * dims[1], 3: s * dims[2], 4: s * dims[3]}
    elif port.name == "latent":
        x = torch.zeros(n, int(port.axes.split()[1]), t, h, w)
        x_dims = {0: dims[0], 2: dims[1], 3: dims[2], 4: dims[3]}
    else:
        x = torch.zeros(n, t, h, w, dtype=torch.int32)
        x_dims = dict(enumerate(dims))
    scales = [shape[3] for shape in network.state_shapes.values()]
    tensors = [
        torch.zeros(n, c, frames, h * k, w * k)
        for (_, c, frames, *_), k in zip(network.state_shapes.values(), scales, strict=True)
    ]
    state_dims = [
        {0: dims[0], 3: k * dims[2] if k > 1 else dims[2], 4: k * dims[3] if k > 1 else dims[3]} for k in scales
    ]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (x, tensors),
                dynamo=True,
                opset_version=20,
                dynamic_shapes=(x_dims, state_dims),
                input_names=[port.name, *(p.input for p in states)],
                output_names=[*(p.name for p in outputs), *(p.output for p in states)],
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"tracing the {network.role} failed: {error}") from error
    assert program is not None
    proto = program.model_proto
    if simplify:
        proto, same = onnxsim.simplify(proto)
        if not same:
            raise ExportError(f"onnxsim changed what the {network.role} computes; export with --no-simplify")
    return proto
