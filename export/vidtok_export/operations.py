"""How much arithmetic a network takes, counted on the model as published, before any fold."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from vidtok_ref.families import make_model
from vidtok_ref.tokenizer import VideoTokenizer


def multiply_adds(model: VideoTokenizer, role: str, frames: int, height: int, width: int) -> int:
    """Multiply-adds of one call of a role: `frames` in (encoder) or out (decoder), whole latents; model on `meta`."""
    spec, shape = model.stream, (1, 3, frames, height, width)
    if role == "decoder":
        s = spec.spatial_multiple
        shape = (1, spec.latent_channels, frames // spec.time_factor, height // s, width // s)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        getattr(model, role).step(torch.empty(shape, device="meta"))
    return int(counter.get_total_flops()) // 2


def clip_multiply_adds(model: VideoTokenizer, frames: int, height: int, width: int) -> int:
    """Multiply-adds of encoding and decoding a clip that is one stream, with its padding; model on `meta`."""
    spec = model.stream
    padded, held = spec.length.padded(spec.front_frames + frames), spec.latents(frames) * spec.time_factor
    return multiply_adds(model, "encoder", padded, height, width) + multiply_adds(model, "decoder", held, height, width)


def operation_counts(model: VideoTokenizer) -> dict[str, dict[str, float]]:
    """For the manifest: multiply-adds a pixel of a frame, and (attention) times the square of the pixels of a frame."""
    with torch.device("meta"):
        bare = make_model(model.config)
    spec = model.stream
    frames, side = spec.unit("decoder") * spec.time_factor, 8 * spec.side_multiple
    counts = {}
    for role in ("encoder", "decoder"):
        small, large = (multiply_adds(bare, role, frames, n, n) / frames for n in (side, 2 * side))
        # small = a p + b p^2 and large = 4 a p + 16 b p^2, with p the pixels of a frame; what a call takes for frames
        # of any size would make b negative
        pixels = side**2
        square = max(0.0, (large - 4 * small) / (12 * pixels**2))
        counts[role] = {"pixel": small / pixels - square * pixels, "pixel_squared": square}
    return counts
