"""Put a trained model into the package: float16 weights and the bundle exported from exactly these.

python scripts/ship.py runs/kl/best.safetensors tiny-kl-16chn
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open

from vidtok_export import export
from vidtok_ref import Variant, build
from vidtok_ref.train.loop import save_weights

BUNDLES = Path(__file__).parent.parent / "runtime/vidtok_runtime/bundles"


def ship(weights: Path, name: str) -> None:
    """Export `weights` rounded to float16 as the shipped bundle `name`."""
    with safe_open(weights, "pt") as file:
        variant = Variant.from_dict(json.loads(file.metadata()["variant"]))
        tensors = {k: file.get_tensor(k).half() for k in file.keys()}  # noqa: SIM118 (not a dict)
    model = build(variant, tensors)
    model.source = f"{name}.safetensors"
    folder = export(model, BUNDLES / name, force=True, quiet=False)
    save_weights(model, folder / f"{name}.safetensors", torch.float16)


if __name__ == "__main__":
    ship(Path(sys.argv[1]), sys.argv[2])
