"""Clips and tokens in stores: S3 on the loopback, and memory://."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from commands import run
from dataset_runs import OPTIONS, content, dataset

if importlib.util.find_spec("s3fs") is None or importlib.util.find_spec("moto") is None:
    pytest.skip("stores need s3fs and moto; pip install -e '.[dev]'", allow_module_level=True)

from s3_server import BUCKET, Request, S3Server, s3_server
from video_files import make

from vidtok_runtime.dataset.clips import list_clips
from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Outcome
from vidtok_runtime.dataset.journal import ObjectJournal
from vidtok_runtime.dataset.ledger import Ledger
from vidtok_runtime.dataset.plan import DatasetPlan
from vidtok_runtime.dataset.run import tokenize_dataset
from vidtok_runtime.dataset.worker import Worker
from vidtok_runtime.errors import OutputError
from vidtok_runtime.files import PartFile
from vidtok_runtime.remote import RemotePath, is_remote, place_of
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.tokens import Tokens
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection

ROOT = f"s3://{BUCKET}"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _calm(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nobody steps in any more."""
    yield
    if "s3" in request.fixturenames:
        server = request.getfixturevalue("s3")
        server.before = server.after = lambda _: None
        server.denied = lambda _: False


class Here:
    """Runs jobs in this process, where memory:// is; the worker is kept."""

    worker: Worker | None = None

    def run(self, recipe: EncodeRecipe, batches: Sequence[Batch]) -> Generator[Outcome]:
        Here.worker = Here.worker or Worker(recipe)
        for batch in batches:
            yield from Here.worker.attempt(batch)


RECIPE = EncodeRecipe(lambda: Tokenizer(provider="cpu", threads=1), {})


def tokenize(place: Path | RemotePath, out: Path | RemotePath, plan: DatasetPlan | None = None) -> dict[str, bytes]:
    """The files of the data set, without its ledgers."""
    tokenize_dataset(place, out, RECIPE, Here(), {"name": "x"}, plan, quiet=True)
    return held(out)


def held(out: Path | RemotePath) -> dict[str, bytes]:
    if isinstance(out, Path):
        return content(out)
    names = {str(path.relative_to(out)): path for path in out.files()}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith("ledger")}


def upload(source: Path, target: RemotePath) -> RemotePath:
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source).as_posix()).send(path)
    return target


def test_names() -> None:
    assert is_remote("s3://b/k.mp4")
    assert is_remote("subfile,,start,512,end,600,,:s3://b/k.tar")
    assert not any(map(is_remote, ("rtsp://host/a", "https://host/a.mp4", "clip.mp4", "file:///a", "a:b")))
    signed = place_of("https://host/a/b.mp4?key=1&x=a.tar")
    assert isinstance(signed, RemotePath)
    assert (signed.name, signed.suffix, str(signed.path)) == ("b.mp4", ".mp4", "host/a/b.mp4")
    part = RemotePath("s3://b/k.tar", 512, 88)
    assert RemotePath.parse(str(part)) == part
    assert RemotePath("s3://b/d/") / "x.mp4" == RemotePath("s3://b/d/x.mp4")
    assert RemotePath("s3://b/d/x.mp4").with_suffix(".txt") == RemotePath("s3://b/d/x.txt")


def test_a_data_set_from_s3_to_s3(s3: S3Server, source: Path, undisturbed: Path) -> None:
    place, out = upload(source, RemotePath(f"{ROOT}/in")), RemotePath(f"{ROOT}/out")
    done = dataset(place, out, "--workers", 1)
    assert done.exit_code == 0, (done.output, held(out).get("quarantine.csv"))
    assert held(out) == content(undisturbed)
    s3.requests.clear()
    again = dataset(place, out)
    assert again.exit_code == 0, again.output
    assert not [
        r for r in s3.requests if r.writes and not r.path.startswith(("/clips/out/index", "/clips/out/quarantine"))
    ]
    other = dataset(place, out, "--size", 16)
    assert f"{out} was begun with size None, not 16" in other.stderr


def test_containers_are_read_by_ranges(s3: S3Server, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 96, 96, 3), np.uint8)
    clip = make(tmp_path / "a.mp4", list(noise), options={"g": "20", "qp": "0"})
    size = clip.stat().st_size
    assert size > 5 << 20
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(clip, "x.mp4")
    place = upload(tmp_path, RemotePath(f"{ROOT}/ranges"))
    wanted = Selection(start=Fraction(8), end=Fraction(9))
    with VideoReader(clip, wanted) as reader:
        expected = [frame.pixels for frame in reader]
    (inside,) = [c for c in list_clips(place) if c.name == "a/x.mp4"]
    for source in (place / "a.mp4", RemotePath.parse(inside.piece.url())):
        s3.served = 0
        with VideoReader(source, wanted) as reader:
            found = [frame.pixels for frame in reader]
        assert np.array_equal(found, expected)
        assert 0 < s3.served < size


def test_encode_and_decode(s3: S3Server, source: Path, tmp_path: Path) -> None:
    place = upload(source / "deep", RemotePath(f"{ROOT}/files"))
    tokens, back = f"{ROOT}/files/d.safetensors", f"{ROOT}/files/back.mkv"
    for _ in range(2):
        result = run("encode", place / "d.mp4", "-o", tokens, "--force", *OPTIONS)
        assert result.exit_code == 0, result.output
    assert run("encode", source / "deep/d.mp4", "-o", tmp_path / "d.safetensors", *OPTIONS).exit_code == 0
    assert RemotePath(tokens).read_bytes() == (tmp_path / "d.safetensors").read_bytes()
    result = run("decode", tokens, "-o", back, "--codec", "ffv1", *OPTIONS)
    assert result.exit_code == 0, result.output
    with VideoReader(back) as reader:
        assert len(list(reader)) == Tokens.load(tokens).num_frames
    about = run("info", tokens)
    assert about.exit_code == 0, about.output
    assert f"{Tokens.load(tokens).num_frames} frames of 32x24" in about.output
    assert run("view", tokens, "-o", tmp_path / "d.html", *OPTIONS).exit_code == 0
    exists = run("encode", place / "d.mp4", "-o", tokens, *OPTIONS)
    assert "exists already; give --force to replace it" in exists.stderr


VICTIM = """
import sys
import vidtok_runtime.remote as remote
from vidtok_runtime.files import PartFile
remote._PIECE = 5 << 20
PartFile(sys.argv[1], force=True).write_whole(bytes(12 << 20))
"""
STEPS = [  # of an upload: each is where a kill comes, before the server sees the request or after it has answered it
    pytest.param(2, "before", id="between two pieces"),
    *(
        pytest.param(step, when, marks=pytest.mark.slow)
        for step in range(5)
        for when in ("before", "after")
        if (step, when) != (2, "before")
    ),
]


@pytest.mark.parametrize(("step", "when"), STEPS)
def test_killed_while_sending(s3: S3Server, step: int, when: str, tmp_path: Path) -> None:
    target = RemotePath(f"{ROOT}/big/{step}-{when}")
    target.write_bytes(b"the one before")
    seen = 0

    def kill(asked: Request) -> None:
        nonlocal seen
        if asked.writes and asked.path.endswith(target.name):
            if seen == step:
                victim.send_signal(signal.SIGKILL)
                victim.wait()
            seen += 1

    setattr(s3, when, kill)
    # Where it leaves what it was about to send.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", VICTIM, str(target)]
    victim = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    assert victim.wait() == -signal.SIGKILL
    setattr(s3, when, lambda _: None)
    assert s3.keys()[f"big/{target.name}"] in (b"the one before", bytes(12 << 20))
    subprocess.run(command, check=True, env=environment)  # and the next try succeeds
    assert target.read_bytes() == bytes(12 << 20)


class KilledError(BaseException):
    """What stands for a kill in this process."""


@pytest.mark.parametrize("per_tar", [None, 2])
def test_killed_between_any_two_steps_of_a_store(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_tar: int | None
) -> None:
    plan = DatasetPlan(per_tar=per_tar)
    source = source / "deep"
    expected = tokenize(source, tmp_path / "whole", plan)
    step = steps = 0

    def counted(method: str) -> None:
        inner = getattr(RemotePath, method)

        def call(self: RemotePath, *args: object, **kwargs: object) -> object:
            nonlocal steps
            steps += 1
            if steps == step:
                raise KilledError
            return inner(self, *args, **kwargs)

        monkeypatch.setattr(RemotePath, method, call)

    for method in ("write_bytes", "send", "unlink"):
        counted(method)
    while True:
        step, steps = step + 1, 0
        out = RemotePath(f"memory://killed-{per_tar}-{step}")
        try:
            assert tokenize(source, out, plan) == expected
            break  # there are no more steps
        except KilledError:
            found = held(out)
        whole = {name: data for name, data in found.items() if not name.startswith("waiting")}
        assert whole.items() <= expected.items()
        step, kept = 0, step
        assert tokenize(source, out, plan) == expected
        step = kept
    assert step > len(list_clips(source))


def test_two_runs_in_one_place() -> None:
    out = RemotePath("memory://twice")
    first = Ledger(out, "", {"a": 1})
    second = Ledger(out, "", {"a": 1})
    record = {"planned": "b.mp4", "file": "b.safetensors"}
    second.append(record)
    with pytest.raises(OutputError, match="memory://twice is in use by another run"):
        first.append({"planned": "c.mp4", "file": "c.safetensors"})
    second.append(*({"planned": f"{i}.mp4", "file": f"{i}.safetensors"} for i in range(1000)))
    second.append({"planned": "last.mp4", "file": "last.safetensors"})
    third = Ledger(out, "", {"a": 1})
    assert len(third.planned) == 1002
    assert len(out.files()) == 3
    with pytest.raises(OutputError, match="memory://twice was begun with a 1, not 2"):
        Ledger(out, "", {"a": 2})


def test_a_local_ledger_in_a_store() -> None:
    """A data set that was begun in a folder and copied to a store goes on there."""
    folder = RemotePath("memory://copied")
    (folder / "ledger.jsonl").write_bytes(b'{"a": 1}\n')
    journal = ObjectJournal(folder, "")
    assert [(path.name, own) for path, own, _ in journal.contents()] == [("ledger.jsonl", False)]
    journal.append(b"{}\n")
    assert [path.name for path, _, _ in ObjectJournal(folder, "").contents()] == ["ledger.jsonl", "ledger.000000.jsonl"]
    assert sorted(path.name for path in folder.files()) == ["ledger.000000.jsonl", "ledger.jsonl"]


def test_rows_with_urls_parts_and_streams(source: Path, tmp_path: Path) -> None:
    place = upload(source, RemotePath("memory://rows"))
    two = make(tmp_path / "two.mkv")
    (place / "two.mkv").send(two)
    table = place / "list.csv"
    table.write_bytes(
        b"file,start,end,stream,caption\n"
        b"memory://rows/b.mp4,0,0.08,,x\nb.mp4,0:00.08,,,y\nb.mp4,,,,\ntwo.mkv,,,0,\nc.mkv,1,0.5,,\nc.mkv,now,,,\n"
        + f"file://{two},,,,\nrtsp://host/live,,,,\n".encode()
    )
    out = tmp_path / "out"
    found = tokenize(table, out)
    names = {name for name in found if name.endswith(".safetensors")}
    elsewhere = str(two.with_suffix(".safetensors")).lstrip("/")
    assert names == {
        "b@0-0.08.safetensors",
        "b@0.08-.safetensors",
        "b.safetensors",
        "two@stream0.safetensors",
        elsewhere,
    }
    lengths = [Tokens.load(out / f"{name}.safetensors").num_frames for name in ("b@0-0.08", "b@0.08-", "b")]
    assert (lengths[0] + lengths[1], lengths[0]) == (lengths[2], 2)
    reasons = (out / "quarantine.csv").read_text()
    assert "the end lies behind the start" in reasons
    assert "'now' is no time" in reasons
    assert "is a stream, and lists are of files" in reasons


def message(*args: object) -> str:
    result = run(*args, *OPTIONS)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    (line,) = [line for line in result.stderr.splitlines() if "error" in line]
    return line


def test_what_goes_wrong(s3: S3Server, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = source / "b.mp4"
    absent = "s3://absent/x"
    assert "bucket does not exist" in message("encode", clip, "-o", f"{absent}.safetensors")
    assert "bucket does not exist" in message("dataset", source, absent)
    assert "neither a folder nor a file" in message("dataset", absent, tmp_path / "out")
    assert "cannot be opened as a video" in message("encode", f"{ROOT}/none.mp4", "-o", tmp_path / "x.safetensors")
    assert "outputs go to stores whose objects appear when complete" in message("dataset", source, "https://h/x")
    assert "Protocol not known: nope" in message("dataset", "nope://x", tmp_path / "out")
    s3.denied = lambda asked: True
    for args in (("dataset", source, f"{ROOT}/denied"), ("dataset", f"{ROOT}/in", tmp_path / "out")):
        assert "access is denied" in message(*args)
    assert "access is denied" in message("encode", f"{ROOT}/a.mp4", "-o", tmp_path / "x.safetensors")
    s3.denied = lambda asked: False
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setitem(os.environ, "AWS_MAX_ATTEMPTS", "1")
    assert "check the network" in message("dataset", f"{ROOT}/in", tmp_path / "out")
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "s3:// needs s3fs; pip install 'vidtok-onnx[remote]'" in message("dataset", f"{ROOT}/in", tmp_path / "out")


def test_a_part_that_is_not_sent_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    part = PartFile("memory://parts/a.bin")
    part.open()
    part.write(b"half")
    assert list(tmp_path.iterdir()) == [part.part]
    part.discard()
    assert not list(tmp_path.iterdir())
    PartFile("memory://parts/a.bin").write_whole(b"whole")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="exists already"):
        PartFile("memory://parts/a.bin")
