"""The paper's Table 1, measured here: every system whose checkpoint is in a folder, beside what was published.

python scripts/table1.py clips/ --checkpoints checkpoints/ --lpips lpips-vgg.onnx --fvd fvd-17.onnx
python scripts/table1.py clips/ --seed 0 --overrides narrow.json --size 64     # proves the way with untrained weights

Again: what the work folder has already is not measured a second time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from table1_report import calls, markdown, picture
from tqdm import tqdm

from vidtok_export.errors import ExportError
from vidtok_ref import VARIANTS, ModelError
from vidtok_runtime.bench.plan import bundle_peers, cases
from vidtok_runtime.bench.run import machine, run_bench
from vidtok_runtime.bundle.manifest import Manifest, read_manifest
from vidtok_runtime.engines.registry import choose_provider
from vidtok_runtime.errors import BundleError, InputError, ProviderError, VidtokError
from vidtok_runtime.files import PartFile, files_in, is_file
from vidtok_runtime.machine import cores
from vidtok_runtime.quality.graph_metrics import FVD_CLIPS
from vidtok_runtime.quality.picture import check_picture

PUBLISHED = Path(__file__).with_name("published_table1.json")
FRAMES, SIDE = 17, 256  # of the published protocol
Overrides = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """How everything is measured: the weights' folder or the seed of untrained ones, clips, side, engine, graphs."""

    clips: Path
    work: Path
    checkpoints: Path | None
    seed: int | None
    overrides: Overrides
    size: int
    provider: str
    threads: int
    repeats: int
    lpips: Path | None
    fvd: Path | None


@dataclass
class System:
    """A system: what was published, and what was measured here; what is missing in words."""

    published: dict[str, Any]
    measured: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def variant(self) -> str:
        """Its name here."""
        name: str = self.published["variant"]
        return name


def published() -> list[dict[str, Any]]:
    """The systems of the paper's table in its order."""
    rows: list[dict[str, Any]] = json.loads(PUBLISHED.read_text("utf-8"))["systems"]
    return rows


def read_overrides(path: Path | None) -> Overrides:
    """Fields to replace by variant, from JSON; raises InputError."""
    if path is None:
        return {}
    try:
        raw = json.loads(path.read_text("utf-8"))
        return {
            variant: {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            for variant, fields in raw.items()
        }
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no JSON object of fields by variant ({error})") from error


def checkpoint_of(folder: Path, variant: str) -> Path | None:
    """The file or folder in `folder` that is named after a variant; raises InputError where there are several."""
    found = [
        path for path in sorted(folder.iterdir()) if path.name == variant or (is_file(path) and path.stem == variant)
    ]
    if len(found) > 1:
        raise InputError(f"{folder} has {' and '.join(path.name for path in found)}; leave one of them")
    return found[0] if found else None


def costs(variant: str, size: int, overrides: dict[str, Any]) -> dict[str, Any]:
    """How clips become calls, parameters, and multiply-adds of encoding and decoding a clip, of the reference."""
    import torch

    from vidtok_export.operations import clip_multiply_adds
    from vidtok_ref.families import find_variant, make_model

    with torch.device("meta"):
        model = make_model(find_variant(variant, **overrides))
    return {
        "calls": calls(model.stream),
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiply_adds": clip_multiply_adds(model, FRAMES, size, size),
    }


def bundle_of(variant: str, checkpoint: Path | None, settings: Settings) -> Manifest:
    """The bundle of a variant in the work folder, exported unless it is there with these weights.

    Raises ModelError, ExportError.
    """
    from vidtok_export import export
    from vidtok_ref import build
    from vidtok_ref.weights import weights_sha256

    model = build(variant, checkpoint, seed=settings.seed or 0, **settings.overrides.get(variant, {}))
    folder = settings.work / "bundles" / variant
    config = json.loads(json.dumps(model.config.to_dict()))
    try:
        there = read_manifest(folder)
        if (there.weights_sha256, there.raw["config"]) == (weights_sha256(model), config):
            return there
    except BundleError:
        pass  # none yet
    folder.parent.mkdir(parents=True, exist_ok=True)
    return read_manifest(export(model, folder, force=True))


def kept(path: Path, asked: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured before under the same conditions, or what is measured and kept now."""
    asked = json.loads(json.dumps(asked))
    if is_file(path):
        before = json.loads(path.read_text("utf-8"))
        if before["asked"] == asked:
            found: dict[str, Any] = before["found"]
            return found
    found = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    PartFile(path, force=True).write_whole(json.dumps({"asked": asked, "found": found}, indent=1).encode())
    return found


def _stamp(path: Path | None) -> list[Any] | None:
    """By which a changed file is noticed."""
    return None if path is None else [path.name, path.stat().st_size, path.stat().st_mtime_ns]


def quality(manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """What `vidtok-run eval` finds, in a process of its own; raises VidtokError."""
    graphs = {"--lpips": settings.lpips, "--fvd": settings.fvd}
    asked = {
        "weights": manifest.weights_sha256,
        "clips": [_stamp(path) for path in files_in(settings.clips)],
        "size": settings.size,
        "provider": settings.provider,
        **{name: _stamp(path) for name, path in graphs.items()},
    }

    def measure() -> dict[str, Any]:
        part = settings.work / "eval" / f"{manifest.name}.figures.json"
        part.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "vidtok_runtime.cli", "eval", settings.clips, "--bundle", manifest.folder]
        command += ["--size", settings.size, "--provider", settings.provider, "--threads", settings.threads]
        command += ["--precision", "fp32", "--json", part, "--force", "--quiet"]
        for option, graph in graphs.items():
            command += [option, graph] if graph else []
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise VidtokError(done.stderr.strip().splitlines()[-1].removeprefix("vidtok-run: error: "))
        (result,) = json.loads(part.read_text("utf-8"))["results"]
        part.unlink()
        left_out = [line for line in done.stdout.splitlines() if line.startswith("left out: ")]
        return {"result": result, "left_out": left_out}

    return kept(settings.work / "eval" / f"{manifest.name}.json", asked, measure)


def speed(manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """Frames a second and peak MiB of both roles, each in a fresh process, as `vidtok-run bench` measures them."""
    measured_on = machine()
    asked = {
        "weights": manifest.weights_sha256,
        "machine": measured_on,
        **{name: getattr(settings, name) for name in ("size", "provider", "threads", "repeats")},
    }

    def measure() -> dict[str, Any]:
        plan = {
            case: bundle_peers(manifest, case, [settings.provider], ["fp32"])
            for case in cases(manifest, [settings.size], None, settings.threads)
        }
        bench = run_bench(manifest, plan, settings.repeats, say=lambda _: None, quiet=True)
        if bench.left_out:
            raise ProviderError("; ".join(bench.left_out.values()))
        return {
            row.case.role: {"frames_per_second": row.frames_per_second, "peak_mib": row.peak_mib, "call_s": row.call_s}
            for row in bench.rows
        }

    return kept(settings.work / "bench" / f"{manifest.name}.json", asked, measure)


def measure_row(row: System, settings: Settings, tick: Callable[[str], object]) -> None:
    """Fill a row as far as it can be; tick: is told every step. Raises VidtokError, ModelError, ExportError."""
    name = row.variant
    if name not in VARIANTS:
        row.missing.append("not here yet: no family has it")
        return
    tick(f"{name}: costs")
    row.measured |= costs(name, settings.size, settings.overrides.get(name, {}))
    checkpoint = None
    if settings.checkpoints:
        checkpoint = checkpoint_of(settings.checkpoints, name)
        if checkpoint is None:
            row.missing.append(f"no checkpoint: put {name}.safetensors, .ckpt or a folder {name} into the folder")
            return
    tick(f"{name}: export")
    manifest = bundle_of(name, checkpoint, settings)
    row.measured |= {
        "licence": manifest.raw["licence"],
        "weights_sha256": manifest.weights_sha256,
        "parity": manifest.raw.get("parity", {}).get("rows", []),
    }
    tick(f"{name}: eval")
    found = quality(manifest, settings)
    row.measured |= {"quality": found["result"]}
    row.missing += found["left_out"]
    tick(f"{name}: bench")
    row.measured |= {"speed": speed(manifest, settings)}


STEPS = 4  # of a row, at most


def measure_all(settings: Settings, variants: tuple[str, ...], *, quiet: bool) -> tuple[list[System], bool]:
    """All rows, and whether something failed that is there."""
    known = {system["variant"]: system for system in published()}
    names = variants or tuple(known)
    unknown = [name for name in names if name not in known and name not in VARIANTS]
    if unknown:
        raise InputError(f"{unknown[0]} is neither in the table nor a variant; vidtok-export --list shows them")
    rows = [System(known.get(name, {"method": name, "variant": name})) for name in names]
    failed = False
    with tqdm(total=STEPS * len(rows), unit="step", disable=quiet) as bar:
        for number, row in enumerate(rows):

            def tick(what: str) -> None:
                bar.set_description(what)
                bar.update()

            try:
                measure_row(row, settings, tick)
            except (VidtokError, ModelError, ExportError) as error:
                row.missing.append(f"failed: {error}")
                failed = True
            bar.update(STEPS * (number + 1) - bar.n)
    return rows, failed


def notes(settings: Settings, rows: list[System]) -> list[str]:
    """What is missing or differs from the published protocol, for all rows."""
    said = []
    if settings.size != SIDE:
        said.append(f"frames of {settings.size}x{settings.size}, published figures are of {SIDE}x{SIDE}")
    if settings.lpips is None:
        said.append("LPIPS is not measured: make its graph with vidtok-export metric lpips and give --lpips")
    if settings.fvd is None:
        said.append("FVD is not measured: make its graph with vidtok-export metric fvd and give --fvd")
    counts = [len(row.measured["quality"]["clips"]) for row in rows if "quality" in row.measured]
    if settings.fvd and counts and min(counts) < FVD_CLIPS:
        said.append(
            f"FVD of {min(counts)} clips is another, larger number than a published one, over {FVD_CLIPS} or more"
        )
    return said + [f"{row.published['method']} ({row.variant}): {text}" for row in rows for text in row.missing]


@click.command()
@click.argument("clips", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--checkpoints",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with a checkpoint, a file or a folder, named after each variant.",
)
@click.option("--seed", type=int, help="Untrained weights from this seed, instead of checkpoints.")
@click.option(
    "--overrides",
    "overrides_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON of other sizes by variant, as {"kl-4chn": {"ch": 8}}.',
)
@click.option("--variant", "variants", multiple=True, help="Only this one; repeat.  [default: the whole table]")
@click.option("--lpips", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Graph of LPIPS.")
@click.option("--fvd", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Graph of FVD.")
@click.option("--size", type=click.IntRange(8), default=SIDE, show_default=True, help="Centre square.")
@click.option("--provider", default="auto", show_default=True, help="Engine, as for vidtok-run.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: one a core]")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Calls that are timed.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("table1"),
    show_default=True,
    help="Name of the files to write, without .md, .json and .png.",
)
@click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path), help="Keeps bundles and figures.  [default: OUT.work]"
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def main(
    clips: Path,
    checkpoints: Path | None,
    seed: int | None,
    overrides_file: Path | None,
    variants: tuple[str, ...],
    lpips: Path | None,
    fvd: Path | None,
    size: int,
    provider: str,
    threads: int | None,
    repeats: int,
    out: Path,
    work: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Measure the systems of the paper's Table 1 on CLIPS and write OUT.md, OUT.json and OUT.png.

    By the published protocol: 30 frames a second, 17 frames, the centre 256x256.
    """
    if (checkpoints is None) == (seed is None):
        raise click.UsageError("give --checkpoints FOLDER, or --seed N for untrained weights")
    targets = {suffix: PartFile(out.with_name(out.name + suffix), force=force) for suffix in (".md", ".json", ".png")}
    check_picture(targets[".png"].path)
    settings = Settings(
        clips,
        work or out.with_name(f"{out.name}.work"),
        checkpoints,
        seed,
        read_overrides(overrides_file),
        size,
        choose_provider(provider),
        threads or cores(),
        repeats,
        lpips,
        fvd,
    )
    rows, failed = measure_all(settings, variants, quiet=quiet)
    narrow = f", other sizes from {overrides_file.name}" if overrides_file else ""
    title = "The paper's Table 1, measured here"
    if seed is not None:
        title = f"UNTRAINED: {title} with random weights (seed {seed}{narrow})"
    elif narrow:
        title += narrow
    report = {
        "title": title,
        "published": {k: v for k, v in json.loads(PUBLISHED.read_text("utf-8")).items() if k != "systems"},
        "protocol": next((r.measured["quality"]["protocol"] for r in rows if "quality" in r.measured), None),
        "clips": len(files_in(clips)),
        "provider": settings.provider,
        "threads": settings.threads,
        "machine": machine(),
        "notes": notes(settings, rows),
        "systems": [asdict(row) for row in rows],
    }
    targets[".md"].write_whole(markdown(report).encode())
    targets[".json"].write_whole((json.dumps(report, indent=1) + "\n").encode())
    targets[".png"].write_whole(picture(report, ".png"))
    click.echo(f"{title}: {', '.join(str(target.path) for target in targets.values())}")
    for note in report["notes"]:
        click.echo(f"missing or different: {note}")
    if failed or not any("quality" in row.measured for row in rows):
        raise VidtokError(
            "nothing could be measured" if not failed else "not everything that is there could be measured"
        )


if __name__ == "__main__":
    try:
        main()
    except VidtokError as error:
        sys.exit(f"table1.py: error: {error}")
