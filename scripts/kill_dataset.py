"""Kill `vidtok-run dataset` at random until so many kills are done; every data set must end as an undisturbed one.

The targets are a folder and an S3 server (moto's, on the loopback), each with a file a clip and with tars. In a folder
kills come at random moments; with S3 just before a random request that would change the store, or just after it, and
whatever is there then must be whole.

python scripts/kill_dataset.py 100                          # kills of each of the four targets
python scripts/kill_dataset.py 100 --target s3 --clips 48   # of one
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

import click
import numpy as np
from tqdm import tqdm

from vidtok_runtime.video.writer import VideoWriter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
LAYOUTS = {"folder": [], "folder-tars": ["--tar", "7"], "s3": [], "s3-tars": ["--tar", "7"]}
OPTIONS = ["--quiet", "--provider", "cpu", "--workers", "2", "--threads", "1", "--batch", "4"]
COMMAND = [sys.executable, "-m", "vidtok_runtime.cli", "dataset"]


def make_clips(folder: Path, count: int) -> None:
    """Noise, so that every clip's tokens are its own; of three lengths, so that some share calls."""
    rng = np.random.default_rng(0)
    for i in range(count):
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


def check(out: Path, expected: dict[str, bytes], clips: int) -> None:
    """Fail unless nothing is missing, half-written, different, or recorded twice."""
    found = content(out)
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    assert found == expected, [name for name in found if found[name] != expected[name]]
    records = map(json.loads, (out / "ledger.jsonl").read_text().splitlines())
    times = Counter(record["done"] for record in records if "done" in record)
    assert sorted(times.values()) == [1] * clips, times.most_common(3)


def below(objects: dict[str, bytes], name: str) -> dict[str, bytes]:
    """The objects of a data set."""
    return {key.removeprefix(f"{name}/"): data for key, data in objects.items() if key.startswith(f"{name}/")}


def kill_on_s3(command: list[str], layout: list[str], expected: dict[str, bytes], clips: int, bar: tqdm) -> int:
    """Kill at requests; returns how many data sets there were."""
    from s3_server import BUCKET, Request, s3_server

    chance = random.Random(1)
    with s3_server() as server:
        finished = 0
        steps = 2 * clips  # about as many requests as a run makes that change the store
        while bar.n < bar.total:
            name = f"out{finished}"
            to_store = [*command, f"s3://{BUCKET}/{name}", *OPTIONS, *layout]
            at, when = chance.randrange(steps), chance.choice(["before", "after"])
            process = subprocess.Popen(to_store, start_new_session=True, stderr=subprocess.DEVNULL)
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
                bar.update()
        subprocess.run(to_store, check=True)
        found = below(server.keys(), name)
        assert {key: data for key, data in found.items() if not key.startswith("ledger")} == expected
        return finished + 1


def kill_in_folder(
    command: list[str], layout: list[str], expected: dict[str, bytes], clips: int, bar: tqdm, work: Path, lasts: float
) -> int:
    """Kill at random moments of a run, which lasts so many seconds; returns how many data sets there were."""
    chance = random.Random(0)
    finished = 0
    while True:
        out = work / f"out{finished}"
        to_folder = [*command, str(out), *OPTIONS, *layout]
        process = subprocess.Popen(to_folder, start_new_session=True, stderr=subprocess.DEVNULL)
        try:
            # Once as many as asked for are done, the last run is left to its end.
            process.wait(chance.uniform(0, lasts) if bar.n < bar.total else None)
            assert process.returncode == 0
            check(out, expected, clips)
            finished += 1
            if bar.n == bar.total:
                return finished
        except subprocess.TimeoutExpired:
            # The whole group as a machine would, or the parent alone, whose workers must not go on.
            (os.killpg if chance.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
            bar.update()


@click.command()
@click.argument("kills", type=int, default=100)
@click.option("--clips", default=24, show_default=True)
@click.option("--target", "targets", type=click.Choice(list(LAYOUTS)), multiple=True, default=list(LAYOUTS))
def main(kills: int, clips: int, targets: tuple[str, ...]) -> None:
    """Kill so many runs of each target."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in"
        make_clips(source, clips)
        command = [*COMMAND, str(source)]
        for target in targets:
            work, layout = Path(name) / target, LAYOUTS[target]
            begin = time.monotonic()
            subprocess.run([*command, str(work / "whole"), *OPTIONS, *layout], check=True)
            lasts, expected = time.monotonic() - begin, content(work / "whole")
            with tqdm(total=kills, desc=target, unit="kill") as bar:
                if target.startswith("s3"):
                    sets = kill_on_s3(command, layout, expected, clips, bar)
                else:
                    sets = kill_in_folder(command, layout, expected, clips, bar, work, lasts)
            print(f"{target}: {kills} kills, {sets} data sets of {clips} clips, all equal to an undisturbed one")


if __name__ == "__main__":
    main()
