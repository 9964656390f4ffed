"""Pictures that shrink before they become RGB: nearer to the exact mean, and the same in every other way."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from unittest import mock

import av
import numpy as np
import pytest
from commands import run
from video_files import CPU, lossless, make, read

from vidtok_runtime.errors import InputError
from vidtok_runtime.tokens.tokens import Tokens
from vidtok_runtime.tools.demo import synthetic_frame
from vidtok_runtime.video.colour import ToRgb
from vidtok_runtime.video.selection import Selection

TALL, WIDE = 118, 210
PICTURES = [synthetic_frame(20 * i, TALL, WIDE) for i in range(4)]


def means(length: int, pieces: int) -> np.ndarray:
    """The matrix that averages over pieces of equal length, parts of a pixel included."""
    edges, pixels = np.arange(pieces + 1) * length / pieces, np.arange(length)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(shares, 0, None) * pieces / length


def exact(planes: np.ndarray, height: int, width: int) -> np.ndarray:
    """RGB of the exact means of luma and chroma, which are 4:2:0 in the limited range of BT.601."""
    luma, chroma = planes[:TALL], planes[TALL:].reshape(2, TALL // 2, WIDE // 2)
    y, u, v = (means(len(p), height) @ p @ means(p.shape[1], width).T for p in (luma, *chroma))
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    red, blue = y + 2 * (1 - 0.299) * v, y + 2 * (1 - 0.114) * u
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return np.clip(np.stack([red, green, blue], -1) * 255, 0, 255)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make(tmp_path / "clip.mkv", PICTURES, codec="ffv1")


def test_nearer_to_the_mean(clip: Path) -> None:
    with av.open(str(clip)) as file:
        planes = next(file.decode(video=0)).to_ndarray().astype(np.float64)
    scores = {}
    for resampling in ("planes", "rgb"):
        found, _, reader = read(clip, Selection(size="44x30", resampling=resampling))
        assert reader.resampling == resampling
        scores[resampling] = psnr(found[0], exact(planes, 30, 44))
    assert scores["planes"] > 50
    assert scores["rgb"] < 48
    with pytest.raises(InputError, match="pictures shrink by one of planes, rgb, got 'lanczos'"):
        Selection(resampling="lanczos")


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", ["", "h"])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_turned_and_fitted_as_before(tmp_path: Path, turn: int, mirror: str, fit: str) -> None:
    path = make(tmp_path / "clip.mp4", PICTURES[:2], turn=turn, mirror=mirror)
    for size in ("48x32", "24"):
        (new, times, reader), (old, before, past) = (
            read(path, Selection(size=size, fit=fit, resampling=name)) for name in ("planes", "rgb")
        )
        assert (reader.resampling, reader.display, times) == ("planes", past.display, before)
        assert all(psnr(a, b) > 36 for a, b in zip(new, old, strict=True))


def test_what_does_not_shrink_as_planes(tmp_path: Path, clip: Path) -> None:
    """Pictures of their own size, that grow, or that are RGB: to the bit as before."""
    rgb = lossless(tmp_path / "rgb.mkv", PICTURES)
    grey = make(tmp_path / "grey.mkv", PICTURES, codec="ffv1", pixels="gray")
    cases = [(clip, None, None), (clip, "210x118", None), (clip, "300x200", "rgb"), (clip, "300x60", "rgb")]
    cases += [(rgb, "44x30", "rgb"), (grey, "44x30", "rgb")]
    for path, size, resampling in cases:
        found, _, reader = read(path, Selection(size=size))
        assert reader.resampling == resampling, (path.name, size)
        old, _, _ = read(path, Selection(size=size, resampling="rgb"))
        assert np.array_equal(found, old)


def test_only_what_is_shown_is_converted(clip: Path) -> None:
    """At half the rate half of the pictures, at three times the rate each of them once."""
    for fps, shown, converted in ((12.5, 2, 2), (75, 12, 4)):
        with mock.patch.object(ToRgb, "__call__", autospec=True, side_effect=ToRgb.__call__) as convert:
            found, _, _ = read(clip, Selection(size="44x30", fps=Fraction(fps)))
        assert (len(found), convert.call_count) == (shown, converted)


def test_token_files_name_it(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "t.safetensors"
    for size, resampling in (((), None), (("--size", "48x32"), "planes"), (("--size", "240x160"), "rgb")):
        assert run("encode", clip, "-o", out, "--force", *size, *CPU).exit_code == 0
        assert Tokens.load(out).info.resampling == resampling
        assert ("resampling" in run("info", out).output) == (resampling is not None)
