"""int8 and fp16 graphs beside the float32 ones: made, measured, read back, refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import SHALLOW
from onnx import TensorProto, numpy_helper
from onnxruntime import InferenceSession

from vidtok_export.cli import main
from vidtok_export.compact import restore_float, store_half
from vidtok_export.quantization.fp16 import to_half
from vidtok_export.quantization.int8 import Quantizable, count_products
from vidtok_export.quantization.selection import Chosen, Int8Choice, choose
from vidtok_ref import VideoTokenizer, build
from vidtok_runtime import Tokenizer
from vidtok_runtime.cli import main as run
from vidtok_runtime.evaluation.protocol import Protocol
from vidtok_runtime.tools.demo import synthetic_frame


@pytest.fixture(scope="module", params=["fsq-32768", pytest.param("kl-4chn", marks=pytest.mark.slow)])
def precise(
    request: pytest.FixtureRequest,
    exported: Callable[[VideoTokenizer], Path],
    clips: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A narrow bundle with all three precisions."""
    bundle = exported(build(request.param, **SHALLOW))
    folder = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("precise") / bundle.name))
    asked = ["quantize", str(folder), "--precision", "int8", "--precision", "fp16", "--calibrate", str(clips)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidtok_export.quantization.clips.PROTOCOL", Protocol(9, 48, None))  # the rest is as in use
        result = CliRunner().invoke(main, [*asked, "--max-loss", "0.3", "--quiet"])
    assert result.exit_code == 0, result.output
    return folder


def test_manifest_says_what_they_cost(precise: Path) -> None:
    raw = json.loads((precise / "manifest.json").read_text())
    assert raw["graphs"][0]["precision"] == "fp32"  # what a runtime takes unless asked for another
    rows = [row for row in raw["parity"]["rows"] if "precision" in row]
    assert {(row["precision"], row["provider"]) for row in rows} == {("int8", "openvino"), ("fp16", "cpu")}
    for row in rows:
        assert row["passed"]
        assert row["finite_on_saturated_input"]
        assert row["psnr_lost"] <= 0.3
        assert row["video_max_diff"] > 0  # it is another graph
        assert ("token_agreement" in row) == ("fsq" in precise.name)
    for graph in raw["graphs"]:
        if graph["precision"] == "int8":
            assert len(graph["kept_float"]) < graph["convolutions"]


@pytest.mark.parametrize(("precision", "provider"), [("int8", "openvino"), ("fp16", "cpu")])
def test_runs_and_streams(precise: Path, frames: np.ndarray, precision: str, provider: str) -> None:
    tok = Tokenizer(precise, provider, threads=1, precision=precision)
    tokens = tok.encode(frames)
    assert tokens.info.precision == precision
    video = tok.decode(tokens, dtype="float32")
    assert video.shape == frames.shape
    # A float32 decoder takes the same tokens: identity is that of the weights.
    exact = Tokenizer(precise, provider, threads=1).decode(tokens, dtype="float32")
    assert np.abs(exact - video).mean() < 0.05
    encoder, decoder = tok.encoder(), tok.decoder(len(frames), *frames.shape[1:3], dtype="float32")
    data = np.concatenate([*(encoder.push(frames[i : i + 1]) for i in range(len(frames))), encoder.finish()])
    streamed = np.concatenate([*(decoder.push(data[i : i + 1]) for i in range(len(data))), decoder.finish()])
    assert np.abs(streamed - video).mean() < 2e-3


def test_other_precisions_are_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tok = Tokenizer("tiny-fsq-32768", "cpu", threads=1)
    own = tok.encode(np.stack([synthetic_frame(i, 16, 24) for i in range(9)]), gop=1)
    made = replace(own, info=replace(own.info, precision="int8"))
    tok.decode(own)
    assert not caplog.records
    tok.decode(made)
    tok.decode(made.slice(1, 5))
    (said,) = caplog.records
    assert said.getMessage().startswith("tokens made in int8 are decoded in fp32")

    monkeypatch.chdir(tmp_path)
    own.save("own.safetensors")
    made.save("made.safetensors")
    for name, lines in (("own", []), ("made", [f"vidtok-run: warning: {said.getMessage()}"])):
        command = ["decode", f"{name}.safetensors", "--provider", "cpu", "--threads", "1", "--quiet"]
        result = CliRunner().invoke(run, command)
        assert result.exit_code == 0, result.output
        assert result.stderr.splitlines() == lines
        described = CliRunner().invoke(run, ["info", f"{name}.safetensors"]).output
        assert ("; int8 tokens are not those of fp32" in described) == bool(lines)
    described = CliRunner().invoke(run, ["info", "tiny-fsq-32768"]).output
    (line,) = (line for line in described.splitlines() if line.startswith("parity openvino int8"))
    assert line.endswith("; int8 tokens are not those of fp32")


def test_transposed_convolutions_take_signed_inputs_around_zero(precise: Path) -> None:
    model = onnx.load(precise / "decoder.local.int8.onnx")
    made = {output: node for node in model.graph.node for output in node.output}
    zeros = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    inputs = [made[n.input[0]] for n in model.graph.node if n.op_type == "ConvTranspose"]
    quantized = [zeros[node.input[2]] for node in inputs if node.op_type == "DequantizeLinear"]
    assert quantized
    assert all(zero.dtype == np.int8 and zero == 0 for zero in quantized)
    others = [made[n.input[0]] for n in model.graph.node if n.op_type == "Conv"]
    assert {zeros[node.input[2]].dtype for node in others if node.op_type == "DequantizeLinear"} == {np.dtype(np.uint8)}


def test_integers_go_where_they_save_most_for_their_error() -> None:
    choice = object.__new__(Int8Choice)
    work = {"wide": 1000, "narrow": 10, "last": 2000}
    choice.graphs = {file: SimpleNamespace(products=work) for file in ("encoder.local.onnx", "decoder.local.onnx")}
    choice.error = 1.0
    decoder = "decoder.local.onnx"
    choice.cost = {(decoder, "wide"): 0.02, (decoder, "narrow"): 0.01, (decoder, "last"): 0.2}
    assert choice.within(0.1) == {"encoder.local.onnx": set(), decoder: {"wide"}}  # 0.1 dB are 2.3% of the error
    assert choice.within(0.15)[decoder] == {"wide", "narrow"}  # 3.5%: the last does not fit, what comes after it does
    assert choice.within(1.0)[decoder] == {"wide", "narrow", "last"}
    assert choice.within(0.0)[decoder] == set()


@pytest.mark.parametrize(
    ("together", "expected"),
    [
        (1.0, {"wide", "narrow"}),  # as much as one by one
        (0.5, {"wide", "narrow", "last"}),  # half: the last fits, too
        (0.01, {"wide", "narrow", "last"}),
        (1.5, {"wide"}),
        (2.5, {"narrow"}),  # the cheapest for its work alone is too much
        (100.0, set()),
    ],
)
def test_as_many_are_chosen_as_are_measured_to_fit(together: float, expected: set[str]) -> None:
    choice = object.__new__(Int8Choice)
    file, cost = "decoder.local.onnx", {"wide": 0.02, "narrow": 0.01, "last": 0.03}
    choice.graphs = {file: SimpleNamespace(products={"wide": 1000, "narrow": 10, "last": 20})}
    choice.error, choice.cost = 1.0, {(file, name): one for name, one in cost.items()}

    def lost(chosen: Chosen) -> float:
        return together * 10 * math.log10(1 + sum(cost[name] for name in chosen[file]))

    assert choose(choice, 0.15, lost, quiet=True) == {file: expected}


def two_convolutions() -> onnx.ModelProto:
    """One halves `N 4 T H W`, one doubles it again."""
    nodes = [
        onnx.helper.make_node("Conv", ["x", "down"], ["y"], name="down", strides=[1, 2, 2], pads=[0, 1, 1, 0, 1, 1]),
        onnx.helper.make_node("ConvTranspose", ["y", "up"], ["z"], name="up", strides=[1, 2, 2]),
    ]
    ports = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xz"]
    kernels = {"down": np.ones((6, 4, 1, 3, 3), "f4"), "up": np.ones((6, 5, 1, 2, 2), "f4")}
    graph = onnx.helper.make_graph(
        nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(k, name) for name, k in kernels.items()]
    )
    return onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)])


def test_products_are_counted_where_the_kernel_meets_them() -> None:
    model = two_convolutions()
    found = count_products(model, ["down", "up"], {"x": np.ones((1, 4, 3, 8, 8), "f4")})
    assert found == {"down": 6 * 3 * 4 * 4 * 4 * 9, "up": 6 * 3 * 4 * 4 * 5 * 4}
    assert len(model.graph.output) == 1


def test_convolutions_that_are_not_chosen_stay_in_float() -> None:
    graph = Quantizable(two_convolutions(), [{"x": np.ones((1, 4, 3, 8, 8), "f4")}])
    down, up = graph.convolutions
    for chosen, count in ((set(), 0), ({down}, 1), ({up}, 1), ({down, up}, 2)):
        model = graph.model(chosen)
        assert [node.op_type for node in model.graph.node].count("QuantizeLinear") == count


@pytest.mark.parametrize(("part", "port"), [("local", "video"), ("global", "features")])
def test_types_inside(precise: Path, part: str, port: str) -> None:
    half = onnx.load(precise / f"encoder.{part}.fp16.onnx")
    types = {p.name: p.type.tensor_type.elem_type for p in (*half.graph.input, *half.graph.output)}
    assert types[port] == TensorProto.FLOAT
    assert {t for name, t in types.items() if "state." in name} == {TensorProto.FLOAT16}
    norms = [n for n in half.graph.node if n.op_type in ("ReduceMean", "Sqrt", "Softmax")]
    inferred = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(half).graph.value_info}
    assert norms
    assert {inferred[n.output[0]] for n in norms} == {TensorProto.FLOAT}
    integers = onnx.load(precise / f"encoder.{part}.int8.onnx")
    assert any(t.data_type == TensorProto.INT8 for t in integers.graph.initializer)
    onnx.checker.check_model(half)
    onnx.checker.check_model(integers)


def test_half_storage_is_undone() -> None:
    values = np.random.default_rng(0).normal(size=(20, 20)).astype("f2").astype("f4")
    port = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [port("x", TensorProto.FLOAT, [1, 20])],
        [port("y", TensorProto.FLOAT, [1, 20])],
        [numpy_helper.from_array(values, "w")],
    )
    model = onnx.helper.make_model(graph)
    before = model.SerializeToString()
    store_half(model)
    assert model.SerializeToString() != before
    restore_float(model)
    assert model.SerializeToString() == before


def test_half_graphs_resize_in_float32() -> None:
    port = onnx.helper.make_tensor_value_info
    shape = [1, 2, 2, 3, 3]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Mul", ["x", "two"], ["y"]),
            onnx.helper.make_node("Resize", ["y", "", "scales"], ["z"], mode="nearest"),
        ],
        "g",
        [port("x", TensorProto.FLOAT, shape)],
        [port("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(2), "two"), numpy_helper.from_array(np.ones(5, "f4") * 2, "scales")],
    )
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)])
    to_half(model, set())
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.arange(18, dtype="f4").reshape(1, 2, 1, 3, 3).repeat(2, axis=2)
    wanted = 2 * x.repeat(2, 0).repeat(2, 1).repeat(2, 2).repeat(2, 3).repeat(2, 4)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], wanted)


def test_half_graphs_turn_and_choose_in_float32() -> None:
    """Angles beyond 2048 and closenesses that differ by little: float16 has neither."""
    port, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    places, speeds = np.array([[2049], [4097]], "f4"), np.array([[1.0, 0.5]], "f4")
    codes = np.array([[1.0, 0.0], [0.9999, 0.0], [1.0001, 0.0]], "f4").T
    graph = onnx.helper.make_graph(
        [
            node("Cast", ["places"], ["angle"], to=TensorProto.FLOAT),
            node("Mul", ["angle", "speeds"], ["angles"]),
            node("Unsqueeze", ["angles", "last"], ["column"]),
            node("Concat", ["column", "column"], ["pairs"], axis=-1),
            node("Reshape", ["pairs", "flat"], ["row"]),
            node("Cos", ["row"], ["cos"]),
            node("MatMul", ["x", "codes"], ["products"]),
            node("Transpose", ["products"], ["closeness"], perm=[1, 0]),
            node("ArgMax", ["closeness"], ["indices"], axis=0, keepdims=0),
        ],
        "g",
        [port("places", TensorProto.INT64, [2, 1]), port("x", TensorProto.FLOAT, [2, 2])],
        [port("cos", TensorProto.FLOAT, [8]), port("indices", TensorProto.INT64, [2])],
        [
            numpy_helper.from_array(speeds, "speeds"),
            numpy_helper.from_array(codes, "codes"),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(np.array([8]), "flat"),
        ],
    )
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)])
    to_half(model, set())
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.array([[1.0, 2.0], [-1.0, 2.0]], "f4")
    cos, indices = session.run(None, {"places": places.astype("i8"), "x": x})
    np.testing.assert_allclose(cos, np.cos((places * speeds).repeat(2)), atol=1e-6)
    assert indices.tolist() == [2, 1]


def test_refusals(precise: Path, clips: Path, tmp_path: Path) -> None:
    manifest = (precise / "manifest.json").read_bytes()
    asked = ["quantize", str(precise), "--precision", "fp16", "--calibrate"]
    again = CliRunner().invoke(main, [*asked, str(clips)])
    assert again.exit_code == 1
    assert "--force" in again.output
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = CliRunner().invoke(main, [*asked, str(empty), "--force"])
    assert nothing.exit_code == 1
    assert "clips to calibrate on" in nothing.output
    assert (precise / "manifest.json").read_bytes() == manifest
    assert not list(precise.parent.glob("*.part"))


@pytest.mark.slow
def test_too_much_loss_changes_nothing(
    precise: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidtok_export.quantization.clips.PROTOCOL", Protocol(9, 48, None))
    copy = tmp_path / "copy"
    shutil.copytree(precise, copy)
    files = {p.name: p.read_bytes() for p in copy.iterdir()}
    monkeypatch.chdir(copy)
    result = CliRunner().invoke(main, ["quantize", ".", "--force", "--calibrate", str(clips), "--max-loss", "-50"])
    assert result.exit_code == 1
    assert "psnr_lost" in result.stderr
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == files


def test_without_its_engine_a_precision_is_refused(precise: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = (precise / "manifest.json").read_bytes()
    monkeypatch.setattr("vidtok_runtime.engines.registry.unavailable", lambda name: f"{name} is not installed")
    asked = ["quantize", str(precise), "--precision", "int8", "--force", "--calibrate", str(clips)]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 1
    assert "provider openvino: openvino is not installed" in result.output
    assert (precise / "manifest.json").read_bytes() == manifest


def test_command_line(precise: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip.safetensors"
    common = ["encode", str(clip), "--bundle", str(precise), "--provider", "openvino", "-o", str(out), "--quiet"]
    assert CliRunner().invoke(run, [*common, "--precision", "int8"]).exit_code == 0
    assert "int8" in CliRunner().invoke(run, ["info", str(out)]).output
    assert "dB lost" in CliRunner().invoke(run, ["info", str(precise)]).output
    wrong = CliRunner().invoke(run, [*common, "--precision", "int4", "--force"])
    assert wrong.exit_code == 1
    assert "offers" in wrong.output
