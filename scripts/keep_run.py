"""Keep what a training run has reached, to commit it: the average of the weights so far, in float16.

python scripts/keep_run.py runs/kl kl.safetensors
vidtok-train RECIPE --data clips/ --run runs/again --init kl.safetensors
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from vidtok_ref import build
from vidtok_ref.families import family_of, find_variant
from vidtok_ref.families.weights_file import write_weights
from vidtok_ref.train.resume import LAST, RunCheckpoints

AVERAGE = "average."


def keep(run: Path, out: Path) -> None:
    """Write the average in the last checkpoint of the folder `run` as `.safetensors` that says which model it is."""
    checkpoint = RunCheckpoints().load_checkpoint(run / LAST)
    progress = checkpoint["progress"]
    variant = family_of(find_variant(progress["recipe"]["model"]["variant"])).config.from_dict(progress["variant"])
    average = {k.removeprefix(AVERAGE): t for k, t in checkpoint["state_dict"].items() if k.startswith(AVERAGE)}
    write_weights(build(variant, average), out, torch.float16, steps=str(progress["steps"]))


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def main(run: Path, out: Path) -> None:
    """Write the average of the run in the folder RUN to the .safetensors file OUT."""
    keep(run, out)


if __name__ == "__main__":
    main()
