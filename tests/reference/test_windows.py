"""Families whose streams are windows of one call each: golden vectors, names, and how clips are cut."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from conftest import ABSENT, REFERENCE, read_vector
from narrow import NARROW, narrow
from safetensors.torch import save_file

from vidtok_export.cli import main as export_cli
from vidtok_ref import VARIANTS, ModelError, build, find_variant
from vidtok_ref.families import family_of, make_model
from vidtok_ref.families.weights_file import embedded_variant, write_weights
from vidtok_ref.weights import weights_sha256

WINDOWS = ["cv-vae", "open-sora-1.2", "open-sora-plan-1.2"]
every = pytest.mark.parametrize("name", WINDOWS)


def clip(frames: int) -> torch.Tensor:
    return torch.rand(1, 3, frames, 8, 16, generator=torch.Generator().manual_seed(frames)) * 2 - 1


@every
@torch.no_grad()
def test_golden_vector(name: str, tmp_path: Path) -> None:
    weights, case, config = read_vector(REFERENCE / "peers" / name / "vector.safetensors")
    model = build(name, weights, released_config=config)
    encoded = model.encode(case["input"])
    assert encoded.log_variance is not None
    assert (encoded.log_variance - case["logvar"]).abs().max() < 2e-5
    for suffix, video in (("", case["input"]), ("_chunked", case["input_long"])):
        latent, recon = case[f"latent{suffix}"], case[f"recon{suffix}"]
        assert (model.encode(video).latent - latent).abs().max() < 2e-5
        back = model.decode(latent, video.shape[2])
        assert back.shape == recon.shape
        assert (back - recon).abs().max() < 1e-4
    # A folder as published, and a file of ours.
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert weights_sha256(build(name, tmp_path)) == weights_sha256(model)
    write_weights(model, tmp_path / "ours.safetensors")
    assert embedded_variant(tmp_path / "ours.safetensors") == model.config
    assert weights_sha256(build(model.config, tmp_path / "ours.safetensors")) == weights_sha256(model)


@every
def test_names_shapes_and_settings_of_the_release(name: str) -> None:
    path = REFERENCE / "peers" / name / "keys.json.gz"
    if not path.is_file():
        pytest.skip(ABSENT)
    with gzip.open(path) as file:
        facts: dict[str, Any] = json.load(file)
    with torch.device("meta"):
        model = make_model(VARIANTS[name])
    ours = {tensor_name: list(tensor.shape) for tensor_name, tensor in model.state_dict().items()}
    family = family_of(model.config)
    assert family.own_names(facts["keys"]) == ours
    assert family.own_names(ours) == ours
    for role in ("encoder", "decoder"):
        assert sum(p.numel() for p in getattr(model, role).parameters()) == facts["parameters"][role]
    assert find_variant(name) == family.config.from_release(name, facts["config"])


@every
@torch.no_grad()
def test_windows_see_nothing_of_each_other(name: str) -> None:
    model = narrow(name)
    groups = model.stream.groups
    assert groups is not None
    step = groups.frames - groups.shared_frames
    video = clip(groups.frames + step + 2)
    latent = model.encode(video).latent
    pieces = [video[:, :, start : start + groups.frames] for start in (0, step, 2 * step)]
    encoded = [model.encode(piece).latent for piece in pieces]
    joined = torch.cat([encoded[0], *(piece[:, :, groups.shared_latents :] for piece in encoded[1:])], dim=2)
    assert torch.equal(latent, joined)
    decoded = [model.decode(z, piece.shape[2]) for z, piece in zip(encoded, pieces, strict=True)]
    assert [piece.shape[2] for piece in decoded] == [piece.shape[2] for piece in pieces]
    if groups.shared_latents:
        # A window of the decoder begins with the latent that the window before ended with.
        decoded[1:] = [
            model.decode(torch.cat([before[:, :, -1:], z[:, :, 1:]], dim=2), piece.shape[2])[:, :, 1:]
            for before, z, piece in zip(encoded[:-1], encoded[1:], pieces[1:], strict=True)
        ]
    torch.testing.assert_close(model.decode(latent, video.shape[2]), torch.cat(decoded, dim=2))


@every
@torch.no_grad()
def test_every_length_comes_back(name: str) -> None:
    model = narrow(name)
    for frames in (1, 2, 4, 7, 18):
        recon, encoded = model(clip(frames))
        assert recon.shape == clip(frames).shape
        groups = model.stream.groups
        assert groups is not None
        alone = -(-frames // 4) if not groups.shared_frames else 1 + -(-(frames - 1) // 4)
        assert frames > groups.frames or encoded.latent.shape[2] == alone


@pytest.mark.parametrize("name", NARROW)
@torch.no_grad()
def test_fewer_frames_are_the_first_ones(name: str) -> None:
    model = narrow(name)
    side = model.stream.side_multiple
    latent = model.encode(torch.rand(1, 3, 18, side, side) * 2 - 1).latent
    whole = model.decode(latent, 18)
    for fewer in (17, 16, 9, 1):
        assert torch.equal(model.decode(latent, fewer), whole[:, :, :fewer]), fewer


@torch.no_grad()
def test_what_fills_a_window_is_the_last_frame_or_zeros_in_front() -> None:
    model = narrow("cv-vae")
    video = clip(7)
    filled = torch.cat([video, video[:, :, -1:], video[:, :, -1:]], dim=2)
    assert torch.equal(model.encode(video).latent, model.encode(filled).latent)
    other = narrow("open-sora-1.2")
    frames = other.encoder.mean(other.encoder.space(video))
    front = torch.cat([torch.zeros_like(frames[:, :, :1]), frames], dim=2)
    assert torch.equal(other.encode(video).latent, other.encoder.time(front).chunk(2, dim=1)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_scale_of_latents_may_be_rounded_like_the_weights(dtype: torch.dtype) -> None:
    model = narrow("open-sora-1.2")
    scale = {"shift": model.stream.latent_mean, "scale": model.stream.latent_std}
    weights = {**model.state_dict(), **{k: torch.tensor(v)[None, :, None, None, None] for k, v in scale.items()}}
    weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
    assert build(model.config, weights).source == "given tensors"
    weights["scale"] = weights["scale"] * 1.01
    with pytest.raises(ModelError, match="scale of these weights"):
        build(model.config, weights)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="causal_decoder of this configuration is True"):
        build("cv-vae", released_config={"causal_decoder": True})
    with pytest.raises(ModelError, match="q_conv of this configuration is 'Conv2d'"):
        build("open-sora-plan-1.2", released_config={"q_conv": "Conv2d"})
    with pytest.raises(ModelError, match="tile_latent_min_size_t of this configuration is 9; the rest of it needs 8"):
        build("open-sora-plan-1.2", released_config={"tile_latent_min_size_t": 9})
    with pytest.raises(ModelError, match="micro_frame_size of this configuration is null"):
        build("open-sora-1.2", released_config={"micro_frame_size": None})
    given = NARROW["open-sora-1.2"] | {"window": 9}
    assert build("open-sora-1.2", released_config={"micro_frame_size": None}, **given).config.window == 9
    for other in WINDOWS:  # a scale is looked at where all the rest fits
        with pytest.raises(ModelError, match=r"missing.*unexpected: encoder\.x"):
            build(other, {"scale": torch.ones(3), "encoder.x": torch.ones(2)}, **NARROW[other])
    for name in ("cv-vae", "open-sora-plan-1.2"):
        with pytest.raises(ModelError, match="a window has 1 \\+ 4k frames"):
            find_variant(name, window=16)
    for name in WINDOWS:
        with pytest.raises(ModelError, match="do not make 3 groups"):
            find_variant(name, **{**NARROW[name], "groups": 3})
        result = CliRunner().invoke(export_cli, ["--variant", name, "--out", str(tmp_path / "new")])
        assert result.exit_code == 1
        assert "give --checkpoint with the folder" in result.output
