"""The stages of a recipe, one after another; killed at any moment, they go on where they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vidtok_ref.train.recipe import Recipe
from vidtok_ref.train.run import train
from vidtok_runtime.files import PartFile


def train_stages(stages: Sequence[Recipe], data: Path, run: Path, init: Path | None = None, **machine: Any) -> float:
    """Train or resume a recipe in the folder `run`, as `train` does, which takes `data`, `init` and `machine`.

    Several stages get a folder each (`run/stage-1`, ...), and begin with what the stage before gave: its best weights,
    or its last where LPIPS or a GAN took part. What the last stage gave is `run/best.safetensors`.
    Returns its best held-out PSNR in dB. Raises what `train` raises.
    """
    if len(stages) == 1:
        return train(stages[0], data, run, init, **machine)
    for number, stage in enumerate(stages, 1):
        folder = run / f"stage-{number}"
        if number == len(stages) or not (folder / "last.safetensors").is_file():
            tqdm.write(f"stage {number} of {len(stages)}: {stage.steps} steps")
            best = train(stage, data, folder, init, **machine)
        result = folder / ("last.safetensors" if stage.costs_psnr else "best.safetensors")
        init = result
    PartFile(run / "best.safetensors", force=True).write_whole(result.read_bytes())
    return best
