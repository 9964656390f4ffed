"""Put a trained model into the package: float16 weights and the bundle exported from exactly these.

python scripts/ship.py runs/kl/best.safetensors tiny-kl-16chn
vidtok-export quantize runtime/vidtok_runtime/bundles/tiny-kl-16chn --calibrate CLIPS     # then its int8 graphs
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from vidtok_export import export
from vidtok_ref import build
from vidtok_ref.families.weights_file import embedded_variant, write_weights
from vidtok_ref.weights import read_weights

BUNDLES = Path(__file__).parent.parent / "runtime/vidtok_runtime/bundles"


def ship(weights: Path, name: str) -> None:
    """Export `weights` rounded to float16 as the shipped bundle `name`, and keep its model card."""
    variant = embedded_variant(weights)
    if variant is None:
        raise SystemExit(f"{weights} does not say which variant it is; give a file that vidtok-train wrote")
    model = build(variant, {k: t.half() for k, t in read_weights(weights).items()})
    model.source = f"{name}.safetensors"
    card = BUNDLES / name / "README.md"
    text = card.read_text() if card.exists() else None
    folder = export(model, BUNDLES / name, force=True, quiet=False)
    if text is not None:  # the export replaces the folder
        card.write_text(text)
    write_weights(model, folder / f"{name}.safetensors", torch.float16)


@click.command()
@click.argument("weights", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("name")
def main(weights: Path, name: str) -> None:
    """Make the shipped bundle NAME of the file WEIGHTS."""
    ship(weights, name)


if __name__ == "__main__":
    main()
