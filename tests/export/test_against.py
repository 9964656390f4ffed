"""`verify --against`: a bundle beside the release's own implementation with the same weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import run_export
from narrow import narrow
from onnx import numpy_helper
from safetensors.torch import save_file

from vidtok_ref import VideoTokenizer
from vidtok_ref.families import all_families

KIT = Path(__file__).parents[1] / "conformance/kit"
# Looked for, not imported, which takes seconds; and before anything is exported.
needs_diffusers = pytest.mark.skipif(find_spec("diffusers") is None, reason="diffusers is not installed")


def altered(bundle: Path, out: Path) -> Path:
    """A copy with one other kernel, and the hash of that."""
    folder = Path(shutil.copytree(bundle, out))
    raw = json.loads((folder / "manifest.json").read_text())
    row = next(row for row in raw["graphs"] if row["role"] == "encoder")
    model = onnx.load(folder / row["file"])
    kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 5)
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(1.01), kernel.name))
    (folder / row["file"]).write_bytes(model.SerializeToString())
    row["sha256"] = sha256((folder / row["file"]).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(raw))
    return folder


def compared(bundle: Path, tmp_path: Path, *given: object) -> None:
    """A bundle passes and one with other weights fails, for a length that the release has and one that it lacks."""
    asked = *given, "--against", "diffusers", "--size", "26x18", "--frames"
    for frames in (1, 10):
        done = run_export("verify", bundle, *asked, frames)
        assert done.exit_code == 0, done.output
        assert done.output.count("passed") == 2
    wrong = run_export("verify", altered(bundle, tmp_path / "altered"), *asked, 1)
    assert wrong.exit_code == 1
    assert wrong.stdout.count("FAILED") == 2
    assert "does not compute what diffusers does on cpu, openvino" in wrong.stderr


@needs_diffusers
def test_wan(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    from make_vectors import random_weights

    bundle, weights = KIT / "wan-causal", tmp_path / "weights.safetensors"
    config = all_families()["wan"].config.from_dict(json.loads((bundle / "manifest.json").read_text())["config"])
    save_file(random_weights(config, 0), weights)
    compared(bundle, tmp_path, "--checkpoint", weights, "--clip", clip)


@pytest.mark.slow
@needs_diffusers
def test_cogvideox(exported: Callable[[VideoTokenizer], Path], clip: Path, tmp_path: Path) -> None:
    compared(exported(narrow("cogvideox")), tmp_path, "--clip", clip)


def test_what_is_refused(clip: Path, tmp_path: Path) -> None:
    asked = "--against", "diffusers", "--clip"
    done = run_export("verify", "tiny-kl-16chn", *asked, clip)
    assert done.exit_code == 1
    assert "diffusers has no implementation of VidTok" in done.stderr
    assert done.stderr.count("\n") == 1
    done = run_export("verify", KIT / "wan-causal", *asked, tmp_path / "no.mp4")
    assert done.exit_code == 1
    assert "no.mp4" in done.stderr
    assert run_export("verify", "tiny-kl-16chn", *asked[:2]).exit_code == 2
    assert run_export("verify", "tiny-kl-16chn", "--clip", clip).exit_code == 2
    assert run_export("verify", "tiny-kl-16chn", "--against", "nothing", "--clip", clip).exit_code == 2
