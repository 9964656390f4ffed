"""Does a bundle compute what the release's own implementation does with the same weights? Measured on a clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidtok_export.errors import ExportError, ParityError
from vidtok_export.verify import LATENT_TOLERANCE, VIDEO_TOLERANCE
from vidtok_ref.families import family_of
from vidtok_ref.tokenizer import VideoTokenizer
from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.streaming.geometry import from_network, to_network
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection


@dataclass(frozen=True)
class Difference:
    """Of one engine from the release: largest of the latents and of the frames (-1..1), and PSNR in dB between both."""

    provider: str
    latent: float
    video: float
    psnr: float
    passed: bool


def read_clip(path: Path, frames: int, size: str | None) -> NDArray[np.uint8]:
    """The first frames of a clip, `T H W 3`; size as for `Selection`. Raises VideoError, InputError."""
    with VideoReader(path, Selection(size=size, resampling="rgb")) as reader:
        return np.stack([frame.pixels for frame in islice(reader, frames)])


def check_library(model: VideoTokenizer, library: str) -> None:
    """Raise ExportError unless a library has the release's implementation of a model."""
    family = family_of(model.config)
    if family.release_library != library:
        raise ExportError(
            f"{library} has no implementation of {family.title} to compare with; verify without --against compares "
            "with the reference"
        )


@torch.no_grad()
def differences(
    manifest: Manifest, model: VideoTokenizer, clip: NDArray[np.uint8], providers: tuple[str, ...]
) -> list[Difference]:
    """Encode and decode a clip by the release with the weights of `model`, in float64, and by a bundle on every engine.

    clip: `T H W 3`; both get the same frames, with edges and end repeated where a size or a length is none of the
    model's. Raises MissingError.
    """
    release: Any = family_of(model.config).release(model)
    spec = manifest.stream
    frames, height, width = clip.shape[:3]
    video = to_network(clip, spec.spatial_multiple, square=spec.square, pixel_range=spec.pixel_range)
    more = spec.length.padded(spec.front_frames + frames) - spec.front_frames - frames
    padded = np.pad(video, ((0, 0), (0, 0), (0, more), (0, 0), (0, 0)), mode="edge")
    latent = release.encode(torch.from_numpy(padded))
    decoded = release.decode(latent)[:, :, :frames].float().numpy()
    wanted = latent[0].transpose(0, 1).numpy()
    recon = from_network(decoded, height, width, "float32", spec.pixel_range)
    return [_difference(Tokenizer(manifest, provider), clip, wanted, recon) for provider in providers]


def _difference(tokenizer: Tokenizer, clip: NDArray[np.uint8], latent: NDArray[Any], recon: NDArray[Any]) -> Difference:
    tokens = tokenizer.encode(clip)
    back = tokenizer.decode(tokens, "float32")
    error = float(np.mean((back.astype(np.float64) - recon) ** 2))
    of_latent, of_video = float(np.abs(tokens.data - latent).max()), float(np.abs(back - recon).max())
    return Difference(
        tokenizer.provider,
        of_latent,
        of_video,
        10 * math.log10(2**2 / error) if error else math.inf,
        of_latent <= LATENT_TOLERANCE * max(1.0, float(np.abs(latent).max())) and of_video <= VIDEO_TOLERANCE,
    )


def table(rows: list[Difference]) -> str:
    """As text."""
    lines = [f"{'provider':<10}{'latent max diff':>17}{'video max diff':>17}{'PSNR between (dB)':>20}  result"]
    for row in rows:
        result = "passed" if row.passed else "FAILED"
        lines.append(f"{row.provider:<10}{row.latent:>17.1e}{row.video:>17.1e}{row.psnr:>20.1f}  {result}")
    return "\n".join(lines)


def require(rows: list[Difference], library: str) -> None:
    """Raise ParityError unless every row passed."""
    if failed := [row.provider for row in rows if not row.passed]:
        raise ParityError(f"the bundle does not compute what {library} does on {', '.join(failed)}")
