"""`verify --against`: a bundle beside the release's own implementation with the same weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import run_export
from narrow import narrow
from onnx import numpy_helper

from vidtok_ref import VideoTokenizer

KIT = Path(__file__).parents[1] / "conformance/kit"


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


@pytest.mark.parametrize("name", ["cogvideox", "wan-2.2"])
def test_the_release_with_the_same_weights(
    exported: Callable[[VideoTokenizer], Path], clip: Path, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("diffusers")
    bundle = exported(narrow(name))
    for frames, size in ((11, "26x18"), (1, "16")):
        done = run_export(
            "verify", bundle, "--against", "diffusers", "--clip", clip, "--frames", frames, "--size", size
        )
        assert done.exit_code == 0, done.output
        assert done.output.count("passed") == 2
    wrong = run_export("verify", altered(bundle, tmp_path / "altered"), "--against", "diffusers", "--clip", clip)
    assert wrong.exit_code == 1
    assert wrong.stdout.count("FAILED") == 2
    assert "does not compute what diffusers does on cpu, openvino" in wrong.stderr


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
