"""`vidtok-train`: parse and call."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path

import click

from vidtok_ref.errors import DataError, ModelError, needs_extra
from vidtok_ref.train.recipe import RECIPES, load_recipe
from vidtok_runtime.cli.descriptors import settle
from vidtok_runtime.errors import VidtokError

_SHIPPED = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"""\b
Shipped recipes: {_SHIPPED}.

\b
Examples:
  vidtok-train tiny-kl-16chn --data clips/ --run runs/kl
  vidtok-train released-stage1 --data train.csv --run runs/one --devices 8 --nodes 2
  vidtok-train released-stage2 --data train.csv --run runs/two --init runs/one/last.safetensors
  vidtok-train mine.toml --data clips/ --run runs/mine --init kl-4chn.safetensors --steps 200
""",
)
@click.version_option(package_name="vidtok-onnx")
@click.argument("recipe")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder, searched through, or a .csv list with a column `file` (perhaps `note`, `split`).",
)
@click.option("--run", required=True, type=click.Path(file_okay=False, path_type=Path), help="Run folder; resumed.")
@click.option(
    "--init", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Weights to start from where they fit."
)
@click.option("--steps", type=click.IntRange(1), help="Total steps, instead of the recipe's.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of each process.")
@click.option("--devices", type=click.IntRange(1), default=1, show_default=True, help="Processes of this machine.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines.")
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="What to run on.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(
    recipe: str,
    data: Path,
    run: Path,
    init: Path | None,
    steps: int | None,
    threads: int | None,
    devices: int,
    nodes: int,
    accelerator: str,
    debug: bool,
) -> None:
    """Train a tokenizer by RECIPE, a shipped name or a .toml file. Give the same command again to resume.

    RUN gets best.safetensors (the average of the weights, best on the held-out clips by PSNR), last.safetensors (the
    average at the end, to take after training with a GAN, which costs PSNR), last.ckpt, log.csv, pictures/
    and skipped.txt. A recipe of several stages fills a folder of these for each, stage-1/, ..., and ends with
    the weights of the last one. On several machines, start the same command on each, as for any torch.distributed job.
    """
    settle()
    try:
        stages = load_recipe(recipe)
        if steps and len(stages) > 1:
            raise DataError(f"--steps is for a recipe of one stage, {recipe} has {len(stages)}; change its `steps`")
        if steps:
            stages = [replace(stages[0], steps=steps)]
        with needs_extra("train"):
            import torch
            from lightning.fabric.utilities.exceptions import MisconfigurationException
            from lightning.pytorch.utilities.exceptions import SIGTERMException

            from vidtok_ref.train.stages import train_stages

        if threads:
            torch.set_num_threads(threads)
        try:
            best = train_stages(stages, data, run, init, accelerator=accelerator, devices=devices, nodes=nodes)
        except MisconfigurationException as error:
            raise ModelError(str(error).strip().splitlines()[0]) from error
        except (KeyboardInterrupt, SystemExit) as end:  # the trainer makes exits of signals, of SIGTERM with code 0
            click.echo(f"vidtok-train: stopped; the same command goes on from the last checkpoint in {run}", err=True)
            number = signal.SIGTERM if isinstance(end, SIGTERMException) else signal.SIGINT
            sys.exit(128 + number)
        click.echo(f"best held-out PSNR {best:.2f} dB: {run / 'best.safetensors'}")
    except (ModelError, VidtokError) as error:
        if debug:
            raise
        click.echo(f"vidtok-train: error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
