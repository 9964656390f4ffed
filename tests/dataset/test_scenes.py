"""`dataset --scenes`: clips cut where shots change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_runs import dataset, records
from video_files import lossless

from vidtok_runtime.tokens.tokens import Tokens

pytest.importorskip("scenedetect", reason="scenes need the extra `scenes`")


def shots(path: Path, *lengths: int) -> Path:
    """Shots of still noise, which differ from each other."""
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in lengths]
    return lossless(path, [picture for picture, count in zip(pictures, lengths, strict=True) for _ in range(count)])


def test_each_shot_becomes_a_clip(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shots(tmp_path / "in/a.mkv", 20, 25, 30)
    shots(tmp_path / "in/b.mkv", 12)
    (tmp_path / "in/a.txt").write_text("a caption")
    (tmp_path / "in/c.mp4").write_text("no video")
    out = tmp_path / "out"
    result = dataset(tmp_path / "in", out, "--scenes", "--workers", 1, "--retries", 0)
    assert result.exit_code == 1, result.output
    assert "1 of 5 clips could not be tokenized" in result.stderr
    lengths = {path.name: Tokens.load(path).num_frames for path in sorted(out.glob("*.safetensors"))}
    assert lengths == {
        "a@0-0.8.safetensors": 20,
        "a@0.8-1.8.safetensors": 25,
        "a@1.8-.safetensors": 30,
        "b.safetensors": 12,
    }
    assert {str(r["cut"]): r["at"] for r in records(out, "cut")} == {"a.mkv": ["4/5", "9/5"], "b.mkv": [], "c.mp4": []}
    parquet = pytest.importorskip("pyarrow.parquet", reason="the index needs the extra `dataset`")
    rows = {row["clip"]: row for row in parquet.read_table(out / "index.parquet").to_pylist()}
    row = rows["a@0.8-1.8.mkv"]
    assert (row["source"], row["scene"], row["cuts"]) == ("a.mkv", "1", "0.800000 1.800000")
    assert (row["start"], row["end"], row["caption"]) == ("0.800000", "1.800000", "a caption")
    other = dataset(tmp_path / "in", out)
    assert "was begun with scenes True, not None" in other.stderr


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "scenedetect" else found(name, *a)
    )
    lossless(tmp_path / "a.mkv", [np.zeros((16, 16, 3), np.uint8)])
    result = dataset(tmp_path, tmp_path / "out", "--scenes")
    assert result.exit_code == 1
    assert "--scenes needs PySceneDetect; pip install 'vidtok-onnx[scenes]'" in result.stderr
