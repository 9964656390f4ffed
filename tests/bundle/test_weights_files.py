"""Graphs whose weights lie in files of their own: what is checked before an engine opens them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import run
from onnx.external_data_helper import set_external_data

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.manifest import check_file, read_manifest, sizes_of_graphs
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.errors import BundleError

KIT = Path(__file__).parents[1] / "conformance/kit"
GRAPHS = [
    "encoder.local.onnx",
    "encoder.global.onnx",
    "decoder.global.onnx",
    "decoder.local.onnx",
    "decoder.local2.onnx",
]
CLIP = np.random.default_rng(0).integers(0, 256, (9, 16, 24, 3), np.uint8)


def seal(folder: Path, file: str) -> None:
    """Write the hash of a file, and the size of a file of weights, into the manifest."""
    raw = json.loads((folder / "manifest.json").read_text())
    content = (folder / file).read_bytes()
    for row in [*raw["graphs"], *raw["weights_files"]]:
        if row["file"] == file:
            row["sha256"] = sha256(content).hexdigest()
            if "size" in row:
                row["size"] = len(content)
    (folder / "manifest.json").write_text(json.dumps(raw))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of the kit whose graphs keep their weights in one file."""
    folder = Path(shutil.copytree(KIT / "kl-causal-v1.1", tmp_path / "bundle"))
    weights = bytearray()
    raw = json.loads((folder / "manifest.json").read_text())
    raw["weights_files"] = [{"file": "w.weights", "sha256": "", "size": 0}]
    (folder / "manifest.json").write_text(json.dumps(raw))
    for name in GRAPHS:
        model = onnx.load(folder / name)
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) > 100:
                weights += bytes(-len(weights) % 64)
                set_external_data(tensor, "w.weights", len(weights), len(tensor.raw_data))
                weights += tensor.raw_data
                tensor.ClearField("raw_data")
        (folder / name).write_bytes(model.SerializeToString())
        seal(folder, name)
    (folder / "w.weights").write_bytes(weights)
    seal(folder, "w.weights")
    return folder


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_they_give_what_weights_inside_give(bundle: Path, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = (Tokenizer(folder, provider, threads=1) for folder in (KIT / "kl-causal-v1.1", bundle))
    tokens = inside.encode(CLIP)
    np.testing.assert_array_equal(outside.encode(CLIP).data, tokens.data)
    np.testing.assert_array_equal(outside.decode(tokens), inside.decode(tokens))
    assert check_file(outside.manifest, outside.manifest.graphs[0])[1] == [bundle / "w.weights"]
    size = sum((bundle / name).stat().st_size for name in (*GRAPHS[:2], "w.weights"))
    assert sum(sizes_of_graphs(outside.manifest, outside.manifest.chain("encoder", provider, None))) == size


def test_a_compiled_graph_is_that_of_its_weights(bundle: Path) -> None:
    before = Tokenizer(bundle, "openvino", threads=1).encode(CLIP).data
    model = onnx.load(bundle / "encoder.local.onnx", load_external_data=False)
    kernel = next(tensor for tensor in model.graph.initializer if tensor.external_data and tensor.dims[1:2] == [3])
    start, length = (int(place(kernel)[key].value) for key in ("offset", "length"))
    content = np.fromfile(bundle / "w.weights", np.uint8)
    numbers = content[start : start + length].view(onnx.helper.tensor_dtype_to_np_dtype(kernel.data_type))
    numbers *= 1.5
    content.tofile(bundle / "w.weights")
    seal(bundle, "w.weights")
    assert not np.allclose(Tokenizer(bundle, "openvino", threads=1).encode(CLIP).data, before)


def test_each_is_read_once_for_a_chain(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidtok_runtime.bundle import manifest as module

    read: list[str] = []
    hashed = module.sha256_of
    monkeypatch.setattr(module, "sha256_of", lambda path: (read.append(path.name), hashed(path))[1])
    manifest = read_manifest(bundle)
    known: set[Path] = set()
    for graph in manifest.graphs:
        check_file(manifest, graph, known)
    assert sorted(read) == sorted([*GRAPHS, "w.weights"])


def refused(bundle: Path) -> str:
    result = run("encode", bundle / "none.mp4", "-o", bundle / "x.safetensors", "--bundle", bundle, "--provider", "cpu")
    assert result.exit_code == 1
    with pytest.raises(BundleError) as caught:
        Tokenizer(bundle, "cpu", threads=1).encoder()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_not_those_of_the_manifest(bundle: Path, tmp_path: Path) -> None:
    weights = bundle / "w.weights"
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + b"x")
    assert "w.weights is altered" in refused(bundle)
    assert run("info", bundle, "--verify").exit_code == 1
    weights.write_bytes(sound + b"x")
    assert "w.weights is altered" in refused(bundle)
    weights.unlink()
    assert "w.weights is missing" in refused(bundle)
    os.mkfifo(weights)
    assert "w.weights is missing" in refused(bundle)
    weights.unlink()
    (tmp_path / "elsewhere").write_bytes(sound)
    weights.symlink_to(tmp_path / "elsewhere")
    assert "link out of the bundle" in refused(bundle)
    weights.unlink()
    weights.write_bytes(sound)
    assert "w.weights" in run("info", bundle, "--verify").output
    raw = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**raw, "weights_files": []}))
    assert "no file of the manifest's weights_files" in refused(bundle)


def place(tensor: onnx.TensorProto) -> dict[str, onnx.StringStringEntryProto]:
    return {entry.key: entry for entry in tensor.external_data}


def beyond(tensor: onnx.TensorProto) -> None:
    place(tensor)["length"].value = "9999999999"


def hexadecimal(tensor: onnx.TensorProto) -> None:
    place(tensor)["offset"].value = "0x0"


def negative(tensor: onnx.TensorProto) -> None:
    place(tensor)["offset"].value = "-64"


def long(tensor: onnx.TensorProto) -> None:
    place(tensor)["offset"].value = "0" * 17


def elsewhere(tensor: onnx.TensorProto) -> None:
    place(tensor)["location"].value = "../w.weights"


def itself(tensor: onnx.TensorProto) -> None:
    place(tensor)["location"].value = "encoder.local.onnx"


def one_more(tensor: onnx.TensorProto) -> None:
    tensor.external_data.add(key="checksum", value="0")


def twice(tensor: onnx.TensorProto) -> None:
    tensor.external_data.add(key="offset", value="0")


def one_less(tensor: onnx.TensorProto) -> None:
    tensor.external_data.remove(place(tensor)["length"])


def said_to_be_inside(tensor: onnx.TensorProto) -> None:
    tensor.data_location = onnx.TensorProto.DEFAULT


def without_a_place(tensor: onnx.TensorProto) -> None:
    del tensor.external_data[:]


def without_a_value(tensor: onnx.TensorProto) -> None:
    place(tensor)["offset"].ClearField("value")


@pytest.mark.parametrize(
    "change",
    [
        beyond,
        hexadecimal,
        negative,
        long,
        elsewhere,
        itself,
        one_more,
        twice,
        one_less,
        said_to_be_inside,
        without_a_place,
        without_a_value,
    ],
    ids=lambda change: change.__name__,
)
def test_places_of_tensors(bundle: Path, change: Callable[[onnx.TensorProto], None]) -> None:
    model = onnx.load(bundle / "encoder.local.onnx", load_external_data=False)
    change(next(tensor for tensor in model.graph.initializer if tensor.external_data))
    (bundle / "encoder.local.onnx").write_bytes(model.SerializeToString())
    seal(bundle, "encoder.local.onnx")
    assert "encoder.local.onnx is no ONNX file that can be used" in refused(bundle)


def test_a_file_of_weights_that_nobody_needs(bundle: Path) -> None:
    (bundle / "more.weights").write_bytes(b"1234")
    raw = json.loads((bundle / "manifest.json").read_text())
    raw["weights_files"].append({"file": "more.weights", "sha256": "0" * 64, "size": 4})
    (bundle / "manifest.json").write_text(json.dumps(raw))
    manifest = read_manifest(bundle)
    assert load_chain(manifest, "encoder", "cpu", None, Tokenizer(bundle, "cpu", threads=1).options)
