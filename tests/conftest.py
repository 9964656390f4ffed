"""Narrow models, their bundles, and small clips; everything is made here, nothing is downloaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from dataset_runs import dataset
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file

from vidtok_export import export
from vidtok_ref import VideoTokenizer, build
from vidtok_ref.families.vidtok.checkpoints import release_name
from vidtok_ref.families.vidtok.variant import VARIANTS
from vidtok_ref.weights import weights_sha256
from vidtok_runtime.tools.demo import make_clip, synthetic_frame
from vidtok_runtime.video.writer import VideoWriter

NARROW = {"ch": 8, "ch_mult": (1, 1, 2, 2), "num_res_blocks": 1}
torch.set_num_threads(1)  # narrow models gain nothing from more, and lose much on a busy machine
# Without it each of the hundreds of programs and workers that tests start would compile this project anew: a fifth of
# the time that one takes to start.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["HF_HUB_OFFLINE"] = "1"  # without a network the hub's client tries again for 20 seconds
# Fewer levels, so that tracing takes seconds; T still halves twice, and doubles twice.
SHALLOW = {
    **NARROW,
    "ch_mult": (1, 1),
    "spatial_down": (0,),
    "temporal_down": (0, 1),
    "spatial_up": (1,),
    "temporal_up": (0, 1),
}
# One level, for tests in which the network around something does not matter.
SHALLOWEST = {
    **NARROW,
    "ch_mult": (1,),
    "spatial_down": (0,),
    "temporal_down": (0,),
    "spatial_up": (0,),
    "temporal_up": (0,),
}
REFERENCE = Path(os.environ.get("VIDTOK_REFERENCE", Path(__file__).parents[2] / "shared/reference"))

ABSENT = "the reference data are not here; set VIDTOK_REFERENCE to their folder"


def read_vector(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, Any]]:
    """Weights, all tensors and the configuration of a golden vector; skips where it is absent."""
    if not path.is_file():
        pytest.skip(ABSENT)
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    return {k: t for k, t in tensors.items() if "." in k}, tensors, config


def golden(name: str) -> tuple[VideoTokenizer, dict[str, torch.Tensor]]:
    """A model with the golden weights of a variant and all tensors of its case; skips where they are absent."""
    weights, tensors, config = read_vector(REFERENCE / "vectors" / f"{release_name(VARIANTS[name])}.safetensors")
    return build(name, weights, ch=config["model"]["ch"]), tensors


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiled graphs of the tests stay out of the user's cache."""
    os.environ["VIDTOK_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", params=["kl-4chn", "fsq-32768"])
def model(request: pytest.FixtureRequest) -> VideoTokenizer:
    return build(request.param, **NARROW)


@pytest.fixture(scope="session", params=["kl-4chn", "fsq-32768"])
def shallow(request: pytest.FixtureRequest) -> VideoTokenizer:
    return build(request.param, **SHALLOW)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the processes of a run have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def exported(shared: Path) -> Callable[[VideoTokenizer], Path]:
    """Gives the bundle of a model, which is made once for all tests and processes of a run; copy it to change it."""

    def once(model: VideoTokenizer) -> Path:
        place = shared / "bundles" / f"{model.config.name}-{weights_sha256(model)[:12]}"
        place.mkdir(parents=True, exist_ok=True)
        folder = place / model.config.name
        with FileLock(place / "lock"):
            return folder if folder.exists() else export(model, folder)

    return once


@pytest.fixture(scope="session")
def bundle(shallow: VideoTokenizer, exported: Callable[[VideoTokenizer], Path]) -> Path:
    return exported(shallow)


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """Eleven frames of an odd size, uint8 `T H W 3`."""
    return np.stack([synthetic_frame(4 * i, 37, 51) for i in range(11)])


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, frames: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with VideoWriter(path) as writer:
        for i, pixels in enumerate(frames):
            writer.write(pixels, i)
        writer.close()
    return path


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training material: two clips and one to hold out, a photograph, and a file that is no video."""
    folder = tmp_path_factory.mktemp("train")
    for name, first in (("a", 0), ("b", 20), ("held", 50)):
        make_clip(folder / f"{name}.mp4", 12, 144, 144, first=first)
    cv2.imwrite(str(folder / "photo.png"), synthetic_frame(7, 160, 200))
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven small clips in two folders, of which two have one stem, with a caption and metadata."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(5)
    for i, name in enumerate(["a.mp4", "a.mov", "b.mp4", "c.mkv", "deep/a.mp4", "deep/d.mp4", "deep/er/e.mp4"]):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with VideoWriter(path) as writer:
            for k in range(5 + i):
                writer.write(rng.integers(0, 256, (24, 32, 3), np.uint8), k)
            writer.close()
    (folder / "b.txt").write_text("a caption, with a comma\n")
    (folder / "b.json").write_text(json.dumps({"licence": "CC0", "score": 3, "width": "wide"}))
    (folder / "notes.md").write_text("no clip")
    return folder


@pytest.fixture(scope="session")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    result = dataset(source, out, "--workers", 2)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of training."""
    from training_runs import tiny_recipe

    from vidtok_ref.train.run import train

    folder = tmp_path_factory.mktemp("whole")
    assert train(tiny_recipe(folder), clips, folder / "run") > 5
    return folder / "run"


@pytest.fixture
def video(model: VideoTokenizer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, 9, 16, 24, generator=generator) * 2 - 1


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where `vidtok-run serve` serves the page and the kit's bundles."""
    kit = Path(__file__).parent / "conformance/kit"
    bundles = sorted({str(kit / case["bundle"]) for case in json.loads((kit / "cases.json").read_text())["cases"]})
    command = [sys.executable, "-m", "vidtok_runtime.cli", "serve", "--port", "0", *bundles]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.match(r"(http://127\.0\.0\.1:\d+/)", process.stdout.readline())
        assert found
        yield found[1]
        process.terminate()
