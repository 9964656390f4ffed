"""`dataset --scenes`: clips cut where shots change."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from dataset_runs import content, dataset, records
from video_files import lossless

from vidtok_runtime.dataset.clips import ClipEntry, Piece
from vidtok_runtime.dataset.job import EncodeRecipe, Job
from vidtok_runtime.dataset.ledger import Ledger
from vidtok_runtime.dataset.part import WHOLE, ClipPart
from vidtok_runtime.dataset.plan import DatasetPlan
from vidtok_runtime.dataset.scenes import cut_at_scenes
from vidtok_runtime.errors import VideoError
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.tokens import Tokens
from vidtok_runtime.video.selection import Selection

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
    assert {str(r["cut"]): r["at"] for r in records(out, "cut")} == {"a.mkv": ["4/5", "9/5"], "b.mkv": []}
    (failure,) = csv.DictReader((out / "quarantine.csv").open())
    assert (failure["clip"], failure["tries"]) == ("c.mp4", "1")
    assert "c.mp4 cannot be opened as a video" in failure["reason"]
    parquet = pytest.importorskip("pyarrow.parquet", reason="the index needs the extra `dataset`")
    rows = {row["clip"]: row for row in parquet.read_table(out / "index.parquet").to_pylist()}
    row = rows["a@0.8-1.8.mkv"]
    assert (row["source"], row["scene"], row["cuts"]) == ("a.mkv", "1", "0.800000 1.800000")
    assert (row["start"], row["end"], row["caption"]) == ("0.800000", "1.800000", "a caption")
    other = dataset(tmp_path / "in", out)
    assert "was begun with scenes True, not None" in other.stderr


def test_a_clip_that_can_be_read_later_is_cut_then(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.mkv").write_text("no video")
    for _ in range(2):  # there is no other clip to go on with
        assert "1 of 1 clips could not be tokenized" in dataset(folder, out, "--scenes").stderr
    shots(tmp_path / "good.mkv", 20, 25).replace(folder / "a.mkv")
    assert "1 of 1 clips could not be tokenized" in dataset(folder, out, "--scenes").stderr
    result = dataset(folder, out, "--scenes", "--again")
    assert result.exit_code == 0, result.output
    assert sorted(content(out)) == ["a@0-0.8.safetensors", "a@0.8-.safetensors", "index.parquet"]


def cut(
    monkeypatch: pytest.MonkeyPatch,
    found: Mapping[str, list[int] | Exception],
    ledger: Ledger,
    plan: DatasetPlan | None = None,
    part: ClipPart = WHOLE,
    selection: Selection | None = None,
) -> dict[str, ClipEntry]:
    """Shots by name of clips in which these cuts are found."""

    def find(job: Job, recipe: EncodeRecipe) -> list[Fraction]:
        cuts = found[job.clip]
        if isinstance(cuts, Exception):
            raise cuts
        return list(map(Fraction, cuts))

    monkeypatch.setattr("vidtok_runtime.dataset.scenes.find_cuts", find)
    keyed = {name: ClipEntry(name, Piece(Path(name)), {"scene": "of the list"}, part=part) for name in found}
    recipe = EncodeRecipe(Tokenizer, {"selection": selection or Selection()})
    shots = cut_at_scenes(keyed, ledger, recipe, Path(), plan or DatasetPlan(), quiet=True)
    return {shot.name: shot for shot in shots.values()}


def test_a_clip_that_is_cut_later_moves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which shots share a tar follows from their order."""
    ledger = Ledger(tmp_path, "", {})
    first = cut(monkeypatch, {"a.mp4": [1], "b.mp4": VideoError("no answer"), "c.mp4": [2]}, ledger)
    assert [(name, shot.fault) for name, shot in first.items()] == [
        *((name, "") for name in ("a@0-1.mp4", "a@1-.mp4", "c@0-2.mp4", "c@2-.mp4")),
        ("b.mp4", "no answer"),
    ]
    later = {"a.mp4": [9], "b.mp4": [3], "c.mp4": [9]}
    assert list(cut(monkeypatch, later, ledger)) == list(first)
    second = list(cut(monkeypatch, later, ledger, DatasetPlan(again=True)))
    assert second == [*list(first)[:-1], "b@0-3.mp4", "b@3-.mp4"]
    ledger.close()
    again = Ledger(tmp_path, "", {})
    assert list(cut(monkeypatch, later, again)) == second
    assert not again.failed
    again.close()


def test_shots_of_what_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path, "", {})
    options = Selection(start=Fraction(2), end=Fraction(7))
    found = {"a.mp4": [1, 3, 5, 8], "b.mp4": [8]}
    shots = cut(monkeypatch, found, ledger, selection=options)
    assert list(shots) == ["a@2-3.mp4", "a@3-5.mp4", "a@5-7.mp4", "b.mp4"]
    assert shots["a@2-3.mp4"].shot["cuts"] == "3.000000 5.000000"
    assert list(cut(monkeypatch, found, ledger, part=ClipPart(start="4"), selection=options))[:2] == [
        "a@4-5.mp4",
        "a@5-7.mp4",
    ]
    ledger.close()


def test_notes_beside_a_shot_do_not_pass_for_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "a.json"
    note.write_text('{"scene": "kitchen", "cuts": 7, "title": "x"}')
    ledger = Ledger(tmp_path, "", {})
    shot = replace(cut(monkeypatch, {"a.mp4": [1]}, ledger)["a@1-.mp4"], notes={".json": Piece(note)})
    found, faults = shot.metadata()
    assert not faults
    assert (found["scene"], found["cuts"], found["title"]) == ("1", "1.000000", "x")
    assert (found["given_scene"], found["given_cuts"]) == ("kitchen", "7")
    ledger.close()


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
