"""Kill `vidtok-run dataset` at random until so many kills are done; every data set must end as an undisturbed one.

The targets are a folder and an S3 server (moto's, on the loopback), each with a file a clip and with tars. In a folder
kills come at random moments; with S3 just before a random request that would change the store, or just after it, and
whatever is there then must be whole.

python scripts/kill_dataset.py 100         # kills of each of the four targets
python scripts/kill_dataset.py 100 48      # with 48 clips
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from vidtok_runtime.video.writer import VideoWriter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
CLIPS = int(sys.argv[2]) if len(sys.argv) > 2 else 24
OPTIONS = ["--quiet", "--provider", "cpu", "--workers", "2", "--threads", "1", "--batch", "4"]
COMMAND = [sys.executable, "-m", "vidtok_runtime.cli", "dataset"]


def make_clips(folder: Path) -> None:
    """Noise, so that every clip's tokens are its own; of three lengths, so that some share calls."""
    rng = np.random.default_rng(0)
    for i in range(CLIPS):
        path = folder / f"{i % 3}" / f"{i:03d}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(path) as writer:
            for k in range(int(rng.choice([9, 17, 33]))):
                writer.write(rng.integers(0, 256, (32, 32, 3), np.uint8), k)
            writer.close()


def content(out: Path) -> dict[str, bytes]:
    """All files but the ledger, whose lines come in any order."""
    files = (p for p in out.rglob("*") if p.is_file() and p.name != "ledger.jsonl")
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}


def check(out: Path, expected: dict[str, bytes]) -> None:
    """Fail unless nothing is missing, half-written, different, or recorded twice."""
    found = content(out)
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    assert found == expected, [name for name in found if found[name] != expected[name]]
    records = map(json.loads, (out / "ledger.jsonl").read_text().splitlines())
    times = Counter(record["done"] for record in records if "done" in record)
    assert sorted(times.values()) == [1] * CLIPS, times.most_common(3)


def below(objects: dict[str, bytes], name: str) -> dict[str, bytes]:
    """The objects of a data set."""
    return {key.removeprefix(f"{name}/"): data for key, data in objects.items() if key.startswith(f"{name}/")}


def kill_on_s3(place: Path, kills: int, layout: list[str], expected: dict[str, bytes]) -> str:
    """Kill at requests; what there is to say about it."""
    from s3_server import BUCKET, Request, s3_server

    chance = random.Random(1)
    with s3_server() as server:
        done = finished = 0
        steps = 2 * CLIPS  # about as many requests as a run makes that change the store
        while done < kills:
            name = f"out{len(layout)}-{finished}"  # servers of one process share their objects
            command = [*COMMAND, str(place), f"s3://{BUCKET}/{name}", *OPTIONS, *layout]
            at, when = chance.randrange(steps), chance.choice(["before", "after"])
            process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
            seen = 0

            def kill(asked: Request, process: subprocess.Popen[bytes] = process, at: int = at) -> None:
                nonlocal seen
                seen += asked.writes
                if asked.writes and seen == at + 1:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

            setattr(server, when, kill)
            code = process.wait()
            setattr(server, when, lambda _: None)
            found = below(server.keys(), name)
            final = {key: data for key, data in found.items() if not key.startswith(("ledger", "waiting/"))}
            assert final.items() <= expected.items(), [key for key in final if final[key] != expected.get(key)]
            if code == 0:
                assert final == expected, final.keys() ^ expected.keys()
                finished += 1
            else:
                assert code == -signal.SIGKILL, code
                done += 1
        subprocess.run(command, check=True)
        found = below(server.keys(), name)
        assert {key: data for key, data in found.items() if not key.startswith("ledger")} == expected
        return f"{done} kills over {finished + 1} data sets of {CLIPS} clips, all equal to an undisturbed run"


def main(kills: int) -> None:
    """Print how many kills and data sets there were."""
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder / "in")
        command, options = [*COMMAND, str(folder / "in")], OPTIONS
        for layout in ([], ["--tar", "7"]):
            begin = time.monotonic()
            subprocess.run([*command, str(folder / f"whole{len(layout)}"), *options, *layout], check=True)
            undisturbed = time.monotonic() - begin
            expected = content(folder / f"whole{len(layout)}")
            said = kill_on_s3(folder / "in", kills, layout, expected)
            print(f"S3, {' '.join(layout) or 'a file a clip'}: {said}", flush=True)
            done = finished = unhurt = 0
            out = folder / f"out{len(layout)}-0"
            while done < kills:
                process = subprocess.Popen(
                    [*command, str(out), *options, *layout], start_new_session=True, stderr=subprocess.DEVNULL
                )
                try:
                    process.wait(chance.uniform(0, undisturbed))
                    assert process.returncode == 0
                    check(out, expected)
                    finished += 1
                    out = folder / f"out{len(layout)}-{finished}"
                except subprocess.TimeoutExpired:
                    # The whole group as a machine would, or the parent alone, whose workers must not go on.
                    (os.killpg if chance.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
                    process.wait()
                    done += 1
                    unhurt = len(content(out)) if out.exists() else 0
            subprocess.run([*command, str(out), *options, *layout], check=True)
            check(out, expected)
            print(
                f"{' '.join(layout) or 'a file a clip'}: {done} kills over {finished + 1} data sets of {CLIPS} clips "
                f"({unhurt} files when the last kill came), all equal to an undisturbed run",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
