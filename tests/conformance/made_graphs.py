"""Graphs made by hand that show in their results how they were called, for streams that no bundle of the kit has.

A latent holds the mean colours of its frames, a running sum of red, and a number that tells of flags and calls; a frame
holds the red of its latent, a running sum, and such a number. `made_arithmetic.py` says the same in numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

DTYPES = {"float32": TensorProto.FLOAT, "bool": TensorProto.BOOL}
Port = dict[str, str]


def port(name: str, axes: str, dtype: str = "float32") -> Port:
    """As manifests write it."""
    return {"name": name, "dtype": dtype, "axes": axes}


class Part:
    """One graph of a chain: its nodes, and the ports that a manifest lists."""

    def __init__(self, data: Port, result: Port) -> None:
        self.inputs, self.outputs = [data], [result]
        self.states: list[dict[str, str]] = []
        self.flags: list[Port] = []
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, kind: str, *inputs: object, out: str = "", **attributes: Any) -> str:
        """Adds an operator; numbers and arrays among the inputs become constants."""
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        out = out or f"{self.outputs[0]['name']}.{kind}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [out], **attributes))
        return out

    def constant(self, value: Any) -> str:
        array = np.asarray(value, np.float32 if isinstance(value, float) else None)
        name = f"{self.outputs[0]['name']}.constant.{len(self.constants)}"
        self.constants[name] = array
        return name

    def flag(self, name: str) -> str:
        """Adds a flag; gives it as 0 or 1."""
        self.flags.append(port(name, "1", "bool"))
        return self.node("Reshape", self.node("Cast", name, to=TensorProto.FLOAT), np.ones(5, np.int64))

    def state(self, name: str, axes: str) -> str:
        """Adds a state; gives the name of its input. Its output is `new_` and the name."""
        new = f"new_{name}"
        self.states.append({"input": name, "output": new, "dtype": "float32", "axes": axes, "initial": "zeros"})
        return name

    def channels(self, x: str, start: int, end: int) -> str:
        return self.node("Slice", x, np.array([start]), np.array([end]), np.array([1]))

    def running_sum(self, x: str, axes: str) -> str:
        """The sum of one channel over time, from the start of the stream on."""
        summed = self.node("Add", self.node("CumSum", x, np.array(2)), self.state("total", axes))
        self.node("Slice", summed, np.array([-1]), np.array([2**31]), np.array([2]), out="new_total")
        return summed

    def call(self, x: str, *, told: bool) -> str:
        """0.01 for each call of the stream so far and 0.001 for each latent of this one, if they are to be told."""
        number = self.node("Add", self.state("number", "1"), 1.0, out="new_number")
        latents = self.node("Cast", self.node("Shape", x, start=2, end=3), to=TensorProto.FLOAT)
        sum_ = self.node("Add", self.node("Mul", number, 0.01), self.node("Mul", latents, 0.001))
        return self.node("Mul", sum_, 1.0 if told else 0.0)

    def filled(self, like: str, *values: str) -> str:
        """One channel, as large as that of `like`, of the sum of these values."""
        x = self.node("Mul", self.channels(like, 0, 1), 0.0)
        for value in values:
            x = self.node("Add", x, value)
        return x

    def then(self, other: Part) -> Part:
        """Both as one graph."""
        both = Part(self.inputs[0], other.outputs[0])
        both.nodes = [*self.nodes, *other.nodes]
        both.constants = {**self.constants, **other.constants}
        both.states = [*self.states, *other.states]
        both.flags = [*self.flags, *(flag for flag in other.flags if flag not in self.flags)]
        return both

    def model(self) -> ModelProto:
        takes = [*self.inputs, *self.flags, *({**s, "name": s["input"]} for s in self.states)]
        gives = [*self.outputs, *({**s, "name": s["output"]} for s in self.states)]
        graph = helper.make_graph(
            self.nodes,
            "part",
            [_value(x) for x in takes],
            [_value(x) for x in gives],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _value(x: Port) -> Any:
    dims = [int(axis) if axis.isdigit() else axis for axis in x["axes"].split()]
    return helper.make_tensor_value_info(x["name"], DTYPES[x["dtype"]], dims)


def encoder(f: int, s: int, *, flags: Sequence[str], told: bool) -> tuple[Part, Part]:
    """Video to colours, and these to latents of 3 * f + 2 channels."""
    small = f"T/{f} H/{s} W/{s}"
    first = Part(port("video", "N 3 T H W"), port("colours", f"N {3 * f + 1} {small}"))
    pooled = first.node("AveragePool", "video", kernel_shape=[1, s, s], strides=[1, s, s])
    length = first.node("Shape", "video", start=2, end=3)
    none, whole = np.zeros(1, np.int64), np.array([f])
    lacking = first.node("Mod", first.node("Sub", whole, first.node("Mod", length, whole)), whole)
    pads = first.node("Concat", none, none, lacking, *[none] * 7, axis=0)
    weights = np.zeros((3 * f, 3, f, 1, 1), np.float32)
    for frame in range(f):
        for colour in range(3):
            weights[3 * frame + colour, colour, frame] = 1
    colours = first.node("Conv", first.node("Pad", pooled, pads), weights, strides=[f, 1, 1])
    flagged = [first.node("Mul", first.flag(name), 0.25) for name in flags]
    first.node("Concat", colours, first.filled(colours, *flagged), axis=1, out="colours")

    second = Part(first.outputs[0], port("latent", f"N {3 * f + 2} {small}"))
    total = second.running_sum(second.channels("colours", 0, 1), f"N 1 1 H/{s} W/{s}")
    flagged = [second.node("Mul", second.flag(name), 0.5) for name in flags]
    flagged.append(second.channels("colours", 3 * f, 3 * f + 1))
    calls = second.filled("colours", second.call("colours", told=told), *flagged)
    pictures = second.channels("colours", 0, 3 * f)
    second.node("Concat", pictures, second.node("Mul", total, 0.01), calls, axis=1, out="latent")
    return first, second


def decoder(
    f: int, s: int, *, first_flags: Sequence[str], second_flags: Sequence[str], told: bool
) -> tuple[Part, Part]:
    """Latents of 3 * f + 2 channels to 3 * f + 2 others, and these to video."""
    small = f"T/{f} H/{s} W/{s}"
    first = Part(port("latent", f"N {3 * f + 2} {small}"), port("others", f"N {3 * f + 2} {small}"))
    total = first.running_sum(first.channels("latent", 0, 1), f"N 1 1 H/{s} W/{s}")
    flagged = [first.node("Mul", first.flag(name), 0.25) for name in first_flags]
    calls = first.filled("latent", first.call("latent", told=told), *flagged)
    pictures = first.channels("latent", 0, 3 * f)
    first.node("Concat", pictures, first.node("Mul", total, 0.01), calls, axis=1, out="others")

    second = Part(first.outputs[0], port("video", "N 3 T H W"))
    weights = np.zeros((3 * f + 2, 3, f, s, s), np.float32)
    for frame in range(f):
        weights[3 * frame, 0, frame] = 1
    weights[3 * f, 1] = weights[3 * f + 1, 2] = 1
    video = second.node("ConvTranspose", "others", weights, strides=[f, s, s])
    blue = np.array([0, 0, 0.125], np.float32).reshape(1, 3, 1, 1, 1)
    for name in second_flags:
        video = second.node("Add", video, second.node("Mul", second.flag(name), blue))
    second.node("Identity", video, out="video")
    return first, second
