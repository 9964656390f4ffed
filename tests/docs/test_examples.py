"""The notebook and the examples of the documentation."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from vidtok_runtime import Tokenizer
from vidtok_runtime.tools.demo import synthetic_frame

DOCS = Path(__file__).parents[2] / "docs"


def _example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    return importlib.import_module(name)


def _frames(count: int, first: int = 0, height: int = 32, width: int = 48) -> np.ndarray:
    return np.stack([synthetic_frame(first + i, height, width) for i in range(count)])


@pytest.fixture(scope="module")
def fsq() -> Tokenizer:
    return Tokenizer("tiny-fsq-32768", provider="cpu", threads=1)


def test_adapter_gives_what_the_runtime_gives(fsq: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _example("diffusers_adapter", monkeypatch)
    vae = module.VidTokAutoencoder("tiny-kl-16chn", scaling_factor=0.5, provider="cpu", threads=1)
    config = vae.config
    assert (config.latent_channels, config.scaling_factor) == (16, 0.5)
    assert (config.temporal_compression_ratio, config.spatial_compression_ratio) == (4, 8)
    clips = torch.from_numpy(np.stack([_frames(9), _frames(9, 40)])).movedim(-1, 1) / 127.5 - 1
    latents = vae.encode(clips).latents
    assert latents.shape == (2, 16, 3, 4, 6)
    tok = Tokenizer("tiny-kl-16chn", provider="cpu", threads=1)
    tokens = tok.encode(_frames(9, 40))
    assert np.allclose(latents[1].numpy(), tokens.data.transpose(1, 0, 2, 3), atol=1e-5)
    decoded = vae.decode(latents).sample
    assert decoded.shape == clips.shape
    expected = torch.from_numpy(tok.decode(tokens, dtype="float32")).movedim(-1, 0)
    assert torch.allclose(decoded[1], expected, atol=1e-4)
    assert vae.decode(latents, num_frames=6).sample.shape[2] == 6
    assert vae.encode(clips.half()).latents.dtype == torch.float16
    with pytest.raises(ValueError, match="give a KL bundle"):
        module.VidTokAutoencoder("tiny-fsq-32768", provider="cpu")


def test_notebook_is_without_results_and_imports_what_is_there() -> None:
    cells = [c for c in json.loads((DOCS / "notebook/tour.ipynb").read_text())["cells"] if c["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    statements = [node for cell in cells for node in ast.parse("".join(cell["source"])).body]
    imports = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    assert any(isinstance(node, ast.ImportFrom) and node.module == "vidtok_runtime" for node in imports)
    exec(compile(ast.Module(imports, []), "tour.ipynb", "exec"), {})


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    if not all(map(importlib.util.find_spec, ("nbclient", "ipykernel"))):
        pytest.skip("nbclient and ipykernel are not installed (the extra dev)")
    import nbformat

    shutil.copy(DOCS / "notebook/tour.ipynb", tmp_path)
    command = [
        sys.executable,
        "-c",
        "from nbclient.cli import main; main()",
        "--inplace",
        "--timeout=300",
        "tour.ipynb",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    cells = [c for c in nbformat.read(tmp_path / "tour.ipynb", as_version=4).cells if c.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 4
