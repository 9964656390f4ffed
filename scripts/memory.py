"""Measure peaks, fit the costs in `vidtok_runtime/memory/predict.py` to them, and compare tiles with whole frames.

python scripts/memory.py measure --bundle tiny-kl-16chn --size 256x256 --chunk 4 >> rows.jsonl
python scripts/memory.py measure --bundle tiny-kl-16chn --size 1280x720 --chunk 1 --tiles 3x2 >> rows.jsonl
python scripts/memory.py fit rows.jsonl
python scripts/memory.py header > runtime/cpp/include/vidtok/memory_costs.hpp
python scripts/memory.py check --size 1280x720 --max-memory 3GB
python scripts/memory.py length --size 64x64
python scripts/memory.py streams --size 128x128 --clips 8 --streams 4
python scripts/memory.py differences --bundle tiny-fsq-32768 --size 640x384 --tiles 2x2
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.bundle.manifest import Manifest, sizes_of_graphs
from vidtok_runtime.memory import predict
from vidtok_runtime.memory.planner import CallPlan
from vidtok_runtime.memory.predict import COSTS, Costs, Counts, parse_memory
from vidtok_runtime.streaming.tiled_graph import margin_of
from vidtok_runtime.streaming.tiles import Tiling, cuts
from vidtok_runtime.tokens.tokens import Tokens
from vidtok_runtime.tools.demo import synthetic_frame
from vidtok_runtime.video import look_ahead
from vidtok_runtime.video.writer import VideoWriter

ROLES = ("encoder", "decoder")
ENGINES = ("cpu", "openvino")
COMMANDS = ("encode", "decode", "reconstruct")
MIB = 2**20
LIMITS = ("150MB", "200MB", "300MB", "500MB", "1GB", "2GB", "3GB", "4GB")
# Of the process itself; ru_maxrss also counts the parent from which it was started.
PEAK = "print('peak', next(s.split()[1] for s in open('/proc/self/status') if s.startswith('VmHWM')), file=sys.stderr)"


def _size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    width, _x, height = value.partition("x")
    return int(height), int(width)


def _tilings(
    manifest: Manifest, role: str, provider: str, size: tuple[int, int], tiles: tuple[int, int]
) -> tuple[Tiling, ...]:
    """For each graph, if it can be cut, so many tiles across and down of frames of a height and width in pixels."""
    multiple = manifest.stream.spatial_multiple
    height, width = (-(-n // multiple) for n in size)
    chain = manifest.chain(role, provider, None)
    margins = [margin_of(graph, multiple) if tiles != (1, 1) else None for graph in chain]
    if tiles != (1, 1) and all(margin is None for margin in margins):
        raise click.ClickException(f"the {role} of {manifest.name} cannot be cut into tiles")
    tilings = []
    for margin in margins:
        if margin is None:
            tilings.append(Tiling.whole(height, width))
            continue
        found = []
        for length, count in ((height, tiles[0]), (width, tiles[1])):
            found += [axis for axis in cuts(length, margin) if len(axis.tiles) == count]
        if len(found) < 2:
            raise click.ClickException(f"{role}: frames of {size[1]}x{size[0]} have no {tiles[1]}x{tiles[0]} tiles")
        tilings.append(Tiling(*found))
    return tuple(tilings)


def _peak(code: str) -> tuple[float, str]:
    """Bytes at the peak of a new process, and what it wrote to stderr before."""
    done = subprocess.run([sys.executable, "-c", f"import sys\n{code}\n{PEAK}"], capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(done.stderr)
    text, _, peak = done.stderr.rpartition("peak ")
    return int(peak) * 1024, text.strip()


def _run(*arguments: str | Path) -> tuple[float | None, str]:
    """Bytes at the peak of a `vidtok-run` (None: it refused its limit), and what it wrote to stderr."""
    command = [*map(str, arguments), "--force", "--quiet"]
    try:
        return _peak(f"from vidtok_runtime.cli import main; main({command!r}, standalone_mode=False)")
    except click.ClickException as error:
        if "does not fit into" not in error.message:
            raise
        return None, error.message.strip()


@click.group()
def main() -> None:
    """Measure and model peak memory."""


bundle_option = click.option("--bundle", default="tiny-kl-16chn", show_default=True)
size_option = click.option("--size", callback=_size, default="256x256", show_default=True, help="WIDTHxHEIGHT.")
provider_option = click.option("--provider", "providers", multiple=True, default=ENGINES, show_default=True)
tiles_option = click.option("--tiles", callback=_size, default="1x1", show_default=True, help="Across x down.")


@main.command()
@bundle_option
@size_option
@tiles_option
@click.option("--chunk", default=4, show_default=True, help="Latents a graph call.")
@click.option("--calls", default=3, show_default=True, help="Calls; engines reach their peak in the second or later.")
@provider_option
@click.option("--role", "roles", multiple=True, default=ROLES, show_default=True)
def measure(
    bundle: str,
    size: tuple[int, int],
    tiles: tuple[int, int],
    chunk: int,
    calls: int,
    providers: tuple[str, ...],
    roles: tuple[str, ...],
) -> None:
    """Peak and seconds of a call (the median) of every engine and role, one JSON line each."""
    manifest = find_bundle(bundle)
    f, m = manifest.stream.time_factor, manifest.stream.spatial_multiple
    height, width = (-(-n // m) * m for n in size)
    prepare = (
        "import numpy as np, time; from dataclasses import replace; from vidtok_runtime import Tokenizer\n"
        "from vidtok_runtime.bundle.lookup import find_bundle\n"
        "from vidtok_runtime.memory.planner import CallPlan\n"
        "from vidtok_runtime.streaming.tiles import Axis, Tiling\n"
        f"m = find_bundle({bundle!r})\n"
        f"s = m.stream; calls = replace(s.encoder, max={chunk * f}), replace(s.decoder, max={chunk})\n"
        "m = replace(m, stream=replace(s, encoder=calls[0], decoder=calls[1]))\n"
    )
    data = {
        "encoder": f"np.random.default_rng(0).integers(0, 256, ({chunk * f}, {height}, {width}, 3), np.uint8)",
        "decoder": (
            f"np.random.default_rng(0).integers(0, s.codebook_size or 1, ({chunk}, {height // m}, {width // m})) if "
            f"s.codebook_size else np.zeros(({chunk}, s.latent_channels, {height // m}, {width // m}), np.float32)"
        ),
    }
    for provider, role in itertools.product(providers, roles):
        tilings = _tilings(manifest, role, provider, size, tiles)
        run = (
            f"t = Tokenizer(m, {provider!r}, threads=2)\n"
            f"t.plan = lambda *_: CallPlan({chunk}, {{{role!r}: {tilings}}})\n"
            f"t = t.{role}(); x = {data[role]}\nfor _ in range({calls}):\n"
            "    start = time.perf_counter(); t.push(x); print(time.perf_counter() - start, file=sys.stderr)"
        )
        peak, times = _peak(prepare + run)
        row = {"bundle": bundle, "provider": provider, "role": role, "height": height, "width": width}
        seconds = round(float(np.median([float(text) for text in times.split()])), 2)
        print(json.dumps({**row, "tiles": tiles, "chunk": chunk, "peak": round(peak), "seconds": seconds}), flush=True)


def _terms(row: dict[str, Any]) -> Counts:
    """What a row's peak is made of."""
    manifest, role, provider = find_bundle(row["bundle"]), row["role"], row["provider"]
    tilings = _tilings(manifest, role, provider, (row["height"], row["width"]), tuple(row["tiles"]))
    chain = manifest.chain(role, provider, None)
    return Counts.of(manifest, chain, tilings, row["chunk"], sizes_of_graphs(manifest, chain))


def _min_squares(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Non-negative least squares by coordinate descent."""
    x, gram, target = np.zeros(a.shape[1]), a.T @ a, a.T @ y
    for _ in range(20000):
        for i in range(len(x)):
            x[i] = max(0, x[i] + (target[i] - gram[i] @ x) / gram[i, i])
    return x


@main.command()
@click.argument("rows", type=click.Path(exists=True, path_type=Path))
def fit(rows: Path) -> None:
    """Costs that predict the peaks in ROWS best, and how well."""
    measured = [json.loads(line) for line in rows.read_text().splitlines()]
    for provider in ENGINES:
        some = [row for row in measured if row["provider"] == provider]
        table: list[list[float]] = []
        known, peaks = [], []
        for row in some:
            counts = _terms(row)
            now = COSTS[provider, row["role"]]
            if counts.peak(replace(now, loading=0)) < counts.peak(now):
                continue  # reading the graphs took most
            own = [[0.0, 0.0], [0.0, 0.0]]
            own[ROLES.index(row["role"])] = list(counts.running(now))
            table.append([MIB, sum(counts.weights), *own[0], *own[1]])
            known.append(counts.beside)
            peaks.append(row["peak"])
        of_peak = np.array(table, float) / np.array(peaks)[:, None]
        x = _min_squares(of_peak, 1 - np.array(known) / np.array(peaks))
        fitted: dict[str, Costs] = {}
        for i, role in enumerate(ROLES):
            own_costs = {"process": x[0], "weights": x[1], "widest": x[2 + 2 * i], "states": x[3 + 2 * i]}
            fitted[role] = replace(COSTS[provider, role], **{name: float(value) for name, value in own_costs.items()})
            print(provider, role, {name: round(value, 2) for name, value in asdict(fitted[role]).items()})
        for row in some:
            counts = _terms(row)
            guess, stored = (
                c.process * MIB + counts.peak(c) for c in (fitted[row["role"]], COSTS[provider, row["role"]])
            )
            down, across = row["tiles"]
            what = f"{Path(row['bundle']).name:<16}{row['role']} {row['width']}x{row['height']} x {row['chunk']}"
            what += f" in {across}x{down}" if (down, across) != (1, 1) else ""
            print(
                f"  {what:<46}{row['peak'] / MIB:8.0f} MiB, fitted {guess / row['peak'] - 1:+.1%}, "
                f"stored {stored / row['peak'] - 1:+.1%}"
            )


@main.command()
def header() -> None:
    """The numbers of predictions for C++, as its header `memory_costs.hpp`."""
    costs = "".join(
        f'    {{{{"{provider}", "{role}"}}, {{{", ".join(map(str, asdict(row).values()))}}}}},\n'
        for (provider, role), row in COSTS.items()
    )
    fields = ", ".join(asdict(next(iter(COSTS.values()))))
    engine, times = predict.UNMEASURED

    def table(numbers: dict[str, int]) -> str:
        return ", ".join(f'{{"{name}", {number}}}' for name, number in numbers.items())

    names = ", ".join(f'"{name}"' for name in sorted(predict.GROWING))
    click.echo(
        f"""// Written by `python scripts/memory.py header`; vidtok_runtime/memory/predict.py explains the numbers.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>

namespace vidtok::detail {{

struct Costs {{
    double {fields};
}};

inline const std::map<std::pair<std::string, std::string>, Costs> costs{{  // by provider and role
{costs}}};
inline const std::string unmeasured_engine = "{engine}";
constexpr double unmeasured_times = {times};
inline const std::set<std::string> growing{{{names}}};
inline const std::map<std::string, double> pixel_copies{{{table(predict.PIXEL_COPIES)}}};
inline const std::map<std::string, double> command_mib{{{table(predict.COMMAND)}}};
constexpr double read_bytes = {predict.READ}, write_bytes = {predict.WRITE}, write_frame_bytes = {predict.WRITE_FRAME};
constexpr double writers_a_core = {predict.WRITERS_A_CORE};
constexpr double max_ahead = {look_ahead.USUAL}, min_ahead = {look_ahead.LEAST}, pixels_ahead = {look_ahead.PIXELS};
constexpr double in_hand = {predict.IN_HAND}, doubling = {predict.DOUBLING}, kept = {predict.KEPT};

}}  // namespace vidtok::detail"""
    )


def _clip(path: Path, frames: int, height: int, width: int) -> None:
    with VideoWriter(path) as writer:
        for i in range(frames):
            writer.write(synthetic_frame(2 * i, height, width), i)
        writer.close()


def _noise(manifest: Manifest, frames: int, height: int, width: int) -> Tokens:
    """Tokens of a clip that nobody encoded: how much memory decoding takes does not depend on it."""
    stream, rng = manifest.stream, np.random.default_rng(0)
    size = [stream.latents(frames), *(-(-n // stream.spatial_multiple) for n in (height, width))]
    if stream.codebook_size is None:
        data = rng.standard_normal((size[0], stream.latent_channels, *size[1:]), np.float32)
    else:
        data = rng.integers(0, stream.codebook_size, size, np.int32)
    return Tokens(data, Tokenizer(manifest).describe(frames, height, width, 24))


@main.command()
@bundle_option
@click.option("--size", "sizes", multiple=True, default=["64x64", "256x256", "640x360", "1280x720"], show_default=True)
@click.option("--max-memory", "limits", multiple=True, default=LIMITS, show_default=True)
@click.option("--frames", default=17, show_default=True)
@provider_option
@click.option("--command", "names", multiple=True, default=COMMANDS, show_default=True)
def check(
    bundle: str,
    sizes: tuple[str, ...],
    limits: tuple[str, ...],
    frames: int,
    providers: tuple[str, ...],
    names: tuple[str, ...],
) -> None:
    """Peak of `vidtok-run` encode, decode and reconstruct under limits, beside its own prediction."""
    over = runs = 0
    os.environ["VIDTOK_CACHE"] = ""  # compiling a graph counts, too
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            clip, tokens, encoded, back = (
                Path(folder) / f"{size}{end}" for end in (".mp4", ".safetensors", "-encoded.safetensors", ".mkv")
            )
            width, height = map(int, size.split("x"))
            _clip(clip, frames, height, width)
            _noise(find_bundle(bundle), frames, height, width).save(tokens)
            takes = {"encode": (clip, encoded), "decode": (tokens, back), "reconstruct": (clip, back)}
            for provider, name in itertools.product(providers, names):
                for limit in limits:
                    source, target = takes[name]
                    command = [name, str(source), "-o", str(target), "--bundle", bundle, "--provider", provider]
                    start = time.monotonic()
                    peak, text = _run(*command, "--max-memory", limit)
                    runs, over = runs + (peak is not None), over + ((peak or 0) > parse_memory(limit))
                    found = "refused" if peak is None else f"{peak / 1e6:.0f}MB, {peak / parse_memory(limit):.2f}"
                    took = f"{time.monotonic() - start:.0f}s"
                    print(f"{size:<10}{provider:<9} {name:<12}{limit:<7}{found:<15}{took:<7}{text}", flush=True)
                    if "calls of 16 frames" in text:
                        break  # a larger limit changes nothing
    print(f"{over} of {runs} runs came above their limit")


@main.command()
@bundle_option
@size_option
@click.option("--frames", default=17, show_default=True)
@click.option("--times", default=50, show_default=True, help="Length of the long clip in short ones.")
def length(bundle: str, size: tuple[int, int], frames: int, times: int) -> None:
    """Peak of `vidtok-run reconstruct` for a clip and for one many times as long."""
    with tempfile.TemporaryDirectory() as name:
        for provider in ENGINES:
            peaks = []
            for count in (frames, frames * times):
                clip = Path(name) / f"{count}.mp4"
                if not clip.exists():
                    _clip(clip, count, *size)
                command = ["reconstruct", str(clip), "--bundle", bundle, "--provider", provider, "--force", "--quiet"]
                peaks.append(_peak(f"from vidtok_runtime.cli import main; main({command!r}, standalone_mode=False)")[0])
            print(
                f"{provider:<10}{peaks[0] / MIB:.1f} and {peaks[1] / MIB:.1f} MiB: {peaks[1] / peaks[0]:.4f}",
                flush=True,
            )


_STREAMS = """
import sys, tempfile, numpy as np
from pathlib import Path
from vidtok_runtime import Tokenizer
from vidtok_runtime.dataset.job import EncodeRecipe, Job
from vidtok_runtime.dataset.reading import ClipFrames, ClipStart
from vidtok_runtime.dataset.worker import Worker
height, width, clips, streams = {numbers}
worker = Worker(EncodeRecipe(lambda: Tokenizer({bundle!r}, {provider!r}, threads=2), {{}}))
tok = worker._tok
tok.plans.available = 2**60
plan = tok.plan("encoder", height, width, clips=clips)
tok.plans.available = plan.peak + (streams - 1) * plan.held
starts, step = [], plan.chunk * tok.stream.time_factor
with tempfile.TemporaryDirectory() as folder:
    while True:
        batch = tuple(Job(name, name, Path(folder) / name) for name in (f"{{len(starts)}}-{{i}}" for i in range(clips)))
        starts.append(ClipStart(batch, height, width))
        if not worker.has_room(starts[-1]):
            break
        worker.take(batch[0], starts[-1])
    for first in range(0, 3 * step, step):
        for start in starts[:-1]:
            for job in start.batch:
                frames = np.random.default_rng(0).integers(0, 256, (step, height, width, 3), np.uint8)
                worker.take(job, ClipFrames(frames, range(first, first + step)))
print(len(starts) - 1, tok.plans.available, file=sys.stderr)
"""


@main.command()
@bundle_option
@size_option
@provider_option
@click.option("--clips", default=8, show_default=True, help="In a call.")
@click.option("--streams", default=4, show_default=True, help="That the memory is to be enough for.")
def streams(bundle: str, size: tuple[int, int], providers: tuple[str, ...], clips: int, streams: int) -> None:
    """A worker of `dataset` that may begin so many streams: how many it begins, its peak and what it is allowed."""
    for provider in providers:
        code = _STREAMS.format(numbers=(*size, clips, streams), bundle=bundle, provider=provider)
        peak, said = _peak(code)
        begun, allowed = map(int, said.split()[-2:])
        print(
            f"{provider:<10}{begun} streams of {clips} clips: {peak / MIB:.0f} of {allowed / MIB:.0f} MiB", flush=True
        )


@main.command()
@bundle_option
@size_option
@tiles_option
@click.option("--frames", default=9, show_default=True)
@click.option("--provider", default="openvino", show_default=True)
@click.option("--precision", default="fp32", show_default=True)
def differences(
    bundle: str, size: tuple[int, int], tiles: tuple[int, int], frames: int, provider: str, precision: str
) -> None:
    """Encode and decode in tiles beside whole frames."""
    video = np.stack([synthetic_frame(2 * i, *size) for i in range(frames)])
    whole, tiled = (Tokenizer(bundle, provider, precision=precision) for _ in range(2))
    grids = {role: _tilings(tiled.manifest, role, provider, size, tiles) for role in ROLES}
    tiled.plan = lambda *_: CallPlan(1, grids)  # type: ignore[method-assign]
    tokens, other = whole.encode(video), tiled.encode(video)
    decoded, back = whole.decode(tokens, "float32"), tiled.decode(tokens, "float32")
    if tokens.data.ndim == 3:
        same = f"{(tokens.data != other.data).sum()} of {tokens.data.size} tokens differ"
    else:
        same = f"latents differ by {np.abs(tokens.data - other.data).max() / np.abs(tokens.data).max():.1e}"
    print(
        f"{provider} {precision}, {tiles[1]}x{tiles[0]} tiles: {same}; "
        f"frames differ by {np.abs(decoded - back).max() / np.abs(decoded).max():.1e} of the largest value"
    )


if __name__ == "__main__":
    main()
