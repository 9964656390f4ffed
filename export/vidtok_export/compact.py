"""Smaller graph files that lose nothing, and what else there is to know about a graph's weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TWO_GB = 2**31 - 2**20  # protobuf's limit, with room for the rest of a graph
# Below this many numbers a Cast node costs more than it saves.
_WORTH_IT = 256


def graph_bytes(model: onnx.ModelProto) -> int:
    """About as many bytes as a graph has in a file; beyond 2 GB protobuf does not say it of the whole."""
    return sum(part.ByteSize() for part in (*model.graph.initializer, *model.graph.node))


def store_half(model: onnx.ModelProto) -> None:
    """Store every float32 weight that float16 holds exactly as float16 and a Cast, in place.

    Weights that were rounded to float16 when they were saved take half the space; folded ones,
    which need their float32 digits, stay. Runtimes fold the Cast away when they load the graph.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < _WORTH_IT or not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        stored = f"{name}.float16"
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    for i, node in enumerate(casts):
        graph.node.insert(i, node)


def put(graph: onnx.GraphProto, part: str, items: Iterable[onnx.NodeProto | TensorProto | onnx.ValueInfoProto]) -> None:
    """Replace the nodes (or another list) of a graph; copies, since clearing the old ones empties what came of them."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    graph.ClearField(part)
    getattr(graph, part).extend(copies)


def forget_shapes(graph: onnx.GraphProto) -> None:
    """Drop what a graph says of the values inside, but for those of foreign operators: no inference finds them."""
    foreign = {name for node in graph.node if node.domain for name in node.output}
    put(graph, "value_info", [value for value in graph.value_info if value.name in foreign])


def restore_float(model: onnx.ModelProto) -> None:
    """Undo `store_half`, in place: weights are float32 again, and no Cast stands before them."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    for node in [n for n in graph.node if n.op_type == "Cast" and n.input[0] in stored]:
        tensor = stored[node.input[0]]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), node.output[0]))
        graph.node.remove(node)


def is_norm(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    """Whether a convolution takes the mean over the channels, as lowered normalisations do."""
    if node.op_type != "Conv" or node.input[1] not in weights:
        return False
    kernel = numpy_helper.to_array(weights[node.input[1]])
    return bool(kernel.shape[0] == 1 < kernel.shape[1] == kernel.size and (kernel == kernel.flat[0]).all())
