"""Kill `vidtok-run dataset` at random until so many kills are done; every data set must end as an undisturbed one.

python scripts/kill_dataset.py 100
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

CLIPS = 60


def make_clips(folder: Path) -> None:
    """Noise, so that every clip's tokens are its own."""
    rng = np.random.default_rng(0)
    for i in range(CLIPS):
        path = folder / f"{i % 3}" / f"{i:03d}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(path) as writer:
            for k in range(int(rng.integers(10, 60))):
                writer.write(rng.integers(0, 256, (64, 64, 3), np.uint8), k)
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


def main(kills: int) -> None:
    """Print how many kills and data sets there were."""
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder / "in")
        command = [sys.executable, "-m", "vidtok_runtime.cli", "dataset", str(folder / "in")]
        options = ["--quiet", "--provider", "cpu", "--workers", "2", "--threads", "1"]
        for layout in ([], ["--tar", "7"]):
            begin = time.monotonic()
            subprocess.run([*command, str(folder / f"whole{len(layout)}"), *options, *layout], check=True)
            undisturbed = time.monotonic() - begin
            expected = content(folder / f"whole{len(layout)}")
            done = finished = unhurt = 0
            out = folder / f"out{len(layout)}-0"
            while done < kills // 2:
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
