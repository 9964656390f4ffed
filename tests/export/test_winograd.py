"""Wide 3x3 convolutions written out as Winograd's sums and products."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from vidtok_export.bundle import save_manifest
from vidtok_export.compact import restore_float
from vidtok_export.lowering import winograd
from vidtok_export.lowering.winograd import take_back, write_out
from vidtok_export.quantization.fp16 import to_half
from vidtok_export.verify import require, verify
from vidtok_ref import VideoTokenizer
from vidtok_runtime.bundle.manifest import read_manifest, sha256_of


def convolution(
    depth: int = 1, stride: int = 1, inputs: int = 128, outputs: int = 256, side: int = 3
) -> onnx.ModelProto:
    """`y = Conv(x, w, b)` with zeros around every frame."""
    rng = np.random.default_rng(0)
    kernel = (outputs, inputs, depth, side, side)
    w = rng.standard_normal(kernel, np.float32) / np.float32(np.sqrt(np.prod(kernel[1:])))
    b = rng.standard_normal(outputs, np.float32)
    edge = side // 2
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[stride, 1, 1], pads=[0, edge, edge, 0, edge, edge])
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "T", "H", "W"])
        for name, channels in (("x", inputs), ("y", outputs))
    )
    weights = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")]
    graph = helper.make_graph([node], "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


Run = Callable[[np.ndarray], np.ndarray]


def on_onnxruntime(model: onnx.ModelProto) -> Run:
    session = ort.InferenceSession(model.SerializeToString())
    return lambda x: session.run(None, {"x": x})[0]


def on_openvino(model: onnx.ModelProto) -> Run:
    core = ov.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return lambda x: compiled([x])[0]


@pytest.mark.parametrize("engine", [on_onnxruntime, on_openvino])
@pytest.mark.parametrize(("depth", "stride", "multiple"), [(1, 1, 1), (1, 1, 4), (3, 1, 2), (3, 2, 8)])
def test_it_is_the_convolution(engine, depth, stride, multiple):
    plain = convolution(depth, stride)
    written = convolution(depth, stride)
    write_out(written, multiple)
    assert operators(written)["Conv"] == 6
    onnx.checker.check_model(written, full_check=True)
    found, wanted = engine(written), on_onnxruntime(plain)
    for height in range(multiple, 10, multiple):
        x = np.random.default_rng(height).standard_normal((1, 128, 5, height, 6), np.float32)
        np.testing.assert_allclose(found(x), wanted(x), atol=3e-5)


@pytest.fixture(scope="module")
def pair() -> tuple[Run, Run]:
    """A convolution written out, and as it was."""
    written = convolution()
    write_out(written, 1)
    return on_onnxruntime(written), on_onnxruntime(convolution())


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 33), width=st.integers(1, 9), frames=st.integers(1, 3), scale=st.floats(1e-3, 1e3))
def test_any_size(pair, height, width, frames, scale):
    found, wanted = pair
    x = np.random.default_rng(height).standard_normal((1, 128, frames, height, width), np.float32) * np.float32(scale)
    np.testing.assert_allclose(found(x), wanted(x), atol=3e-5 * max(scale, 1))


@pytest.mark.parametrize("other", [{"inputs": 64}, {"outputs": 128}, {"side": 1}])
def test_other_convolutions_stay(other):
    model = convolution(**other)
    before = model.SerializeToString()
    write_out(model, 8)
    assert model.SerializeToString() == before


def test_taking_it_back_gives_the_same_convolution():
    for depth, stride in ((1, 1), (3, 2)):
        model = convolution(depth, stride)
        x = np.random.default_rng(0).standard_normal((1, 128, 5, 5, 6), np.float32)
        wanted = on_onnxruntime(model)(x)
        write_out(model, 1)
        take_back(model)
        assert operators(model) == {"Conv": 1}
        assert np.array_equal(on_onnxruntime(model)(x), wanted)


def test_tiles_are_cut_only_where_rows_may_be_left_over():
    model = convolution(inputs=256)
    del model.graph.node[:]

    def add(kind: str, **attributes: list[int]) -> None:
        last = model.graph.node[-1].output[0] if model.graph.node else "x"
        node = helper.make_node(kind, [last, "w", "b"], [f"y{len(model.graph.node)}"], **attributes)
        model.graph.node.append(node)

    same = {"pads": [0, 1, 1, 0, 1, 1]}
    halved = {"strides": [1, 2, 2], "pads": [0, 0, 0, 0, 1, 1]}
    for kind, attributes in (("Conv", same), ("Conv", halved), ("Conv", same), ("Conv", halved), ("Conv", same)):
        add(kind, **attributes)
    add("ConvTranspose", strides=[1, 2, 2])
    add("Conv", **same)
    write_out(model, 8)
    names = [node.name.rpartition(".")[2] for node in model.graph.node]
    assert [name for name in names if name in ("y", "tall")] == ["y", "y", "tall", "y", "y"]


def test_what_is_computed_of_a_shape_has_no_rows():
    model = convolution(inputs=256)
    del model.graph.node[:]
    same = {"pads": [0, 1, 1, 0, 1, 1]}
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["x"], ["sizes"]),
            helper.make_node("Cast", ["sizes"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Conv", ["x", "w", "b"], ["half"], strides=[1, 2, 2], pads=[0, 0, 0, 0, 1, 1]),
            helper.make_node("Mul", ["mask", "half"], ["masked"]),
            helper.make_node("Conv", ["masked", "w", "b"], ["y"], **same),
        ]
    )
    write_out(model, 4)  # half as many behind the first convolution: 2, which leave some over
    assert "tall" in {node.name.rpartition(".")[2] for node in model.graph.node}


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "MANY_INPUTS", 8)
    monkeypatch.setattr(winograd, "MANY_OUTPUTS", 8)


@pytest.mark.parametrize("shallow", ["kl-4chn", pytest.param("fsq-32768", marks=pytest.mark.slow)], indirect=True)
def test_graphs_of_it_equal_the_reference(bundle: Path, shallow: VideoTokenizer, tmp_path: Path, few_are_many: None):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    raw = json.loads((copy / "manifest.json").read_text())
    for entry in raw["graphs"]:
        path = copy / entry["file"]
        model = onnx.load(path)
        restore_float(model)
        starts = entry["inputs"][0]["name"] == "video"
        write_out(model, shallow.stream.spatial_multiple if starts else 1)
        assert any(node.name.startswith("winograd.") for node in model.graph.node)
        onnx.save(model, path)
        entry["sha256"] = sha256_of(path)
    save_manifest(raw, copy)
    require(verify(read_manifest(copy), shallow))


def test_half_precision_sees_whole_convolutions(bundle: Path, few_are_many: None):
    for entry in read_manifest(bundle).chain("encoder", "cpu", "fp32"):
        model = onnx.load(bundle / entry.file)
        restore_float(model)
        convolutions = operators(model)["Conv"]
        write_out(model, 1)
        assert operators(model)["Conv"] > convolutions
        to_half(model, {name for s in entry.states for name in (s.input, s.output)})
        assert operators(model)["Conv"] == convolutions
        ort.InferenceSession(model.SerializeToString())
