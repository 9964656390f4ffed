"""`vidtok-train`: parse and call."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from vidtok_ref.errors import ModelError
from vidtok_ref.train.recipe import load_recipe


@click.command(epilog="Example: vidtok-train tiny-kl-16chn --data clips/ --run runs/kl")
@click.argument("recipe")
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder.")
@click.option("--run", required=True, type=click.Path(file_okay=False, path_type=Path), help="Run folder; resumed.")
@click.option("--init", type=click.Path(exists=True, path_type=Path), help="Weights to start from where they fit.")
@click.option("--steps", type=click.IntRange(1), help="Total steps, instead of the recipe's.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(
    recipe: str, data: Path, run: Path, init: Path | None, steps: int | None, threads: int | None, debug: bool
) -> None:
    """Train a tokenizer by RECIPE, a shipped name or a .toml file. Give the same command again to resume."""
    import torch

    from vidtok_ref.train.loop import train

    try:
        chosen = load_recipe(recipe)
        if steps:
            chosen = replace(chosen, steps=steps)
        if threads:
            torch.set_num_threads(threads)
        best = train(chosen, data, run, init)
        click.echo(f"best held-back PSNR {best:.2f} dB: {run / 'best.safetensors'}")
    except ModelError as error:
        if debug:
            raise
        click.echo(f"vidtok-train: error: {error}", err=True)
        sys.exit(1)
