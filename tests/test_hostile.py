"""Input that means harm, a world that does not cooperate: one clear error, nothing executed, nothing left behind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.bundles import SHIPPED
from vidtok_runtime.cli import main
from vidtok_runtime.errors import BundleError, InputError, OutputError, TokenFileError
from vidtok_runtime.external_data import refuse_external_data
from vidtok_runtime.files import PartFile
from vidtok_runtime.manifest import read_manifest
from vidtok_runtime.measures import Lpips
from vidtok_runtime.session import Options
from vidtok_runtime.token_convert import convert_file

Change = Callable[[dict[str, Any]], None]


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer("tiny-fsq-32768", provider="cpu", threads=1)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / "tiny-kl-16chn", tmp_path / "bundle"))


@pytest.fixture
def tokens(tok: Tokenizer, tmp_path: Path) -> Path:
    path = tmp_path / "clip.safetensors"
    tok.encode(np.zeros((9, 16, 24, 3), np.uint8)).save(path)
    return path


def change_manifest(bundle: Path, change: Change) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    change(raw)
    (bundle / "manifest.json").write_text(json.dumps(raw))


def replace_graph(bundle: Path, content: bytes) -> None:
    """Another encoder, with its SHA-256 in the manifest."""
    (bundle / "encoder.onnx").write_bytes(content)
    change_manifest(bundle, lambda m: m["graphs"][0].update(sha256=hashlib.sha256(content).hexdigest()))


@pytest.mark.parametrize(
    "name", ["../encoder.onnx", "/etc/passwd", "a/../encoder.onnx", "..", "", "C:\\x.onnx", "\0.onnx", "x.xml", 7, None]
)
def test_graph_files_outside(bundle: Path, name: object) -> None:
    change_manifest(bundle, lambda m: m["graphs"][0].update(file=name))
    with pytest.raises(BundleError, match="manifest"):
        read_manifest(bundle)
    result = run("info", bundle)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_links_out_of_a_bundle(bundle: Path, tmp_path: Path) -> None:
    (bundle / "encoder.onnx").rename(tmp_path / "elsewhere.onnx")
    (bundle / "encoder.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match="link out of the bundle"):
        read_manifest(bundle)
    (bundle / "encoder.onnx").unlink()
    (bundle / "encoder.onnx").symlink_to("decoder.onnx")  # inside, but not what the manifest means
    with pytest.raises(BundleError, match="SHA-256"):
        Tokenizer(bundle, provider="cpu").encoder()
    linked = tmp_path / "linked"
    linked.symlink_to(SHIPPED / "tiny-kl-16chn")  # a user's own link to a whole bundle is fine
    assert read_manifest(linked).variant == "kl-16chn"


def _state(entry: dict[str, Any]) -> dict[str, Any]:
    return entry["graphs"][0]["states"][0]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(time_factor=0),
        lambda m: m.update(time_factor=True),
        lambda m: m.update(spatial_multiple=10**30),
        lambda m: m.update(codebook_size=32768),
        lambda m: m.update(look_ahead=-1),
        lambda m: m.update(window={"frames": 6}),
        lambda m: m["chunk"].update(encoder_frames=10**9),
        lambda m: m["chunk"].update(encoder_frames=6),
        lambda m: m["weights"].update(sha256="x"),
        lambda m: m.update(licence="\x1b[2J"),
        lambda m: m["variant"].update(name="a" * 10_000),
        lambda m: m.pop("flush"),
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
    model = onnx.load(bundle / "encoder.onnx")
    tensor = next(t for t in model.graph.initializer if t.raw_data)
    onnx.external_data_helper.set_external_data(tensor, where, 0, len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    replace_graph(bundle, model.SerializeToString())
    with pytest.raises(BundleError, match="weights in other files"):
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
        with pytest.raises(BundleError, match="weights in other files"):
            refuse_external_data(path)
    for name in ("encoder.onnx", "decoder.onnx"):
        refuse_external_data(SHIPPED / "tiny-fsq-32768" / name)


def test_metric_graphs_with_external_data(tmp_path: Path) -> None:
    path = tmp_path / "lpips.onnx"
    path.write_bytes(next(_models()).SerializeToString())
    with pytest.raises(BundleError, match="weights in other files"):
        Lpips(path, "cpu", Options(threads=1))


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
        with pytest.raises(BundleError, match="no sound ONNX file"):
            refuse_external_data(path)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_weights_that_are_nan(bundle: Path, provider: str) -> None:
    model = onnx.load(bundle / "encoder.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16) and len(tensor.dims) == 5:
            values = np.full(tuple(tensor.dims), np.nan, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    replace_graph(bundle, model.SerializeToString())
    with pytest.raises(BundleError, match="NaN"):
        Tokenizer(bundle, provider=provider, threads=1).encode(np.zeros((5, 16, 16, 3), np.uint8))


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (room,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + room]), content[8 + room :]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("__metadata__", {"fps": "1e999999999"}),
        ("__metadata__", {"fps": "-5"}),
        ("__metadata__", {"fps": "0"}),
        ("__metadata__", {"variant": "\x1b]0;owned\x07"}),
        ("__metadata__", {"weights_sha256": "../../etc"}),
        ("__metadata__", {"num_frames": 9}),
        ("__metadata__", {"width": "99999999"}),
        ("__metadata__", {"height": "1"}),
        ("__metadata__", {"gop": "0"}),
        ("__metadata__", {"gop": "1"}),
        ("__metadata__", {"skip": "8"}),
        ("__metadata__", {"window": "3"}),
        ("__metadata__", {"time_factor": "0"}),
        ("__metadata__", {"front_frames": "4"}),
        ("__metadata__", {"codebook_size": "0"}),
        ("__metadata__", {"checksum": 5}),
        ("indices", {"shape": [2**62, 2**62, 2**62]}),
        ("indices", {"shape": [3, 2, 3.0]}),
        ("indices", {"shape": [-3, -2, 3]}),
        ("indices", {"shape": []}),
        ("indices", {"data_offsets": [0, "36"]}),
        ("indices", {"data_offsets": [-1, 35]}),
        ("pts", {"data_offsets": [0, 72]}),
        ("more", {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}),
    ],
)
def test_token_headers_that_lie(tokens: Path, name: str, values: dict[str, Any]) -> None:
    header, numbers = header_of(tokens)
    header.setdefault(name, {}).update(values)
    text = json.dumps(header).encode()
    tokens.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    with pytest.raises(TokenFileError):
        Tokens.load(tokens)
    result = run("info", tokens)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_files_that_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading would wait for ever
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(TokenFileError, match="no file"):
            Tokens.load(path)


def test_names_that_cannot_be(tok: Tokenizer, tokens: Path, tmp_path: Path) -> None:
    loaded = Tokens.load(tokens)
    for name in ("x" * 300, "a\0b", "\ud800"):
        with pytest.raises(OutputError, match="cannot be written"):
            loaded.save(tmp_path / name)
        with pytest.raises(BundleError, match="neither"):
            Tokenizer(tmp_path / name, provider="cpu")
    loaded.save(tmp_path / ("y" * 243 + ".safetensors"))  # as long as a name can be
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        loaded.save(tmp_path / "dangling")
    assert not (tmp_path / "nowhere").exists()
    assert not list(tmp_path.glob("*.part"))


def zip_of(path: Path, *members: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for entry, content in members:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def members_of(tokens: Path) -> dict[str, bytes]:
    convert_file(tokens, tokens.with_suffix(".npz"))
    with zipfile.ZipFile(tokens.with_suffix(".npz")) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refused(source: Path, match: str) -> None:
    target = source.parent / "out.safetensors"
    with pytest.raises(TokenFileError, match=match):
        convert_file(source, target)
    assert not target.exists()
    assert not list(source.parent.glob("*.part"))


def npy(array: np.ndarray, *, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickled)
    return file.getvalue()


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def test_zip_bombs(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    members, bad = members_of(tokens), tmp_path / "bad.npz"
    good = list(members.items())
    zip_of(bad, *good[1:], ("indices.npy", bytes(2**27)))
    refused(bad, "would grow to")
    zip_of(bad, *good[1:], ("indices.npy", npy(np.array([Bomb()], object), pickled=True)))
    refused(bad, "plain little-endian")
    assert not (tmp_path / "unpickled").exists()
    zip_of(bad, *good, ("../../escaped.npy", b"x"))
    refused(bad, "it does not hold")
    zip_of(bad, *good[1:], ("indices.npy", npy(np.zeros((3, 2, 99), np.uint16))))
    refused(bad, "more latents than pixels")
    zip_of(bad, *good[1:], ("indices.npy", members["indices.npy"][:-2]))
    refused(bad, "size of its shape")
    zip_of(bad, *good[:2], ("info.json", b"[" * 100_000))
    refused(bad, "nested too deeply")
    zip_of(bad, *((f"{i}", b"") for i in range(100)))
    refused(bad, "members")
    bad.write_bytes(tokens.with_suffix(".npz").read_bytes()[:-30])
    refused(bad, "no sound tokens")


def test_tar_bombs(tokens: Path, tmp_path: Path) -> None:
    members, bad = members_of(tokens), tmp_path / "bad.tar"
    good = [(tarfile.TarInfo(f"a.{name}"), content) for name, content in members.items()]
    tar_of(bad, *good)
    convert_file(bad, tmp_path / "fine.safetensors")
    assert (tmp_path / "fine.safetensors").read_bytes() == tokens.read_bytes()
    link = tarfile.TarInfo("a.indices.npy")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tar_of(bad, *good[1:], (link, b""))
    refused(bad, "no plain file")
    sparse = tarfile.TarInfo("a.indices.npy")
    sparse.type = tarfile.GNUTYPE_SPARSE
    tar_of(bad, *good[1:], (sparse, b""))
    refused(bad, "no plain file")
    tar_of(bad, *good, (tarfile.TarInfo("b.indices.npy"), b""))
    refused(bad, "twice|more than one")
    tar_of(bad, *good, *((tarfile.TarInfo(f"a.{i}"), b"") for i in range(100)))
    refused(bad, "more than one sample")
    header = tarfile.TarInfo("a.indices.npy")
    header.size = 2**60
    bad.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    refused(bad, "ends early")
    header.size = -512
    bad.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    refused(bad, "negative")
    bad.write_bytes(os.urandom(2048))
    refused(bad, "no sound tokens")


def test_raw_files_that_lie(tokens: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw.bin"
    convert_file(tokens, raw)
    about = json.loads((tmp_path / "raw.json").read_text())
    raw.write_bytes(raw.read_bytes() + b"x")
    refused(raw, "promises")
    about["indices"]["shape"] = [2**40, 2, 3]
    (tmp_path / "raw.json").write_text(json.dumps(about))
    refused(raw, "need 3 latents")
    (tmp_path / "raw.json").unlink()
    refused(raw, "not beside it")


@pytest.mark.parametrize("links", [True, False])
def test_concurrent_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "t"
    contents = [bytes([i]) * 100_000 for i in range(8)]
    parts = [PartFile(target) for _ in contents]  # all begin before any has finished

    def write(part: PartFile, content: bytes) -> str:
        try:
            part.write_whole(content)
        except OutputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(write, parts, contents))
    assert sorted(outcomes) == ["", *[f"{target} exists already; give --force to replace it"] * 7]
    assert target.read_bytes() == contents[outcomes.index("")]
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_a_disk_that_fills_up(tok: Tokenizer, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", disk], capture_output=True).returncode:
        pytest.skip("a small tmpfs needs the right to mount one")
    try:
        data = np.zeros((400, 16, 16), np.int32)
        info = tok.describe(4 * 400 - 3, 128, 128)
        with pytest.raises(OutputError, match="No space left"):
            Tokens(data, info).save(disk / "t.safetensors")
        Tokens(data, info).save(tmp_path / "t.safetensors")
        for suffix in (".npz", ".tar", ".bin"):
            with pytest.raises(OutputError, match="No space left"):
                convert_file(tmp_path / "t.safetensors", disk / f"t{suffix}")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_sigterm(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    # Frames that never end: the second one is told to wait until the signal.
    script = (
        "import sys, time, vidtok_runtime.pipeline as p; chunks = p._chunks\n"
        "def slow(items, size):\n"
        "    for c in chunks(items, 4):\n"
        "        yield c; print('working', flush=True); time.sleep(600)\n"
        "p._chunks = slow\nfrom vidtok_runtime.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "encode", clip, "-o", folder / "t.safetensors", "--quiet", "--provider", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert [p.suffix for p in folder.iterdir()] == [".part"]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.splitlines() == ["vidtok-run: stopped by SIGTERM"]
    assert list(folder.iterdir()) == []


def test_clocks_do_not_matter(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suffixes = (".safetensors", ".npz", ".tar", ".bin")
    now, then = tmp_path / "now", tmp_path / "then"
    now.mkdir()
    then.mkdir()
    for suffix in suffixes:
        convert_file(tokens, now / f"t{suffix}")
    os.utime(tokens, (2**33, 2**33))  # a file from the future
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "localtime", lambda *_: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
    for suffix in suffixes:
        convert_file(tokens, then / f"t{suffix}")
    for path in now.iterdir():
        assert path.read_bytes() == (then / path.name).read_bytes()


def test_tokens_that_no_model_made(tok: Tokenizer, tokens: Path) -> None:
    loaded = Tokens.load(tokens)
    wrong = Tokens(np.full_like(loaded.data, 40_000), loaded.info)
    with pytest.raises(InputError, match="must lie in"):
        wrong.save(tokens, force=True)
    with pytest.raises(InputError, match="must lie in"):
        tok.decode(wrong)
