"""One training sample out of a clip or a photograph, at random."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vidtok_ref.train.clips import Clip, Pixels
from vidtok_ref.train.recipe import DataPart

MAX_VIVID = 6.0  # times the distance from grey: from the dull colours of most footage to pure ones


def choose_frames(times: NDArray[np.float64], part: DataPart, rng: Generator) -> NDArray[np.int64]:
    """Rising indices of `part.frames` frames of a clip.

    At a rate: the frames shown at evenly spaced moments; a clip that is too short for it is used whole, at the rate
    that this makes. At rate 0: every frame or every second one. The last frame is repeated where frames run out.
    """
    rate = part.fps[int(rng.integers(len(part.fps)))]
    last = len(times) - 1
    if rate == 0:
        index = np.arange(part.frames) * int(rng.integers(1, 3))
        start = int(rng.integers(0, max(1, last + 1 - index[-1])))
        return np.asarray(np.minimum(index + start, last))
    length = times[-1] - times[0]
    step = min(1 / rate, length / max(1, part.frames - 1))
    begin = times[0] + rng.uniform(0, max(0.0, length - step * (part.frames - 1)))
    # A little later than asked, so that rounding does not give the frame before.
    moments = begin + step * np.arange(part.frames) + 1e-6
    return np.asarray(np.searchsorted(times, moments, side="right") - 1)


def cut_video(clip: Clip, part: DataPart, rng: Generator) -> Pixels:
    """A random piece of a clip, uint8 `frames size size 3`, perhaps shrunk or run backwards; raises VideoError."""
    pixels = clip.take(choose_frames(clip.times, part, rng))
    if part.reverse and rng.random() < 0.5:
        pixels = pixels[::-1]
    side = part.size
    if part.zoom[1] > 1:
        side = round(side * np.exp(rng.uniform(*np.log(part.zoom))))
    top = int(rng.integers(0, pixels.shape[1] - side + 1))
    left = int(rng.integers(0, pixels.shape[2] - side + 1))
    pixels = pixels[:, top : top + side, left : left + side]
    if side == part.size:
        return pixels
    return np.stack([cv2.resize(frame, (part.size, part.size), interpolation=cv2.INTER_AREA) for frame in pixels])


def pan_image(image: Pixels, part: DataPart, rng: Generator) -> Pixels:
    """A photograph under a smooth random pan and zoom, uint8 `frames size size 3`."""
    n, size = part.frames, part.size
    first, last = np.exp(rng.uniform(np.log(0.8 * part.zoom[0]), np.log(2.2 * part.zoom[1])) + rng.normal(0, 0.04, 2))
    zoom = np.linspace(first, last, n)
    # Shrunk once and properly: the warp below takes single pixels, which alias when it shrinks.
    if zoom.min() > 1:
        shrunk = cv2.resize(image, None, fx=1 / zoom.min(), fy=1 / zoom.min(), interpolation=cv2.INTER_AREA)
        image = np.asarray(shrunk, np.uint8)
        zoom = zoom / zoom.min()
    margin = size * zoom.max() / 2 + 1
    height, width = image.shape[:2]
    x0, y0 = rng.uniform(margin, max(margin, width - margin)), rng.uniform(margin, max(margin, height - margin))
    dx, dy = rng.normal(0, 1.2, 2)
    frames = []
    for i in range(n):
        x, y, z = x0 + dx * i, y0 + dy * i, zoom[i]
        matrix = np.array([[z, 0, x - z * size / 2], [0, z, y - z * size / 2]])
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        frames.append(cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101))
    return np.stack(frames)


def vary(pixels: Pixels, part: DataPart, rng: Generator) -> Pixels:
    """A sample (uint8 `T H W 3`) perhaps mirrored, turned or recoloured, the same in all of its frames."""
    if part.flip and rng.random() < 0.5:
        pixels = pixels[:, :, ::-1]
    if part.turn and rng.random() < 0.5:
        pixels = pixels.swapaxes(1, 2)
    if part.colour and rng.random() < 0.5:
        contrast, brightness, *gains = rng.normal(0, part.colour, 5)
        # About the mean, so that contrast is not brightness; gains of the channels are the light's colour.
        mean = pixels.mean()
        table = np.arange(256)[:, None] * np.exp(np.array(gains) / 2)
        table = (table - mean) * np.exp(contrast) + mean + 128 * brightness
        table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
        pixels = np.stack([table[:, i][pixels[..., i]] for i in range(3)], axis=-1)
    if part.vivid and rng.random() < part.vivid:
        pixels = pixels[..., rng.permutation(3)]
        grey = pixels.mean(-1, dtype=np.float32, keepdims=True)
        stronger = grey + (pixels - grey) * np.float32(rng.uniform(1, MAX_VIVID))
        pixels = np.clip(np.rint(stronger), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels)
