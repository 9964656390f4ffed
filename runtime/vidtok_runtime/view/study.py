"""One pass over a clip and what comes back of it: a handful of pictures, and statistics of all of it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.lists import plain_name
from vidtok_runtime.quality.bits_per_pixel import bits_per_number, bits_per_pixel
from vidtok_runtime.quality.metrics import BEST_PSNR, Pixels, psnr, ssim
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.info import TokenInfo
from vidtok_runtime.video.selection import resize
from vidtok_runtime.view.spread import Curve, Spread
from vidtok_runtime.view.usage import CodeHistogram, usage_of

Array = NDArray[Any]
LONGEST = 480  # pixels of a picture's longer side
ERROR_SCALE = 32  # mean absolute difference, of 255, that has the brightest colour


@dataclass(frozen=True)
class StudyFrame:
    """One frame: pictures `H W 3` at the size shown, the error as colours, and its latent `C h w` or tokens `h w`."""

    frame: int
    original: Pixels | None
    decoded: Pixels
    error: Pixels | None
    psnr: float | None
    token: Array


class Study:
    """What a report tells of a clip; `count` frames are kept as pictures, shrunk, the others only measured."""

    def __init__(self, tok: Tokenizer, name: str, count: int) -> None:
        self.manifest = tok.manifest
        self.name = plain_name(name)
        self.usage = usage_of(tok.manifest)
        self.psnr, self.ssim = Curve(), Curve()
        self.frames = self.height = self.width = self.numbers = 0
        self._samples: Spread[StudyFrame] = Spread(count)
        self._latents: deque[Array] = deque()

    def begin(self, info: TokenInfo) -> None:
        """A stream starts, of whose description only the way that frames fall into latents counts."""
        self.fps = info.fps
        self._info = info
        self._frame = self._first = 0  # of this stream: frames seen, number of the oldest latent held
        self._latents.clear()

    def look(self, data: Array) -> None:
        """Take note of latents `t C h w` or tokens `t h w` before their frames come."""
        if len(data):
            self.usage.add(data)
            self.numbers += data.size
            self._latents.extend(data)

    def add(self, original: Pixels | None, decoded: Pixels) -> None:
        """Take note of the next frame, uint8 `H W 3`, and of the original if there is one."""
        token = self._token()
        self.height, self.width = decoded.shape[:2]
        quality = None
        if original is not None:
            quality = min(BEST_PSNR, psnr(original, decoded))
            self.psnr.add(quality)
            self.ssim.add(ssim(original, decoded))
        if self._samples.wants(self.frames):
            error = None if original is None else _heat(original, decoded)
            shown = [None if p is None else shrunk(p) for p in (original, error)]
            self._samples.keep(StudyFrame(self.frames, shown[0], shrunk(decoded), shown[1], quality, token))
        self.frames += 1
        self._frame += 1

    def _token(self) -> Array:
        """The latent that the frame now coming is in; older ones are let go."""
        needed = self._info.timing.latents(self._info.skip + self._frame + 1) - 1
        while self._first < needed and len(self._latents) > 1:
            self._latents.popleft()
            self._first += 1
        return self._latents[0].copy()  # no view of the whole chunk

    @property
    def samples(self) -> list[StudyFrame]:
        """The frames kept, in order."""
        return self._samples.chosen()

    @property
    def bits_per_pixel(self) -> float:
        """As `eval` counts them."""
        bits = self.numbers * bits_per_number(self.manifest.stream.codebook_size)
        return bits_per_pixel(bits, self.frames, self.height, self.width)

    def token_map(self, sample: StudyFrame) -> Pixels:
        """Colours of a frame's tokens or latents at the size of its picture."""
        multiple = self.manifest.stream.spatial_multiple
        cells = self.usage.colours(sample.token).repeat(multiple, axis=0).repeat(multiple, axis=1)
        height, width = sample.decoded.shape[:2]
        cells = cells[: self.height, : self.width]
        return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)

    def facts(self) -> dict[str, str]:
        """Lines about the clip and the bundle."""
        m, stream = self.manifest, self.manifest.stream
        s = stream.spatial_multiple
        rate = f" at {float(self.fps):g} a second" if self.fps else ""
        facts = {
            "clip": f"{self.frames} frames of {self.width}x{self.height}{rate}",
            "model": f"{m.name} ({m.family})",
            "weights": m.weights_sha256[:12],
            "compression": f"{stream.time_factor} frames x {s} x {s} pixels a latent",
        }
        if isinstance(self.usage, CodeHistogram):
            used = self.usage
            facts["codebook"] = f"{used.used:,} of {used.codes:,} codes in {used.tokens:,} tokens"
            facts["entropy"] = f"{used.entropy:.2f} bits a token, of {math.log2(used.codes):.2f}"
        else:
            facts["latent"] = f"{stream.latent_channels} channels, {self.usage.count:,} latents"
        return facts

    def figures(self) -> dict[str, str]:
        """The numbers that matter most."""
        figures = {}
        if self.psnr.count:
            figures = {"PSNR": f"{self.psnr.mean:.2f} dB", "SSIM": f"{self.ssim.mean:.4f}"}
        figures["bits per pixel"] = f"{self.bits_per_pixel:.4f}"
        if isinstance(self.usage, CodeHistogram):
            figures["codes in use"] = f"{self.usage.used / self.usage.codes:.2%}"
        return figures


def shrunk(pixels: Pixels) -> Pixels:
    """A picture `H W 3` no longer than LONGEST."""
    scale = min(1.0, LONGEST / max(pixels.shape[:2]))
    return resize(pixels, *(max(1, round(n * scale)) for n in pixels.shape[:2]))


def _heat(original: Pixels, decoded: Pixels) -> Pixels:
    """Mean absolute difference of the channels as a colour: dark where equal, bright from ERROR_SCALE on."""
    difference = cv2.absdiff(original, decoded).mean(axis=-1)
    levels = np.rint(255 * np.minimum(1, difference / ERROR_SCALE)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[:, :, ::-1], np.uint8)
