"""A long made-up clip through encode and decode in one process: memory, counts, and no drift.

python scripts/soak.py --minutes 60 --threads 1 --json soak.json

The clip is encoded in calls of the bundle's own length, decoded, and encoded again in pushes of 1, 7, 2, 23 and 5
frames. Exit code 1 when a check fails.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import platform
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import click
import numpy as np
import psutil

from vidtok_runtime import Tokenizer
from vidtok_runtime.cli import main as vidtok_run
from vidtok_runtime.pipeline.files import decode_file, encode_file
from vidtok_runtime.quality.metrics import psnr
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.tools.demo import make_clip
from vidtok_runtime.video.reader import VideoReader

PUSHES = (1, 7, 2, 23, 5)  # of the second encoding
GROWTH = 0.02  # that the last quarter of a phase may take beyond the first
LATENT_TOLERANCE = 1e-4
MIN_EQUAL = 0.9999  # of the FSQ tokens, as for the same tokens on two engines
PACKAGES = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu", "openvino": "openvino"}
MIB = 2**20


class Phase:
    """Wall time of a `with` block, and the resident memory of the process every few seconds in it."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._resident: list[int] = []

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._ended.wait(self._every):
            self._resident.append(process.memory_info().rss)

    def __enter__(self) -> Phase:
        self._began = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.seconds = time.perf_counter() - self._began
        self._ended.set()
        self._thread.join()

    def report(self, frames: int) -> dict[str, Any]:
        """Rate, and the median of the first and of the last quarter of the samples, MiB."""
        quarter = len(self._resident) // 4
        if not quarter:
            raise click.ClickException(f"{len(self._resident)} samples of memory are too few; take more minutes")
        first, last = (statistics.median(part) for part in (self._resident[:quarter], self._resident[-quarter:]))
        return {
            "seconds": round(self.seconds, 1),
            "frames_per_second": round(frames / self.seconds, 1),
            "samples": len(self._resident),
            "first_quarter_mib": round(first / MIB, 1),
            "last_quarter_mib": round(last / MIB, 1),
            "max_mib": round(max(self._resident) / MIB, 1),
            "growth": round(last / first - 1, 4),
        }


def encode_otherwise(tok: Tokenizer, clip: Path) -> Iterator[np.ndarray]:
    """Tokens of the clip, pushed in other numbers of frames."""
    with VideoReader(clip) as reader:
        stream, frames = tok.encoder(), iter(reader)
        for size in itertools.cycle(PUSHES):
            piece = [frame.pixels for frame in itertools.islice(frames, size)]
            if not piece:
                break
            yield stream.push(np.stack(piece))
        yield stream.finish()


def compare(reader: TokenReader, others: Iterator[np.ndarray], last: int) -> dict[str, Any]:
    """How far the tokens of a file are from others, over all and over the `last` latents."""
    total = reader.shape[0]
    at, differing, furthest = 0, [0, 0], [0.0, 0.0]
    for other in others:
        ours = reader.read(at, at + len(other))
        if ours.shape != other.shape:
            raise click.ClickException(f"the second encoding gives more latents than the file's {total}")
        distance = np.abs(ours.astype(np.float64) - other)
        for i, part in enumerate((distance, distance[max(0, total - last - at) :])):
            differing[i] += int(np.count_nonzero(part))
            furthest[i] = max(furthest[i], float(part.max(initial=0)))
        at += len(other)
    if at != total:
        raise click.ClickException(f"the second encoding gives {at} latents, the file has {total}")
    numbers = math.prod(reader.shape[1:])
    return {
        name: {"latents": count, "numbers": count * numbers, "differing": differing[i], "largest": furthest[i]}
        for i, (name, count) in enumerate((("whole", total), ("last_minute", min(last, total))))
    }


def video_back(clip: Path, back: Path, minute: int) -> dict[str, Any]:
    """Counts and times of both videos, and the PSNR of the first and of the last `minute` frames."""
    off = 0.0
    quality: list[float] = []
    with VideoReader(clip) as a, VideoReader(back) as b:
        ours, theirs = iter(a), iter(b)
        for before, after in zip(ours, theirs, strict=False):
            off = max(off, float(abs(before.pts * a.time_base - after.pts * b.time_base)))
            quality.append(psnr(before.pixels, after.pixels))
        surplus = sum(1 for _ in ours) - sum(1 for _ in theirs)
    return {
        "frames_back": len(quality) - min(0, surplus),
        "frames_missing": surplus,
        "times_off_by_s": off,
        "psnr_first_minute": round(statistics.fmean(quality[:minute]), 3),
        "psnr_last_minute": round(statistics.fmean(quality[-minute:]), 3),
    }


def soak(
    folder: Path,
    *,
    minutes: float,
    fps: int,
    size: tuple[int, int],
    bundle: str,
    provider: str,
    threads: int | None,
    every: float,
    say: Any = click.echo,
) -> dict[str, Any]:
    """Run all of it in `folder`; the figures, and under `failed` the checks that did not hold."""
    height, width = size
    frames, minute = round(minutes * 60 * fps), 60 * fps
    clip, tokens, back = folder / "clip.mkv", folder / "tokens.safetensors", folder / "back.mkv"
    say(f"making {frames} frames")
    make_clip(clip, frames, height, width, fps=Fraction(fps))
    tok = Tokenizer(bundle, provider, threads)
    say("encoding")
    with Phase(every) as encoding:
        encode_file(tok, clip, tokens, quiet=True)
    say("decoding")
    with Phase(every) as decoding:
        decode_file(tok, tokens, back, quiet=True)
    say("encoding in other pushes")
    reader = TokenReader(tokens)
    with Phase(every) as again:
        compared = compare(reader, encode_otherwise(tok, clip), minute // tok.stream.time_factor)
    with contextlib.redirect_stdout(io.StringIO()):
        vidtok_run(["info", str(tokens), "--verify"], standalone_mode=False)  # raises where the checksum is another
    say("comparing the videos")
    phases = {
        name: phase.report(frames)
        for name, phase in (("encode", encoding), ("decode", decoding), ("encode_other_pushes", again))
    }
    result = {
        "bundle": bundle,
        "provider": tok.engine,
        "versions": {name: version(name) for name in ("numpy", "av", PACKAGES[tok.provider])},
        "python": platform.python_version(),
        "threads": threads,
        "size": f"{width}x{height}",
        "frames": frames,
        "frames_per_second_of_the_clip": fps,
        "frames_in_tokens": reader.info.num_frames,
        "token_bytes": tokens.stat().st_size,
        **video_back(clip, back, minute),
        "phases": phases,
        "other_pushes": {"frames": list(PUSHES), **compared},
    }
    return {**result, "failed": failures(result, discrete=reader.kind == "indices")}


def failures(result: dict[str, Any], *, discrete: bool) -> list[str]:
    """The checks that do not hold."""
    checks = {
        "frames in the token file": result["frames_in_tokens"] == result["frames"],
        "frames back": result["frames_back"] == result["frames"] and result["frames_missing"] == 0,
        "times": result["times_off_by_s"] == 0,
    }
    for name, phase in result["phases"].items():
        checks[f"memory of {name}"] = abs(phase["growth"]) <= GROWTH
    for name in ("whole", "last_minute"):
        part = result["other_pushes"][name]
        allowed = part["differing"] <= (1 - MIN_EQUAL) * part["numbers"]
        checks[f"tokens of other pushes, {name}"] = allowed if discrete else part["largest"] <= LATENT_TOLERANCE
    return [name for name, holds in checks.items() if not holds]


def _size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    width, _x, height = value.partition("x")
    return int(height), int(width)


@click.command()
@click.option("--minutes", default=60.0, show_default=True)
@click.option("--fps", default=30, show_default=True)
@click.option("--size", callback=_size, default="64x64", show_default=True, help="WIDTHxHEIGHT.")
@click.option("--bundle", default="tiny-kl-16chn", show_default=True)
@click.option("--provider", default="auto", show_default=True)
@click.option("--threads", type=int)
@click.option("--every", default=2.0, show_default=True, help="Seconds between two looks at the memory.")
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Where the figures go.")
def main(target: Path | None, **options: Any) -> None:
    """Run the soak test and print its figures."""
    folder = Path(tempfile.mkdtemp(prefix="vidtok-soak-"))
    try:
        result = soak(folder, **options, say=lambda text: click.echo(f"{time.strftime('%X')} {text}", err=True))
    finally:
        shutil.rmtree(folder)
    text = json.dumps(result, indent=2)
    if target is not None:
        target.write_text(text + "\n")
    click.echo(text)
    if result["failed"]:
        raise click.ClickException("failed: " + ", ".join(result["failed"]))


if __name__ == "__main__":
    main()
