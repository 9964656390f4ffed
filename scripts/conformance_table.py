"""Write the tables of docs/conformance.md: every runtime here beside the reference, on the kit and on clips.

python scripts/conformance_table.py a.mp4 b.mp4           # the clips go through the shipped bundles
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from conformance_runners import ROOT, RUNNERS, Case, Results, Run, Runner
from make_kit import BUNDLES, KIT, chunk_of, decode, encode, find_model, network_input, write_case, write_cases
from numpy.typing import NDArray
from pages import put
from tqdm import tqdm

from vidtok_export.verify import reference_of
from vidtok_ref import VideoTokenizer
from vidtok_runtime.bundle.lookup import SHIPPED, shipped_names
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.evaluation.protocol import Excerpt, Protocol

TARGET = ROOT / "docs/conformance.md"
PROTOCOL = Protocol(frames=17, size=128, fps=None)
COLUMNS = "| runtime | tokens that differ | latents | frames |\n|---|---|---|---|\n"


def clip_kit(clip: Path, kit: Path) -> dict[str, VideoTokenizer]:
    """Make a kit of a clip and the shipped bundles; returns the reference models of these."""
    frames = np.stack([frame.pixels for frame in Excerpt(clip, PROTOCOL)])
    models, rows = {}, []
    for name in shipped_names():
        shutil.copytree(SHIPPED / name, kit / name)
        model = models[name] = reference_of(read_manifest(SHIPPED / name)).double()
        latents = -(-(model.stream.front_frames + len(frames)) // model.stream.time_factor)
        rows.append(write_case(kit, name, name, model, frames, [[len(frames)]], [[latents]]))
    write_cases(kit, rows)
    return models


def in_float32(models: dict[str, VideoTokenizer]) -> Run:
    """The reference itself as it usually runs."""

    def run(cases: list[Case], folder: Path) -> Results:
        for case in cases:
            model = models[case.bundle.name].float()
            results = encode(model, case.read_input()).data, decode(model, case.read_tokens())
            model.double()
            yield results

    return run


@torch.no_grad()
def distance(model: VideoTokenizer, case: Case, data: NDArray[np.int32]) -> float:
    """How far at most the encoder's output is from the cells of the given tokens, in steps of the quantizer."""
    before = model.features(network_input(model, case.read_input()), chunk_of(model))
    return float(model.regularization.distance_to_cell(before, torch.from_numpy(data)[None]).max())


@dataclass(frozen=True)
class Found:
    """How far a runtime is from the reference in one case; None: it has no tokens, or no latents."""

    frames: float
    latents: float | None = None
    tokens: tuple[int, int, float] | None = None  # that differ, of, away from their cells


def measure(runner: Runner, cases: list[Case], models: dict[str, VideoTokenizer]) -> list[Found]:
    """Every case on a runtime; raises CalledProcessError where its command fails."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for case, (data, video) in zip(cases, runner.run(cases, Path(folder)), strict=True):
            wanted = case.read_tokens().data
            assert data.shape == wanted.shape, f"{runner.name}, {case.name}: {data.shape}, not {wanted.shape}"
            frames = np.abs(video - case.read_video()).max()
            if case.tokens_exact:
                away = distance(models[case.bundle.name], case, data)
                found.append(Found(frames, tokens=(int((data != wanted).sum()), data.size, away)))
            else:
                found.append(Found(frames, latents=np.abs(data - wanted).max()))
    return found


def row(name: str, cases: list[Found]) -> str:
    """One line of a table."""
    tokens = [case.tokens for case in cases if case.tokens is not None]
    different, of = sum(t[0] for t in tokens), sum(t[1] for t in tokens)
    text = f"{different} of {of:,}" if tokens else "no tokens"
    if different:
        text += f", {max(t[2] for t in tokens):.1e} away"
    latents = [case.latents for case in cases if case.latents is not None]
    largest = f"{np.max(latents):.1e}" if latents else "no latents"  # unlike max, it keeps NaN
    return f"| {name} | {text} | {largest} | {np.max([case.frames for case in cases]):.1e} |\n"


def sections(tables: dict[str, list[Case]], models: dict[str, VideoTokenizer], runners: list[Runner]) -> str:
    """Tables of all runtimes by title; where a command fails, the row says so, and the terminal why."""
    cases = [case for some in tables.values() for case in some]
    found: dict[str, list[Found] | None] = {}
    for runner in tqdm([Runner("reference, float32", None, in_float32(models)), *runners], desc=", ".join(tables)):
        try:
            found[runner.name] = measure(runner, cases, models)
        except subprocess.CalledProcessError as error:
            tqdm.write(f"{runner.name}: {error}\n{error.stderr}")
            found[runner.name] = None
    page, start = "", 0
    for title, some in tables.items():
        latents = [np.abs(case.read_tokens().data).max() for case in some if not case.tokens_exact]
        largest = f"The largest latent is {max(latents):.1f}.\n\n" if latents else ""
        page += f"\n## {title}\n\n{largest}{COLUMNS}"
        for name, all_of_it in found.items():
            part = None if all_of_it is None else all_of_it[start : start + len(some)]
            page += f"| {name} | failed | | |\n" if part is None else row(name, part)
        start += len(some)
    return page


def by_family(cases: list[Case]) -> dict[str, list[Case]]:
    """The kit's cases by the title of their table."""
    tables: dict[str, list[Case]] = {}
    for case in cases:
        manifest = read_manifest(case.bundle)
        tables.setdefault(f"The kit, family `{manifest.family}`", []).append(case)
    return tables


@click.command()
@click.argument("clips", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(clips: tuple[Path, ...]) -> None:
    """Measure the kit, and CLIPS through the shipped bundles, and put the tables into the page."""
    from cases import read_cases

    here = [runner for runner in RUNNERS if runner.missing is None]
    kit_models = {name: find_model(spec) for name, spec in BUNDLES.items()}
    page = sections(by_family(read_cases(KIT)), kit_models, here)
    for clip in clips:
        title = f"`{clip.name}`, {PROTOCOL.frames} frames of {PROTOCOL.size}x{PROTOCOL.size}, the shipped bundles"
        with tempfile.TemporaryDirectory() as folder:
            models = clip_kit(clip, Path(folder))
            page += sections({title: read_cases(Path(folder))}, models, here)
    absent = [f"- {runner.name}: {runner.missing}\n" for runner in RUNNERS if runner.missing]
    if absent:
        page += "\nLeft out:\n\n" + "".join(absent)
    put(TARGET, page)


if __name__ == "__main__":
    main()
