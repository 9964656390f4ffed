"""LPIPS from local weights: distances, gradients, and one line for whatever is missing."""

from __future__ import annotations

import json
import os
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchmetrics.functional.image  # noqa: F401  it looks for torchvision once, before there is a stand-in
from click.testing import CliRunner
from torch import nn

from vidtok_export.cli import main
from vidtok_export.metric import export_lpips
from vidtok_ref.errors import ModelError, WeightsError
from vidtok_ref.perceptual.lpips import BACKBONES, load_lpips
from vidtok_runtime.cli import main as run
from vidtok_runtime.engines.base import Options
from vidtok_runtime.quality.graph_metrics import LpipsGraph
from vidtok_runtime.tools.demo import synthetic_frame

POOL = "pool"
# The convolutions of the published networks: (outputs, kernel, stride, padding).
VGG = [64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL]
ALEX = [(64, 11, 4, 2), POOL, (192, 5, 1, 2), POOL, (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1), POOL]


def _features(layers: list, pool: int) -> nn.Module:
    stack: list[nn.Module] = []
    channels = 3
    for layer in layers:
        if layer == POOL:
            stack.append(nn.MaxPool2d(pool, 2))
            continue
        out, kernel, stride, padding = layer if isinstance(layer, tuple) else (layer, 3, 1, 1)
        stack += [nn.Conv2d(channels, out, kernel, stride, padding), nn.ReLU(inplace=True)]
        channels = out
    model = nn.Module()
    model.features = nn.Sequential(*stack)
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {"vgg": lambda: _features(VGG, 2), "alex": lambda: _features(ALEX, 3)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights of the published shapes."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for net, file in BACKBONES.items():
        torch.save({**NETWORKS[net]().state_dict(), "classifier.0.weight": torch.zeros(1)}, folder / file)
    return folder


@pytest.fixture
def backbones(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stands in for torchvision, and a folder with weights that may be moved."""
    vision, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    vision.models = models
    models.vgg16 = lambda weights: NETWORKS["vgg"]()
    models.alexnet = lambda weights: NETWORKS["alex"]()
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setattr("torchmetrics.functional.image.lpips._TORCHVISION_AVAILABLE", True)
    monkeypatch.delenv("VIDTOK_LPIPS", raising=False)
    torch.manual_seed(0)
    return Path(shutil.copytree(weights, tmp_path / "backbones", copy_function=os.link))


@pytest.mark.parametrize("net", sorted(BACKBONES))
def test_a_distance_an_image(backbones: Path, net: str) -> None:
    lpips = load_lpips(net, backbones)
    a = torch.rand(2, 3, 64, 48) * 2 - 1
    assert torch.equal(lpips(a, a), torch.zeros(2))
    b = (a + 0.3 * torch.randn_like(a)).clamp(-1, 1).requires_grad_()
    near, far = lpips(a, b), lpips(a, -a)
    assert near.shape == (2,)
    assert (near > 0).all()
    assert (far > near).all()
    near.sum().backward()
    assert b.grad is not None
    assert b.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in lpips.parameters())
    lpips.train()
    assert torch.equal(lpips(a, b), near)  # the dropout of its linear layers stays off


def test_it_is_what_the_weights_say(backbones: Path) -> None:
    """Against the published formula on the same features and the linear layers that torchmetrics ships."""
    lpips = load_lpips("vgg", backbones)
    stack = NETWORKS["vgg"]().features
    weights = torch.load(backbones / BACKBONES["vgg"], weights_only=True)
    stack.load_state_dict({k.removeprefix("features."): t for k, t in weights.items() if k.startswith("features.")})
    a, b = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    shift, scale = (torch.tensor(v).view(3, 1, 1) for v in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
    x, y = ((v - shift) / scale for v in (a, b))
    total, taps = torch.zeros(1), [3, 8, 15, 22, 29]
    for i, layer in enumerate(stack):
        x, y = layer(x), layer(y)
        if i in taps:
            unit_x, unit_y = (v / (v.pow(2).sum(1, keepdim=True) + 1e-8).sqrt() for v in (x, y))
            linear = lpips.distance.lins[taps.index(i)].model[1].weight
            assert (linear >= 0).all()  # as trained; a random start has both signs
            total += ((unit_x - unit_y).pow(2) * linear.view(1, -1, 1, 1)).sum(1).mean()
    assert torch.allclose(lpips(a, b), total, rtol=1e-4)


def test_weights_are_found(backbones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.zeros(1, 3, 32, 32)
    want = load_lpips("vgg", backbones / BACKBONES["vgg"])(a, a + 1)
    monkeypatch.setenv("VIDTOK_LPIPS", str(backbones))
    assert torch.equal(load_lpips()(a, a + 1), want)
    monkeypatch.delenv("VIDTOK_LPIPS")
    hub = backbones.parent / "hub"
    hub.mkdir()
    backbones.rename(hub / "checkpoints")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    assert torch.equal(load_lpips()(a, a + 1), want)


def test_missing_weights_name_what_to_set(backbones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"set \$VIDTOK_LPIPS to torchvision's vgg16-397923af.pth"):
        load_lpips()
    monkeypatch.setenv("VIDTOK_LPIPS", str(tmp_path / "no.pth"))
    with pytest.raises(WeightsError, match=r"no\.pth is not there"):
        load_lpips()
    with pytest.raises(WeightsError, match="missing"):
        load_lpips("vgg", backbones / BACKBONES["alex"])
    with pytest.raises(WeightsError, match="vgg or alex"):
        load_lpips("squeeze", backbones)


def test_missing_torchvision_names_the_extra(backbones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModelError, match=r"vidtok-onnx\[eval\]") as caught:
        load_lpips("vgg", backbones)
    assert isinstance(caught.value, ImportError)
    assert len(str(caught.value).splitlines()) == 1


# The export itself compares with PyTorch; that of alex is made below, too.
@pytest.mark.slow
@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_the_graph_measures_the_same(backbones: Path, tmp_path: Path, net: str) -> None:
    graph = tmp_path / "lpips.onnx"
    result = CliRunner().invoke(main, ["metric", "lpips", "--net", net, "--weights", str(backbones), "-o", str(graph)])
    assert result.exit_code == 0, result.output
    lpips = LpipsGraph(graph, "cpu", Options(threads=1))
    assert net in str(lpips)
    a, b = (synthetic_frame(i, 52, 40) for i in (0, 9))  # another size than the one traced
    x, y = (torch.tensor(v).permute(2, 0, 1)[None] / 127.5 - 1 for v in (a, b))
    assert lpips(a, b) == pytest.approx(load_lpips(net, backbones)(x, y).item(), rel=1e-3)
    assert lpips(a, a) == 0
    before = graph.read_bytes()
    again = CliRunner().invoke(main, ["metric", "lpips", "--weights", str(backbones), "-o", str(graph)])
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert graph.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backbones", "lpips.onnx"]


def test_a_missing_weight_file_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "lpips.onnx"
    result = CliRunner().invoke(main, ["metric", "lpips", "--weights", str(tmp_path), "-o", str(out)])
    assert result.exit_code == 1
    assert "VIDTOK_LPIPS" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()


def test_eval_reports_it(backbones: Path, tmp_path: Path, clip: Path) -> None:
    graph, figures = tmp_path / "lpips.onnx", tmp_path / "figures.json"
    export_lpips(graph, "alex", backbones)
    arguments = ["eval", clip, "--frames", 4, "--fps", 0, "--size", 32, "--provider", "cpu", "--threads", 1, "--quiet"]
    result = CliRunner().invoke(run, [*map(str, arguments), "--lpips", str(graph), "--json", str(figures)])
    assert result.exit_code == 0, result.output
    assert "LPIPS 0.1 (alex)" in result.stdout
    content = json.loads(figures.read_text())
    assert content["measures"] == ["LPIPS 0.1 (alex)"]
    (model,) = content["results"]
    assert model["mean"]["lpips"] == model["clips"][0]["lpips"] > 0
    assert f"{model['mean']['lpips']:.4f}" in result.stdout
    elsewhere = ["--provider", "openvino", "--provider-option", "ENABLE_CPU_PINNING=NO"]
    result = CliRunner().invoke(run, [*map(str, arguments), "--lpips", str(graph), *elsewhere])
    assert result.exit_code == 0, result.output
    assert "lpips is computed on cpu" in result.stderr
    other = CliRunner().invoke(run, [*map(str, arguments), "--fvd", str(graph)])
    assert other.exit_code == 1
    assert "vidtok-export metric fvd" in other.stderr


def test_the_real_torchvision(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed (extra eval)")
    torch.save(models.alexnet(weights=None).state_dict(), tmp_path / BACKBONES["alex"])
    a = torch.rand(1, 3, 64, 64) * 2 - 1
    lpips = load_lpips("alex", tmp_path)
    assert lpips(a, a) == 0
    assert lpips(a, -a) > 0
