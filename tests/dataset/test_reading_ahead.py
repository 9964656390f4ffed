"""Readers go on while the engine is busy, up to a bound; the order of frames and whose fault a death is stay known."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe, active_children
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_runs import content, dataset, writer_of

from vidtok_runtime.dataset import processes, team
from vidtok_runtime.dataset.feed import Ahead, receive, send
from vidtok_runtime.dataset.job import EncodeRecipe, Job, Outcome
from vidtok_runtime.dataset.local import LocalEngine
from vidtok_runtime.dataset.reading import ClipFrames, ClipStart, Reading, read_batch
from vidtok_runtime.errors import ProviderError
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.video.selection import Selection

SIZE = (64, 64, 3)
PIECE = ClipFrames(np.zeros((20, *SIZE), np.uint8), range(20))


def job(name: str) -> Job:
    return Job(name, f"{name}.mp4", Path(name))


def begin(name: str) -> ClipStart:
    return ClipStart((job(name),), 8, 8)


def numbered(number: int) -> ClipFrames:
    return ClipFrames(np.full((20, *SIZE), number, np.uint8), [number])


def test_a_reader_runs_ahead_up_to_a_bound() -> None:
    """Nobody takes anything, and what fits is put; with the first that is taken, there is room for one more."""
    here, there = Pipe(duplex=False)
    ahead = Ahead(there, room=3 * PIECE.pixels.nbytes)
    put = threading.Semaphore(0)

    def read() -> None:
        for number in range(12):
            ahead.put(job("a"), numbered(number))
            put.release()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for _ in range(3):
        assert put.acquire(timeout=60)
    assert not put.acquire(timeout=0.3)  # the fourth waits: the pipe itself holds less than a piece
    taken = [receive(here)]
    assert put.acquire(timeout=60)
    drained = threading.Event()
    threading.Thread(target=lambda: (reader.join(), ahead.drain(), drained.set()), daemon=True).start()
    assert not drained.wait(0.1)
    taken += [receive(here) for _ in range(11)]
    assert drained.wait(60)
    assert [int(piece.pixels.max()) for _, piece in taken if isinstance(piece, ClipFrames)] == list(range(12))
    assert [piece.pts for _, piece in taken if isinstance(piece, ClipFrames)] == [[n] for n in range(12)]


def test_one_frame_may_be_larger_than_the_room() -> None:
    here, there = Pipe(duplex=False)
    ahead = Ahead(there, room=1000)
    threading.Thread(target=lambda: [ahead.put(job("a"), numbered(n)) for n in range(3)], daemon=True).start()
    assert [receive(here)[1].pixels.shape for _ in range(3)] == [(20, *SIZE)] * 3  # type: ignore[union-attr]


class FakeWorker:
    """Answers at once, and keeps what it was given."""

    def __init__(self, recipe: EncodeRecipe, say: Callable[[object], None]) -> None:
        self.taken: list[tuple[str, str]] = recipe.encode["taken"]
        self.say = say

    def has_room(self, start: ClipStart) -> bool:
        return True

    def take(self, given: Job, piece: Reading) -> None:
        self.taken.append((given.clip, type(piece).__name__))
        if isinstance(piece, Outcome):
            self.say(piece)


def engine(
    monkeypatch: pytest.MonkeyPatch, feeds: list[Connection], worker: type[FakeWorker] = FakeWorker
) -> tuple[list[tuple[str, str]], list[Any]]:
    """Run an engine until its feeds are at their ends; what it was given, and what it says."""
    monkeypatch.setattr(processes, "Worker", worker)
    monkeypatch.setattr(processes, "_of_its_parent", lambda: None)
    here, there = Pipe()
    taken: list[tuple[str, str]] = []
    processes.serve_engine(there, feeds, EncodeRecipe(Tokenizer, {"taken": taken}))
    there.close()
    said = []
    while here.poll():
        try:
            said.append(here.recv())
        except EOFError:
            break
    return taken, said


def test_a_clip_that_is_begun_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two readers have a clip ready: they do not mix, since the state of each would be held."""
    small = ClipFrames(np.zeros((1, 8, 8, 3), np.uint8), [0])
    feeds = []
    for name in ("a", "b"):
        here, there = Pipe(duplex=False)
        for piece in (begin(name), small, small, Outcome(name)):
            send(there, job(name), piece)
        there.close()
        feeds.append(here)
    taken, said = engine(monkeypatch, feeds)
    kinds = ["ClipStart", "ClipFrames", "ClipFrames", "Outcome"]
    assert taken == [*(("a", kind) for kind in kinds), *(("b", kind) for kind in kinds)]
    assert said == [None, job("a"), Outcome("a"), job("b"), Outcome("b")]


def test_an_engine_that_would_wait_takes_another_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip that is begun stands still; the other one is done meanwhile."""
    slow, slow_end = Pipe(duplex=False)
    fast, fast_end = Pipe(duplex=False)
    send(slow_end, job("slow"), begin("slow"))
    for piece in (begin("fast"), Outcome("fast")):
        send(fast_end, job("fast"), piece)
    fast_end.close()

    class Watched(FakeWorker):
        def take(self, given: Job, piece: Reading) -> None:
            super().take(given, piece)
            if piece == Outcome("fast"):  # only now the slow one goes on
                send(slow_end, job("slow"), Outcome("slow"))
                slow_end.close()

    taken, said = engine(monkeypatch, [slow, fast], Watched)
    assert [clip for clip, _ in taken] == ["slow", "fast", "fast", "slow"]
    assert [s for s in said if isinstance(s, Outcome)] == [Outcome("fast"), Outcome("slow")]


def test_what_reading_finds_is_an_outcome(source: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    recipe = EncodeRecipe(Tokenizer, {"selection": Selection(size="16x8")})
    ((_, only),) = read_batch(recipe, (Job("bad", str(bad), tmp_path / "out"),), 1)
    assert isinstance(only, Outcome)
    assert "bad cannot be opened as a video" in only.reason
    batch = (Job("b", str(source / "b.mp4"), tmp_path / "out"),)
    start, *frames, facts = [piece for _, piece in read_batch(recipe, batch, 1)]
    assert start == ClipStart(batch, 8, 16)
    assert sum(len(piece.pixels) for piece in frames if isinstance(piece, ClipFrames)) == 7
    assert facts.resampling == "planes"  # type: ignore[union-attr]


def named_device(out: Path, count: int, device_id: int = 0) -> Tokenizer:
    """Waits until every device has its worker: a quick one would leave no clip to a slow one."""
    (out / f"device-{device_id}-{os.getpid()}").touch()
    until = time.monotonic() + 120
    while len(list(out.glob("device-*"))) < count and time.monotonic() < until:
        time.sleep(0.01)
    return Tokenizer(provider="cpu", threads=1)


def test_devices_in_turns(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Every clip once, by a worker a device; the same files."""
    clips = sorted(p for p in source.rglob("*") if p.suffix in (".mp4", ".mov", ".mkv"))
    work = [Job(p.name + str(i), str(p), tmp_path / f"{i}.st") for i, p in enumerate(clips)]
    run = LocalEngine(2, devices=(4, 7)).run(EncodeRecipe(partial(named_device, tmp_path, 2), {}), [(j,) for j in work])
    outcomes = list(run)
    assert sorted(o.clip for o in outcomes if o.facts) == sorted(j.clip for j in work)
    devices = Counter(path.name.split("-")[1] for path in tmp_path.glob("device-*"))
    assert devices == {"4": 1, "7": 1}
    assert not active_children()
    expected = {data for name, data in content(undisturbed).items() if name.endswith(".safetensors")}
    assert {j.target.read_bytes() for j in work} == expected


def test_options(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for devices in ("0,0", "x", "0,", "-1"):
        assert "give numbers of devices, each once" in dataset(source, out, "--device-id", devices).stderr
    for option in (("--readers", 1), ("--device-id", "1,2")):
        refused = dataset(source, out, "--engine", "ray", *option)
        assert refused.exit_code == 2
        assert f"{option[0]} is for local workers" in refused.stderr
    assert not out.exists()


def plain() -> Tokenizer:
    return Tokenizer(provider="cpu", threads=1)


def test_readers_that_cannot_start(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No clip is at fault, and to start them again would not help."""
    monkeypatch.setattr(team, "serve_reader", vanish)
    with pytest.raises(ProviderError, match="a process that reads died at its start: exit code 3"):
        list(LocalEngine(1).run(EncodeRecipe(plain, {}), [(Job("b", str(source / "b.mp4"), tmp_path / "b.st"),)]))
    assert not active_children()


def vanish(*_: object) -> None:
    os._exit(3)


def has_open(pid: int | None, path: Path) -> bool:
    with suppress(OSError):  # it has closed one meanwhile
        return any(os.path.realpath(fd) == str(path) for fd in Path(f"/proc/{pid}/fd").iterdir())
    return False


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux tells which process has a file open")
def test_a_reader_that_dies(source: Path, tmp_path: Path) -> None:
    """The clip that it read has failed; those that others read are done again, and all ends well."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    work = [(Job(p.name, str(p), tmp_path / f"{p.name}.st"),) for p in (source / "c.mkv", pipe, source / "b.mp4")]

    def kill() -> None:
        end = writer_of(pipe)
        while not (readers := [child for child in active_children() if has_open(child.pid, pipe)]):
            time.sleep(0.01)
        readers[0].kill()
        os.close(end)

    threading.Thread(target=kill, daemon=True).start()
    outcomes = {o.clip: o for o in LocalEngine(1, readers=2).run(EncodeRecipe(plain, {}), work)}
    assert outcomes["pipe.mp4"].reason == "the process that read it died: signal 9 (Killed)"
    assert outcomes["b.mp4"].facts
    assert outcomes["c.mkv"].facts
