"""What the tests of `vidtok-run dataset` have in common."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from click.testing import Result
from commands import run

OPTIONS = ("--provider", "cpu", "--threads", "1", "--quiet")  # the last bits of latents depend on the threads


def dataset(*args: object) -> Result:
    """A run by one worker with one reader unless others are asked for: every process takes a second to start."""
    few = ("--workers", 1) if "ray" in args else ("--workers", 1, "--readers", 1)
    return run("dataset", *few, *args, *OPTIONS)


def content(folder: Path) -> dict[str, bytes]:
    """Files of a data set, all but the ledgers, whose lines come in any order."""
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("ledger"))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def records(folder: Path, kind: str) -> list[dict[str, object]]:
    lines = [line for path in folder.glob("ledger*.jsonl") for line in path.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if kind in record]


def writer_of(pipe: Path | str) -> int:
    """The descriptor of a pipe's writing end, once somebody reads the pipe, who waits until it is closed."""
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            time.sleep(0.02)
