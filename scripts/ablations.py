"""Tables 2 and 3 of the paper at toy size: short equal runs, one after the other, into docs/ablations.md.

python scripts/ablations.py CLIPS RUNS      (again: goes on where it was)
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pages import put

from vidtok_ref import build
from vidtok_ref.regularizers.base import Quantizer
from vidtok_ref.regularizers.entropy import utilization
from vidtok_ref.train.loader import to_tensor
from vidtok_ref.train.material import Material, load_material
from vidtok_ref.train.recipe import Recipe, load_recipe
from vidtok_ref.train.run import train
from vidtok_ref.weights import read_weights

TARGET = Path(__file__).parent.parent / "docs/ablations.md"
REGULARIZERS: dict[str, dict[str, Any]] = {
    "VQ": {"regularizer": "vq", "levels": (4096,)},
    "LFQ": {"regularizer": "lfq", "z_channels": 12, "levels": (2,) * 12},
    "FSQ": {},
}
ARCHITECTURES = {"AlphaBlender": "mixed", "without": "separated"}


def variations(base: Recipe) -> dict[str, Recipe]:
    """Recipes by the name of their run."""
    recipes = {}
    for name, overrides in REGULARIZERS.items():
        model = replace(base.model, overrides={**base.model.overrides, **overrides})
        for words, loss in (("without", replace(base.loss, entropy=0.0, commitment=0.0)), ("with", base.loss)):
            recipes[f"{name}, {words}"] = replace(base, model=model, loss=loss)
    for name, architecture in ARCHITECTURES.items():
        # The linear start has no way to treat both alike.
        overrides = {**base.model.overrides, "architecture": architecture}
        model = replace(base.model, variant="kl-4chn", start="random", overrides=overrides)
        recipes[name] = replace(base, model=model)
    return recipes


@torch.no_grad()
def codebook_used(recipe: Recipe, weights: Path, material: Material) -> float | None:
    """Utilization over the held-out clips; None for KL."""
    model = build(recipe.model.variant, read_weights(weights), **recipe.model.overrides).eval()
    if not isinstance(model.regularization, Quantizer):
        return None
    tokens = [model.encode(to_tensor(torch.from_numpy(clip[None]))).indices for clip in material.held_out]
    size = model.stream.codebook_size
    assert size is not None
    return utilization(torch.cat([t.flatten() for t in tokens if t is not None]), size)


def main(clips: Path, runs: Path) -> None:
    """Run what has not been run and write the tables."""
    [base] = load_recipe("tiny-ablation")
    material = load_material(clips, base.data)
    rows = {}
    for name, recipe in variations(base).items():
        run = runs / name.replace(", ", "-").lower()
        psnr = train(recipe, clips, run, accelerator="cpu")
        model = build(recipe.model.variant, **recipe.model.overrides)
        count = sum(p.numel() for p in model.parameters()) / 1e3
        used = codebook_used(recipe, run / "best.safetensors", material)
        rows[name] = (count, psnr, "-" if used is None else f"{used:.1%}")
        print(name, *rows[name], flush=True)
    regularizers = [
        "| regularizer | loss | PSNR (dB) | codebook used |",
        "| - | - | - | - |",
        *(
            f"| {name.split(', ')[0]} | {name.split(', ')[1]} | {psnr:.2f} | {used} |"
            for name, (_, psnr, used) in rows.items()
            if ", " in name
        ),
    ]
    architectures = [
        "| architecture | parameters (thousand) | PSNR (dB) |",
        "| - | - | - |",
        *(
            f"| `{ARCHITECTURES[name]}` ({name}{'' if name == 'AlphaBlender' else ' it'}) | {count:.0f} | {psnr:.2f} |"
            for name, (count, psnr, _) in rows.items()
            if name in ARCHITECTURES
        ),
    ]
    put(TARGET, "\n".join(regularizers), "measured: regularizers")
    put(TARGET, "\n".join(architectures), "measured: architectures")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
