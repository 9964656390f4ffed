"""What a precision costs, measured against the same bundle in float32, and whether it still is one model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vidtok_export.errors import ParityError
from vidtok_export.quantization.selection import mean_psnr
from vidtok_export.verify import run_in_calls
from vidtok_ref.train.clips import Pixels
from vidtok_runtime.bundle.graph_entry import ROLES
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.engines.base import Array, Options
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.streaming.geometry import to_network

# Streamed and one shot sum in another order, so values on a rounding threshold fall to either side:
# the mean difference of the video in -1..1 stays below this (the peak of one pixel may be larger).
CHUNK_TOLERANCE = 2e-3


def saturated(frames: int, size: int) -> Iterator[Array]:
    """Inputs at the ends of the range, float32 `1 3 T H W`: constants, noise, a chequerboard."""
    shape = (1, 3, frames, size, size)
    yield from (np.full(shape, value, np.float32) for value in (1, -1, 0))
    rng = np.random.default_rng(0)
    yield rng.choice(np.array([-1, 1], np.float32), shape)
    yield np.broadcast_to(np.indices((size, size)).sum(0) % 2 * 2 - 1, shape).astype(np.float32)


def judge(manifest: Manifest, precision: str, provider: str, clips: list[Pixels]) -> dict[str, Any]:
    """A row for the manifest.

    Against float32 on the same provider: tokens that differ or the largest difference of a latent; the largest and
    the mean difference of the video decoded from the same tokens (-1..1); PSNR lost there and back, dB. Of itself:
    the mean difference of streamed and one-shot video of the first clip, and whether saturated input stays finite.
    """
    encoder, decoder = (load_chain(manifest, role, provider, precision, Options()) for role in ROLES)
    exact_encoder, exact_decoder = (load_chain(manifest, role, provider, "fp32", Options()) for role in ROLES)
    spec = manifest.stream
    f, s = spec.time_factor, spec.side_multiple
    latent_diff = video_diff = mean_diff = chunk_diff = 0.0
    tokens = differing = 0
    for clip in clips:
        frames = spec.length.within(len(clip)) or len(clip)
        x = to_network(clip[:frames], s, square=spec.square, pixel_range=spec.pixel_range)
        x = np.pad(x, ((0, 0), (0, 0), (0, spec.length.padded(frames) - frames), (0, 0), (0, 0)), mode="edge")
        latents = -(-x.shape[2] // f)
        wanted, got = (run_in_calls(manifest, graph, x, latents) for graph in (exact_encoder, encoder))
        tokens += wanted.size
        differing += int((wanted != got).sum())
        latent_diff = max(latent_diff, float(np.abs(wanted - got).max()))
        video = run_in_calls(manifest, decoder, wanted, latents)
        error = np.abs(video - run_in_calls(manifest, exact_decoder, wanted, latents))
        video_diff, mean_diff = max(video_diff, float(error.max())), max(mean_diff, float(error.mean()))
        if spec.groups is None and clip is clips[0]:
            chunked = run_in_calls(manifest, decoder, run_in_calls(manifest, encoder, x, 1), 1)
            whole = run_in_calls(manifest, decoder, got, latents)
            chunk_diff = max(chunk_diff, float(np.abs(chunked - whole).mean()))
    finite = True
    for x in saturated(spec.length.padded(2 * f), 4 * s):
        latents = x.shape[2] // f
        video = run_in_calls(manifest, decoder, run_in_calls(manifest, encoder, x, latents), latents)
        finite &= bool(np.isfinite(video).all())
    lost = mean_psnr(manifest, exact_encoder, exact_decoder, clips) - mean_psnr(manifest, encoder, decoder, clips)
    row: dict[str, Any] = {"provider": provider, "precision": precision, "compared_with": "fp32 on the same provider"}
    if spec.codebook_size:
        row |= {"tokens": tokens, "tokens_differing": differing, "token_agreement": round(1 - differing / tokens, 6)}
    else:
        row |= {"latent_max_diff": latent_diff}
    return row | {
        "video_max_diff": video_diff,
        "video_mean_diff": mean_diff,
        "chunk_mean_diff": chunk_diff,
        "finite_on_saturated_input": finite,
        "psnr_lost": round(lost, 4),
        "clips": len(clips),
        "passed": finite and chunk_diff <= CHUNK_TOLERANCE,
    }


def require_judged(rows: list[dict[str, Any]], max_lost: float | None) -> None:
    """Raise ParityError unless every row passed and lost no more PSNR than allowed."""
    for row in rows:
        if not row["passed"] or (max_lost is not None and row["psnr_lost"] > max_lost):
            raise ParityError(f"{row['precision']} on {row['provider']} is not good enough: {judged([row])}")


def judged(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = []
    for row in rows:
        tokens = f"tokens equal {row['token_agreement']:.2%}" if "tokens" in row else ""
        latent = tokens or f"latent max diff {row['latent_max_diff']:.2g}"
        lines.append(
            f"{row['precision']} on {row['provider']}: {row['psnr_lost']:.3f} dB lost, {latent}, "
            f"video max diff {row['video_max_diff']:.2g}, streamed against one shot {row['chunk_mean_diff']:.1e}"
        )
    return "\n".join(lines)
