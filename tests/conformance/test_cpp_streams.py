"""The C++ runtime on streams of every kind that the format allows, in parts and with weights in a file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cases import KIT, read_cases
from cpp_program import Build, leftovers
from made_arithmetic import Arithmetic
from made_kit import make_bundle, make_clip, make_kit, write_tokens
from made_streams import FIRST, MADE, SIZE, Made, calls

pytest_plugins = ["cpp_builds"]

BY_NAME = {made.name: made for made in MADE}
HEIGHT, WIDTH = SIZE


@pytest.fixture(scope="module")
def made_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kit(tmp_path_factory.mktemp("made"))


def read_latents(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """Float32 latents and what the header says of them, read without any of the runtimes."""
    content = path.read_bytes()
    room = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:room])
    start, end = header["latent"]["data_offsets"]
    data = np.frombuffer(content[room + start : room + end], "<f4")
    return data.reshape(header["latent"]["shape"]), header["__metadata__"]


class Clip:
    """A clip, its bundle, and what they must become."""

    def __init__(self, build: Build, folder: Path, made: Made, frames: int) -> None:
        self.build, self.folder, self.made, self.pixels = build, folder, made, make_clip(frames)
        folder.mkdir(exist_ok=True)
        self.bundle, self.raw, self.out = folder / made.name, folder / "clip.rgb", folder / "clip.safetensors"
        make_bundle(self.bundle, made)
        self.pixels.tofile(self.raw)

    def encode(self, *more: object, code: int = 0) -> str:
        size = ("--size", f"{WIDTH}x{HEIGHT}", "--fps", 25)
        return self.build.run("encode", self.bundle, self.raw, self.out, "--force", *size, *more, code=code)

    def decode(self, tokens: Path, *more: object) -> np.ndarray:
        out = self.folder / "back.f32"
        self.build.run("decode", self.bundle, tokens, out, "--force", *more)
        return np.fromfile(out, "<f4").reshape(self.pixels.shape)

    def check(self, made: Made, *more: object) -> dict[str, str]:
        """Encodes and decodes; gives what the token file says."""
        self.encode(*more)
        found, metadata = read_latents(self.out)
        wanted = Arithmetic(made).encode(self.pixels)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-5
        video = Arithmetic(made).decode(wanted, len(self.pixels), HEIGHT, WIDTH)
        assert np.abs(self.decode(self.out) - video).max() < 1e-5
        return metadata


def test_every_kind_of_stream_in_every_chunking(build: Build, made_kit: Path) -> None:
    lines = build.conform(made_kit)
    assert len(lines) == sum(len(made.lengths) for made in MADE)


def test_groups_that_are_asked_for(plain: Build, tmp_path: Path) -> None:
    made = BY_NAME["windows"]
    other = {"frames": 12, "latents": 3, "shared_frames": 0, "shared_latents": 0, "whole": True, "multiple": None}
    told = Clip(plain, tmp_path, made, 19).check(_changed(made, groups=other), "--window", 12)
    assert told["groups"] == "frames=12 latents=3 shared_frames=0 shared_latents=0 whole=1"


@pytest.mark.parametrize(
    ("length", "front", "frames"), [((0, 4), 3, 9), ((1, 4), 0, 9), ((0, 1), 0, 12)], ids=["front", "first", "any"]
)
def test_gop(plain: Build, tmp_path: Path, length: tuple[int, int], front: int, frames: int) -> None:
    stream = {
        "time_factor": 4,
        "front_frames": front,
        "length": {"first": length[0], "multiple": length[1]},
        "encoder": calls(4, 8, first=4 if front else 1, flags=FIRST),
        "decoder": calls(1, 4, first=1, drop=0 if length == (0, 1) else 3, flags=FIRST),
    }
    if length == (0, 1):
        stream["encoder"]["first"] = 4
    made = Made("gops", stream)
    told = Clip(plain, tmp_path, made, 22).check(_changed(made, groups=_gop(frames)), "--gop", 3)
    assert told["groups"] == f"frames={frames} latents=3 shared_frames=0 shared_latents=0 whole=0"
    assert "gop" in Clip(plain, tmp_path / "own", BY_NAME["shared"], 3).encode("--gop", 3, code=1)


def _gop(frames: int) -> dict[str, Any]:
    return {"frames": frames, "latents": 3, "shared_frames": 0, "shared_latents": 0, "whole": False, "multiple": None}


def _changed(made: Made, **stream: Any) -> Made:
    return replace(made, unusual={**made.unusual, **stream})


def test_calls_of_other_sizes_where_the_result_does_not_depend_on_them(plain: Build, tmp_path: Path) -> None:
    clip = Clip(plain, tmp_path, BY_NAME["parts"], 30)
    clip.check(BY_NAME["parts"], "--chunk", 4)
    assert "multiple of 4" in clip.encode("--chunk", 6, code=1)
    for name in ("exact", "surplus"):
        assert "leave chunk out" in Clip(plain, tmp_path / name, BY_NAME[name], 3).encode("--chunk", 8, code=1)
    assert "leave window out" in clip.encode("--window", 8, code=1)


def test_normalized_latents(plain: Build, tmp_path: Path) -> None:
    made = BY_NAME["flush"]
    clip = Clip(plain, tmp_path, made, 11)
    latents = Arithmetic(made).encode(clip.pixels)
    mean, deviation = (np.reshape(made.stream[key], (1, -1, 1, 1)) for key in ("latent_mean", "latent_std"))
    clip.encode("--normalize")
    found, metadata = read_latents(clip.out)
    assert metadata["normalized"] == "1"
    assert np.abs(found - (latents - mean) / deviation).max() < 1e-5
    wanted = Arithmetic(made).decode(latents, 11, HEIGHT, WIDTH)
    assert np.abs(clip.decode(clip.out) - wanted).max() < 1e-5
    assert "normalized" in plain.run("info", clip.out)
    plain.run("decode", clip.bundle, clip.out, tmp_path / "x.f32", "--normalize", code=2)

    manifest = clip.bundle / "manifest.json"
    raw = json.loads(manifest.read_text())
    raw["stream"] |= {"latent_mean": None, "latent_std": None}
    manifest.write_text(json.dumps(raw))
    out = tmp_path / "x.f32"
    assert "no mean and scale" in plain.run("decode", clip.bundle, clip.out, out, code=1)
    assert "no mean and scale" in clip.encode("--normalize", code=1)
    assert not out.exists()


def test_a_variance_is_read_past(plain: Build, tmp_path: Path) -> None:
    made = BY_NAME["flush"]
    clip = Clip(plain, tmp_path, made, 4)
    latents = Arithmetic(made).encode(clip.pixels)
    write_tokens(clip.out, made, latents, 4, sampled="7")
    content = clip.out.read_bytes()
    room = 8 + int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8:room]), content[room:]
    size = latents.nbytes
    body = body[:size] + np.ones_like(latents).tobytes() + body[size:]
    for name in set(header) & {"padding", "pts"}:
        header[name]["data_offsets"] = [at + size for at in header[name]["data_offsets"]]
    header["log_variance"] = {**header["latent"], "data_offsets": [size, 2 * size]}
    header["__metadata__"]["checksum"] = f"sha256:{hashlib.sha256(body).hexdigest()}"

    def write(header: dict[str, Any]) -> None:
        text = json.dumps(header).encode()
        clip.out.write_bytes(len(text).to_bytes(8, "little") + text + body)

    write(header)
    wanted = Arithmetic(made).decode(latents, 4, HEIGHT, WIDTH)
    assert np.abs(clip.decode(clip.out) - wanted).max() < 1e-5
    said = plain.run("info", clip.out, "--verify")
    assert "seed 7" in said
    assert "verified" in said
    count, channels, *space = header["latent"]["shape"]
    header["log_variance"]["shape"] = [channels, count, *space]
    write(header)
    assert "log_variance" in plain.run("info", clip.out, code=1)


@pytest.mark.parametrize(
    ("name", "latents", "start", "skip", "count"),
    [
        ("surplus", slice(0, 5), 0, 0, 6),
        ("surplus", slice(5, 10), 17, 2, 3),
        ("surplus", slice(5, 12), 17, 0, 23),
        ("shared", slice(4, 9), 16, 1, 4),
        ("exact", slice(0, 3), 0, 1, 3),
    ],
)
def test_cut_files(plain: Build, name: str, latents: slice, start: int, skip: int, count: int, tmp_path: Path) -> None:
    made, arithmetic = BY_NAME[name], Arithmetic(BY_NAME[name])
    clip = make_clip(40)
    whole = arithmetic.encode(clip)
    make_bundle(tmp_path / name, made)
    tokens, out = tmp_path / "cut.safetensors", tmp_path / "cut.f32"
    write_tokens(tokens, made, whole[latents], count, skip=str(skip))
    plain.run("decode", tmp_path / name, tokens, out)
    wanted = arithmetic.decode(whole, len(clip), HEIGHT, WIDTH)[start + skip :][:count]
    found = np.fromfile(out, "<f4").reshape(wanted.shape)
    # A group that was not the first, decoded as the first one, has the same pictures and other numbers.
    assert np.abs(found - wanted)[..., 0].max() < 1e-5


@pytest.mark.parametrize("name", ["fsq-causal", "fsq-noncausal", "kl-causal-v1.1"])
def test_token_files_of_version_2(plain: Build, name: str, tmp_path: Path) -> None:
    (case,) = (case for case in read_cases() if case.name == name)
    tokens, out = KIT / f"version-2/{name}.tokens.safetensors", tmp_path / "clip.f32"
    plain.run("decode", case.bundle, tokens, out)
    case.check_video(np.fromfile(out, "<f4").reshape(*case.size, 3))
    said = plain.run("info", tokens, "--verify")
    assert "family        vidtok" in said


def test_bundles_of_version_1_are_one_line(plain: Build, tmp_path: Path) -> None:
    clip = Clip(plain, tmp_path, BY_NAME["flush"], 4)
    (clip.bundle / "manifest.json").write_text('{"format": "vidtok-bundle", "format_version": 1}')
    said = clip.encode(code=1)
    assert "has format version 1, this runtime reads 2; export again" in said


def test_files_of_weights(build: Build, tmp_path: Path) -> None:
    clip = Clip(build, tmp_path, BY_NAME["parts"], 4)
    weights, manifest = clip.bundle / "made.weights", clip.bundle / "manifest.json"
    sound, text = weights.read_bytes(), manifest.read_text()
    assert "made.weights" in build.run("info", clip.bundle, "--verify")
    weights.write_bytes(sound[:-1] + b"x")
    assert "altered" in clip.encode(code=1)
    assert "altered" in build.run("info", clip.bundle, "--verify", code=1)
    weights.write_bytes(sound[:-1])
    assert "size" in clip.encode(code=1)
    weights.unlink()
    assert "made.weights is missing" in clip.encode(code=1)
    (tmp_path / "made.weights").write_bytes(sound)
    weights.symlink_to(tmp_path / "made.weights")
    assert "link out of the bundle" in clip.encode(code=1)
    weights.unlink()
    weights.write_bytes(sound)
    raw = json.loads(text)
    raw["weights_files"] = []
    manifest.write_text(json.dumps(raw))
    assert "other files than the manifest lists" in clip.encode(code=1)
    assert not clip.out.exists()
    assert not leftovers(tmp_path)
    manifest.write_text(text)
    clip.encode()


def test_tensors_in_files_of_weights(plain: Build, tmp_path: Path) -> None:
    clip = Clip(plain, tmp_path, BY_NAME["parts"], 4)
    size = (clip.bundle / "made.weights").stat().st_size
    sound = tmp_path / "sound"
    shutil.copytree(clip.bundle, sound)

    def entries(tensor: onnx.TensorProto) -> dict[str, onnx.StringStringEntryProto]:
        return {entry.key: entry for entry in tensor.external_data}

    def longer(tensor: onnx.TensorProto) -> None:
        entries(tensor)["offset"].value = str(size - 4)

    def hexadecimal(tensor: onnx.TensorProto) -> None:
        entries(tensor)["offset"].value = "0x0"

    def elsewhere(tensor: onnx.TensorProto) -> None:
        entries(tensor)["location"].value = "../made.weights"

    def one_more(tensor: onnx.TensorProto) -> None:
        tensor.external_data.add(key="checksum", value="0")

    def twice(tensor: onnx.TensorProto) -> None:
        tensor.external_data.add(key="offset", value="0")

    def less(tensor: onnx.TensorProto) -> None:
        tensor.external_data.remove(entries(tensor)["length"])

    def inside(tensor: onnx.TensorProto) -> None:
        tensor.data_location = onnx.TensorProto.DEFAULT

    changes: list[Callable[[onnx.TensorProto], None]] = [longer, hexadecimal, elsewhere, one_more, twice, less, inside]
    for change in changes:
        shutil.rmtree(clip.bundle)
        shutil.copytree(sound, clip.bundle)
        path = clip.bundle / "encoder0.onnx"
        model = onnx.load(path, load_external_data=False)
        change(next(tensor for tensor in model.graph.initializer if tensor.external_data))
        before = hashlib.sha256(path.read_bytes()).hexdigest()
        path.write_bytes(model.SerializeToString())
        manifest = clip.bundle / "manifest.json"
        manifest.write_text(manifest.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))
        assert "encoder0.onnx cannot be used" in clip.encode(code=1), change.__name__
    assert not clip.out.exists()


def test_precisions_are_chains_of_their_own(plain: Build, tmp_path: Path) -> None:
    clip = Clip(plain, tmp_path, BY_NAME["parts"], 14)
    manifest = clip.bundle / "manifest.json"
    raw = json.loads(manifest.read_text())
    others = [{**row, "precision": "int8"} for row in raw["graphs"]]
    raw["graphs"] = [row for pair in zip(others, raw["graphs"], strict=True) for row in pair]
    manifest.write_text(json.dumps(raw))
    assert clip.check(BY_NAME["parts"])["precision"] == "int8"
    assert clip.check(BY_NAME["parts"], "--precision", "fp32")["precision"] == "fp32"
    raw["graphs"].pop()
    manifest.write_text(json.dumps(raw))
    assert "damaged" in clip.encode(code=1)
