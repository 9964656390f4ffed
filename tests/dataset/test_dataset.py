"""`vidtok-run dataset`: folders and lists, index, names, what is refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run
from dataset_runs import OPTIONS, content, dataset

from vidtok_runtime.dataset.clips import ClipEntry, Piece, parse_shard, token_names
from vidtok_runtime.tokens.tokens import Tokens


def test_a_folder(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    tokens = {name for name in content(undisturbed) if name.endswith(".safetensors")}
    assert tokens == {
        "a.mp4.safetensors",  # two clips of one stem keep their suffix
        "a.mov.safetensors",
        "b.safetensors",
        "c.safetensors",
        "deep/a.safetensors",
        "deep/d.safetensors",
        "deep/er/e.safetensors",
    }
    one = tmp_path / "one.safetensors"
    assert run("encode", source / "c.mkv", "-o", one, *OPTIONS).exit_code == 0
    assert one.read_bytes() == (undisturbed / "c.safetensors").read_bytes()
    before = (undisturbed / "ledger.jsonl").read_bytes()
    again = dataset(source, undisturbed)
    assert again.exit_code == 0, again.output
    assert (undisturbed / "ledger.jsonl").read_bytes() == before  # nothing was done twice


def test_the_index(undisturbed: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the index needs the extra `dataset`")
    rows = {row["clip"]: row for row in parquet.read_table(undisturbed / "index.parquet").to_pylist()}
    assert list(rows) == ["a.mov", "a.mp4", "b.mp4", "c.mkv", "deep/a.mp4", "deep/d.mp4", "deep/er/e.mp4"]
    row = rows["b.mp4"]
    assert (row["caption"], row["licence"], row["score"]) == ("a caption, with a comma", "CC0", "3")
    assert (row["width"], row["given_width"], row["frames"]) == (32, "wide", 7)
    assert rows["c.mkv"]["caption"] is None
    assert Tokens.load(undisturbed / row["file"]).num_frames == 7


def test_without_the_extra(source: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "out")
    (out / "index.parquet").unlink(missing_ok=True)
    found = importlib.util.find_spec
    absent = ("pyarrow", "ray")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in absent else found(name, *a))
    result = dataset(source, out)
    assert result.exit_code == 0, result.output
    assert "no index.parquet: pyarrow is not installed; pip install 'vidtok-onnx[dataset]'" in result.stderr
    result = dataset(source, out, "--engine", "ray")
    assert result.exit_code == 1
    assert "Ray Data is not installed; pip install 'vidtok-onnx[ray]'" in result.stderr


def test_a_list_and_what_fails(source: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    table = tmp_path / "list.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("file", "caption"),
                (source / "b.mp4", "seen from above"),
                ("bad.mp4", ""),
                (os.path.relpath(source / "c.mkv", tmp_path), ""),
                ("absent.mp4", ""),
            ]
        )
    out = tmp_path / "out"
    result = dataset(table, out, "--workers", 1)
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "error" in line] == [
        f"vidtok-run: error: 2 of 4 clips could not be tokenized; {out}/quarantine.csv says why, "
        "--again tries them again"
    ]
    failures = list(csv.DictReader((out / "quarantine.csv").open()))
    assert [(f["clip"], f["tries"]) for f in failures] == [("bad.mp4", "2"), ("absent.mp4", "2")]
    assert "cannot be opened as a video" in failures[0]["reason"]
    for name in ("b", "c"):
        assert (out / source.relative_to("/") / f"{name}.safetensors").is_file()
    # What is repaired is taken when that is asked for.
    (tmp_path / "bad.mp4").write_bytes((source / "a.mp4").read_bytes())
    (tmp_path / "absent.mp4").write_bytes((source / "a.mp4").read_bytes())
    assert dataset(table, out).exit_code == 1
    assert not (out / "bad.safetensors").exists()
    assert dataset(table, out, "--again").exit_code == 0
    assert (out / "bad.safetensors").is_file()
    assert not (out / "quarantine.csv").exists()


def test_outputs_are_safe(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.safetensors").write_text("precious")
    refused = dataset(source, out)
    assert refused.exit_code == 1
    assert "b.safetensors exists already and is not of this data set" in refused.stderr
    assert dataset(source, out).exit_code == 1  # not the second time, either
    assert (out / "b.safetensors").read_text() == "precious"
    (out / "b.safetensors").unlink()
    assert dataset(source, out).exit_code == 0
    other = dataset(source, out, "--size", 16)
    assert other.exit_code == 1
    assert "was begun with size None, not 16" in other.stderr
    command = [sys.executable, "-m", "vidtok_runtime.cli", "dataset", str(source), str(out), *OPTIONS]
    import fcntl

    with (out / "ledger.jsonl").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "in use by another run" in second.stderr
    with (out / "ledger.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n")
    damaged = dataset(source, out)
    assert damaged.exit_code == 1
    assert "ledger.jsonl is damaged in line" in damaged.stderr


def test_bad_calls(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("path\nx.mp4\n")
    (tmp_path / "twice.txt").write_text("x.mp4\n\n./x.mp4\n")
    (tmp_path / "no.tar").write_text("no tar")
    for place, message in (
        ("empty", "holds no clips"),
        ("list.csv", "no column `file`; its columns are path"),
        ("twice.txt", "names x.mp4 2 times"),
        ("no.tar", "no plain tar file"),
    ):
        result = dataset(tmp_path / place, tmp_path / "out")
        assert result.exit_code == 1, result.output
        assert message in result.stderr
    assert dataset(source, tmp_path / "out", "--shard", "3/3").exit_code == 2
    assert dataset(tmp_path / "absent", tmp_path / "out").exit_code == 2
    assert not (tmp_path / "out").exists()
    assert parse_shard("2/3") == (2, 3)


def test_names_of_token_files() -> None:
    def named(*names: str, planned: dict[str, str] | None = None) -> list[str]:
        clips = [ClipEntry(name, Piece(Path(name))) for name in names]
        return list(token_names(clips, planned or {}).values())

    assert named("a.mp4", "d/a.mov") == ["a.safetensors", "d/a.safetensors"]
    assert named("a.mp4", "a.mp4.mov", "a.mov") == [f"{n}.safetensors" for n in ("a.mp4", "a.mp4.mov", "a.mov")]
    early = {"a.mp4": "a.safetensors"}
    assert named("a.mov", "a.mp4", planned=early) == ["a.mov.safetensors", "a.safetensors"]
    assert named("a.mov", planned=early) == ["a.mov.safetensors"]


def test_progress_for_programs(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "out")
    metrics = tmp_path / "vidtok.prom"
    options = [option for option in OPTIONS if option != "--quiet"]
    for _ in range(2):
        result = run("dataset", source, out, *options, "--progress", "json", "--metrics", metrics)
        assert result.exit_code == 0, result.output
    (line,) = map(json.loads, result.stderr.splitlines())
    assert (line["clips"], line["done"], line["done_now"], line["quarantined"], line["frames"]) == (7, 7, 0, 0, 0)
    values = dict(line.split() for line in metrics.read_text().splitlines() if not line.startswith("#"))
    assert (values["vidtok_dataset_clips"], values["vidtok_dataset_done"]) == ("7", "7")
    (out / "b.safetensors").unlink()
    result = run("dataset", source, out, *options, "--progress", "json", "--metrics", metrics)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert [(line["done"], line["frames"] > 0) for line in lines] == [(6, False), (7, True)]
