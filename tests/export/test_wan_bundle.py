"""A bundle of Wan through the tokenizer, in every precision, and from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from commands import run
from narrow import narrow

from vidtok_export.cli import main
from vidtok_ref import VideoTokenizer
from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.evaluation.protocol import Protocol
from vidtok_runtime.quality.metrics import psnr
from vidtok_runtime.tools.demo import synthetic_frame

BUNDLE = Path(__file__).parents[1] / "conformance/kit/wan-causal"


def clip(frames: int) -> np.ndarray:
    return np.stack([synthetic_frame(i, 18, 26) for i in range(frames)])


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_patches_and_shortcuts(exported: Callable[[VideoTokenizer], Path], provider: str) -> None:
    model = narrow("wan-2.2")
    tok = Tokenizer(exported(model), provider, threads=1)
    for frames in (1, 2, 5, 8):
        video = clip(frames)
        padded = np.pad(video, ((0, 0), (0, 2), (0, 2), (0, 0)), mode="edge")
        with torch.no_grad():
            latent = model.encode(torch.from_numpy(padded).permute(3, 0, 1, 2)[None] / 127.5 - 1).latent
            wanted = model.decode(latent, frames)[0].permute(1, 2, 3, 0)[:, :18, :26].clamp(-1, 1)
        tokens = tok.encode(video)
        np.testing.assert_allclose(tokens.data, latent[0].transpose(0, 1), atol=2e-5)
        back = tok.decode(tokens, dtype="float32")
        np.testing.assert_allclose(back, wanted, atol=1e-4)
        encoder = tok.encoder()
        data = np.concatenate([*(encoder.push(frame[None]) for frame in video), encoder.finish()])
        np.testing.assert_allclose(data, tokens.data, atol=2e-5)
        decoder = tok.decoder(frames, 18, 26, dtype="float32")
        pieces = [decoder.push(row[None]) for row in data]
        np.testing.assert_allclose(np.concatenate([*pieces, decoder.finish()]), back, atol=1e-4)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_every_length_comes_back_in_every_splitting(provider: str) -> None:
    tok = Tokenizer(BUNDLE, provider, threads=1)
    for frames in range(1, 11):
        video = clip(frames)
        tokens = tok.encode(video)
        assert len(tokens.data) == 1 + -(-(frames - 1) // 4)
        back = tok.decode(tokens, dtype="float32")
        assert back.shape == video.shape
        encoder = tok.encoder()
        data = np.concatenate([*(encoder.push(video[i : i + 1]) for i in range(frames)), encoder.finish()])
        np.testing.assert_allclose(data, tokens.data, atol=2e-5)
        decoder = tok.decoder(frames, *video.shape[1:3], dtype="float32")
        pieces = [decoder.push(data[i : i + 1]) for i in range(len(data))]
        np.testing.assert_allclose(np.concatenate([*pieces, decoder.finish()]), back, atol=1e-4)


def test_the_scale_of_the_release(tmp_path: Path) -> None:
    tok = Tokenizer(BUNDLE, "cpu", threads=1)
    plain, normal = tok.encode(clip(9)), tok.encode(clip(9), normalize=True)
    stream = tok.manifest.stream
    mean, std = (np.array(scale, np.float32)[:, None, None] for scale in (stream.latent_mean, stream.latent_std))
    np.testing.assert_allclose(normal.data, (plain.data - mean) / std, atol=1e-5)
    normal.save(tmp_path / "t.safetensors")
    back = tok.decode(Tokens.load(tmp_path / "t.safetensors"), dtype="float32")
    np.testing.assert_allclose(back, tok.decode(plain, dtype="float32"), atol=1e-4)


@pytest.fixture(scope="module")
def precise(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with all three precisions."""
    folder = Path(shutil.copytree(BUNDLE, tmp_path_factory.mktemp("precise") / "wan"))
    asked = ["quantize", str(folder), "--precision", "int8", "--precision", "fp16", "--calibrate", str(clips)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidtok_export.quantization.clips.PROTOCOL", Protocol(9, 48, None))
        result = CliRunner().invoke(main, [*asked, "--max-loss", "0.5", "--quiet"])
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "provider"), [("int8", "openvino"), ("fp16", "cpu")])
def test_other_precisions(precise: Path, precision: str, provider: str) -> None:
    video = clip(9)
    exact, tok = Tokenizer(precise, provider, threads=1), Tokenizer(precise, provider, threads=1, precision=precision)
    tokens = tok.encode(video)
    assert tokens.info.precision == precision
    wanted, found = exact.decode(exact.encode(video)), tok.decode(tokens)
    assert (found != wanted).any()  # it is another graph
    assert np.mean([psnr(a, b) for a, b in zip(wanted, found, strict=True)]) > 25
    rows = json.loads((precise / "manifest.json").read_text())["parity"]["rows"]
    assert all(row["passed"] and row.get("finite_on_saturated_input", True) for row in rows)


def test_on_the_command_line(tmp_path: Path, clip: Path) -> None:
    tokens, back = tmp_path / "t.safetensors", tmp_path / "b.mp4"
    common = ("--bundle", BUNDLE, "--provider", "cpu", "--threads", 1, "--quiet")
    assert run("encode", clip, "-o", tokens, "--normalize", *common).exit_code == 0
    assert run("decode", tokens, "-o", back, *common).exit_code == 0
    told = run("info", tokens).output
    assert "wan-2.1" in told
