"""Measure ours and the peer in the same run: speed, start-up, memory. Every claim of the README comes from here.

python scripts/benchmark.py speed --variant kl-4chn
python scripts/benchmark.py start
python scripts/benchmark.py memory clip.mp4
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

ENGINES = ("cpu", "openvino")


def _median_times(tasks: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each task; the tasks take turns, so that a slow minute hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _print_times(title: str, times: dict[str, float], peer: str, unit: float = 1.0, name: str = "s") -> None:
    print(f"\n{title}")
    for engine, seconds in times.items():
        print(f"  {engine:<22}{seconds * unit:>9.3f} {name}{times[peer] / seconds:>9.2f}x")


@click.group()
def main() -> None:
    """Measure ours and the peer in the same run."""


@main.command()
@click.option("--variant", default="kl-4chn", show_default=True)
@click.option("--ch", type=int, help="Width, instead of the variant's own.")
@click.option("--frames", default=16, show_default=True)
@click.option("--size", default=64, show_default=True, help="Height and width in pixels.")
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=7, show_default=True)
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="Exported with --seed 0; else made now.")
def speed(
    variant: str, ch: int | None, frames: int, size: int, threads: int, repeats: int, bundle: Path | None
) -> None:
    """Encode and decode beside PyTorch eager, untrained weights, one call from the initial state."""
    import torch

    from vidtok_export import export
    from vidtok_export.verify import smooth_video
    from vidtok_ref import build
    from vidtok_runtime.manifest import read_manifest
    from vidtok_runtime.session import Options, load_graph

    torch.set_num_threads(threads)
    model = build(variant, **({"ch": ch} if ch else {}))
    video = smooth_video(1, frames, size, size, seed=0)
    with torch.inference_mode():
        encoded = model.regularization(model.encoder.step(video)[0])
    source = encoded.latent if encoded.indices is None else encoded.indices

    def eager(step: Callable[..., Any], x: torch.Tensor) -> Callable[[], Any]:
        def run() -> None:
            with torch.inference_mode():
                step(x)

        return run

    tasks: dict[str, dict[str, Callable[[], Any]]] = {
        "encode": {"PyTorch eager": eager(model.encoder.step, video)},
        "decode": {"PyTorch eager": eager(model.decoder.step, encoded.latent)},
    }
    with tempfile.TemporaryDirectory() as folder:
        manifest = read_manifest(bundle or export(model, Path(folder) / "bundle", quiet=False))
        for engine in ENGINES:
            for task, role, x in (("encode", "encoder", video), ("decode", "decoder", source)):
                graph = load_graph(manifest, role, engine, None, Options(threads))
                array = np.ascontiguousarray(x.numpy())
                tasks[task][engine] = lambda graph=graph, array=array: graph.fresh().step(array)
        for task, peers in tasks.items():
            title = f"{task} {variant} ch {model.variant.ch}, {frames} frames of {size}x{size}, {threads} threads"
            _print_times(title, _median_times(peers, repeats), "PyTorch eager")


@main.command()
@click.option("--repeats", default=7, show_default=True)
def start(repeats: int) -> None:
    """Import time of the runtime beside PyTorch, in fresh processes."""
    imports = ("import torch", "import vidtok_runtime", "import numpy", "pass")
    tasks = {
        code: lambda code=code: subprocess.run([sys.executable, "-c", code], check=True)  # type: ignore[misc]
        for code in imports
    }
    _print_times("process start to end", _median_times(tasks, repeats), "import torch", 1000, "ms")


def _repeat(clip: Path, times: int, out: Path) -> None:
    from vidtok_runtime.video_in import VideoReader
    from vidtok_runtime.video_out import VideoWriter

    with VideoReader(clip) as first:
        fps = first.fps
    with VideoWriter(out, fps) as writer:
        count = 0
        for _ in range(times):
            with VideoReader(clip) as reader:
                for frame in reader:
                    writer.write(frame.pixels, count)
                    count += 1
        writer.close()


_PEAK = (
    "import resource, sys; from vidtok_runtime.cli import main; main(sys.argv[1:], standalone_mode=False); "
    "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


@main.command()
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
@click.option("--bundle", default="tiny-kl-16chn", show_default=True)
@click.option("--size", help="As for vidtok-run.")
@click.option("--times", default=10, show_default=True, help="Length of the long clip in short ones.")
def memory(clip: Path, bundle: str, size: str | None, times: int) -> None:
    """Peak memory of vidtok-run for CLIP and for the same clip several times over."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = {1: folder / "short.mp4", times: folder / "long.mp4"}
        for count, path in clips.items():
            _repeat(clip, count, path)
        for provider in ENGINES:
            peaks = []
            for count, path in clips.items():
                options = ["--bundle", bundle, "--provider", provider, "--quiet", "--force"]
                sized = ["--size", size] if size else []
                command = ["reconstruct", path, "-o", folder / "out.mp4", *sized, *options]
                done = subprocess.run(
                    [sys.executable, "-c", _PEAK, *map(str, command)], check=True, capture_output=True, text=True
                )
                *_, summary, peak = done.stdout.splitlines()
                peaks.append(int(peak.split()[1]) / 1024)
                print(f"{provider:<10}{clip.stem} x {count:<4}{peaks[-1]:8.0f} MiB   {summary.partition(': ')[2]}")
            print(f"{provider:<10}long / short: {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
