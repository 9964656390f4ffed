"""A float32 graph as one that computes in float16, but for what float16 is too coarse for."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from vidtok_export.compact import forget_shapes, is_norm, put, restore_float
from vidtok_export.lowering.winograd import take_back

# Normalisation, attention scores, angles, the rounding and counting of FSQ and the choice of VQ stay in float32; so
# does what ONNX Runtime has no float16 kernel for on CPUs.
_FULL = {
    *("ReduceMean", "ReduceSum", "ReduceL2", "Sub", "Sqrt", "Max", "Clip", "Reciprocal", "Div"),
    *("MatMul", "Softmax", "MultiHeadAttention", "Sin", "Cos", "Tanh", "Round", "Floor", "ArgMax", "Resize"),
}
# These stay in float32 where nothing but such nodes takes what they give. All but the first two only move numbers.
_FEEDING = {
    *("Add", "Mul"),
    *("Concat", "Expand", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where"),
}
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


def full_nodes(graph: onnx.GraphProto, types: dict[str, int]) -> set[int]:
    """Numbers of the nodes that stay in float32: those above, and what only feeds them or counts tokens."""
    weights = {t.name: t for t in graph.initializer}
    full = {
        i
        for i, node in enumerate(graph.node)
        if node.op_type in _FULL
        or is_norm(node, weights)
        or (node.op_type == "Cast" and not {types.get(node.input[0]), _target(node).i} <= _FLOATS)
    }
    consumers: dict[str, set[int]] = {}
    for i, node in enumerate(graph.node):
        for name in node.input:
            consumers.setdefault(name, set()).add(i)
    for i in reversed(range(len(graph.node))):  # in topological order, so that consumers come first
        users = {user for name in graph.node[i].output for user in consumers.get(name, ())}
        if graph.node[i].op_type in _FEEDING and users and users <= full:
            full.add(i)
    return full


def _target(cast: onnx.NodeProto) -> onnx.AttributeProto:
    """The attribute that says what a Cast makes of its input."""
    (to,) = (attribute for attribute in cast.attribute if attribute.name == "to")
    found: onnx.AttributeProto = to
    return found


class _Converter:
    """Rewrites a graph node by node, with a Cast wherever a value meets the other precision."""

    def __init__(self, graph: onnx.GraphProto, types: dict[str, int]) -> None:
        self._types = types
        self._weights = {t.name: t for t in graph.initializer}
        self._kept: dict[str, onnx.TensorProto] = {}
        self._full: dict[str, bool] = {}  # of values seen so far: float32?
        self._cast: set[str] = set()
        self.nodes: list[onnx.NodeProto] = []

    def is_float(self, name: str) -> bool:
        return self._types.get(name) == TensorProto.FLOAT

    def declare(self, name: str, full: bool) -> None:
        """A value that exists from now on."""
        self._full[name] = full

    def want(self, name: str, full: bool) -> str:
        """Name of a value in the wanted precision."""
        if name in self._weights:
            tensor = self._weights[name]
            wanted = name if full or not self.is_float(name) else f"{name}.half"
            if wanted not in self._kept:
                values = numpy_helper.to_array(tensor)
                self._kept[wanted] = tensor if wanted == name else numpy_helper.from_array(values.astype("f2"), wanted)
            return wanted
        if not self.is_float(name) or self._full[name] == full:
            return name
        wanted = f"{name}.{'full' if full else 'half'}"
        if wanted not in self._cast:
            self._cast.add(wanted)
            self.cast(name, wanted, full)
        return wanted

    def cast(self, name: str, to: str, full: bool) -> None:
        self.nodes.append(helper.make_node("Cast", [name], [to], to=TensorProto.FLOAT if full else TensorProto.FLOAT16))

    def add(self, node: onnx.NodeProto, full: bool) -> None:
        """A node of the graph, computed in float32 or float16."""
        node.input[:] = [self.want(name, full) if name else "" for name in node.input]
        if node.op_type == "Cast" and not full and self.is_float(node.output[0]):
            _target(node).i = TensorProto.FLOAT16
        for name in node.output:
            self.declare(name, full)
        self.nodes.append(node)

    def output(self, port: onnx.ValueInfoProto, full: bool) -> None:
        """Give a graph output its precision under its own name."""
        if self.is_float(port.name) and self._full[port.name] != full:
            inner = f"{port.name}.inner"
            for node in self.nodes:
                node.input[:] = [inner if name == port.name else name for name in node.input]
                node.output[:] = [inner if name == port.name else name for name in node.output]
            self.cast(inner, port.name, full)

    def initializers(self) -> list[onnx.TensorProto]:
        return list(self._kept.values())


def to_half(model: onnx.ModelProto, states: set[str]) -> None:
    """Make a float32 graph compute in float16, in place; `states` (inputs and outputs) become float16, the rest stays.

    Normalisation, attention scores, FSQ's rounding and VQ's choice stay in float32.
    """
    restore_float(model)
    take_back(model)
    graph = shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    types = {v.name: v.type.tensor_type.elem_type for v in values} | {t.name: t.data_type for t in graph.initializer}
    full = full_nodes(model.graph, types)
    convert = _Converter(model.graph, types)
    for port in model.graph.input:
        convert.declare(port.name, port.name not in states)
    for i, node in enumerate(model.graph.node):
        convert.add(node, i in full)
    for port in model.graph.output:
        convert.output(port, port.name not in states)
    for port in (*model.graph.input, *model.graph.output):
        if port.name in states:
            port.type.tensor_type.elem_type = TensorProto.FLOAT16
    put(model.graph, "node", convert.nodes)
    put(model.graph, "initializer", convert.initializers())
    forget_shapes(model.graph)
