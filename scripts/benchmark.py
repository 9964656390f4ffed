"""Measure ours and the peer in the same run: speed and start-up. Memory: scripts/memory.py.

python scripts/benchmark.py speed --variant kl-4chn --size 64 --size 128 --json speed.json --plot speed.png
python scripts/benchmark.py start
python scripts/benchmark.py batch
python scripts/benchmark.py dataset --json dataset.json
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from vidtok_runtime.bench.plan import Case, Peer, bundle_peers, cases, side_command
from vidtok_runtime.bench.process import example
from vidtok_runtime.bench.report import Files, write
from vidtok_runtime.bench.run import MATRIX, machine, run_bench
from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.engines.registry import usable_providers
from vidtok_runtime.errors import VidtokError
from vidtok_runtime.files import PartFile

if TYPE_CHECKING:
    from vidtok_ref import VideoTokenizer

ENGINES = ("cpu", "openvino")
FILE = click.Path(path_type=Path, dir_okay=False)
TORCH_SIDE = Path(__file__).with_name("torch_side.py")


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


def _print_times(title: str, times: dict[str, float], peer: str) -> None:
    print(f"\n{title}")
    for engine, seconds in times.items():
        print(f"  {engine:<30}{seconds:>9.3f} s{times[peer] / seconds:>9.2f}x")


@click.group()
def main() -> None:
    """Measure ours and the peer in the same run."""


def _peers(
    manifest: Manifest, case: Case, weights: Path, graph: Path | None, modes: list[str], whose: list[str]
) -> list[Peer]:
    """The PyTorch sides, then the straight export, if there is one, on the engines that can be used."""
    bundle = str(manifest.folder.resolve())
    about = {key: value for key, value in asdict(case).items() if key != "device_id"} | {"bundle": bundle}
    peers = []
    for of in whose:
        for mode in modes:
            spec = json.dumps(about | {"weights": str(weights), "mode": mode, "whose": of})
            title = "PyTorch" if of == "reference" else "Release"
            peers.append(Peer(f"{title} {mode}", "cpu", "fp32", (sys.executable, str(TORCH_SIDE), spec)))
    if graph is None:
        return peers
    about |= {"device_id": 0, "precision": "fp32", "straight": str(graph)}
    engines = [provider for provider in usable_providers() if provider in ENGINES]
    sides = (side_command(**about, provider=provider) for provider in engines)
    return peers + [Peer("straight export", e, "fp32", side) for e, side in zip(engines, sides, strict=True)]


def _straight(manifest: Manifest, model: VideoTokenizer, case: Case, work: Path) -> Path:
    """The straight export for a case, made unless the folder has it."""
    import torch
    from torch_side import export_straight

    name = f"straight-{manifest.weights_sha256[:12]}-{case.role}-{case.frames}x{case.height}x{case.width}.onnx"
    if not (work / name).is_file():
        print(f"exporting {name}", flush=True)
        x = torch.from_numpy(example(manifest, case.role, case.frames, case.height, case.width))
        target = PartFile(work / name)
        export_straight(model, case.role, x, target.part)
        target.commit()
    return work / name


def _unlike_new(model: VideoTokenizer) -> None:
    """Give norms scales and shifts: those of a new network are 1 and 0, and simplification leaves them out."""
    import torch

    from vidtok_ref.layers.norm import RMSNorm

    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, torch.nn.LayerNorm | torch.nn.GroupNorm):
            for parameter, mean in ((layer.weight, 1), (layer.bias, 0)):
                if parameter is not None:
                    torch.nn.init.normal_(parameter, mean, 0.1, generator=generator)
        elif isinstance(layer, RMSNorm):
            torch.nn.init.normal_(layer.gamma, 1, 0.1, generator=generator)
    model.seed = None  # says that it cannot be built again from there


def _bundle_of(bundle: str | None, variant: str, ch: int | None, work: Path) -> Manifest:
    """The given bundle, or one of the untrained variant, made unless the folder has it."""
    from vidtok_export import export
    from vidtok_ref import build
    from vidtok_ref.families.weights_file import write_weights

    if bundle:
        return find_bundle(bundle)
    folder = work / f"{Path(variant).name}{f'-ch{ch}' if ch else ''}"
    if not (folder / "weights.safetensors").is_file():  # written last
        model = build(variant, **({"ch": ch} if ch else {}))
        _unlike_new(model)
        export(model, folder, force=True, quiet=False)
        write_weights(model, folder / "weights.safetensors")
    return find_bundle(folder)


@main.command()
@click.option("--bundle", help="Folder or shipped name; else made of --variant, untrained.")
@click.option("--variant", default="kl-4chn", show_default=True)
@click.option("--ch", type=int, help="Width, instead of the variant's own.")
@click.option("--frames", default=16, show_default=True, help="Frames a call.")
@click.option("--size", "sizes", multiple=True, type=int, default=(64,), show_default=True, help="Side; repeat.")
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=7, show_default=True)
@click.option("--compile/--no-compile", "compiled", default=True, help="PyTorch compile (minutes at full width).")
@click.option("--straight/--no-straight", default=True, help="The straight export (minutes at full width).")
@click.option("--release/--no-release", default=True, help="The release's own implementation, where it is installed.")
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="Keeps what is exported for a next run.")
@click.option("--json", "figures", type=FILE, help="Also write the figures to this file.")
@click.option("--plot", type=FILE, help="Draw frames a second (.png, .svg).")
@click.option("--force", is_flag=True, help="Replace existing figures.")
def speed(
    bundle: str | None,
    variant: str,
    ch: int | None,
    frames: int,
    sizes: tuple[int, ...],
    threads: int,
    repeats: int,
    compiled: bool,
    straight: bool,
    release: bool,
    work: Path | None,
    figures: Path | None,
    plot: Path | None,
    force: bool,
) -> None:
    """Encode and decode beside PyTorch eager and compiled and its straight export; ratios are to the first of them.

    Where a family has the release's own implementation (`pip install 'vidtok-onnx[peers]'`), that comes first.
    """
    from vidtok_export.verify import reference_of
    from vidtok_ref.families import family_of
    from vidtok_ref.families.weights_file import write_weights

    targets = Files(figures, plot, force).open()
    with tempfile.TemporaryDirectory() as temporary:
        work = work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        manifest = _bundle_of(bundle, variant, ch, work)
        model = reference_of(manifest)
        weights = Path(temporary) / "weights.safetensors"
        write_weights(model, weights)
        modes = ["compile", "eager"] if compiled else ["eager"]
        whose = ["reference"]
        if release and family_of(model.config).release(model) is not None:
            whose.insert(0, "release")
        plan = {}
        for case in cases(manifest, sizes, frames, threads):
            graph = _straight(manifest, model, case, work).resolve() if straight else None
            peers = _peers(manifest, case, weights.resolve(), graph, modes, whose)
            plan[case] = [*peers, *bundle_peers(manifest, case)]
        del model
        product = (sys.executable, str(TORCH_SIDE), json.dumps({"matmul": MATRIX, "threads": threads}))
        bench = run_bench(manifest, plan, repeats, {"torch matmul": product})
    write(bench, targets)


_LOAD = """
from pathlib import Path
from vidtok_ref import build
from vidtok_ref.families.weights_file import embedded_variant
model = build(embedded_variant({weights!r}), {weights!r})
"""
_ENCODE = """
import numpy as np, torch
from vidtok_runtime.video.reader import VideoReader
torch.set_num_threads({threads})
with VideoReader({clip!r}) as reader:
    video = np.stack([frame.pixels for frame in reader])
x = torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
with torch.inference_mode():
    np.save({out!r}, model.encode(x).latent.numpy())
"""


@main.command()
@click.option("--bundle", default="tiny-kl-16chn", show_default=True, help="A shipped one, with its weights beside it.")
@click.option("--frames", default=16, show_default=True)
@click.option("--size", default=256, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=7, show_default=True)
@click.option("--json", "figures", type=FILE, help="Also write the figures to this file.")
@click.option("--force", is_flag=True, help="Replace existing figures.")
def start(bundle: str, frames: int, size: int, threads: int, repeats: int, figures: Path | None, force: bool) -> None:
    """Process start to tokens on disk, beside what PyTorch needs to import, to load the model and to do the same."""
    from vidtok_runtime.tools.demo import synthetic_frame
    from vidtok_runtime.video.writer import VideoWriter

    target = PartFile(figures, force=force) if figures else None
    with tempfile.TemporaryDirectory() as name:
        clip, out = Path(name) / "clip.mp4", Path(name) / "out"
        with VideoWriter(clip) as writer:
            for i in range(frames):
                writer.write(synthetic_frame(i, size, size), i)
            writer.close()
        manifest = find_bundle(bundle)
        about = {"weights": str(next(manifest.folder.glob("*.safetensors"))), "clip": str(clip), "out": str(out)}
        load, encode = _LOAD.format(**about), _ENCODE.format(**about, threads=threads)
        run = ["-m", "vidtok_runtime.cli", "encode", clip, "-o", out, "--force", "--quiet", "--bundle", bundle]
        commands: dict[str, list[object]] = {
            f"vidtok-run encode, {provider}": [*run, "--provider", provider, "--threads", threads]
            for provider in usable_providers()
        } | {
            "PyTorch: import": ["-c", "import torch"],
            "PyTorch: and load": ["-c", load],
            "PyTorch: and encode": ["-c", load + encode],
            "import vidtok_runtime": ["-c", "import vidtok_runtime"],
            "import numpy": ["-c", "import numpy"],
            "Python alone": ["-c", "pass"],
        }
        tasks = {
            name: lambda command=command: subprocess.run([sys.executable, *map(str, command)], check=True)  # type: ignore[misc]
            for name, command in commands.items()
        }
        times = _median_times(tasks, repeats)
    title = f"{frames} frames of {size}x{size} with {bundle}, {threads} threads: seconds from process start to end"
    _print_times(title, times, "PyTorch: and load")
    if target:
        target.write_whole(json.dumps({"what": title, "machine": machine(), "median_s": times}, indent=1).encode())


@main.command()
@click.option("--bundle", default="tiny-kl-16chn", show_default=True)
@click.option("--size", default=128, show_default=True, help="Side.")
@click.option("--frames", default=17, show_default=True, help="Of a clip.")
@click.option("--clips", "counts", multiple=True, type=int, default=(1, 2, 4, 8), show_default=True, help="In a call.")
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def batch(bundle: str, size: int, frames: int, counts: tuple[int, ...], threads: int, repeats: int) -> None:
    """Encode and decode clips one by one and side by side, on every engine and precision that BUNDLE has."""
    from vidtok_runtime import Tokenizer
    from vidtok_runtime.tools.demo import synthetic_frame

    video = np.stack([synthetic_frame(i, size, size) for i in range(frames)])
    manifest = find_bundle(bundle)
    for provider in usable_providers():
        for precision in dict.fromkeys(g.precision for g in manifest.graphs if provider in g.providers):
            tok = Tokenizer(manifest, provider, threads, precision)
            tokens = tok.encode(video)
            for what, whole, single in (
                ("encode", tok.encode_batch, video),
                ("decode", tok.decode_batch, tokens),
            ):
                tasks = {count: partial(whole, [single] * count) for count in counts}
                times = _median_times({f"{count}": task for count, task in tasks.items()}, repeats)
                rates = {count: count / times[f"{count}"] for count in counts}
                print(f"{what}, {provider} {precision}: clips a second, {frames} frames of {size}x{size}")
                for count, rate in rates.items():
                    print(f"  {count} in a call{rate:>9.2f}{rate / rates[counts[0]]:>9.2f}x", flush=True)


@main.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path, file_okay=False), required=False)
@click.option("--bundle", default="tiny-kl-16chn", show_default=True, help="A shipped one, with its weights beside it.")
@click.option("--size", default="128x128", show_default=True, help="As for vidtok-run, a square.")
@click.option("--repeats", default=3, show_default=True, help="Rounds, in each of which all things have their turn.")
@click.option("--copies", default=2, show_default=True, help="Times that the clips are done, one after the other.")
@click.option("--clips", "counts", multiple=True, type=int, default=(1, 2, 4, 8), show_default=True, help="In a call.")
@click.option("--torch/--no-torch", default=True, help="The same job in PyTorch (its compiler takes a minute).")
@click.option("--json", "figures", type=FILE, help="Also keep the figures in this file, with those of earlier rounds.")
def dataset(
    folder: Path | None,
    bundle: str,
    size: str,
    repeats: int,
    copies: int,
    counts: tuple[int, ...],
    torch: bool,
    figures: Path | None,
) -> None:
    """A data set: reading alone, encoding alone, both, and the same job in PyTorch, in frames a second on all cores.

    Without FOLDER it makes its clips. The ideal is what reading and encoding allow that share the cores.
    """
    import dataset_speed

    what = f"clips of {bundle} at {size}, frames a second"
    about = {"what": what, "machine": machine()}
    known: dict[str, Any] = {**about, "frames/s, cores": {}}
    if figures and figures.is_file():
        known = json.loads(figures.read_bytes())
        if not isinstance(known, dict) or {key: known.get(key) for key in about} != about:
            raise click.ClickException(
                f"{figures} has figures of something else or of another machine; name another file"
            )
    found: dataset_speed.Figures = known["frames/s, cores"]
    with tempfile.TemporaryDirectory() as name:
        if folder is None:
            folder = Path(name)
            dataset_speed.make_clips(folder)
        for measured in dataset_speed.rounds(bundle, folder, size, repeats, copies, torch, counts):
            for thing, rate in measured.items():
                found.setdefault(thing, []).append(rate)
            if figures:  # after each round, of which one takes minutes
                PartFile(figures, force=True).write_whole(json.dumps(known, indent=1).encode())
    print(f"{what}: {machine()}\n{dataset_speed.report(found)}")


if __name__ == "__main__":
    try:
        main()
    except VidtokError as error:
        sys.exit(f"benchmark.py: error: {error}")
