"""A graph as onnxsim leaves it. Large weights do not pass through: onnxsim copies all that it gets several times."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from vidtok_export.compact import put
from vidtok_export.errors import ExportError
from vidtok_runtime.engines.telemetry import without_telemetry

with without_telemetry():  # it loads ONNX Runtime
    import onnxsim

LARGE = 2**16  # bytes of a tensor; onnxsim has no use for its values


def simplified(model: onnx.ModelProto, what: str) -> onnx.ModelProto:
    """The simplified graph of `what`, with the same inputs and outputs; empties `model`.

    Raises ExportError where onnxsim finds that results are no longer the same.
    """
    large = {t.name: _taken(t) for t in model.graph.initializer if t.ByteSize() >= LARGE}
    put(model.graph, "initializer", [t for t in model.graph.initializer if t.name not in large])
    stand_ins = [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t, _ in large.values()]
    model.graph.input.extend(stand_ins)
    found: onnx.ModelProto
    found, same = onnxsim.simplify(model)
    if not same:
        raise ExportError(f"onnxsim changed what {what} computes; export with --no-simplify")
    put(found.graph, "input", [port for port in found.graph.input if port.name not in large])
    used = {name for node in found.graph.node for name in node.input}
    for name in [name for name in large if name in used]:
        tensor, values = large.pop(name)
        found.graph.initializer.append(tensor)
        found.graph.initializer[-1].raw_data = values
    return found


def _taken(tensor: TensorProto) -> tuple[TensorProto, bytes]:
    """A tensor without its values, and the values, which it loses."""
    values = tensor.raw_data
    tensor.ClearField("raw_data")
    return TensorProto.FromString(tensor.SerializeToString()), values
