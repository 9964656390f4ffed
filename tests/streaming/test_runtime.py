"""The runtime on a narrow bundle: streams, geometry, tokens, imports, damage."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from vidtok_ref import VideoTokenizer
from vidtok_runtime import Tokenizer, Tokens, VidtokError
from vidtok_runtime.bundle.stream_spec import Length
from vidtok_runtime.errors import BundleError, InputError, MismatchError, ProviderError, TokenFileError
from vidtok_runtime.streaming.stream import EncoderStream

RELAXED = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def tok(bundle: Path, request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer(bundle, provider=request.param, threads=1)


def test_import_pulls_in_numpy_only() -> None:
    code = (
        "import sys, vidtok_runtime; bad = {'torch', 'onnx', 'av', 'cv2', 'onnxruntime', 'openvino', 'click', 'tqdm',"
        "'vidtok_ref', 'vidtok_export'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@torch.no_grad()
def test_equals_the_reference(tok: Tokenizer, shallow: VideoTokenizer, frames: np.ndarray) -> None:
    multiple = shallow.stream.spatial_multiple
    padded = np.pad(frames, ((0, 0), (0, -37 % multiple), (0, -51 % multiple), (0, 0)), mode="edge")
    video = torch.from_numpy(padded).float().div(127.5).sub(1).permute(3, 0, 1, 2)[None]
    encoded = shallow.encode(video)
    tokens = tok.encode(frames)
    if encoded.indices is None:
        np.testing.assert_allclose(tokens.data, encoded.latent[0].transpose(0, 1).numpy(), atol=2e-5)
    else:
        assert np.mean(tokens.data == encoded.indices[0].numpy()) > 0.999
    recon = shallow.decode(encoded.latent, 11)[0].permute(1, 2, 3, 0)[:, :37, :51].clamp(-1, 1)
    np.testing.assert_allclose(tok.decode(tokens, dtype="float32"), recon.numpy(), atol=1e-4)


@RELAXED
@given(sizes=st.lists(st.integers(0, 7), min_size=1, max_size=5))
def test_any_pushes_equal_one_shot(tok: Tokenizer, frames: np.ndarray, sizes: list[int]) -> None:
    wanted = tok.encode(frames)
    encoder, data, start = tok.encoder(), [], 0
    for size in [*sizes, len(frames)]:
        data.append(encoder.push(frames[start : start + size]))
        start = min(len(frames), start + size)
    data = np.concatenate([*data, encoder.finish()])
    np.testing.assert_allclose(data, wanted.data, atol=2e-5)

    decoder, out, start = tok.decoder(11, 37, 51), [], 0
    for size in [*sizes, len(data)]:
        out.append(decoder.push(wanted.data[start : start + size]))
        start += size
    out = np.concatenate([*out, decoder.finish()])
    assert out.shape == frames.shape
    assert np.abs(out.astype(int) - tok.decode(wanted)).max() <= 1


@RELAXED
@given(n=st.integers(1, 10), h=st.integers(1, 20), w=st.integers(1, 20))
def test_any_size_comes_back(tok: Tokenizer, n: int, h: int, w: int) -> None:
    video = np.random.default_rng(0).integers(0, 256, (n, h, w, 3), np.uint8)
    tokens = tok.encode(video)
    assert len(tokens.data) == -(-(n + 3) // 4)
    decoded = tok.decode(tokens)
    assert decoded.shape == video.shape
    assert decoded.dtype == np.uint8


def test_wrong_arrays_are_refused(tok: Tokenizer, frames: np.ndarray) -> None:
    bad = frames.astype(np.float32)
    bad[0, 0, 0] = np.nan
    for video in (frames[0], frames[:0], frames.astype(np.int64), bad, frames[..., :1]):
        with pytest.raises(InputError):
            tok.encode(video)
    tokens = tok.encode(frames)
    with pytest.raises(InputError):
        tok.decoder().push(tokens.data[0])
    with pytest.raises(InputError, match="too early"):
        tok.decoder(num_frames=12).finish()
    huge = tokens.data.copy()
    huge[0] = 40000 if huge.dtype == np.int32 else np.nan
    with pytest.raises(InputError):
        tok.decoder().push(huge)


def test_token_file_round_trip(tok: Tokenizer, frames: np.ndarray, tmp_path: Path) -> None:
    tokens = tok.encode(frames)
    path = tmp_path / "a.safetensors"
    tokens.save(path)
    again = tok.encode(frames)
    again.save(tmp_path / "b.safetensors")
    assert path.read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = Tokens.load(path)
    assert np.array_equal(loaded.data, tokens.data)
    assert loaded.info == tokens.info
    name = "indices" if tokens.data.ndim == 3 else "latent"
    assert np.array_equal(load_file(path)[name], tokens.data)  # any safetensors reader opens it
    with pytest.raises(VidtokError, match="--force"):
        tokens.save(path)

    content = path.read_bytes()
    for damaged, message in ((content[:-5], "truncated"), (content[:3], "no token file"), (b"x" * 99, "token file")):
        path.write_bytes(damaged)
        with pytest.raises(TokenFileError, match=message):
            Tokens.load(path)
    path.write_bytes(content[:2100] + bytes([content[2100] ^ 255]) + content[2101:])
    with pytest.raises(TokenFileError, match="checksum"):
        Tokens.load(path)


def test_tokens_of_other_weights_are_refused(tok: Tokenizer, frames: np.ndarray) -> None:
    foreign = Tokenizer("tiny-kl-16chn", provider="cpu", threads=1).encode(frames)
    with pytest.raises(MismatchError, match="kl-16chn"):
        tok.decode(foreign)


def test_damaged_bundles(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    graph = copy / "encoder.local.onnx"
    content = graph.read_bytes()
    graph.write_bytes(content[:-1] + b"!")
    with pytest.raises(BundleError, match="altered"):
        Tokenizer(copy, provider="cpu").encoder()
    graph.unlink()
    with pytest.raises(BundleError, match="missing"):
        Tokenizer(copy, provider="cpu")
    (copy / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="damaged"):
        Tokenizer(copy, provider="cpu")
    with pytest.raises(BundleError, match="neither"):
        Tokenizer(tmp_path / "nothing", provider="cpu")


def test_providers_are_loud(bundle: Path) -> None:
    with pytest.raises(ProviderError, match="choose auto"):
        Tokenizer(bundle, provider="tpu")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ProviderError, match="pip install"):
            Tokenizer(bundle, provider="cuda")


def test_a_long_end_is_filled_up_in_pieces() -> None:
    """However far a manifest has clips filled up, no more frames are held than a call takes."""
    tok = Tokenizer("tiny-kl-16chn", provider="cpu", threads=1)
    stream = replace(tok.stream, front_frames=0, length=Length(0, 4096))
    sizes: list[int] = []

    def push(piece: np.ndarray) -> list[np.ndarray]:
        sizes.append(piece.shape[2])
        return []

    calls: Any = SimpleNamespace(longest=100, push=push, finish=list)
    encoder = EncoderStream(stream, lambda *_: calls)
    encoder.push(np.zeros((5, 8, 8, 3), np.uint8))
    encoder.finish()
    assert sum(sizes) == 4096
    assert max(sizes) == 100
