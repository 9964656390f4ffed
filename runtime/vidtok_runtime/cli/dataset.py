"""`dataset`: many clips to tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from vidtok_runtime.cli.options import ANY_FILE, ANY_FOLDER, COMMON, PlaceType, command, engines, latents, limit, source
from vidtok_runtime.dataset.progress import STYLES
from vidtok_runtime.errors import InputError, QuarantineError
from vidtok_runtime.machine import cores
from vidtok_runtime.remote import Place
from vidtok_runtime.streaming.posterior import LatentForm
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Opening


def _shard(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    from vidtok_runtime.dataset.clips import parse_shard

    try:
        return parse_shard(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


@click.command(
    epilog="Examples: vidtok-run dataset clips/ tokens/; vidtok-run dataset list.csv tokens/ --size 256 --workers 4; "
    "vidtok-run dataset shards/ tokens/ --tar 1000 --shard $SLURM_ARRAY_TASK_ID/8"
)
@click.argument("place", metavar="IN", type=PlaceType(exists=True, path_type=Path))
@click.argument("out", type=ANY_FOLDER)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes that encode.  [default: one per core, at most 4; cuda: 1 per device]",
)
@click.option(
    "--readers", type=click.IntRange(1), help="Processes that read for each of them.  [default: one per core in all]"
)
@click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, help="Clips in a call, of one size and length."
)
@click.option("--time-limit", type=float, callback=limit, help="Seconds for a clip.  [default: none]")
@click.option("--retries", type=click.IntRange(0), default=1, show_default=True, help="More tries of a failed clip.")
@click.option("--again", is_flag=True, help="Try the clips in quarantine again.")
@click.option("--verify", is_flag=True, help="Check the hash of finished files, not their size only.")
@click.option("--progress", type=click.Choice(STYLES), default="bar", show_default=True, help="json: a line per clip.")
@click.option("--metrics", type=ANY_FILE, help="File for figures of the run, in Prometheus' format.")
@click.option("--scenes", is_flag=True, help="Cut clips where shots change; each shot becomes a clip.")
@click.option(
    "--shard", callback=_shard, default="0/1", show_default=True, help="Part I of N of the clips, 0 <= I < N."
)
@click.option("--tar", "per_tar", type=click.IntRange(1), help="Put the tokens of so many clips into a webdataset tar.")
@click.option("--engine", "kind", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--actor-cpus", type=click.FloatRange(0), help="Ray: CPUs of an actor.  [default: its threads]")
@click.option("--actor-gpus", type=click.FloatRange(0), help="Ray: GPUs of an actor.  [default: 1 for cuda, else 0]")
@command(*COMMON)
@latents
@source
@engines
def dataset(
    place: Place,
    out: Place,
    half: bool,
    form: LatentForm,
    workers: int | None,
    readers: int | None,
    devices: tuple[int, ...],
    time_limit: float | None,
    retries: int,
    kind: str,
    actor_cpus: float | None,
    actor_gpus: float | None,
    selection: Selection,
    opening: Opening,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
    **options: Any,
) -> None:
    """Tokenize the clips of IN (a folder, a list .csv or .txt, webdataset shards .tar) into the folder OUT.

    The same command goes on where it was stopped, killed or crashed. A list has a column `file`; its other columns,
    and the .txt and .json beside a clip of a folder or shard, go into index.parquet. Clips that fail are listed with
    the reason in quarantine.csv, and the exit code is 1. Workers share the cores equally, unless --threads says how
    many each has; other processes read clips ahead of them. With --sample, each clip's seed is derived from SEED and
    its name and stored in its token file.
    """
    from vidtok_runtime.dataset.job import EncodeRecipe
    from vidtok_runtime.dataset.local import LocalEngine
    from vidtok_runtime.dataset.plan import DatasetPlan, Engine
    from vidtok_runtime.dataset.ray_engine import RayEngine
    from vidtok_runtime.dataset.run import tokenize_dataset

    for name, value in (("--time-limit", time_limit), ("--readers", readers), ("--device-id", devices != (0,))):
        if kind == "ray" and value:
            raise click.UsageError(f"{name} is for local workers; with --engine ray leave it out")
    tok = tokenizer(bundle)
    workers = workers or (len(devices) if tok.provider == "cuda" else min(4, cores()))
    threads = tok.options.threads or max(1, int(actor_cpus or cores() // workers))
    runner: Engine = LocalEngine(workers, time_limit, readers or max(1, cores() // workers), devices)
    if kind == "ray":
        gpus = float(tok.provider == "cuda") if actor_gpus is None else actor_gpus
        runner = RayEngine(workers, threads if actor_cpus is None else actor_cpus, gpus)
    chosen = asdict(selection)
    resampling = chosen.pop("resampling")
    if selection.size is not None:  # else nothing is resampled
        chosen["size"] = f"{selection.size} by {resampling}"
    settings = {
        "family": tok.manifest.family,
        "name": tok.manifest.name,
        "weights": tok.manifest.weights_sha256,
        "precision": tok.precision,
        "provider": tok.engine,
        "groups": None if tok.stream.groups is None else asdict(tok.stream.groups),
        "half": half,
        **asdict(form),
        **{name: None if value is None else str(value) for name, value in chosen.items()},
        "opening": [opening.damage.value, opening.raw, *map("=".join, opening.options)],
        **({} if opening.stream is None else {"stream": opening.stream}),
        **({"tone map": True} if opening.tone_map else {}),
        **({"scenes": True} if options["scenes"] else {}),
    }
    made = functools.partial(tokenizer, tok.manifest.folder.absolute(), provider=tok.provider, threads=threads)
    plan = DatasetPlan(tries=retries + 1, **options)
    summary = tokenize_dataset(
        place,
        out,
        EncodeRecipe(made, {"selection": selection, "opening": opening, "half": half, "form": form}),
        runner,
        settings,
        plan,
        quiet=quiet,
    )
    if not quiet:
        click.echo(
            f"{out}: {summary.done} of {summary.clips} clips, {summary.done_now} of them now: {summary.frames} frames "
            f"in {summary.seconds:.1f} s"
        )
    if summary.quarantined:
        raise QuarantineError(
            f"{summary.quarantined} of {summary.clips} clips could not be tokenized; {summary.quarantine} says why, "
            "--again tries them again"
        )
