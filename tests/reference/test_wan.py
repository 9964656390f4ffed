"""Wan: golden vectors, names, states and streams of its configurations."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from commands import run_export
from conftest import ABSENT, REFERENCE, read_vector
from safetensors.torch import save_file

from vidtok_export.cli import main as export_cli
from vidtok_ref import VARIANTS, ModelError, VideoTokenizer, build, find_variant
from vidtok_ref.families import make_model
from vidtok_ref.families.registry import family_of
from vidtok_ref.families.wan.checkpoints import own_name
from vidtok_ref.families.weights_file import embedded_variant, write_weights
from vidtok_ref.streaming.state import flatten
from vidtok_ref.weights import weights_sha256

NAMES = ["wan-2.1", "wan-2.2"]
NARROW = {"ch": 4, "z_channels": 4, "ch_mult": (1, 2), "num_res_blocks": 1, "temporal_down": (True,)}
UNSCALED: dict[str, Any] = {"latent_mean": None, "latent_std": None, "decoder_ch": None}


def small(name: str) -> VideoTokenizer:
    """Two levels, which are equally wide where shortcuts go around them."""
    return build(name, **NARROW | ({"ch_mult": (2, 2)} if name == "wan-2.2" else {}), **UNSCALED)


@pytest.fixture(scope="module")
def narrow() -> VideoTokenizer:
    """Two levels; T halves once."""
    return build("wan-2.1", **NARROW, **UNSCALED)


def facts(name: str) -> dict[str, Any]:
    path = REFERENCE / "peers" / name / "keys.json.gz"
    if not path.is_file():
        pytest.skip(ABSENT)
    with gzip.open(path) as file:
        content: dict[str, Any] = json.load(file)
    return content


def original(name: str, *, nested: bool = False) -> str:
    """The name that the original checkpoint has for a tensor of diffusers, as the page on the release lists them."""
    name = re.sub(r"^quant_conv", "conv1", re.sub(r"^post_quant_conv", "conv2", name))
    if nested:
        name = re.sub(r"up_blocks\.(\d)\.resnets\.", r"upsamples.\1.upsamples.", name)
        name = re.sub(r"up_blocks\.(\d)\.upsampler\.", r"upsamples.\1.upsamples.3.", name)
        name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"downsamples.\1.downsamples.", name)
        name = re.sub(r"down_blocks\.(\d)\.downsampler\.", r"downsamples.\1.downsamples.2.", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"upsamples.{4 * int(m[1]) + int(m[2])}", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"upsamples.{4 * int(m[1]) + 3}", name)
    name = name.replace("down_blocks", "downsamples").replace("mid_block.attentions.0", "middle.1")
    name = name.replace("mid_block.resnets.0", "middle.0").replace("mid_block.resnets.1", "middle.2")
    if "upsamples" in name or "downsamples" in name or "middle" in name:
        for ours, theirs in (("norm1", "0"), ("conv1", "2"), ("norm2", "3"), ("conv2", "6")):
            name = name.replace(f".{ours}.", f".residual.{theirs}.")
        return name.replace("conv_shortcut", "shortcut")
    return name.replace("conv_in", "conv1").replace("norm_out", "head.0").replace("conv_out", "head.2")


@pytest.mark.parametrize(
    ("name", "chunk"), [*(("wan-2.1", n) for n in (None, 1, 2, 3)), ("wan-2.2", None), ("wan-2.2", 2)]
)
def test_golden_vector(name: str, chunk: int | None) -> None:
    weights, case, config = read_vector(REFERENCE / "peers" / name / "vector.safetensors")
    model = build(name, weights, released_config=config)
    with torch.no_grad():
        encoded = model.encode(case["input"], chunk)
        video = model.decode(case["latent"], case["input"].shape[2], chunk)
    assert encoded.log_variance is not None
    assert (encoded.latent - case["latent"]).abs().max() < 5e-5
    assert (encoded.log_variance - case["logvar"]).abs().max() < 5e-5
    assert video.shape == case["recon"].shape
    assert (video - case["recon"]).abs().max() < 1e-4


@pytest.mark.parametrize("variant", NAMES)
def test_names_shapes_and_scale_of_the_release(variant: str) -> None:
    listed = facts(variant)
    nested = variant == "wan-2.2"
    with torch.device("meta"):
        model = make_model(VARIANTS[variant])
    ours = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {own_name(name, original=False): shape for name, shape in listed["state_dict"].items()} == ours
    theirs = {original(name, nested=nested): shape for name, shape in listed["state_dict"].items()}
    assert {own_name(name, original=True): shape for name, shape in theirs.items()} == ours
    assert sum(p.numel() for p in model.parameters()) == listed["params"]["total"]
    assert find_variant(variant) == type(model.config).from_release(variant, listed["config"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_states_are_the_caches_of_the_release(name: str, role: str) -> None:
    listed = facts(name)["states"][role]
    with torch.device("meta"):
        model = make_model(VARIANTS[name])
        side = model.stream.spatial_multiple
        small = (1, 3, 4, side, side) if role == "encoder" else (1, model.stream.latent_channels, 1, 1, 1)
        _, state = getattr(model, role).step(torch.empty(small))
    found = [(t.shape[1], t.shape[2], side // t.shape[3]) for _, t in flatten(state)]
    assert found == [(row["channels"], row["frames"], row["spatial_div"]) for row in listed]


@pytest.mark.parametrize("variant", NAMES)
@pytest.mark.parametrize("frames", range(1, 8))
def test_every_length_comes_back_and_streams_are_one_shot(variant: str, frames: int) -> None:
    narrow = small(variant)
    side = narrow.stream.spatial_multiple
    video = torch.rand(2, 3, frames, 2 * side, 3 * side, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    with torch.no_grad():
        whole, _ = narrow(video)
        latent = narrow.encode(video).latent
        assert latent.shape[2] == 1 + -(-(frames - 1) // 2)
        assert whole.shape == video.shape
        for chunk in (1, 2):
            assert torch.allclose(narrow.encode(video, chunk).latent, latent, atol=1e-5)
            assert torch.allclose(narrow.decode(latent, frames, chunk), whole, atol=1e-5)
        # The first frame stands alone, and nothing of later ones reaches it.
        assert torch.allclose(narrow.encode(video[:, :, :1]).latent, latent[:, :, :1], atol=1e-5)


@pytest.mark.parametrize("variant", NAMES)
def test_dummies_of_the_first_call_are_never_seen(variant: str) -> None:
    narrow = small(variant)
    video = torch.rand(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    other = torch.cat([torch.full_like(video[:, :, :1], 9.0), video[:, :, 1:]], dim=2)
    with torch.no_grad():
        assert torch.equal(narrow.encoder.step(video)[0], narrow.encoder.step(other)[0])


@pytest.mark.parametrize(
    ("name", "mult"), [*((name, (1, 2, 2, 2)) for name in NAMES), ("wan-2.2", (1, 2, 4, 2)), ("wan-2.2", (2, 1, 4, 2))]
)
def test_the_implementation_of_the_release_gives_the_same(name: str, mult: tuple[int, ...]) -> None:
    pytest.importorskip("diffusers")
    widths = {"ch": 4, "ch_mult": mult, "num_res_blocks": 1, "z_channels": 4}
    model = build(name, **widths, **UNSCALED)
    release = family_of(model.config).release(model)
    video = torch.rand(1, 3, 9, 16, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        encoded = model.encode(video)
        mean = torch.cat([release.step("encoder", piece) for piece in model.pad(video).split(8, dim=2)], 2).chunk(2, 1)[
            0
        ]
        again = family_of(model.config).release(model).step("decoder", mean)
        assert torch.allclose(mean, encoded.latent, atol=1e-5)
        assert torch.allclose(again, model.decode(mean, 9), atol=1e-4)


def test_a_width_goes_before_the_configuration_of_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[VideoTokenizer] = []
    monkeypatch.setattr("vidtok_export.bundle.export", lambda model, *_, **__: exported.append(model))
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"base_dim": 8, "dim_mult": [1, 2], "temperal_downsample": [True], "attn_scales": []}))
    for width in ([], ["--ch", 4]):
        asked = ["--variant", "wan-2.1", "--config", path, "--seed", 0, "--out", tmp_path / "new", *width]
        done = run_export(*asked, "--quiet")
        assert done.exit_code == 0, done.output
    assert [(model.config.ch, model.config.ch_mult) for model in exported] == [(8, (1, 2)), (4, (1, 2))]


def test_a_folder_of_the_release_and_the_original_file(tmp_path: Path, narrow: VideoTokenizer) -> None:
    released = {
        "base_dim": 4,
        "z_dim": 4,
        "dim_mult": [1, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [True],
        "attn_scales": [],
        "_class_name": "AutoencoderKLWan",
    }
    with torch.device("meta"):
        narrow_config = build("wan-2.1", released_config=released).config
    assert narrow_config.to_dict() == narrow.config.to_dict()
    names = {own_name(name, original=False): name for name in diffusers_names(narrow)}
    weights = {names[name]: tensor.clone() for name, tensor in narrow.state_dict().items()}
    folder = tmp_path / "vae"
    folder.mkdir()
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(released))
    torch.save({original(name): tensor for name, tensor in weights.items()}, tmp_path / "Wan2.1_VAE.pth")
    assert weights_sha256(build("wan-2.1", folder)) == weights_sha256(narrow)
    again = build("wan-2.1", tmp_path / "Wan2.1_VAE.pth", released_config=folder / "config.json")
    assert weights_sha256(again) == weights_sha256(narrow)
    asked = ["convert", folder, "--variant", "wan-2.1", "-o", tmp_path / "converted.safetensors"]
    other = run_export(*asked, "--ch", 8)  # goes before what the folder says
    assert other.exit_code == 1
    assert "these weights do not belong to wan-2.1" in other.stderr
    assert run_export(*asked, "--ch", 4).exit_code == 0
    write_weights(narrow, tmp_path / "ours.safetensors")
    ours = embedded_variant(tmp_path / "ours.safetensors")
    assert ours == narrow.config
    assert weights_sha256(build(ours, tmp_path / "ours.safetensors")) == weights_sha256(narrow)


def test_other_numbers_of_channels_than_the_scale_of_diffusers_has(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    made = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[True]
    )
    made.save_pretrained(tmp_path)
    assert len(json.loads((tmp_path / "config.json").read_text())["latents_mean"]) == 16
    config = build("wan-2.1", tmp_path).config
    assert (config.z_channels, config.latent_mean, config.latent_std) == (4, None, None)
    scale = {"latent_mean": (0.0,) * 4, "latent_std": (2.0,) * 4}
    assert build("wan-2.1", tmp_path, **scale).config.latent_std == (2.0,) * 4


def diffusers_names(model: VideoTokenizer) -> list[str]:
    """The names that diffusers has for the tensors of a model with two levels of one block."""
    block = [f"{layer}.{part}" for layer in ("conv1", "conv2") for part in ("weight", "bias")] + [
        "norm1.gamma",
        "norm2.gamma",
    ]
    wider = [*block, "conv_shortcut.weight", "conv_shortcut.bias"]
    resample = ["resample.1.weight", "resample.1.bias", "time_conv.weight", "time_conv.bias"]
    ends = ["conv_in.weight", "conv_in.bias", "norm_out.gamma", "conv_out.weight", "conv_out.bias"]
    middle = [f"mid_block.resnets.{i}.{name}" for i in (0, 1) for name in block] + [
        f"mid_block.attentions.0.{name}"
        for name in ("norm.gamma", "to_qkv.weight", "to_qkv.bias", "proj.weight", "proj.bias")
    ]
    encoder = [f"down_blocks.{i}.{name}" for i, part in enumerate([block, resample, wider]) for name in part]
    decoder = [f"up_blocks.0.resnets.{i}.{name}" for i in (0, 1) for name in block]
    decoder += [f"up_blocks.0.upsamplers.0.{name}" for name in resample]
    decoder += [f"up_blocks.1.resnets.{i}.{name}" for i in (0, 1) for name in block]
    found = [f"encoder.{name}" for name in [*ends, *middle, *encoder]]
    found += [f"decoder.{name}" for name in [*ends, *middle, *decoder]]
    return [*found, *(f"{name}.{part}" for name in ("quant_conv", "post_quant_conv") for part in ("weight", "bias"))]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is_residual of this configuration is True"):
        build("wan-2.1", released_config={"is_residual": True})
    with pytest.raises(ModelError, match=r"patch_size of this configuration is None; wan-2\.2 is built with 2 only"):
        build("wan-2.2", released_config={"patch_size": None})
    # The last two of the encoder; two where it halves H and W; two of the decoder alone.
    for mult in ((1, 2, 4, 8), (4, 1, 3, 3), (1, 9, 9, 9)):
        with pytest.raises(ModelError, match="with shortcuts, "):
            find_variant("wan-2.2", ch_mult=mult)
    with pytest.raises(ModelError, match="temporal_down has one value for every level but the last"):
        build("wan-2.1", ch_mult=(1, 2))
    with pytest.raises(ModelError, match="missing"):
        build("wan-2.1", {}, **NARROW, **UNSCALED)
    with pytest.raises(ModelError, match="holds no checkpoint"):
        build("wan-2.1", tmp_path)
    result = CliRunner().invoke(export_cli, ["--variant", "wan-2.1", "--out", str(tmp_path / "new")])
    assert result.exit_code == 1
    assert "give --checkpoint with the vae folder" in result.output
