"""Version 1.1 and non-causal bundles at run time: first calls, look-ahead, flush, windows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import SHALLOW
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidtok_export.verify import run_in_calls, smooth_video
from vidtok_ref import VideoTokenizer, build
from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.bundle.stream_spec import Groups
from vidtok_runtime.cli import main
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.errors import BundleError, InputError, MismatchError

RELAXED = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = ["fsq-32768-v1.1", "kl-4chn-noncausal"]
PROVIDERS = ["cpu", "openvino"]


@pytest.fixture(scope="module")
def family(exported: Callable[[VideoTokenizer], Path]) -> dict[str, tuple[VideoTokenizer, Path]]:
    models = {name: build(name, **SHALLOW) for name in NAMES}
    return {name: (model, exported(model)) for name, model in models.items()}


@pytest.fixture(scope="module")
def tokenizers(family: dict[str, tuple[VideoTokenizer, Path]]) -> dict[tuple[str, str], Tokenizer]:
    return {
        (name, provider): Tokenizer(folder, provider=provider, threads=1)
        for name, (_, folder) in family.items()
        for provider in PROVIDERS
    }


def clip(frames: int, height: int = 7, width: int = 12) -> np.ndarray:
    video = smooth_video(1, frames, height, width, seed=frames)[0].permute(1, 2, 3, 0)
    return np.ascontiguousarray(video.numpy())


@torch.no_grad()
def reference(model: VideoTokenizer, frames: np.ndarray, chunk: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and clipped frames as the runtime gives them."""
    height, width = frames.shape[1:3]
    padded = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    video = torch.from_numpy(padded).permute(3, 0, 1, 2)[None]
    encoded = model.encode(video, chunk)
    recon = model.decode(encoded.latent, len(frames), chunk)[0].permute(1, 2, 3, 0)[:, :height, :width].clamp(-1, 1)
    data = encoded.latent[0].transpose(0, 1) if encoded.indices is None else encoded.indices[0]
    return data.numpy(), recon.numpy()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [1, 2, 3, 13, 16, 18])
def test_whole_clips_equal_the_reference(family: dict, tokenizers: dict, name: str, provider: str, frames: int) -> None:
    model, tok = family[name][0], tokenizers[name, provider]
    video = clip(frames)
    data, recon = reference(model, video, chunk=None if model.config.causal else 4)
    tokens = tok.encode(video)
    assert tokens.data.dtype == data.dtype
    groups = None if model.config.causal else Groups(16, 4)
    assert tokens.info.groups == groups
    np.testing.assert_allclose(tokens.data, data, atol=2e-5)
    decoded = tok.decode(tokens, dtype="float32")
    assert len(decoded) == frames
    np.testing.assert_allclose(decoded, recon, atol=1e-4)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", NAMES)
@RELAXED
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_any_pushes_equal_one_shot(tokenizers: dict, name: str, provider: str, sizes: list[int]) -> None:
    tok = tokenizers[name, provider]
    video = clip(21)
    wanted = tok.encode(video)
    encoder, data, start = tok.encoder(), [], 0
    for size in [*sizes, len(video)]:
        data.append(encoder.push(video[start : start + size]))
        start = min(len(video), start + size)
    np.testing.assert_allclose(np.concatenate([*data, encoder.finish()]), wanted.data, atol=2e-5)
    decoder, out, start = tok.decoder(21, 7, 12, "float32"), [], 0
    for size in [*sizes, len(wanted.data)]:
        out.append(decoder.push(wanted.data[start : start + size]))
        start += size
    np.testing.assert_allclose(np.concatenate([*out, decoder.finish()]), tok.decode(wanted, dtype="float32"), atol=1e-4)


def test_without_a_length_all_but_what_is_surplus_comes(family: dict) -> None:
    """Of what the flush call gives, only what it keeps counts, also towards what is dropped in front."""
    tok = Tokenizer(family["fsq-32768-v1.1"][1], provider="cpu", threads=1)
    for frames, left in ((1, 1), (13, 13)):
        tokens = tok.encode(clip(frames))
        decoder = tok.decoder()
        given = np.concatenate([decoder.push(tokens.data), decoder.finish()])
        assert len(given) == left
        assert np.array_equal(given[:, :7, :12], tok.decode(tokens))


def test_look_ahead_delays_and_finish_delivers(family: dict) -> None:
    _, folder = family["fsq-32768-v1.1"]
    tok = Tokenizer(folder, provider="cpu", threads=1)
    data = tok.encode(clip(13)).data
    decoder = tok.decoder()
    # Of 13 frames in 4 latents, 3 wait for the next latent at every moment.
    assert [len(decoder.push(data[i : i + 1])) for i in range(4)] == [0, 2, 4, 4]
    assert len(decoder.finish()) == 3
    assert len(tok.decoder().finish()) == 0
    enough = tok.decoder(num_frames=10)
    assert len(enough.push(data)) == 10
    assert len(enough.finish()) == 0
    short = tok.decoder(num_frames=14)
    assert len(short.push(data)) == 10
    with pytest.raises(InputError, match="1 frames too early"):
        short.finish()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("latents", [1, 3])
@torch.no_grad()
def test_batches(family: dict, name: str, provider: str, latents: int) -> None:
    """Two clips side by side through the graphs, in calls (or windows) of 1 and 3 latents."""
    model, folder = family[name]
    manifest = read_manifest(folder)
    video = smooth_video(2, 16, 6, 10, seed=0)
    windows = None if model.config.causal else latents
    encoded = model.encode(video, windows)
    source = (encoded.latent if encoded.indices is None else encoded.indices).numpy()
    pairs = [("encoder", model.pad(video).numpy(), source)]
    pairs.append(("decoder", source, model.decode(encoded.latent, chunk=windows).numpy()))
    for role, x, wanted in pairs:
        chain = load_chain(manifest, role, provider, None, Options(threads=1))
        np.testing.assert_allclose(run_in_calls(manifest, chain, x, latents), wanted, atol=1e-4)


def test_windows(family: dict, tmp_path: Path) -> None:
    model, folder = family["kl-4chn-noncausal"]
    video = clip(21)
    for window, chunk in ((8, 2), (400, None)):  # many windows, and one that holds the whole clip
        data, recon = reference(model, video, chunk)
        tok = Tokenizer(folder, provider="cpu", threads=1, window=window)
        tokens = tok.encode(video)
        np.testing.assert_allclose(tokens.data, data, atol=2e-5)
        assert tokens.info.groups == Groups(window, window // 4)
        path = tmp_path / f"{window}.safetensors"
        tokens.save(path)
        loaded = Tokens.load(path)
        assert loaded.info.groups == tokens.info.groups
        # Tokens know their window: a tokenizer without one decodes them, one with another refuses.
        np.testing.assert_allclose(
            Tokenizer(folder, provider="cpu", threads=1).decode(loaded, dtype="float32"), recon, atol=1e-4
        )
        with pytest.raises(MismatchError, match=f"of {window} frames, windows of 12"):
            Tokenizer(folder, provider="cpu", window=12).decode(loaded)
    for wrong in (0, 6, -4):
        with pytest.raises(InputError, match="multiple of 4 frames"):
            Tokenizer(folder, provider="cpu", window=wrong)
    with pytest.raises(InputError, match="at most 65,536 frames, got 65540"):  # no token file could name it
        Tokenizer(folder, provider="cpu", window=65540)
    with pytest.raises(InputError, match="causal and has no windows"):
        Tokenizer(family["fsq-32768-v1.1"][1], provider="cpu", window=16)


@pytest.mark.parametrize("name", NAMES)
def test_on_the_command_line(family: dict, name: str, clip: Path, tmp_path: Path) -> None:
    model, folder = family[name]
    common = ["--bundle", str(folder), "--provider", "cpu", "--threads", "1", "--quiet"]
    tokens, back, again = (str(tmp_path / n) for n in ("t.safetensors", "b.mp4", "r.mp4"))
    window = [] if model.config.causal else ["--window", "8"]
    run = CliRunner().invoke
    for args in (
        ["encode", str(clip), "-o", tokens, *window],
        ["decode", tokens, "-o", back],
        ["reconstruct", str(clip), "-o", again, *window],
    ):
        done = run(main, [*args, *common])
        assert done.exit_code == 0, done.output
    assert "11 frames" in done.stdout
    wrong = run(main, ["decode", tokens, "-o", back, "--force", "--window", "12", *common])
    assert wrong.exit_code == 1
    assert ("causal and has no windows" if model.config.causal else "windows of 8 frames") in wrong.stderr


def test_the_manifest_has_words_for_it(family: dict, tmp_path: Path) -> None:
    later, whole = (json.loads((family[n][1] / "manifest.json").read_text()) for n in NAMES)
    first = {"first": ["first call"]}
    assert later["stream"]["encoder"]["flags"] == first
    assert later["stream"]["decoder"] == {
        "first": 1,
        "multiple": 1,
        "max": 4,
        "exact": False,
        "drop": 6,
        "flush": {"size": 1, "keep": 3},
        "flags": {**first, "boundary": ["second call", "flush call"]},
    }
    assert later["stream"]["groups"] is None
    flags = [[f["name"] for f in g["flags"]] for g in later["graphs"]]
    assert flags == [["first"], ["first"], ["first"], ["first", "boundary"], ["first", "boundary"]]
    groups = {"frames": 16, "latents": 4, "shared_frames": 0, "shared_latents": 0, "whole": True, "multiple": 4}
    assert whole["stream"]["groups"] == groups
    assert (whole["stream"]["front_frames"], whole["stream"]["decoder"]["flush"]) == (0, None)
    assert all(not g["states"] and not g["flags"] for g in whole["graphs"])

    later["stream"]["decoder"]["flags"]["boundary"] = ["third call"]
    (tmp_path / "manifest.json").write_text(json.dumps(later))
    with pytest.raises(BundleError, match="the flag boundary is set in calls unknown"):
        read_manifest(tmp_path)
