"""The stages of a recipe, one after another; killed at any moment, they go on where they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vidtok_ref.train.recipe import Recipe
from vidtok_ref.train.run import train
from vidtok_runtime.files import PartFile

_LAST = "last.safetensors"


def train_stages(stages: Sequence[Recipe], data: Path, run: Path, init: Path | None = None, **machine: Any) -> float:
    """Train or resume a recipe in the folder `run`, as `train` does, which takes `data`, `init` and `machine`.

    Several stages get a folder each (`run/stage-1`, ...), and begin with the average at the end of the one before.
    `best.safetensors` and `last.safetensors` of the last stage are copied to `run`.
    Returns its best held-out PSNR in dB. Raises what `train` raises.
    """
    if len(stages) == 1:
        return train(stages[0], data, run, init, **machine)
    for number, stage in enumerate(stages, 1):
        folder = run / f"stage-{number}"
        if number == len(stages) or not (folder / _LAST).is_file():
            tqdm.write(f"stage {number} of {len(stages)}: {stage.steps} steps")
            best = train(stage, data, folder, init, **machine)
        init = folder / _LAST
    for name in ("best.safetensors", _LAST):
        PartFile(run / name, force=True).write_whole((folder / name).read_bytes())
    return best
