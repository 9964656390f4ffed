"""Latents that are drawn from the posterior, stored with its variance, or normalized."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run

from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.dataset.job import form_of
from vidtok_runtime.errors import InputError, MismatchError
from vidtok_runtime.streaming.posterior import LatentForm, noise
from vidtok_runtime.tokens.convert import convert_file
from vidtok_runtime.tokens.edit import cut_file, join_files
from vidtok_runtime.tokens.reader import TokenReader
from vidtok_runtime.tokens.writer import TokenWriter
from vidtok_runtime.tools.demo import make_clip, synthetic_frame

KIT = Path(__file__).parents[1] / "conformance/kit"
MEAN, STD = [0.5, -1.0, 0.0, 2.0], [2.0, 0.25, 1.0, 0.5]
CLIP = np.stack([synthetic_frame(3 * i, 14, 22) for i in range(14)])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A KL bundle of the kit with a mean and scale of latents."""
    folder = Path(shutil.copytree(KIT / "kl-causal-v1.1", tmp_path_factory.mktemp("scaled") / "b"))
    raw = json.loads((folder / "manifest.json").read_text())
    raw["stream"] |= {"latent_mean": MEAN, "latent_std": STD}
    (folder / "manifest.json").write_text(json.dumps(raw))
    return folder


@pytest.fixture(scope="module")
def tok(bundle: Path) -> Tokenizer:
    return Tokenizer(bundle, "cpu", threads=1)


@pytest.fixture(scope="module")
def plain(tok: Tokenizer) -> Tokens:
    return tok.encode(CLIP, with_variance=True)


def philox(key: int, index: int, block: int) -> list[int]:
    """Four numbers of Philox 4x64-10, as its authors publish it."""
    counter, keys = [block, 0, 0, index], [key, 0]
    for _ in range(10):
        high = [(m * counter[i]) >> 64 for m, i in ((0xD2E7470EE14C6C93, 0), (0xCA5A826395121157, 2))]
        low = [m * counter[i] % 2**64 for m, i in ((0xD2E7470EE14C6C93, 0), (0xCA5A826395121157, 2))]
        counter = [high[1] ^ counter[1] ^ keys[0], low[1], high[0] ^ counter[3] ^ keys[1], low[0]]
        keys = [(keys[0] + 0x9E3779B97F4A7C15) % 2**64, (keys[1] + 0xBB67AE8584CAA73B) % 2**64]
    return counter


def test_noise_is_what_its_description_says() -> None:
    found = noise(7, 3, (3, 1, 3))
    draws = [number >> 11 for block in (1, 2, 3) for number in philox(7, 3, block)]
    radius = [np.sqrt(-2 * np.log((u + 1) / 2**53)) for u in draws[::2]]
    wanted = [r * f(2 * np.pi * v / 2**53) for r, v in zip(radius, draws[1::2], strict=True) for f in (np.cos, np.sin)]
    np.testing.assert_allclose(found.ravel(), wanted[:9], rtol=1e-6)
    assert found.dtype == np.float32


def test_noise_is_normal() -> None:
    drawn = np.stack([noise(2**32 - 1, i, (4, 32, 32)) for i in range(50)])
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01
    assert abs(np.corrcoef(drawn[0].ravel(), drawn[1].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(drawn[0].ravel(), noise(0, 0, (4, 32, 32)).ravel())[0, 1]) < 0.05


def test_samples_are_mean_and_noise(tok: Tokenizer, plain: Tokens) -> None:
    assert plain.log_variance is not None
    drawn = tok.encode(CLIP, sample=7)
    deviations = np.exp(plain.log_variance / 2)
    eps = np.stack([noise(7, i, plain.data.shape[1:]) for i in range(len(plain.data))])
    np.testing.assert_allclose(drawn.data, plain.data + deviations * eps, rtol=1e-5, atol=1e-6)
    assert (drawn.info.sampled, plain.info.sampled, drawn.log_variance) == (7, None, None)
    assert not np.allclose(tok.encode(CLIP, sample=8).data, drawn.data)
    assert tok.decode(drawn).shape == CLIP.shape


@pytest.mark.parametrize("gop", [None, 2])
def test_any_chunking_gives_the_same_sample(tok: Tokenizer, gop: int | None) -> None:
    options: dict[str, Any] = {"sample": 5, "normalize": True, "with_variance": True}
    whole = tok.encode(CLIP, gop=gop, **options)
    assert whole.log_variance is not None
    stream = tok.encoder(gop, **options)
    parts = [stream.push(CLIP[i : i + 1]) for i in range(len(CLIP))]
    joined = np.concatenate([*parts, stream.finish()])
    np.testing.assert_allclose(joined, np.concatenate([whole.data, whole.log_variance], axis=1), atol=2e-4)


def test_normalized_latents_decode_as_the_others(tok: Tokenizer, plain: Tokens, tmp_path: Path) -> None:
    tokens = tok.encode(CLIP, normalize=True, with_variance=True)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (MEAN, STD))
    np.testing.assert_allclose(tokens.data, (plain.data - mean) / std, atol=1e-5)
    assert tokens.log_variance is not None
    assert plain.log_variance is not None
    np.testing.assert_allclose(tokens.log_variance, plain.log_variance - 2 * np.log(std), atol=1e-5)
    wanted = tok.decode(plain, "float32")
    np.testing.assert_allclose(tok.decode(tokens, "float32"), wanted, atol=1e-4)
    tokens.save(tmp_path / "n.safetensors")
    assert Tokens.load(tmp_path / "n.safetensors").info.normalized
    stream = tok.decoder(len(CLIP), 14, 22, "float32", normalized=True)
    np.testing.assert_allclose(np.concatenate([stream.push(tokens.data), stream.finish()]), wanted, atol=1e-4)
    with pytest.raises(MismatchError, match="no mean and scale"):
        Tokenizer(KIT / "kl-causal-v1.1", "cpu").decode(tokens)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("fsq-causal", {"sample": 1}, "makes tokens of a codebook"),
        ("fsq-causal", {"with_variance": True}, "makes tokens of a codebook"),
        ("fsq-causal", {"normalize": True}, "makes tokens of a codebook"),
        ("kl-causal-v1.1", {"normalize": True}, "no mean and scale of latents"),
    ],
)
def test_what_a_bundle_has_not(name: str, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    tok = Tokenizer(KIT / name, "cpu", threads=1)
    for make in (tok.encoder, lambda **options: tok.encode(CLIP, **options)):
        with pytest.raises(InputError, match=said):
            make(**options)
    make_clip(tmp_path / "clip.mp4", 3, 16, 16)
    words = [f"--{key.replace('_', '-')}" for key in options] + [str(v) for v in options.values() if v is not True]
    command = ("encode", tmp_path / "clip.mp4", "-o", tmp_path / "x.safetensors", "--bundle", KIT / name)
    result = run(*command, *words, "--provider", "cpu", "--quiet")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert said in result.stderr
    assert not (tmp_path / "x.safetensors").exists()


def test_an_encoder_without_a_variance(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(KIT / "kl-causal-v1.1", tmp_path / "b"))
    raw = json.loads((folder / "manifest.json").read_text())
    raw["graphs"][1]["outputs"].pop()  # of the encoder's last graph
    (folder / "manifest.json").write_text(json.dumps(raw))
    for options in ({"sample": 1}, {"with_variance": True}):
        with pytest.raises(InputError, match="gives no log_variance"):
            Tokenizer(folder, "cpu").encoder(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1", True])
def test_seeds_that_are_none(tok: Tokenizer, seed: Any) -> None:
    with pytest.raises(InputError, match="sample must be a whole number"):
        tok.encode(CLIP, sample=seed)


def test_a_variance_goes_where_its_latents_go(tok: Tokenizer, tmp_path: Path) -> None:
    whole, wanted = tmp_path / "whole.safetensors", tok.encode(CLIP, gop=2, with_variance=True, sample=3)
    wanted.save(whole)
    assert wanted.log_variance is not None
    for suffix in (".npz", ".tar", ".bin"):
        convert_file(whole, tmp_path / f"other{suffix}")
        convert_file(tmp_path / f"other{suffix}", tmp_path / "back.safetensors", force=True)
        assert (tmp_path / "back.safetensors").read_bytes() == whole.read_bytes()
    parts = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path, (start, end) in zip(parts, ((None, "10f"), ("10f", None)), strict=True):
        cut_file(whole, path, start, end)
    join_files(parts, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == whole.read_bytes()
    loaded = Tokens.load(parts[1])
    assert loaded.log_variance is not None
    np.testing.assert_array_equal(loaded.log_variance, wanted.log_variance[4:])
    part = wanted.slice(10, 14)
    assert part.log_variance is not None
    np.testing.assert_array_equal(part.log_variance, loaded.log_variance)
    tok.encode(CLIP, gop=2, sample=3).save(tmp_path / "without.safetensors")
    assert TokenReader(tmp_path / "without.safetensors").read_variance() is None
    with pytest.raises(MismatchError, match="cannot follow"):
        join_files([parts[0], tmp_path / "without.safetensors"], tmp_path / "x.safetensors")
    assert "log variance" in run("info", whole).output
    assert "with seed 3" in run("info", whole).output


def test_variances_that_do_not_fit(tmp_path: Path, plain: Tokens) -> None:
    with TokenWriter(tmp_path / "x.safetensors", None) as writer:
        assert plain.log_variance is not None
        writer.append(plain.data[:2], plain.log_variance[:2])
        writer.append(plain.data[2:])
        with pytest.raises(InputError, match="some latents came with"):
            writer.close(plain.info, plain.pts)
    with (
        TokenWriter(tmp_path / "x.safetensors", None) as writer,
        pytest.raises(InputError, match="do not go with tokens"),
    ):
        writer.append(plain.data, plain.data[:1])
    assert not list(tmp_path.iterdir())


def test_the_command_line(bundle: Path, tmp_path: Path) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / "clip.safetensors"
    make_clip(clip, 14, 16, 24)
    common = ("--bundle", bundle, "--provider", "cpu", "--threads", 1, "--quiet")
    options = ("--sample", 11, "--with-variance", "--normalize")
    result = run("encode", clip, "-o", out, *options, *common)
    assert result.exit_code == 0, result.output
    tokens = Tokens.load(out)
    assert (tokens.info.sampled, tokens.info.normalized) == (11, True)
    assert tokens.log_variance is not None
    run("encode", clip, "-o", tmp_path / "again.safetensors", *options, *common)
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()
    result = run("decode", out, "-o", tmp_path / "back.mp4", *common)
    assert result.exit_code == 0, result.output


def test_clips_of_a_data_set_do_not_share_their_noise(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        make_clip(tmp_path / f"in/{name}.mp4", 5, 16, 16)
    options = ("--bundle", bundle, "--provider", "cpu", "--workers", 1, "--quiet")
    command = ("dataset", tmp_path / "in", tmp_path / "out", "--with-variance", "--normalize", *options)
    result = run(*command, "--sample", 5)
    assert result.exit_code == 0, result.output
    infos = [TokenReader(tmp_path / f"out/{name}.safetensors") for name in ("a", "b")]
    assert all(reader.has_variance and reader.info.normalized for reader in infos)
    wanted = [form_of(f"{name}.mp4", LatentForm(5)) for name in ("a", "b")]
    assert [reader.info.sampled for reader in infos] == [form.sample for form in wanted if form]
    assert infos[0].info.sampled != infos[1].info.sampled
    assert run(*command, "--sample", 6).exit_code == 1  # a folder goes on with the options that it was begun with
