"""Tables 2, 3 and 4 of the paper at small size: equal runs, one after the other, into docs/ablations.md.

python scripts/ablations.py run CLIPS RUNS                 (again: goes on where it was)
python scripts/ablations.py run CLIPS RUNS --table stages
python scripts/ablations.py page                           (tables and curves of the runs that are done)

What a run gave is kept in docs/ablations/, so that nothing is trained twice.
"""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from pages import put

from vidtok_export.operations import multiply_adds
from vidtok_ref import build, find_variant
from vidtok_ref.families import make_model
from vidtok_ref.regularizers.base import Quantizer
from vidtok_ref.regularizers.entropy import utilization
from vidtok_ref.train.material import load_material
from vidtok_ref.train.pixels import to_tensor
from vidtok_ref.train.recipe import ModelPart, Recipe, load_recipe
from vidtok_ref.train.stages import train_stages
from vidtok_ref.train.validate import reconstruct
from vidtok_ref.weights import read_weights
from vidtok_runtime.files import PartFile
from vidtok_runtime.quality.metrics import Quality
from vidtok_runtime.quality.picture import content, new_figure

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/ablations.md"
RESULTS = ROOT / "docs/ablations"
SEEDS = {"regularizers": 2, "causes": 1, "architectures": 2, "stages": 1}
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training: of which table, called what, with which seed."""

    table: str
    name: str
    seed: int
    stages: list[Recipe]

    @property
    def file(self) -> Path:
        """What is kept of it."""
        return RESULTS / f"{self.stem}.json"

    @property
    def stem(self) -> str:
        """Its name as a file's."""
        return f"{self.table}-{self.name}-{self.seed}".replace(", ", "-").replace(" ", "-").lower()


def _override(stages: list[Recipe], **overrides: Any) -> list[Recipe]:
    return [replace(s, model=replace(s.model, overrides={**s.model.overrides, **overrides})) for s in stages]


def regularizers() -> dict[str, list[Recipe]]:
    """Table 3: 4,096 codes of every kind, without and with the regularizer's own loss (for VQ commitment alone)."""
    base = load_recipe("ablation-regularizers")
    kinds = {
        "VQ": {"regularizer": "vq", "levels": (4096,)},
        "LFQ": {"regularizer": "lfq", "z_channels": 12, "levels": (2,) * 12},
        "FSQ": {},
    }
    without = [replace(stage, loss=replace(stage.loss, entropy=0.0, commitment=0.0)) for stage in base]
    return {
        f"{name}, {words}": _override(stages, **overrides)
        for name, overrides in kinds.items()
        for words, stages in (("without", without), ("with", base))
    }


def causes() -> dict[str, list[Recipe]]:
    """Why Table 3 comes out in another order here: short runs at one learning rate, with one thing changed each."""
    base = regularizers()

    def run(name: str, **parts: dict[str, Any]) -> list[Recipe]:
        (stage,) = base[name]
        changed = {part: replace(getattr(stage, part), **values) for part, values in parts.items()}
        stage = replace(stage, **changed)
        return [replace(stage, steps=1000, optimizer=replace(stage.optimizer, cooldown=1))]

    def codes(name: str, **overrides: Any) -> list[Recipe]:
        return _override(run(name), **overrides)

    return {
        "VQ": run("VQ, with"),
        "VQ, random start": run("VQ, with", model={"start": "random"}),
        "VQ, 32768 codes": codes("VQ, with", levels=(32768,)),
        "LFQ": run("LFQ, with"),
        "LFQ, random start": run("LFQ, with", model={"start": "random"}),
        "LFQ, half the learning rate": run("LFQ, with", optimizer={"learning_rate": 2.5e-4}),
        "LFQ, twice the learning rate": run("LFQ, with", optimizer={"learning_rate": 1e-3}),
        "LFQ, entropy 0.02": run("LFQ, with", loss={"entropy": 0.02}),
        "LFQ, entropy 0.1": run("LFQ, with", loss={"entropy": 0.1}),
        "LFQ, usage 0.006 for entropy": run("LFQ, with", loss={"entropy": 0.0, "usage": 0.006}),
        "LFQ, 32768 codes": codes("LFQ, with", z_channels=15, levels=(2,) * 15),
        "FSQ": run("FSQ, with"),
        "FSQ, usage 0.006 for entropy": run("FSQ, with", loss={"entropy": 0.0, "usage": 0.006}),
        "FSQ, 32768 codes": run("FSQ, with", model={"variant": "fsq-32768"}),
    }


def architectures() -> dict[str, list[Recipe]]:
    """Table 2: what is 3D, what is separated, and what resamples time."""
    base = load_recipe("ablation-architectures")
    return {name: _override(base, architecture=name) for name in ("mixed", "3d", "separated", "2d")}


def stages() -> dict[str, list[Recipe]]:
    """Table 4: at one size or at two, the encoder free or fixed in the second stage, few or more frames a second."""
    first, second = load_recipe("ablation-stages")
    both = first.steps + second.steps
    free = replace(second, model=replace(second.model, train="all"))
    fast = [replace(stage, data=replace(stage.data, fps=(8.0,))) for stage in (first, second)]
    return {
        "96 alone": [replace(first, steps=both, data=second.data)],
        "48 alone": [replace(first, steps=both)],
        "48, then 96": [first, free],
        "48, then 96, encoder fixed": [first, second],
        "48, then 96, encoder fixed, 8 fps": fast,
    }


TABLES: dict[str, Callable[[], dict[str, list[Recipe]]]] = {
    "regularizers": regularizers,
    "causes": causes,
    "architectures": architectures,
    "stages": stages,
}


def all_runs(tables: tuple[str, ...]) -> list[Run]:
    """Every run, the first seed of all of them first."""
    return [
        Run(table, name, seed, [replace(stage, seed=stage.seed + 10 * seed) for stage in recipe])
        for seed in range(max(SEEDS.values()))
        for table in tables
        if seed < SEEDS[table]
        for name, recipe in TABLES[table]().items()
    ]


def clip_operations(part: ModelPart, frames: int, size: int) -> list[int]:
    """Multiply-adds of encoding, and of decoding, a clip of square frames."""
    with torch.device("meta"):
        model = make_model(find_variant(part.variant, **part.overrides))
    padded = frames + model.stream.front_frames
    return [multiply_adds(model, role, padded, size, size) for role in ("encoder", "decoder")]


def work(stages: list[Recipe]) -> float:
    """Multiply-adds of the training: a backward pass counts as two forward ones, and a fixed part has none."""
    total = 0.0
    for stage in stages:
        encode, decode = clip_operations(stage.model, stage.data.frames, stage.data.size)
        total += stage.steps * stage.data.batch * ((1 if stage.model.train == "decoder" else 3) * encode + 3 * decode)
    return total


def logged(folders: list[Path]) -> tuple[list[list[float]], float]:
    """The curve of a run, as steps and held-out PSNR in dB, and how many hours its steps took."""
    curve, hours, before = [], 0.0, 0
    for folder in folders:
        last = 0
        with (folder / "log.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                hours += (int(row["step"]) - last) * float(row["seconds_a_step"]) / 3600
                last = int(row["step"])
                if row["held_out_psnr"]:
                    curve.append([before + last, float(row["held_out_psnr"])])
        before += last
    return curve, hours


@torch.no_grad()
def measure(run: Run, clips: Path, folder: Path) -> Row:
    """What a run that is done gave: figures over the held-out clips, and its curve."""
    part = run.stages[-1].model
    model = build(part.variant, read_weights(folder / "best.safetensors"), **part.overrides)
    quality, tokens = Quality(), []
    for clip in load_material(clips, replace(run.stages[-1].data, cache=False), quiet=True).held_out:
        for original, decoded in zip(clip, reconstruct(model, clip, torch.device("cpu")), strict=True):
            quality.add(original, decoded)
        tokens.append(model.encode(to_tensor(torch.from_numpy(clip[None]))).indices)
    used = None
    if isinstance(model.regularization, Quantizer):
        size = model.stream.codebook_size
        assert size is not None
        used = utilization(torch.cat([t.flatten() for t in tokens if t is not None]), size)
    folders = [folder] if len(run.stages) == 1 else [folder / f"stage-{i + 1}" for i in range(len(run.stages))]
    curve, hours = logged(folders)
    return {
        "table": run.table,
        "name": run.name,
        "seed": run.seed,
        "steps": sum(stage.steps for stage in run.stages),
        "parameters": sum(p.numel() for p in model.parameters()),
        "clip_operations": sum(clip_operations(part, 17, 256)),
        "training_operations": work(run.stages),
        "psnr": quality.psnr,
        "ssim": quality.ssim,
        "codebook_used": used,
        "hours": hours,
        "curve": curve,
    }


def rows_by_name(table: str) -> dict[str, list[Row]]:
    """The results of a table by the name of the run, a row a seed; names without any are left out."""
    runs = [run for run in all_runs((table,)) if run.file.is_file()]
    names = dict.fromkeys(run.name for run in runs)
    return {name: [json.loads(run.file.read_text()) for run in runs if run.name == name] for name in names}


def both(rows: list[Row], key: str, form: str) -> str:
    """The mean over seeds and, in brackets, each of them."""
    values = [row[key] for row in rows]
    if None in values:
        return "-"
    mean = format(statistics.fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ({', '.join(format(v, form) for v in values)})"


def used(rows: list[Row]) -> str:
    """Share of the codebook that occurs."""
    return both(rows, "codebook_used", ".1%")


COLUMNS: dict[str, dict[str, Callable[[list[Row]], str]]] = {
    "regularizers": {"codebook used": used},
    "causes": {"codebook used": used},
    "architectures": {
        "parameters (thousand)": lambda rows: f"{rows[0]['parameters'] / 1e3:.0f}",
        "multiply-adds of 17x256x256 (G)": lambda rows: f"{rows[0]['clip_operations'] / 1e9:.1f}",
    },
    "stages": {"multiply-adds of training (T)": lambda rows: f"{rows[0]['training_operations'] / 1e12:.0f}"},
}


def table(name: str) -> str:
    """Markdown of the results of a table."""
    more = COLUMNS[name]
    head = ["run", "PSNR (dB)", "SSIM", *more, "hours"]
    lines = [head, ["-"] * len(head)]
    for run, rows in rows_by_name(name).items():
        cells = [run, both(rows, "psnr", ".2f"), both(rows, "ssim", ".3f"), *(cell(rows) for cell in more.values())]
        lines.append([*cells, f"{sum(row['hours'] for row in rows):.1f}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def curves(name: str) -> bytes:
    """PNG: held-out PSNR over the steps, a colour a run, a line a seed."""
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    for number, (run, rows) in enumerate(rows_by_name(name).items()):
        for row in rows:
            axes.plot(*zip(*row["curve"], strict=True), color=f"C{number}", label=run if row is rows[0] else None)
    axes.set_xlabel("steps")
    axes.set_ylabel("PSNR of the held-out clips, dB")
    axes.legend(fontsize=8)
    return content(figure, ".png")


@click.group()
def main() -> None:
    """Equal runs of narrow models, as in the paper's Tables 2, 3 and 4."""


@main.command()
@click.argument("clips", type=click.Path(exists=True, path_type=Path))
@click.argument("runs", type=click.Path(file_okay=False, path_type=Path))
@click.option("--table", "tables", type=click.Choice(list(TABLES)), multiple=True, default=list(TABLES))
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
def run(clips: Path, runs: Path, tables: tuple[str, ...], threads: int) -> None:
    """Train what has not been trained yet, one run after the other, in the folder RUNS."""
    torch.set_num_threads(threads)
    RESULTS.mkdir(exist_ok=True)
    wanted = all_runs(tables)
    for number, one in enumerate(wanted, 1):
        if one.file.is_file():
            continue
        click.echo(f"run {number} of {len(wanted)}: {one.stem}")
        train_stages(one.stages, clips, runs / one.stem, accelerator="cpu")
        found = json.dumps(measure(one, clips, runs / one.stem)) + "\n"
        PartFile(one.file, force=True).write_whole(found.encode())


@main.command()
def page() -> None:
    """Write tables and pictures of what is there."""
    RESULTS.mkdir(exist_ok=True)
    for name in TABLES:
        shown = [table(name)]
        if rows_by_name(name):
            (RESULTS / f"{name}.png").write_bytes(curves(name))
            shown.append(f"![PSNR of the held-out clips over the steps](ablations/{name}.png)")
        put(PAGE, "\n\n".join(shown), f"measured: {name}")


if __name__ == "__main__":
    main()
