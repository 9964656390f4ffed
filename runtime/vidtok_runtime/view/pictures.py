"""The pictures of a sampled frame, and how to read them."""

from __future__ import annotations

import cv2

from vidtok_runtime.quality.metrics import Pixels
from vidtok_runtime.view.study import ERROR_SCALE, Study, StudyFrame


def pictures(study: Study, sample: StudyFrame) -> dict[str, Pixels]:
    """The pictures of a frame by what they show, in the order to show them."""
    shown = {
        "original": sample.original,
        "reconstruction": sample.decoded,
        "error": sample.error,
        "tokens" if study.manifest.stream.codebook_size else "latent": study.token_map(sample),
    }
    return {what: pixels for what, pixels in shown.items() if pixels is not None}


def reading(study: Study) -> str:
    """How to read the pictures, as a text."""
    error = f"Error: dark where equal, brightest from a mean difference of {ERROR_SCALE} of 255 on. "
    return (error if study.psnr.count else "") + study.usage.colours_mean


def png(pixels: Pixels) -> bytes:
    """A picture `H W 3` as a PNG file."""
    done, content = cv2.imencode(".png", pixels[:, :, ::-1])
    assert done
    return content.tobytes()
