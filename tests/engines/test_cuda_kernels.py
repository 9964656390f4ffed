"""Every node of a graph has a kernel of its type in ONNX Runtime's CUDA provider: none runs on the CPU in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from vidtok_export.quantization.fp16 import to_half
from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.bundle.manifest import read_manifest

_REAL = "float float16"
_NUMBERS = f"{_REAL} int32 int64"
_ANY = f"{_NUMBERS} bool"
# Types of data that the kernels take, of those that graphs here have, for opset 20: docs/OperatorKernels.md of ONNX
# Runtime, CUDAExecutionProvider, in the edition with Attention of opset 24. Pad is told without integers there.
KERNELS = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Mod", "Greater", "GreaterOrEqual", "Less", "Max"), _NUMBERS),
    **dict.fromkeys(("Cast", "Concat", "Equal", "Expand", "Gather", "Identity", "Reshape", "Shape", "Slice"), _ANY),
    **dict.fromkeys(("Split", "Squeeze", "Transpose", "Unsqueeze"), _ANY),
    **dict.fromkeys(("Conv", "ConvTranspose", "Floor", "MatMul", "MultiHeadAttention", "Reciprocal", "Round"), _REAL),
    **dict.fromkeys(("ArgMax", "Cos", "Gelu", "Gemm", "LayerNormalization", "ReduceL2", "Sin"), _REAL),
    **dict.fromkeys(("Sigmoid", "Softmax", "Sqrt", "Tanh"), _REAL),
    "And": "bool",
    "Clip": f"{_REAL} int64",
    "Pad": f"{_REAL} bool",
    "Range": "float int32 int64",
    "ReduceMean": f"{_REAL} int32",
    "ReduceSum": _NUMBERS,
    "Resize": f"{_REAL} int32",
    "Where": _NUMBERS,  # of what it chooses from
}
_CHOOSES = {"Where": 1}  # number of the input whose type counts, where it is not the first
OURS = [path.parent for path in SHIPPED.glob("*/manifest.json")]
KIT = [path.parent for path in (Path(__file__).parents[1] / "conformance/kit").glob("*/manifest.json")]


def without_kernel(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Operators and types that the table does not have; constants need no kernel."""
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values = [a.t.data_type for a in node.attribute if a.name == "value"]
            types[node.output[0]] = values[0] if values else TensorProto.INT64
            continue
        found = types.get(node.input[_CHOOSES.get(node.op_type, 0)], TensorProto.UNDEFINED)
        if node.op_type == "MultiHeadAttention":  # shape inference does not know it
            types[node.output[0]] = found
        name = TensorProto.DataType.Name(found).lower()
        if name not in KERNELS.get(node.op_type, "").split():
            yield node.op_type, name


@pytest.mark.parametrize("folder", [*OURS, *KIT], ids=lambda folder: folder.name)
def test_kernels(folder: Path) -> None:
    graphs = [graph for graph in read_manifest(folder).graphs if graph.precision == "fp32"]
    assert graphs
    for graph in graphs:
        assert set(without_kernel(onnx.load(folder / graph.file))) == set(), graph.file


@pytest.mark.parametrize("folder", OURS, ids=lambda folder: folder.name)
def test_kernels_of_fp16(folder: Path) -> None:
    for graph in read_manifest(folder).graphs:
        if graph.precision == "fp32":
            model = onnx.load(folder / graph.file)
            to_half(model, {name for state in graph.states for name in (state.input, state.output)})
            assert set(without_kernel(model)) == set(), graph.file


def test_the_test() -> None:
    """A type without a kernel is found."""
    node = onnx.helper.make_node("Mod", ["x", "x"], ["y"])
    ports = [onnx.helper.make_tensor_value_info(name, TensorProto.INT8, [1]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ports[:1], ports[1:]))
    assert list(without_kernel(model)) == [("Mod", "int8")]
