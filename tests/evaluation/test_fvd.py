"""FVD: the distance against closed forms, I3D against its description, its graph against PyTorch."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional

from vidtok_export.cli import main
from vidtok_ref.errors import ShapeError, WeightsError
from vidtok_ref.perceptual.i3d import I3D, Pool, Unit, load_i3d
from vidtok_runtime.cli import main as run
from vidtok_runtime.engines.base import Options
from vidtok_runtime.errors import InputError
from vidtok_runtime.quality.frechet import frechet_distance
from vidtok_runtime.quality.graph_metrics import FvdGraph
from vidtok_runtime.tools.demo import make_clip, synthetic_frame


def with_moments(mean: np.ndarray, root: np.ndarray, seed: int = 0, n: int = 50) -> np.ndarray:
    """`n` samples whose mean and covariance are exactly `mean` and `root @ root.T`."""
    x = np.random.default_rng(seed).standard_normal((n, len(mean)))
    x -= x.mean(0)
    x @= np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ root.T + mean


def test_distance_of_normal_distributions() -> None:
    a, b = np.diag([1.0, 2.0, 3.0]), np.diag([2.0, 2.0, 0.5])
    shift = np.array([1.0, -2.0, 0.0])
    # Covariances that commute: |shift|^2 + sum (sigma_a - sigma_b)^2.
    wanted = 5 + (1 + 0 + 2.5**2)
    assert frechet_distance(with_moments(shift, a), with_moments(np.zeros(3), b, seed=1)) == pytest.approx(wanted)
    # The same in a turned basis, and covariances that do not commute.
    turn, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))
    x, y = with_moments(shift, a), with_moments(np.zeros(3), b, seed=1)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(wanted)
    c = turn @ b @ turn.T
    trace_of_root = np.sqrt(np.linalg.eigvals(a @ a @ c @ c)).real.sum()
    wanted = np.trace(a @ a) + np.trace(c @ c) - 2 * trace_of_root
    assert frechet_distance(with_moments(np.zeros(3), a), with_moments(np.zeros(3), c, 3)) == pytest.approx(wanted)


def test_fewer_samples_than_dimensions() -> None:
    x = np.random.default_rng(0).standard_normal((3, 400))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 0.5) == pytest.approx(100)
    assert FvdGraph.distance([x[0]], [x[1]]) is None


@pytest.fixture(scope="module")
def i3d() -> I3D:
    torch.manual_seed(0)
    return I3D().eval()


def test_i3d_keeps_its_names_and_size(i3d: I3D) -> None:
    names = i3d.state_dict()
    assert sum(p.numel() for p in i3d.parameters()) == 12_697_264
    assert names["Conv3d_1a_7x7.conv3d.weight"].shape == (64, 3, 7, 7, 7)
    assert names["Mixed_5c.b3b.bn.running_var"].shape == (128,)
    assert names["logits.conv3d.bias"].shape == (400,)
    with pytest.raises(ShapeError, match="at least 9"):
        i3d(torch.zeros(1, 3, 8, 224, 224))


@pytest.mark.parametrize("length", [16, 17])
def test_padding_is_that_of_tensorflow(length: int) -> None:
    x = torch.rand(1, 3, length, 32, 32)
    unit = Unit(3, 4, 7, 2).eval()
    # An even size leaves five zeros to a kernel of 7 at stride 2: two in front, three behind.
    front, behind = (2, 3) if length == 16 else (3, 3)
    padded = functional.pad(x, (2, 3, 2, 3, front, behind))
    wanted = functional.conv3d(padded, unit.conv3d.weight, stride=2)
    wanted = functional.relu(wanted / (1 + 1e-3) ** 0.5)
    assert torch.allclose(unit(x), wanted, atol=1e-5)
    assert unit(x).shape[2:] == (-(-length // 2), 16, 16)
    assert Pool((3, 3, 3), (2, 2, 2))(x).shape[2:] == (-(-length // 2), 16, 16)


@pytest.fixture(scope="module")
def graph(i3d: I3D, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("i3d")
    # As the common files are: without counters of training steps.
    torch.save({k: t for k, t in i3d.state_dict().items() if "num_batches" not in k}, folder / "i3d.pt")
    out = folder / "fvd.onnx"
    arguments = ["metric", "fvd", "--weights", str(folder / "i3d.pt"), "--frames", "9", "-o", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.slow
def test_the_graph_has_the_features(i3d: I3D, graph: Path) -> None:
    fvd = FvdGraph(graph, "cpu", Options(threads=1))
    clip = [synthetic_frame(i, 64, 96) for i in range(9)]
    video = torch.tensor(np.stack(clip)).permute(3, 0, 1, 2).float()
    # The field's scripts: shorter side 224 by plain bilinear interpolation, centre, -1..1.
    video = functional.interpolate(video, (224, 336), mode="bilinear", align_corners=False)[..., 56:280] / 127.5 - 1
    with torch.no_grad():
        wanted = i3d(video[None])[0].numpy()
    assert np.allclose(fvd.features(clip), wanted, atol=1e-3 * np.abs(wanted).max())
    with pytest.raises(InputError, match="vidtok-export metric fvd --frames 16"):
        fvd.check(16)


@pytest.mark.slow
def test_eval_reports_it_and_warns(graph: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("a", "b"):
        make_clip(clips / f"{name}.mp4", 9, 40, 40, first=100 * (name == "b"))
    arguments = ["eval", clips, "--size", 32, "--fps", 0, "--fvd", graph, "--provider", "cpu", "--quiet"]
    wrong = CliRunner().invoke(run, list(map(str, arguments)))
    assert wrong.exit_code == 1
    assert "give --frames 9" in wrong.stderr
    figures = tmp_path / "figures.json"
    result = CliRunner().invoke(run, [*map(str, arguments), "--frames", "9", "--json", str(figures)])
    assert result.exit_code == 0, result.output
    assert "warning: FVD of 2 clips" in result.stdout
    (model,) = json.loads(figures.read_text())["results"]
    assert model["fvd"] > 0
    assert f"{model['fvd']:.1f}" in result.stdout


def test_other_weights_are_refused(i3d: I3D, tmp_path: Path) -> None:
    program, other = tmp_path / "program.pt", tmp_path / "other.pt"
    with zipfile.ZipFile(program, "w") as file:
        file.writestr("program/code/__torch__.py", "")
    with pytest.raises(WeightsError, match="TorchScript"):
        load_i3d(program)
    torch.save({"weight": torch.zeros(1)}, other)
    with pytest.raises(WeightsError, match="missing"):
        load_i3d(other)
