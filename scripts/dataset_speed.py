"""The dataset line of scripts/benchmark.py: reading alone, encoding alone, both, and the same job in PyTorch."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.dataset.clips import list_clips
from vidtok_runtime.dataset.job import EncodeRecipe, Job
from vidtok_runtime.dataset.local import LocalEngine
from vidtok_runtime.dataset.reading import ClipFrames, read_clip
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

    def encoder(self, gop: int | None = None, **form: Any) -> Any:
        """What takes frames and gives as many latents as there would be."""
        return _Zeros(self)


class _Zeros:
    def __init__(self, tok: Tokenizer) -> None:
        self._stream, self._frames, self._given = tok.stream, tok.stream.front_frames, 0
        self._side = 0, 0

    def push(self, frames: np.ndarray) -> np.ndarray:
        self._frames += len(frames)
        self._side = frames.shape[1], frames.shape[2]
        return self._upto(self._frames // self._stream.time_factor)

    def finish(self) -> np.ndarray:
        return self._upto(-(-self._frames // self._stream.time_factor))

    def _upto(self, latents: int) -> np.ndarray:
        count, self._given = latents - self._given, latents
        height, width = (-(-n // self._stream.spatial_multiple) for n in self._side)
        return np.zeros((count, self._stream.latent_channels, height, width), np.float32)


def make_clips(folder: Path) -> None:
    """The made-up clips that are read."""
    for i in range(CLIPS):
        make_clip(folder / f"{i:02d}.mp4", FRAMES, HEIGHT, WIDTH, first=FRAMES * i)


def _serve(line: Any, what: str, recipe: EncodeRecipe, jobs: list[Job]) -> None:
    """In a process: get ready, and when told read or encode all jobs, and say how many frames they had."""
    import cv2

    cv2.setNumThreads(1)
    worker = None if what == "read" else Worker(recipe)
    # What is encoded alone was read before.
    before = {job: list(read_clip(recipe, job, 1)) for job in jobs[: 2 if what == "encode" else 0]}
    if worker:
        for piece in before[jobs[0]]:
            worker.take(jobs[0], piece)
    line.send(0)
    line.recv()
    frames, cpu = 0, time.process_time()
    for i, job in enumerate(jobs):
        for piece in before[jobs[i % 2]] if worker else read_clip(recipe, job, 1):
            frames += len(piece.pts) if isinstance(piece, ClipFrames) else 0
            if worker:
                worker.take(job, piece)
    line.send((frames, time.process_time() - cpu))


def alone(what: str, recipe: EncodeRecipe, jobs: list[Job], processes: int) -> Rate:
    """So many processes that all read, or all encode; from when all are ready."""
    context = get_context("spawn")
    lines = []
    for i in range(processes):
        line, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, what, recipe, jobs[i::processes]), daemon=True).start()
        lines.append(line)
    for line in lines:
        line.recv()
    begin = time.perf_counter()
    for line in lines:
        line.send(None)
    frames, cpu = map(sum, zip(*(line.recv() for line in lines), strict=True))
    seconds = time.perf_counter() - begin
    return frames / seconds, cpu / seconds


def _used() -> float:
    """CPU seconds of this process and its children."""
    me = psutil.Process()
    return float(sum(sum(one.cpu_times()[:2]) for one in (me, *me.children())))


def both(recipe: EncodeRecipe, jobs: list[Job], engine: LocalEngine) -> Rate:
    """Reading and encoding, from the first clip's end to the last one's."""
    ends, frames = [], []
    for outcome in engine.run(recipe, jobs):
        if outcome.facts is None:
            raise InputError(f"{outcome.clip}: {outcome.reason}")
        frames.append(outcome.facts["frames"])
        if len(frames) in (1, len(jobs)):  # to ask is no small work
            ends.append((time.perf_counter(), _used()))
    seconds, cpu = (last - first for first, last in zip(ends[0], ends[-1], strict=True))
    return sum(frames[1:]) / seconds, cpu / seconds


def pytorch(bundle: str, folder: Path, out: Path, side: int, threads: int, resize: str) -> Rate:
    """The same job in PyTorch, from the first clip's end to the last one's."""
    weights = next(find_bundle(bundle).folder.glob("*.safetensors"))
    command = [sys.executable, TORCH_JOB, weights, folder, out, side, threads, resize]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    rate, used = map(float, done.stdout.split()[-2:])
    return rate, used


def rounds(bundle: str, folder: Path, size: str, repeats: int, copies: int, torch: bool) -> Iterator[dict[str, Rate]]:
    """What each thing measured gave, one round after the other."""
    count = cores()
    manifest = find_bundle(bundle)
    precisions = {graph.precision for graph in manifest.graphs if graph.role == "encoder"}
    engines = [(p, "fp32") for p in usable_providers() if p != "cuda"]
    engines += [("openvino", "int8")] if "int8" in precisions and "openvino" in usable_providers() else []
    encode = {"selection": Selection(size=size)}
    clips = [clip.piece.url() for clip in list_clips(folder)]
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as name:

            def jobs(what: str, name: str = name) -> list[Job]:
                names = [f"{copy}-{Path(url).stem}" for copy in range(copies) for url in clips]
                return [Job(n, u, Path(name) / what / n) for n, u in zip(names, clips * copies, strict=True)]

            at_once = EncodeRecipe(partial(AtOnce, bundle, "cpu"), encode)
            found = {"reading alone": alone("read", at_once, jobs("none"), count)}
            found["engine that answers at once"] = both(at_once, jobs("once"), LocalEngine(1, readers=count))
            for provider, precision in engines:
                recipe = EncodeRecipe(partial(Tokenizer, bundle, provider, 1, precision), encode)
                key = f"{provider} {precision}"
                found[f"{key}, alone"] = alone("encode", recipe, jobs(f"{key} alone"), count)
                found[f"{key}, both"] = both(recipe, jobs(key), LocalEngine(count))
            for title, resize in PYTORCH.items() if torch else ():
                found[title] = pytorch(bundle, folder, Path(name), int(size.split("x")[0]), count, resize)
        yield found


def report(figures: Figures) -> str:
    """Medians as a table; `of it` in frames for a second of a core, since other programs take what they take."""
    rates = {name: statistics.median(rate for rate, _ in values) for name, values in figures.items()}
    used = {name: statistics.median(cores for _, cores in values) for name, values in figures.items()}
    each = {name: statistics.median(rate / cores for rate, cores in values) for name, values in figures.items()}
    lines = [
        f"{name:<30}{rates[name]:8.1f} frames/s  {used[name]:.2f} cores  {each[name]:.1f} a core" for name in rates
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
            + "".join(f"; {rates[both] / rates[peer]:.2f}x {peer}" for peer in PYTORCH if peer in rates)
        )
    return "\n".join(lines)
