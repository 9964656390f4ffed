"""`vidtok-run dataset`: many clips, killed and resumed, sharded, packed and indexed."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from vidtok_runtime.cli import main
from vidtok_runtime.dataset.clips import Clip, Piece, list_clips, parse_shard, token_names
from vidtok_runtime.dataset.local import LocalEngine
from vidtok_runtime.dataset.worker import Job, Recipe
from vidtok_runtime.errors import InputError, ProviderError
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens import Tokens
from vidtok_runtime.video_out import VideoWriter

OPTIONS = ("--provider", "cpu", "--threads", "1", "--quiet")  # the last bits of latents depend on the threads


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


def dataset(*args: object) -> Result:
    return run("dataset", *args, *OPTIONS)


def content(folder: Path) -> dict[str, bytes]:
    """Files of a data set, all but the ledgers, whose lines come in any order."""
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("ledger"))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def records(folder: Path, kind: str) -> list[dict[str, object]]:
    lines = [line for path in folder.glob("ledger*.jsonl") for line in path.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if kind in record]


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    result = dataset(source, out, "--workers", 2)
    assert result.exit_code == 0, result.output
    return out


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


def test_ctrl_c(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    (tmp_path / "list.txt").write_text(f"{source / 'b.mp4'}\n{pipe}\n")
    command = [sys.executable, "-m", "vidtok_runtime.cli", "dataset", str(tmp_path / "list.txt"), str(out), *OPTIONS]
    process = subprocess.Popen(
        [*command, "--workers", "1"],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )
    while not records(out, "done"):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert not list(out.rglob("*.part"))


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


def test_what_a_kill_leaves_behind(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert dataset(source, out, "--workers", 1).exit_code == 0
    ledger = out / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    done = [json.loads(line)["file"] for line in lines if line.startswith(b'{"done"')]
    # Of the last three clips one has no record, one has half a record and half a file, one has nothing.
    ledger.write_bytes(b"".join(lines[:-3]) + lines[-2][:20])
    written = (out / done[-3]).stat()
    (out / done[-2]).rename(out / f"{done[-2]}.4711.part")
    (out / done[-1]).unlink()
    (out / "index.parquet").unlink(missing_ok=True)
    assert dataset(source, out).exit_code == 0
    assert content(out) == content(undisturbed)
    assert (out / done[-3]).stat() == written  # it was whole and is taken as it is
    assert max(Counter(str(r["done"]) for r in records(out, "done")).values()) == 1
    # What is lost or altered later is done again: at once if its size tells, else when the hashes are asked for.
    (out / done[0]).write_bytes(b"short")
    changed = bytearray((out / done[1]).read_bytes())
    changed[-1] ^= 1
    (out / done[1]).write_bytes(changed)
    assert dataset(source, out).exit_code == 0
    different = {name for name, data in content(out).items() if data != content(undisturbed)[name]}
    assert different == {done[1]}
    assert dataset(source, out, "--verify").exit_code == 0
    assert content(out) == content(undisturbed)


def test_killed_and_resumed(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vidtok_runtime.cli", "dataset", str(source), str(out), *OPTIONS]
    for whole_group in (True, False):  # or the parent alone
        process = subprocess.Popen(command, start_new_session=True)
        before = len(records(out, "done"))
        while len(records(out, "done")) <= before and process.poll() is None:
            time.sleep(0.01)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert content(out) == content(undisturbed)
    assert Counter(str(r["done"]) for r in records(out, "done")) == Counter(c.name for c in list_clips(source))


def tiny() -> Tokenizer:
    return Tokenizer(provider="cpu", threads=1)


def no_tokenizer() -> Tokenizer:
    raise ProviderError("no engine today")


def dying_tokenizer() -> Tokenizer:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def jobs(source: Path, tmp_path: Path) -> Sequence[Job]:
    """A clip that never comes, and two others."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    return [Job(p.name, str(p), tmp_path / f"{p.name}.st") for p in (pipe, source / "b.mp4", source / "c.mkv")]


def test_a_clip_that_hangs(source: Path, tmp_path: Path) -> None:
    outcomes = list(LocalEngine(1, time_limit=4).run(Recipe(tiny, {}), jobs(source, tmp_path)))
    assert [(o.clip, o.reason) for o in outcomes] == [
        ("pipe.mp4", "it took longer than 4 s"),
        ("b.mp4", ""),
        ("c.mkv", ""),
    ]
    assert not active_children()


def test_a_worker_that_is_killed(source: Path, tmp_path: Path) -> None:
    work = jobs(source, tmp_path)

    def kill() -> None:
        while True:
            try:
                os.close(os.open(work[0].url, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # nobody reads yet
                time.sleep(0.02)
            else:
                break
        active_children()[0].kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    outcomes = list(LocalEngine(1).run(Recipe(tiny, {}), work))
    killer.join()
    assert outcomes[0].clip == "pipe.mp4"
    assert outcomes[0].facts is None
    assert [o.facts is not None for o in outcomes] == [False, True, True]


def test_workers_that_cannot_start(source: Path, tmp_path: Path) -> None:
    work = [Job("b.mp4", str(source / "b.mp4"), tmp_path / "b.st")]
    with pytest.raises(ProviderError, match="no engine today"):
        list(LocalEngine(2).run(Recipe(no_tokenizer, {}), work))
    with pytest.raises(ProviderError, match="a worker died while it loaded the bundle: signal 9"):
        list(LocalEngine(2).run(Recipe(dying_tokenizer, {}), work))


def test_a_full_disk_ends_the_run(source: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX systems limit the size of a file")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vidtok_runtime.cli", "dataset", str(source), str(out), *OPTIONS]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (3000, 3000))
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not [name for name in content(out) if name.endswith((".part", "quarantine.csv"))]
    assert dataset(source, out).exit_code == 0


def test_parts_of_a_data_set(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for i in range(3):
        assert dataset(source, out, "--shard", f"{i}/3", "--workers", 1).exit_code == 0
    files = content(out)
    whole = {k: v for k, v in content(undisturbed).items() if k != "index.parquet"}
    assert {k: v for k, v in files.items() if not k.startswith("index")} == whole
    ledgers = {p.name: p.read_bytes() for p in out.glob("ledger-*")}
    assert dataset(source, out).exit_code == 0  # in one piece now: all of it is known to be done
    assert {p.name: p.read_bytes() for p in out.glob("ledger-*")} == ledgers
    assert not records(out, "failed")
    assert len(records(out, "done")) == 7


def shard_of(source: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, member in (("b.mp4", "000.mp4"), ("b.txt", "000.txt"), ("b.json", "000.json"), ("c.mkv", "001.mkv")):
            tar.add(source / name, f"x/{member}")
    return path


def test_shards_in(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shard_of(source, folder / "s-0.tar")
    (folder / "also.mp4").write_bytes((source / "a.mp4").read_bytes())
    clips = list_clips(folder)
    assert [clip.name for clip in clips] == ["also.mp4", "s-0/x/000.mp4", "s-0/x/001.mkv"]
    assert clips[1].metadata() == list_clips(source)[2].metadata()
    out = tmp_path / "out"
    assert dataset(folder, out, "--workers", 1).exit_code == 0
    assert (out / "s-0/x/000.safetensors").read_bytes() == (undisturbed / "b.safetensors").read_bytes()
    assert (out / "s-0/x/001.safetensors").read_bytes() == (undisturbed / "c.safetensors").read_bytes()


def test_tars_out(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    clips = tmp_path / "in"
    clips.mkdir()
    for path in source.glob("*.*"):
        (clips / path.name).write_bytes(path.read_bytes())
    good = (clips / "c.mkv").read_bytes()
    (clips / "c.mkv").write_bytes(good[:100])
    out = tmp_path / "out"
    assert dataset(clips, out, "--tar", 3, "--workers", 2).exit_code == 1
    tars = ["tokens-000000.tar", "tokens-000001.tar"]
    assert sorted(n for n in content(out) if "index" not in n) == ["quarantine.csv", tars[0]]
    (clips / "c.mkv").write_bytes(good)
    assert dataset(clips, out, "--tar", 3, "--again").exit_code == 0
    packed = content(out)
    assert sorted(n for n in packed if "index" not in n) == tars
    with tarfile.open(out / tars[0]) as tar:
        names = tar.getnames()
        assert names == [f"{i:09d}.{s}" for i in range(3) for s in ("json", "safetensors")]
        facts = json.load(tar.extractfile(names[4]) or io.BytesIO())
        tokens = (tar.extractfile(names[5]) or io.BytesIO()).read()
    assert (facts["clip"], facts["caption"], facts["frames"]) == ("b.mp4", "a caption, with a comma", 7)
    assert tokens == (undisturbed / "b.safetensors").read_bytes()
    # Killed when a tar was there, but neither recorded nor its clips' own files removed; another tar was lost.
    ledger = out / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(line for line in lines if tars[0] not in line))
    for name, original in (("a.mov", "a.mov"), ("a.mp4", "a.mp4"), ("b", "b")):
        (out / "waiting").mkdir(exist_ok=True)
        (out / f"waiting/{name}.safetensors").write_bytes((undisturbed / f"{original}.safetensors").read_bytes())
    (out / tars[1]).unlink()
    assert dataset(clips, out, "--tar", 3).exit_code == 0
    assert content(out) == packed
    assert not (out / "waiting").exists()
    other = dataset(clips, out, "--tar", 2)
    assert other.exit_code == 1
    assert "was begun with clips a tar 3, not 2" in other.stderr


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
        clips = [Clip(name, Piece(Path(name))) for name in names]
        return list(token_names(clips, planned or {}).values())

    assert named("a.mp4", "d/a.mov") == ["a.safetensors", "d/a.safetensors"]
    assert named("a.mp4", "a.mp4.mov", "a.mov") == [f"{n}.safetensors" for n in ("a.mp4", "a.mp4.mov", "a.mov")]
    early = {"a.mp4": "a.safetensors"}
    assert named("a.mov", "a.mp4", planned=early) == ["a.mov.safetensors", "a.safetensors"]
    assert named("a.mov", planned=early) == ["a.mov.safetensors"]


def test_a_shard_that_leads_out(tmp_path: Path) -> None:
    for name in ("../x.mp4", "/x.mp4"):
        with tarfile.open(tmp_path / "s.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        with pytest.raises(InputError, match="leads out of its folder"):
            list_clips(tmp_path / "s.tar")
