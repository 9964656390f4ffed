"""The notebook and the examples of the documentation."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vidtok_runtime import Tokenizer, Tokens
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, fsq: Tokenizer) -> Path:
    """Token files of 13, 17 and 21 frames in groups of two latents, and one that is too short."""
    folder = tmp_path_factory.mktemp("tokens")
    for i, count in enumerate((13, 17, 21, 2)):
        fsq.encode(_frames(count, 30 * i), gop=2).save(folder / f"{i}.safetensors")
    return folder


def test_windows_are_parts_of_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _example("token_windows", monkeypatch)
    windows = module.TokenWindows(folder, latents=3)
    assert len(windows) == 3
    torch.manual_seed(0)
    starts = set()
    for _ in range(6):
        for batch in DataLoader(windows, batch_size=2, shuffle=True):
            for tokens, file, start in zip(batch["tokens"], batch["file"], batch["start"], strict=True):
                whole = Tokens.load(windows.readers[file].path).data
                assert torch.equal(tokens, torch.from_numpy(whole[start : start + 3]).long())
                assert start % 2 == 0  # groups
                starts.add((int(file), int(start)))
    assert len(starts) > 3  # not always the same


def test_latents_have_their_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _example("token_windows", monkeypatch)
    tokens = Tokenizer("tiny-kl-16chn", provider="cpu", threads=1).encode(_frames(9))
    tokens.save(tmp_path / "kl.safetensors")
    sample = module.TokenWindows(tmp_path, latents=2).window(0, 1)
    assert sample["tokens"].dtype == torch.float32
    assert np.array_equal(sample["tokens"].numpy(), tokens.data[1:3].transpose(1, 0, 2, 3))


@pytest.mark.parametrize("workers", [0, 2])
def test_stream_gives_each_file_to_one_worker_of_one_rank(
    folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    module = _example("token_windows", monkeypatch)
    seen: Counter[tuple[int, int]] = Counter()
    for rank in (0, 1):
        stream = module.TokenStream(folder, latents=2, rank=rank, world=2)
        stream.set_epoch(3)
        for sample in DataLoader(stream, batch_size=None, num_workers=workers):
            seen[sample["file"], sample["start"]] += 1
    lengths = [reader.shape[0] for reader in stream.windows.readers]
    assert set(seen.values()) == {1}
    assert {file for file, _ in seen} == set(range(len(lengths)))
    for file, length in enumerate(lengths):
        starts = sorted(start for f, start in seen if f == file)
        assert np.all(np.diff(starts) >= 2)
        assert starts[0] <= 2
        assert starts[-1] + 2 <= length


def test_a_window_decodes_to_its_frames(folder: Path, fsq: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _example("token_windows", monkeypatch)
    tokens = Tokens.load(folder / "1.safetensors")
    whole = fsq.decode(tokens)
    for start, expected in ((0, (0, 5)), (2, (5, 10)), (3, (6, 15)), (6, (15, 17))):
        count = 3 if start == 3 else 2
        assert module.frame_range(tokens.info, start, count) == expected
        assert np.array_equal(fsq.decode(tokens.slice(*expected)), whole[slice(*expected)])
    ungrouped = fsq.encode(_frames(11)).info
    assert module.frame_range(ungrouped, 0, 1) == (0, 1)
    assert module.frame_range(ungrouped, 2, 2) == (5, 11)


def test_windows_refuse_what_does_not_fit_together(
    folder: Path, fsq: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = _example("token_windows", monkeypatch)
    with pytest.raises(ValueError, match="none with 99 latents"):
        module.TokenWindows(folder, latents=99)
    fsq.encode(_frames(5)).save(tmp_path / "a.safetensors")
    fsq.encode(_frames(5, height=64)).save(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="several sizes"):
        module.TokenWindows(tmp_path, latents=1)


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


def test_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    if not all(map(importlib.util.find_spec, ("nbclient", "ipykernel"))):
        pytest.skip("nbclient and ipykernel are not installed (the extra dev)")
    import nbformat

    notebook = nbformat.read(DOCS / "notebook/tour.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)  # committed without results
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
