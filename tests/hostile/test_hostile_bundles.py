"""Bundles that mean harm: one clear error, nothing executed, no file but their own opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commands import run
from strange_bundles import lying_bundle, replace_graph

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.bundle.onnx_file import check_onnx_file
from vidtok_runtime.engines.base import Options
from vidtok_runtime.errors import BundleError
from vidtok_runtime.quality.graph_metrics import LpipsGraph

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / "tiny-kl-16chn", tmp_path / "bundle"))


def change_manifest(bundle: Path, change: Change) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    change(raw)
    (bundle / "manifest.json").write_text(json.dumps(raw))


@pytest.mark.parametrize(
    "name", ["../encoder.local.onnx", "/etc/passwd", "a/../x.onnx", "..", "", "C:\\x.onnx", "\0.onnx", "x.xml", 7, None]
)
def test_graph_files_outside(bundle: Path, name: object) -> None:
    change_manifest(bundle, lambda m: m["graphs"][0].update(file=name))
    with pytest.raises(BundleError, match="manifest"):
        read_manifest(bundle)
    result = run("info", bundle)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_links_out_of_a_bundle(bundle: Path, tmp_path: Path) -> None:
    (bundle / "encoder.local.onnx").rename(tmp_path / "elsewhere.onnx")
    (bundle / "encoder.local.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match="link out of the bundle"):
        read_manifest(bundle)
    (bundle / "encoder.local.onnx").unlink()
    (bundle / "encoder.local.onnx").symlink_to("decoder.local.onnx")  # inside, but not what the manifest means
    with pytest.raises(BundleError, match="SHA-256"):
        Tokenizer(bundle, provider="cpu").encoder()
    (bundle / "manifest.json").rename(tmp_path / "manifest.json")
    (bundle / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(BundleError, match="link out of the bundle"):
        read_manifest(bundle)
    linked = tmp_path / "linked"
    linked.symlink_to(SHIPPED / "tiny-kl-16chn")  # a user's own link to a whole bundle is fine
    assert read_manifest(linked).name == "kl-16chn"


def _state(entry: dict[str, Any]) -> dict[str, Any]:
    return entry["graphs"][0]["states"][0]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["stream"].update(time_factor=0),
        lambda m: m["stream"].update(time_factor=True),
        lambda m: m["stream"].update(spatial_multiple=10**30),
        lambda m: m["stream"].update(codebook_size=32768),
        lambda m: m["stream"].update(groups={"frames": 6}),
        lambda m: m["stream"]["encoder"].update(max=10**9),
        lambda m: m["stream"]["encoder"].update(max=6),
        lambda m: m["stream"]["decoder"].update(flush={"size": 1, "keep": -1}),
        lambda m: m["weights"].update(sha256="x"),
        lambda m: m.update(licence="\x1b[2J"),
        lambda m: m.update(name="a" * 10_000),
        lambda m: m.pop("stream"),
        lambda m: m.update(weights_files=[{"file": "../x.weights", "sha256": "0" * 64, "size": 1}]),
        lambda m: m["graphs"].clear(),
        lambda m: m["graphs"][0].update(role="discriminator"),
        lambda m: m["graphs"][0]["inputs"].clear(),
        lambda m: m["graphs"][0]["states"].append(_state(m)),
        lambda m: _state(m).update(initial="nan"),
        lambda m: _state(m).update(axes="N 3 999999999 H W"),
        lambda m: _state(m).update(axes="N 99999 99999 H W"),
        lambda m: _state(m).update(axes="N 3 2 H/0 W"),
        lambda m: _state(m).update(axes="N 3 2 H Q"),
        lambda m: _state(m).update(dtype="object"),
        lambda m: _state(m).update(dtype="float16"),  # known, but not the graph's
        lambda m: _state(m).update(axes="N 4 2 H W"),
        lambda m: _state(m).update(axes="N 3 2 H"),
        lambda m: m["graphs"][0]["inputs"][0].update(dtype="uint8"),
    ],
)
def test_manifests_that_lie(bundle: Path, change: Change) -> None:
    change_manifest(bundle, change)
    with pytest.raises(BundleError, match=r"manifest|encoder"):
        Tokenizer(bundle, provider="cpu", threads=1).encoder()


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff", b'{"format": 1}', b"9" * 9999])
def test_manifests_that_are_none(bundle: Path, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match="manifest"):
        read_manifest(bundle)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("place", ["beside", "above", "absolute"])
def test_external_data(bundle: Path, tmp_path: Path, provider: str, place: str) -> None:
    where = {"beside": "weights.bin", "above": "../weights.bin", "absolute": str(tmp_path / "weights.bin")}[place]
    for folder in (bundle, tmp_path):
        (folder / "weights.bin").write_bytes(bytes(2**16))
    model = onnx.load(bundle / "encoder.local.onnx")
    tensor = next(t for t in model.graph.initializer if t.raw_data)
    onnx.external_data_helper.set_external_data(tensor, where, 0, len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    replace_graph(bundle, "encoder.local.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match=r"no file of the manifest|in another file"):
        Tokenizer(bundle, provider=provider, threads=1).encoder()


def _tensor() -> onnx.TensorProto:
    tensor = onnx.TensorProto(dims=[1], data_type=1, name="t", data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="x")
    return tensor


def _constant(**value: Any) -> onnx.NodeProto:
    return onnx.helper.make_node("Constant", [], ["c"], **value)


def _models() -> Iterator[onnx.ModelProto]:
    """External data everywhere that an ONNX model can have a tensor."""
    graph = onnx.GraphProto(name="g")
    yield onnx.helper.make_model(onnx.helper.make_graph([_constant(value=_tensor())], "g", [], []))
    inner = onnx.helper.make_graph([_constant(value=_tensor())], "inner", [], [])
    yield onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)], "g", [], []
        )
    )
    sparse = onnx.SparseTensorProto(values=_tensor(), dims=[1])
    graph.sparse_initializer.append(sparse)
    yield onnx.helper.make_model(graph)
    function = onnx.helper.make_function("d", "f", [], ["c"], [_constant(value=_tensor())], [])
    yield onnx.helper.make_model(onnx.GraphProto(name="g"), functions=[function])
    model = onnx.helper.make_model(onnx.GraphProto(name="g"))
    model.training_info.add().algorithm.initializer.append(_tensor())
    yield model
    node = onnx.NodeProto(op_type="X")
    node.attribute.add(name="a", type=onnx.AttributeProto.TENSORS).tensors.append(_tensor())
    yield onnx.helper.make_model(onnx.GraphProto(name="g", node=[node]))


def test_external_data_is_found_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for model in _models():
        path.write_bytes(model.SerializeToString())
        with pytest.raises(BundleError, match=r"in another file|a field (20|25) "):
            check_onnx_file(path)
    for path in (SHIPPED / "tiny-fsq-32768").glob("*.onnx"):
        check_onnx_file(path)


def test_metric_graphs_with_external_data(tmp_path: Path) -> None:
    path = tmp_path / "lpips.onnx"
    path.write_bytes(next(_models()).SerializeToString())
    with pytest.raises(BundleError, match=r"no file of the manifest|in another file"):
        LpipsGraph(path, "cpu", Options(threads=1))


def test_onnx_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    nested = b"\x0a\x00"
    for _ in range(100):  # graph in attribute in node in graph
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            length = len(nested)
            nested = tag + bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14]) + nested
    deep = b"\x3a" + bytes([len(nested) & 127 | 128, len(nested) >> 7 & 127 | 128, len(nested) >> 14]) + nested
    for content in (b"", b"<net/>", b"\x3a\xff\xff\xff\xff\x0f", b"\x08" + b"\x80" * 20, b"\x08\x01", deep, bytes(100)):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="no ONNX file"):
            check_onnx_file(path)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize(
    ("output", "axis"),
    [("indices", 0), ("indices", 1), ("indices", 2), ("indices", 3), ("latent", 3), ("state", 0), ("state", 3)],
)
def test_outputs_of_other_sizes(tmp_path: Path, provider: str, output: str, axis: int) -> None:
    if output == "state":
        output = read_manifest(SHIPPED / "tiny-fsq-32768").graphs[0].states[2].output
    bundle = lying_bundle(tmp_path / "lying", output, axis)
    tok = Tokenizer(bundle, provider=provider, threads=1)
    with pytest.raises(BundleError, match=rf"the encoder gave {output} of \[.*\] where its manifest promises"):
        tok.encode(np.zeros((21, 16, 24, 3), np.uint8))


@pytest.mark.parametrize(
    ("graph", "kind", "axes"),
    [
        (1, "outputs", "N T/2 H/8 W/8"),
        (1, "outputs", "N T/4 H/8 W/4"),
        (1, "outputs", "N T/4 W/8 H/8"),
        (0, "inputs", "N 1 T H W"),
        (0, "inputs", "N 3 T H H"),
        (2, "inputs", "N T/4 H W"),
        (3, "outputs", "N 3 T H 64"),
    ],
)
def test_axes_that_do_not_follow_from_the_factors(tmp_path: Path, graph: int, kind: str, axes: str) -> None:
    bundle = Path(shutil.copytree(SHIPPED / "tiny-fsq-32768", tmp_path / "bundle"))
    change_manifest(bundle, lambda m: m["graphs"][graph][kind][0].update(axes=axes))
    with pytest.raises(BundleError, match=r"belongs|which the data do not have"):
        read_manifest(bundle)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_weights_that_are_nan(bundle: Path, provider: str) -> None:
    model = onnx.load(bundle / "encoder.local.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16) and len(tensor.dims) == 5:
            values = np.full(tuple(tensor.dims), np.nan, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    replace_graph(bundle, "encoder.local.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match="NaN"):
        Tokenizer(bundle, provider=provider, threads=1).encode(np.zeros((5, 16, 16, 3), np.uint8))
