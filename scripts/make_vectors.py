"""Write small test vectors: inputs and outputs of the reference in float64, for checkouts without the released ones.

python scripts/make_vectors.py tests/vectors
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file
from torch import Tensor

from vidtok_export.verify import smooth_video
from vidtok_ref import VideoTokenizer, build
from vidtok_ref.families.vidtok.variant import VARIANTS
from vidtok_ref.regularizers.channel import FiniteScalarQuantizer
from vidtok_ref.regularizers.vq import NearestCode

# Two evaluation orders of float32 differ by less: no token of a vector may depend on the order.
MARGIN = 2e-4


def random_weights(variant: Any, seed: int) -> dict[str, Tensor]:
    """Random float16 weights in which every tensor matters, also norms and blend factors."""
    model = build(variant, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (t + 0.3 * torch.randn(t.shape, generator=generator) if t[0].numel() == 1 else 1.7 * t).half()
        for name, t in model.state_dict().items()
    }


def margin(model: VideoTokenizer, encoder_out: Tensor) -> float:
    """Smallest distance of what is quantized from the border of its cell, of FSQ in digits; 1 for KL."""
    match model.regularization:
        case FiniteScalarQuantizer() as quantizer:
            bounded = quantizer.bound(encoder_out)
            return float((bounded - bounded.floor() - 0.5).abs().min())
        case NearestCode() as quantizer:
            own = quantizer(encoder_out).indices
            others = (torch.full_like(own, code) for code in range(len(quantizer.codes)))
            away = [quantizer.distance_to_cell(encoder_out, other)[own != other] for other in others]
            return float(torch.cat(away).min())
    return 1.0


@torch.no_grad()
def make(name: str, path: Path) -> None:
    """Write the vectors of one variant: four latents of one by two cells."""
    base = VARIANTS[name]
    narrow = {"ch": 4, "ch_mult": tuple(min(m, 2) for m in base.ch_mult), "num_res_blocks": 1}
    f, s = base.time_factor, base.spatial_factor
    for seed in range(100):
        model = build(base, **narrow)
        weights = random_weights(model.config, seed)
        model = build(base, weights, **narrow).double()
        video = smooth_video(1, 3 * f + 1, s, 2 * s, seed).half()
        encoder_out = model.encoder.step(model.pad(video.double()))[0]
        if margin(model, encoder_out) > MARGIN:
            break
    else:
        raise SystemExit(f"{name}: with no seed all tokens are so far from the borders of their cells; make it smaller")
    encoded = model.regularization(encoder_out)
    tensors = {"input": video, "encoder_out": encoder_out.float(), "latent": encoded.latent.float()}
    if encoded.indices is not None:
        tensors["indices"] = encoded.indices
    tensors["recon_full" if base.version == "1.1" else "recon"] = model.decode(
        encoded.latent.double(), video.shape[2]
    ).float()
    tensors = {k: t.contiguous() for k, t in (weights | tensors).items()}
    save_file(tensors, path / f"{name}.safetensors", {"variant": json.dumps(model.config.to_dict())})
    print(f"{name}: seed {seed}, {(path / f'{name}.safetensors').stat().st_size:,} bytes")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    """Write vectors of every shape and regularizer of causal version 1.0, and one of each other kind, into FOLDER."""
    chosen = [v.name for v in VARIANTS.values() if v.causal and v.version == "1.0"]
    for each in (*chosen, "kl-4chn-noncausal", "kl-4chn-v1.1", "fsq-32768-8x8x8-v1.1"):
        make(each, folder)


if __name__ == "__main__":
    main()
