"""Simplified graphs: the same results, and onnxsim never sees large weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnxsim
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from vidtok_export.errors import ExportError
from vidtok_export.simplify import LARGE, simplified

WIDTH = 160  # a matrix of it is large


def made() -> onnx.ModelProto:
    """`y = (x @ a + b) @ a`, with nodes that do nothing, a weight that nobody takes and a constant to fold."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.standard_normal((WIDTH, WIDTH), np.float32),
        "unused": rng.standard_normal((WIDTH, WIDTH), np.float32),
        "b": rng.standard_normal(WIDTH, np.float32),
        "one": np.ones(1, np.float32),
    }
    assert weights["a"].nbytes > LARGE > weights["b"].nbytes
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("MatMul", ["same", "a"], ["z"]),
        helper.make_node("Mul", ["b", "one"], ["c"]),
        helper.make_node("Add", ["z", "c"], ["added"]),
        helper.make_node("MatMul", ["added", "a"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in "xy")
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def test_results_stay_and_large_weights_pass_by(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, real = [], onnxsim.simplify

    def watched(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
        seen.append(model.ByteSize())
        return real(model)

    monkeypatch.setattr(onnxsim, "simplify", watched)
    x = np.random.default_rng(1).standard_normal((3, WIDTH), np.float32)
    (wanted,) = ReferenceEvaluator(made()).run(None, {"x": x})
    found = simplified(made(), "the test")
    onnx.checker.check_model(found, full_check=True)
    np.testing.assert_allclose(ReferenceEvaluator(found).run(None, {"x": x})[0], wanted, rtol=1e-4, atol=1e-3)
    assert seen[0] < LARGE
    assert [port.name for port in found.graph.input] == ["x"]
    assert [node.op_type for node in found.graph.node] == ["MatMul", "Add", "MatMul"]
    assert {t.name for t in found.graph.initializer if t.ByteSize() > LARGE} == {"a"}


def test_what_onnxsim_doubts_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxsim, "simplify", lambda model: (model, False))
    with pytest.raises(ExportError, match="changed what the test computes"):
        simplified(made(), "the test")
