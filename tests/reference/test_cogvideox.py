"""CogVideoX: its golden vector, names, states and streams, and the release itself beside it."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
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
from vidtok_ref.families import family_of, make_model
from vidtok_ref.families.cogvideox.checkpoints import own_name
from vidtok_ref.families.weights_file import embedded_variant, write_weights
from vidtok_ref.streaming.state import flatten
from vidtok_ref.weights import weights_sha256

FOLDER = REFERENCE / "peers/cogvideox"
NARROW = {"channels": (4, 4, 8), "z_channels": 4, "num_res_blocks": 1, "groups": 2}
RELEASED = {
    "_class_name": "AutoencoderKLCogVideoX",
    "block_out_channels": [4, 4, 8],
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "scaling_factor": 1.15258426,
    "use_quant_conv": False,
}


@pytest.fixture(scope="module")
def narrow() -> VideoTokenizer:
    """Three levels of one block."""
    return build("cogvideox", **NARROW)


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    path = FOLDER / "keys.json.gz"
    if not path.is_file():
        pytest.skip(ABSENT)
    with gzip.open(path) as file:
        content: dict[str, Any] = json.load(file)
    return content


def clip(frames: int, height: int = 8, width: int = 12) -> torch.Tensor:
    return torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(frames)) * 2 - 1


@torch.no_grad()
def test_golden_vector() -> None:
    weights, case, config = read_vector(FOLDER / "vector.safetensors")
    model = build("cogvideox", weights, released_config=config)
    for frames, suffix in ((17, "_chunked"), (1, "_t1")):
        encoded = model.encode(case["input"][:, :, :frames])
        video = model.decode(case[f"latent{suffix}"], frames)
        assert encoded.log_variance is not None
        assert (encoded.latent - case[f"latent{suffix}"]).abs().max() < 5e-5
        assert (encoded.log_variance - case[f"logvar{suffix}"]).abs().max() < 5e-5
        assert video.shape == case[f"recon{suffix}"].shape
        assert (video - case[f"recon{suffix}"]).abs().max() < 1e-4
    # The whole clip in one call, which no stream does.
    whole = model.regularization(model.encoder.step(case["input"])[0])
    assert (whole.latent - case["latent"]).abs().max() < 5e-5
    assert (whole.log_variance - case["logvar"]).abs().max() < 5e-5
    assert (model.decoder.step(case["latent"])[0][:, :, 3:] - case["recon"]).abs().max() < 1e-4


def test_names_shapes_and_settings_of_the_release(facts: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = make_model(VARIANTS["cogvideox"])
    ours = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {own_name(name): shape for name, shape in facts["state_dict"].items()} == ours
    assert {own_name(name): shape for name, shape in ours.items()} == ours
    for role in ("encoder", "decoder"):
        assert sum(p.numel() for p in getattr(model, role).parameters()) == facts["params"][role]
    assert find_variant("cogvideox") == type(model.config).from_release("cogvideox", facts["config"])


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_states_are_the_caches_of_the_release(role: str, facts: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = make_model(VARIANTS["cogvideox"])
        x = torch.empty(1, 3, 9, 8, 8) if role == "encoder" else torch.empty(1, 16, 3, 1, 1)
        _, state = getattr(model, role).step(x)
    found = [(t.shape[1], t.shape[2], 8 // t.shape[3]) for _, t in flatten(state)]
    assert found == [(row["channels"], row["frames"], row["spatial_div"]) for row in facts["states"][role]]


@pytest.mark.parametrize("frames", [1, 9, 17, 33])
@torch.no_grad()
def test_the_release_itself_gives_the_same(narrow: VideoTokenizer, frames: int) -> None:
    pytest.importorskip("diffusers")
    release: Any = family_of(narrow.config).release(narrow)
    video = clip(frames)
    latent = release.vae.encode(video).latent_dist.mode()
    recon = release.vae.decode(latent).sample
    assert torch.allclose(narrow.encode(video).latent, latent, atol=1e-5)
    assert torch.allclose(narrow.decode(latent, frames), recon, atol=1e-5)
    called = [release.step("decoder", z) for z in latent.split(narrow.stream.decoder.sizes(latent.shape[2]), 2)]
    assert torch.allclose(torch.cat(called, 2)[:, :, 3:], recon, atol=1e-6)


@pytest.mark.parametrize("frames", [2, 5, 10, 16, 18])
@torch.no_grad()
def test_other_lengths_are_those_with_copies_of_the_last_frame(narrow: VideoTokenizer, frames: int) -> None:
    video = clip(frames)
    filled = torch.cat([video, *[video[:, :, -1:]] * (-(frames - 1) % 8)], dim=2)
    encoded, wanted = narrow.encode(video), narrow.encode(filled)
    assert encoded.latent.shape[2] == 1 + 2 * -(-(frames - 1) // 8)
    assert torch.equal(encoded.latent, wanted.latent)
    back = narrow.decode(encoded.latent, frames)
    assert back.shape == video.shape
    assert torch.equal(back, narrow.decode(encoded.latent)[:, :, :frames])


def test_a_folder_of_the_release_and_a_file_of_ours(tmp_path: Path, narrow: VideoTokenizer) -> None:
    released = {
        name.replace("nin_shortcut", "conv_shortcut").replace("sampler.space", "samplers.0"): tensor.clone()
        for name, tensor in narrow.state_dict().items()
    }
    save_file(released, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(RELEASED))
    found = build("cogvideox", tmp_path)
    assert found.config == narrow.config
    assert weights_sha256(found) == weights_sha256(narrow)
    # The configuration beside a file counts, as the scale of 5b, where it is of the release, and nothing else is given.
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    (tmp_path / "config.json").write_text(json.dumps(RELEASED | {"scaling_factor": 0.7}))
    assert build("cogvideox", file).config == replace(narrow.config, scaling_factor=0.7)
    assert build(narrow.config, file).config == narrow.config
    asked = ["convert", file, "--variant", "cogvideox", "-o", tmp_path / "converted.safetensors"]
    assert run_export(*asked).exit_code == 0
    assert embedded_variant(tmp_path / "converted.safetensors") == replace(narrow.config, scaling_factor=0.7)
    (tmp_path / "config.json").write_text(json.dumps(RELEASED | {"_class_name": "CogVideoXTransformer3DModel"}))
    assert build("cogvideox", file, **NARROW).config == narrow.config
    write_weights(narrow, tmp_path / "ours.safetensors")
    ours = embedded_variant(tmp_path / "ours.safetensors")
    assert ours == narrow.config
    assert weights_sha256(build(ours, tmp_path / "ours.safetensors")) == weights_sha256(narrow)


def original(name: str) -> str:
    """The name that the original checkpoint of three levels has, as the converter of diffusers maps it."""
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)", lambda m: f"decoder.up.{2 - int(m[1])}", name)
    name = name.replace("down_blocks", "down").replace("resnets", "block")
    return name.replace("sampler.space", "sample")


def test_the_original_file(tmp_path: Path, narrow: VideoTokenizer) -> None:
    weights = {original(name): tensor for name, tensor in narrow.state_dict().items()}
    assert "decoder.up.0.block.0.conv1.conv.weight" in weights
    assert "encoder.down.1.downsample.conv.weight" in weights
    torch.save({"state_dict": {**weights, "loss.logvar": torch.zeros(1)}}, tmp_path / "3d-vae.pt")
    assert weights_sha256(build("cogvideox", tmp_path / "3d-vae.pt", **NARROW)) == weights_sha256(narrow)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="use_quant_conv of this configuration is True"):
        build("cogvideox", released_config={"use_quant_conv": True})
    with pytest.raises(ModelError, match="2 levels, fewer than 3"):
        build("cogvideox", channels=(32, 32))
    with pytest.raises(ModelError, match="do not make 32 groups"):
        build("cogvideox", channels=(16, 32, 32))
    with pytest.raises(ModelError, match="missing"):
        build("cogvideox", {}, **NARROW)
    result = CliRunner().invoke(export_cli, ["--variant", "cogvideox", "--out", str(tmp_path / "new")])
    assert result.exit_code == 1
    assert "give --checkpoint with the vae folder" in result.output
