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
Figures = dict[str, list[float]]  # of each thing measured its frames a second, one a round


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
    frames = 0
    for i, job in enumerate(jobs):
        for piece in before[jobs[i % 2]] if worker else read_clip(recipe, job, 1):
            frames += len(piece.pts) if isinstance(piece, ClipFrames) else 0
            if worker:
                worker.take(job, piece)
    line.send(frames)


def alone(what: str, recipe: EncodeRecipe, jobs: list[Job], processes: int) -> float:
    """Frames a second of so many processes that all read, or all encode; from when all are ready."""
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
    return sum(line.recv() for line in lines) / (time.perf_counter() - begin)


def both(recipe: EncodeRecipe, jobs: list[Job], engine: LocalEngine) -> float:
    """Frames a second of reading and encoding, from the first clip's end to the last one's."""
    ends, frames = [], []
    for outcome in engine.run(recipe, jobs):
        if outcome.facts is None:
            raise InputError(f"{outcome.clip}: {outcome.reason}")
        ends.append(time.perf_counter())
        frames.append(outcome.facts["frames"])
    return float(sum(frames[1:]) / (ends[-1] - ends[0]))


def pytorch(bundle: str, folder: Path, out: Path, side: int, threads: int) -> float:
    """Frames a second of the same job in PyTorch, from the first clip's end to the last one's."""
    weights = next(find_bundle(bundle).folder.glob("*.safetensors"))
    command = [sys.executable, TORCH_JOB, weights, folder, out, side, threads]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def rounds(bundle: str, folder: Path, size: str, repeats: int, copies: int, torch: bool) -> Iterator[dict[str, float]]:
    """Frames a second of each thing measured, one round after the other."""
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
            if torch:
                found["PyTorch"] = pytorch(bundle, folder, Path(name), int(size.split("x")[0]), count)
        yield found


def report(figures: Figures) -> str:
    """Medians as a table."""
    medians = {name: statistics.median(values) for name, values in figures.items()}
    reading, peer = medians["reading alone"], medians.get("PyTorch")
    lines = [f"{name:<30}{value:>8.1f} frames/s" for name, value in medians.items() if "," not in name]
    lines[1] += f"   {medians['engine that answers at once'] / reading:.0%} of reading alone"
    for name, alone_rate in medians.items():
        key = name.removesuffix(", alone")
        if key == name:
            continue
        together, ideal = medians[f"{key}, both"], 1 / (1 / reading + 1 / alone_rate)
        # A round's own figures, since the machine is not as fast in every one.
        parts = zip(figures["reading alone"], figures[name], figures[f"{key}, both"], strict=True)
        share = statistics.median(t * (1 / r + 1 / e) for r, e, t in parts)
        lines.append(
            f"{key:<20}encoding alone {alone_rate:7.1f}  ideal {ideal:7.1f}  both {together:7.1f}  {share:.0%} of it"
            + (f"  {together / peer:.2f}x PyTorch" if peer else "")
        )
    return "\n".join(lines)
