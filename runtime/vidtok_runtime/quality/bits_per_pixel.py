"""What tokens count in bits, one definition for all that print it: `info`, `eval`, `view`, `demo`."""

from __future__ import annotations

import math

LATENT_BITS = 16.0  # of a number of a latent, as stored in float16
BITS_COUNTED = "log2(codes) a token; 16 a number of a latent, as stored in float16; not entropy-coded"


def bits_per_number(codebook_size: int | None) -> float:
    """Bits of a token (log2 of the codes), or of a number of a latent where there is no codebook."""
    return math.log2(codebook_size) if codebook_size else LATENT_BITS


def bits_per_pixel(bits: float, frames: int, height: int, width: int) -> float:
    """Bits for every pixel of every frame of a clip."""
    return bits / (frames * height * width)
