"""The architectures of Table 2: counts against the paper, streaming, gradients, export."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from conftest import NARROW, SHALLOWEST

from vidtok_export.cli import main
from vidtok_export.operations import clip_multiply_adds
from vidtok_ref import ModelError, build, find_variant
from vidtok_ref.families import make_model
from vidtok_ref.families.vidtok.variant import Variant
from vidtok_ref.families.weights_file import write_weights
from vidtok_ref.streaming.state import flatten
from vidtok_runtime.bundle.manifest import read_manifest

OTHERS = ["3d", "separated", "2d"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import variant_table

    yield variant_table
    sys.modules.pop("variant_table")


def test_counts_are_those_of_the_paper(counts: ModuleType) -> None:
    for architecture, (parameters, operations, *_) in counts.PUBLISHED.items():
        with torch.device("meta"):
            model = make_model(find_variant("kl-4chn", architecture=architecture))
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters, rel=0.01)
        assert clip_multiply_adds(model, 17, 256, 256) / 1e12 == pytest.approx(operations, rel=0.02)
    assert counts.architectures() in counts.TARGET.read_text()


@pytest.mark.parametrize("architecture", OTHERS)
@pytest.mark.parametrize("frames", [1, 3, 14])
@torch.no_grad()
def test_streamed_equals_one_shot(architecture: str, frames: int) -> None:
    model = build("kl-4chn", architecture=architecture, **NARROW)
    video = torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latent = model.encode(video).latent
    recon = model.decode(latent, frames)
    assert recon.shape == video.shape
    for chunk in (1, 2):
        torch.testing.assert_close(model.encode(video, chunk).latent, latent, atol=2e-5, rtol=0)
        torch.testing.assert_close(model.decode(latent, frames, chunk), recon, atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", OTHERS)
@torch.no_grad()
def test_a_later_frame_moves_no_earlier_latent(architecture: str) -> None:
    model = build("kl-4chn", architecture=architecture, **NARROW)
    video = torch.rand(1, 3, 9, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    changed = video.clone()
    changed[:, :, 5:] = -changed[:, :, 5:]
    before, after = (model.encode(v).latent for v in (video, changed))
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.equal(before[:, :, 2:], after[:, :, 2:])


@pytest.mark.parametrize("architecture", OTHERS)
@torch.no_grad()
def test_non_causal_windows(architecture: str) -> None:
    model = build("kl-4chn-noncausal", architecture=architecture, **NARROW)
    video = torch.rand(1, 3, 8, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    features, state = model.encoder.step(video)
    assert features.shape == (1, 8, 2, 2, 3)
    assert not list(flatten(state))
    assert model(video)[0].shape == video.shape


@pytest.mark.parametrize("architecture", OTHERS)
def test_every_weight_learns(architecture: str) -> None:
    model = build("fsq-4096", architecture=architecture, **NARROW).train()
    video = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    encoded, terms = model.regularization.regularize(model.features(video))
    loss = (model.decode(encoded.latent, 5) - video).square().mean() + 0.1 * terms["entropy"] + terms["commitment"]
    loss.backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A key's bias adds the same to all scores of a pixel, which the softmax ignores.
    assert [name for name in dead if not name.endswith("k.conv.bias")] == []


# test_regularizer exports one on the command line by default.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "architecture"),
    [
        ("kl-4chn", "3d"),
        ("kl-4chn", "separated"),
        ("kl-4chn", "2d"),
        ("kl-4chn-noncausal", "3d"),
        ("kl-4chn-noncausal", "separated"),
        ("kl-4chn-v1.1", "2d"),
    ],
)
def test_export_on_the_command_line(base: str, architecture: str, tmp_path: Path) -> None:
    """A trained file says its architecture itself; parity is measured one shot and streamed, on two engines."""
    model = build(base, architecture=architecture, **SHALLOWEST)
    write_weights(model, tmp_path / "model.safetensors")
    args = ["--checkpoint", str(tmp_path / "model.safetensors"), "--out", str(tmp_path / "bundle"), "--quiet"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 0, done.output
    manifest = read_manifest(tmp_path / "bundle")
    assert Variant.from_dict(manifest.raw["config"]) == model.config
    assert [row["passed"] for row in manifest.raw["parity"]["rows"]] == [True, True]
    assert all(bool(graph.states) == model.config.causal for graph in manifest.graphs)


def test_descriptions() -> None:
    older = {k: v for k, v in find_variant("kl-4chn").to_dict().items() if k != "architecture"}
    assert Variant.from_dict(older) == find_variant("kl-4chn")
    described = find_variant("kl-4chn", architecture="separated").to_dict()
    assert json.loads(json.dumps(described))["architecture"] == "separated"
    with pytest.raises(ModelError, match="architecture is mixed, 3d, separated or 2d, got '2D'"):
        find_variant("kl-4chn", architecture="2D")
    with pytest.raises(ModelError, match="exists in version"):
        find_variant("kl-4chn-v1.1", architecture="3d")
