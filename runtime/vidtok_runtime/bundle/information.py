"""What a manifest says for people: nothing depends on it, and it may be absent or of another form."""

from __future__ import annotations

from dataclasses import dataclass

from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.checked_json import Fields


@dataclass(frozen=True)
class ParityRow:
    """Largest differences from the reference that were measured at export; of latents or of `tokens`."""

    provider: str
    latent_max_diff: float | None
    video_max_diff: float
    tokens: int | None
    tokens_differing: int | None
    precision: str | None  # None: fp32
    psnr_lost: float | None  # dB, against fp32


def source(manifest: Manifest) -> str | None:
    """Where the weights come from."""
    try:
        return Fields(manifest.raw, "").fields("weights").text("source")
    except ValueError:
        return None


def untrained(manifest: Manifest) -> bool:
    """Whether it says that its weights are random."""
    try:
        return not Fields(manifest.raw, "").fields("weights").boolean("trained")
    except ValueError:
        return False


def parity(manifest: Manifest) -> list[ParityRow]:
    """What was measured at export."""
    try:
        return [_parity(row) for row in Fields(manifest.raw, "").fields("parity").rows("rows")]
    except ValueError:
        return []


def multiply_adds(manifest: Manifest, role: str, frames: int, height: int, width: int) -> float | None:
    """Arithmetic of so many frames in the model as published."""
    try:
        counts = Fields(manifest.raw, "").fields("operations").fields(role)
        pixel, pixel_squared = counts.number("pixel"), counts.number("pixel_squared")
    except ValueError:
        return None
    return frames * height * width * (pixel + pixel_squared * height * width)


def _parity(row: Fields) -> ParityRow:
    has = row.names()
    return ParityRow(
        provider=row.text("provider"),
        latent_max_diff=row.number("latent_max_diff") if "latent_max_diff" in has else None,
        video_max_diff=row.number("video_max_diff"),
        tokens=row.count("tokens") if "tokens" in has else None,
        tokens_differing=row.count("tokens_differing") if "tokens_differing" in has else None,
        precision=row.text("precision") if "precision" in has else None,
        psnr_lost=row.number("psnr_lost") if "psnr_lost" in has else None,
    )
