"""Smaller graph files that lose nothing."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Below this many numbers a Cast node costs more than it saves.
_WORTH_IT = 256


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
