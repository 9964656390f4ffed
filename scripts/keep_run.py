"""Keep what a training run has reached, to commit it: the average of the weights so far, in float16.

python scripts/keep_run.py runs/kl kl.safetensors
vidtok-train RECIPE --data clips/ --run runs/again --init kl.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

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


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]))
