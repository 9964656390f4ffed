"""The dataset line of scripts/benchmark.py: reading alone, encoding alone, both, and the same job in PyTorch."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import psutil

from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.dataset.clips import list_clips
from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Job, Outcome
from vidtok_runtime.dataset.local import LocalEngine
from vidtok_runtime.dataset.reading import ClipFrames, ClipStart, Reading, read_batch
from vidtok_runtime.dataset.worker import Worker
from vidtok_runtime.engines.registry import usable_providers
from vidtok_runtime.errors import InputError
from vidtok_runtime.machine import cores
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tools.demo import make_clip
from vidtok_runtime.video.selection import Selection

CLIPS, FRAMES, HEIGHT, WIDTH = 24, 33, 540, 960
TORCH_JOB = Path(__file__).with_name("torch_dataset.py")
Rate = tuple[float, float]  # frames a second, and how many cores were in use
Figures = dict[str, list[Rate]]  # of each thing measured, one a round
PYTORCH = {"PyTorch": "torch", "PyTorch, PyAV shrinks": "pyav"}


class AtOnce(Tokenizer):
    """A stand-in for an engine that takes no time: its latents are zeros."""

    def encoder(self, gop: int | None = None, *, clips: int | None = None, **form: Any) -> Any:
        """What takes frames and gives as many latents as there would be."""
        return _Zeros(self)


class _Zeros:
    def __init__(self, tok: Tokenizer) -> None:
        self._stream, self._frames, self._given = tok.stream, tok.stream.front_frames, 0
        self._shape: tuple[int, ...] = (1, 0, 0, 3)  # of a frame of every clip

    def push(self, frames: np.ndarray) -> np.ndarray:
        self._frames += len(frames)
        self._shape = frames.shape[1:]
        return self._upto(self._frames // self._stream.time_factor)

    def finish(self) -> np.ndarray:
        return self._upto(-(-self._frames // self._stream.time_factor))

    def _upto(self, latents: int) -> np.ndarray:
        count, self._given = latents - self._given, latents
        clips, *sides = self._shape[:3]
        size = (-(-side // self._stream.spatial_multiple) for side in sides)
        return np.zeros((count, clips, self._stream.latent_channels, *size), np.float32)


@dataclass(frozen=True)
class AtTheSameTime:
    """Makes the tokenizers of workers, which begin when all of them are ready."""

    folder: Path
    tokenizer: Callable[[], Tokenizer]

    def __call__(self) -> Tokenizer:
        """In a worker."""
        tok = self.tokenizer()
        tok.encoder()  # loads the graphs
        (self.folder / f"{os.getpid()}").touch()
        while not (self.folder / "go").exists():
            time.sleep(0.002)
        return tok

    def begin(self, workers: int, moments: list[tuple[float, float]]) -> None:
        """Elsewhere: when so many are ready, add that moment and have them go."""
        while len(list(self.folder.iterdir())) < workers:
            time.sleep(0.01)
        moments.append(moment())
        (self.folder / "go").touch()


def make_clips(folder: Path) -> None:
    """The made-up clips that are read."""
    for i in range(CLIPS):
        make_clip(folder / f"{i:02d}.mp4", FRAMES, HEIGHT, WIDTH, first=FRAMES * i)


def _serve(line: Any, what: str, recipe: EncodeRecipe, batches: list[Batch]) -> None:
    """In a process: get ready, and when told read or encode all batches, and say how many frames they had."""
    import cv2

    cv2.setNumThreads(1)
    over: SimpleQueue[Outcome] = SimpleQueue()
    worker = None if what == "read" else Worker(recipe, over.put)
    # What is encoded alone was read before.
    before = list(read_batch(recipe, batches[0], 1)) if worker else []

    def do(batches: list[Batch]) -> int:
        frames = 0
        for batch in batches:
            for job, piece in _of(batch, before) if worker else read_batch(recipe, batch, 1):
                frames += len(piece.pts) if isinstance(piece, ClipFrames) else 0
                if worker:
                    worker.take(job, piece)
        for _ in range(sum(map(len, batches)) if worker else 0):
            over.get()
        return frames

    do(batches[:1])
    line.send(0)
    line.recv()
    cpu = time.process_time()
    line.send((do(batches), time.process_time() - cpu))


def _of(batch: Batch, pieces: list[tuple[Job, Reading]]) -> Iterator[tuple[Job, Reading]]:
    """What was read of as many other clips, as if it were of these."""
    others = list(dict.fromkeys(job for job, _ in pieces))
    names = dict(zip(others, batch, strict=True))
    for job, piece in pieces:
        yield names[job], piece._replace(batch=batch) if isinstance(piece, ClipStart) else piece


def alone(what: str, recipe: EncodeRecipe, batches: list[Batch], processes: int) -> Rate:
    """So many processes that all read, or all encode; from when all are ready."""
    context = get_context("spawn")
    lines = []
    for i in range(processes):
        line, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, what, recipe, batches[i::processes]), daemon=True).start()
        lines.append(line)
    for line in lines:
        line.recv()
    begin = time.perf_counter()
    for line in lines:
        line.send(None)
    frames, cpu = map(sum, zip(*(line.recv() for line in lines), strict=True))
    seconds = time.perf_counter() - begin
    return frames / seconds, cpu / seconds


def moment() -> tuple[float, float]:
    """Seconds on the clock, and CPU seconds of this process and its children."""
    me = psutil.Process()
    used = sum(sum(one.cpu_times()[:2]) for one in (me, *me.children()))
    return time.perf_counter(), float(used)


def both(recipe: EncodeRecipe, batches: list[Batch], engine: LocalEngine) -> Rate:
    """Reading and encoding, from when all workers are ready to the last clip's end."""
    moments: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        ready = AtTheSameTime(Path(folder), recipe.tokenizer)
        watch = threading.Thread(target=ready.begin, args=(engine.workers, moments), daemon=True)
        watch.start()
        frames, left = 0, sum(map(len, batches))
        for outcome in engine.run(replace(recipe, tokenizer=ready), batches):
            if outcome.facts is None:
                raise InputError(f"{outcome.clip}: {outcome.reason}")
            frames, left = frames + outcome.facts["frames"], left - 1
            if not left:  # its processes are there still
                moments.append(moment())
    seconds, cpu = (last - first for first, last in zip(*moments, strict=True))
    return frames / seconds, cpu / seconds


def pytorch(bundle: str, folder: Path, out: Path, side: int, threads: int, resize: str) -> Rate:
    """The same job in PyTorch, from the first clip's end to the last one's."""
    weights = next(find_bundle(bundle).folder.glob("*.safetensors"))
    command = [sys.executable, TORCH_JOB, weights, folder, out, side, threads, resize]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    rate, used = map(float, done.stdout.split()[-2:])
    return rate, used


def rounds(
    bundle: str, folder: Path, size: str, repeats: int, copies: int, torch: bool, counts: Sequence[int]
) -> Iterator[dict[str, Rate]]:
    """What each thing measured gave, one round after the other; counts: clips in a call. Raises InputError."""
    workers = cores()
    manifest = find_bundle(bundle)
    precisions = {graph.precision for graph in manifest.graphs if graph.role == "encoder"}
    engines = [(p, "fp32") for p in usable_providers() if p != "cuda"]
    engines += [("openvino", "int8")] if "int8" in precisions and "openvino" in usable_providers() else []
    encode = {"selection": Selection(size=size)}
    clips = [clip.piece.url() for clip in list_clips(folder)]
    for count in counts:
        calls, left = divmod(len(clips) * copies, count)
        if left or calls < workers:
            raise InputError(
                f"{len(clips)} clips, {copies} times, do not make whole calls of {count} for each of {workers} "
                "processes; give another --copies or --clips"
            )
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as name:

            def batches(what: str, count: int = 1, name: str = name) -> list[Batch]:
                names = [f"{copy}-{Path(url).stem}" for copy in range(copies) for url in clips]
                jobs = [Job(n, u, Path(name) / what / n) for n, u in zip(names, clips * copies, strict=True)]
                return [tuple(jobs[i : i + count]) for i in range(0, len(jobs), count)]

            at_once = EncodeRecipe(partial(AtOnce, bundle, "cpu"), encode)
            found = {"reading alone": alone("read", at_once, batches("none"), workers)}
            found["engine that answers at once"] = both(at_once, batches("once"), LocalEngine(1, readers=workers))
            for provider, precision in engines:
                recipe = EncodeRecipe(partial(Tokenizer, bundle, provider, 1, precision), encode)
                for count in counts:
                    key = f"{provider} {precision}, {count} in a call"
                    found[f"{key}, alone"] = alone("encode", recipe, batches(f"{key} alone", count), workers)
                    found[f"{key}, both"] = both(recipe, batches(key, count), LocalEngine(workers))
            for title, resize in PYTORCH.items() if torch else ():
                found[title] = pytorch(bundle, folder, Path(name), int(size.split("x")[0]), workers, resize)
        yield found


def _by_count(each: dict[str, float], what: str) -> dict[str, dict[int, float]]:
    """Of every engine and precision, the rates by how many clips are in a call."""
    found: dict[str, dict[int, float]] = {}
    for name, rate in each.items():
        if match := re.fullmatch(rf"(.*), (\d+) in a call, {what}", name):
            found.setdefault(match[1], {})[int(match[2])] = rate
    return found


def report(figures: Figures) -> str:
    """Medians as a table; `of it` in frames for a second of a core, since other programs take what they take."""
    rates = {name: statistics.median(rate for rate, _ in values) for name, values in figures.items()}
    used = {name: statistics.median(cores for _, cores in values) for name, values in figures.items()}
    each = {name: statistics.median(rate / cores for rate, cores in values) for name, values in figures.items()}
    lines = [
        f"{name:<40}{rates[name]:8.1f} frames/s  {used[name]:.2f} cores  {each[name]:.1f} a core" for name in rates
    ]
    once, reading = "engine that answers at once", "reading alone"
    lines.append(
        f"{once}: {rates[once] / rates[reading]:.0%} of reading alone, a core {each[once] / each[reading]:.0%}"
    )
    for name in (name.removesuffix(", both") for name in rates if name.endswith(", both")):
        both, alone = f"{name}, both", f"{name}, alone"
        ideals = [1 / (1 / values[reading] + 1 / values[alone]) for values in (rates, each)]
        lines.append(
            f"{name}: ideal {ideals[0]:.1f}, reached {rates[both] / ideals[0]:.0%}; a core {ideals[1]:.1f}, "
            f"reached {each[both] / ideals[1]:.0%}"
        )
    for what in ("alone", "both"):
        for key, columns in _by_count(each, what).items():
            single = next(iter(columns.values()))
            peers = "".join(f"; {max(columns.values()) / each[p]:.2f}x {p}" for p in PYTORCH if p in each)
            lines.append(
                f"{key}, {what}, frames a core-second: "
                + ", ".join(f"{count}: {rate:.1f} ({rate / single:.2f}x)" for count, rate in columns.items())
                + (f"; at best{peers[1:]}" if peers and what == "both" else "")
            )
    return "\n".join(lines)
