"""`vidtok-run dataset` that is stopped, killed or hangs: nothing lost, nothing done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest
from dataset_runs import OPTIONS, content, dataset, records, writer_of

from vidtok_runtime.dataset.clips import list_clips
from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Job
from vidtok_runtime.dataset.local import LocalEngine
from vidtok_runtime.errors import ProviderError
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tools.demo import make_clip


def test_ctrl_c(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    long = tmp_path / "long.mp4"
    make_clip(long, 4000, 48, 64)
    (tmp_path / "list.txt").write_text(f"{source / 'b.mp4'}\n{long}\n")
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


class Interrupting:
    """A recipe's tokenizer that brings Ctrl-C with it, before the process that unpacks it has said what it ignores."""

    def __call__(self) -> Tokenizer:
        return tiny()

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return interrupted, ()


def interrupted() -> object:
    os.kill(os.getpid(), signal.SIGINT)
    return tiny


def test_ctrl_c_while_workers_start(source: Path, tmp_path: Path) -> None:
    clip = Job("b.mp4", str(source / "b.mp4"), tmp_path / "b.st")
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    (outcome,) = LocalEngine(1).run(EncodeRecipe(Interrupting(), {}), [(clip,)])
    assert outcome.facts is not None
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked


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
    clips = Path(shutil.copytree(source, tmp_path / "clips"))
    last = clips / "deep/er/e.mp4"
    last.unlink()
    make_clip(last, 4000, 48, 64)  # takes seconds, so that no run ends before it is killed
    command = [sys.executable, "-m", "vidtok_runtime.cli", "dataset", str(clips), str(out), *OPTIONS]
    for whole_group in (True, False):  # or the parent alone
        process = subprocess.Popen(command, start_new_session=True)
        before = len(records(out, "done"))
        while len(records(out, "done")) <= before:
            assert process.poll() is None
            time.sleep(0.01)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
    shutil.copy(source / "deep/er/e.mp4", last)
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


def jobs(source: Path, tmp_path: Path) -> list[Batch]:
    """A clip that never comes, and two others."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    return [(Job(p.name, str(p), tmp_path / f"{p.name}.st"),) for p in (pipe, source / "b.mp4", source / "c.mkv")]


def test_a_clip_that_hangs(source: Path, tmp_path: Path) -> None:
    outcomes = list(LocalEngine(1, time_limit=4).run(EncodeRecipe(tiny, {}), jobs(source, tmp_path)))
    assert sorted((o.clip, o.reason) for o in outcomes) == [
        ("b.mp4", ""),
        ("c.mkv", ""),
        ("pipe.mp4", "it took longer than 4 s"),
    ]
    assert not active_children()


def test_a_worker_that_is_killed(source: Path, tmp_path: Path) -> None:
    """Of a batch each clip is tried alone then, and that which kills it again has failed."""
    work = tuple(job for batch in jobs(source, tmp_path) for job in batch)

    def kill() -> None:
        for _ in range(2):
            writer = writer_of(work[0].url)
            active_children()[0].kill()
            with suppress(OSError):
                while True:  # until nobody reads it
                    os.close(os.open(work[0].url, os.O_WRONLY | os.O_NONBLOCK))
                    time.sleep(0.01)
            os.close(writer)  # not before, or the reader would come to an end

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    outcomes = list(LocalEngine(1).run(EncodeRecipe(tiny, {}), [work]))
    killer.join()
    assert outcomes[0].clip == "pipe.mp4"
    assert outcomes[0].facts is None
    assert [o.facts is not None for o in outcomes] == [False, True, True]


def test_workers_that_cannot_start(source: Path, tmp_path: Path) -> None:
    work = [(Job("b.mp4", str(source / "b.mp4"), tmp_path / "b.st"),)]
    with pytest.raises(ProviderError, match="no engine today"):
        list(LocalEngine(2).run(EncodeRecipe(no_tokenizer, {}), work))
    with pytest.raises(ProviderError, match="a worker died while it loaded the bundle: signal 9"):
        list(LocalEngine(2).run(EncodeRecipe(dying_tokenizer, {}), work))


def test_a_full_disk_ends_the_run(source: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX systems limit the size of a file")
    out = tmp_path / "out"
    command = [sys.executable, "-B", "-m", "vidtok_runtime.cli", "dataset", str(source), str(out), *OPTIONS]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (3000, 3000))
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not [name for name in content(out) if name.endswith((".part", "quarantine.csv"))]
    assert dataset(source, out).exit_code == 0
