"""The conformance kit as tests read it: its cases, and what tokens, token files and frames must agree with.

A runner gets a `Case`, computes, and calls the `check_` methods; each raises AssertionError with what differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vidtok_runtime.tokens.tokens import TokenReader, Tokens

KIT = Path(__file__).parent / "kit"
# Fields of a token file that a runtime must write as the reference does.
SAME = (
    "family",
    "name",
    "weights_sha256",
    "num_frames",
    "height",
    "width",
    "time_factor",
    "front_frames",
    "look_ahead",
    "length",
    "codebook_size",
    "groups",
    "exact",
    "surplus",
    "fps",
    "precision",
    "skip",
    "sampled",
    "normalized",
)
Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A clip, the bundle for it, and the tokens and frames that the reference gets."""

    name: str
    bundle: Path
    size: tuple[int, int, int]  # frames, height, width
    fps: Fraction
    input: Path
    tokens: Path
    video: Path
    pushes: list[list[int]]
    pulls: list[list[int]]
    latent_tolerance: float
    video_tolerance: float
    tokens_exact: bool

    def read_input(self) -> NDArray[np.uint8]:
        """The clip, `[T, H, W, 3]`."""
        return np.fromfile(self.input, np.uint8).reshape(*self.size, 3)

    def read_tokens(self) -> Tokens:
        """The tokens that every runtime must get from the clip."""
        return Tokens.load(self.tokens)

    def read_video(self) -> NDArray[np.float32]:
        """The frames that every runtime must get from these tokens, `[T, H, W, 3]` in -1..1."""
        return self.read_frames(self.video)

    def read_frames(self, path: Path) -> NDArray[np.float32]:
        """A file as `video`."""
        return np.fromfile(path, "<f4").reshape(*self.size, 3)

    def check_data(self, data: Array) -> None:
        """Latents `[t, C, h, w]` or indices `[t, h, w]`: equal, or within the tolerance."""
        wanted = self.read_tokens().data
        assert data.shape == wanted.shape, f"{self.name}: {data.shape}, not {wanted.shape}"
        if self.tokens_exact:
            different = int((data != wanted).sum())
            assert different == 0, f"{self.name}: {different} of {wanted.size} tokens differ"
        else:
            off = np.abs(data - wanted).max()
            assert off <= self.latent_tolerance, f"{self.name}: latents differ by {off}"

    def check_video(self, video: Array) -> None:
        """Frames decoded from the kit's tokens: float32 in -1..1, or uint8, which adds its own rounding."""
        assert video.shape == (*self.size, 3), f"{self.name}: {video.shape}, not {(*self.size, 3)}"
        wanted, allowed = self.read_video(), self.video_tolerance
        if video.dtype == np.uint8:
            video, wanted, allowed = video.astype(np.float32), (wanted + 1) * 127.5, allowed * 127.5 + 0.5
        off = np.abs(video - wanted).max()
        assert off <= allowed, f"{self.name}: frames differ by {off}, {allowed} is allowed"

    def check_token_file(self, path: Path) -> None:
        """A token file of the clip: layout, checksum, numbers, metadata, and the time of every frame."""
        found, wanted = Tokens.load(path), self.read_tokens()
        assert TokenReader(path).dtype == TokenReader(self.tokens).dtype
        self.check_data(found.data)
        for name in SAME:
            ours, theirs = getattr(found.info, name), getattr(wanted.info, name)
            assert ours == theirs, f"{self.name}: {name} is {ours!r}, not {theirs!r}"
        assert found.info.provider, "the file does not say which engine made it"
        times = [int(n) * (found.info.time_base or 1 / self.fps) for n in found.pts]
        assert times == [i / self.fps for i in range(self.size[0])]


def read_cases(kit: Path = KIT) -> list[Case]:
    """The cases of `cases.json`."""
    content = json.loads((kit / "cases.json").read_text())
    assert (content["format"], content["version"]) == ("vidtok-conformance", 1)
    return [
        Case(
            name=raw["name"],
            size=(raw["frames"], raw["height"], raw["width"]),
            fps=Fraction(raw["fps"]),
            **{key: kit / raw[key] for key in ("bundle", "input", "tokens", "video")},
            **{key: raw[key] for key in ("pushes", "pulls", "latent_tolerance", "video_tolerance", "tokens_exact")},
        )
        for raw in content["cases"]
    ]


def pieces(data: Array, sizes: list[int]) -> Iterator[Array]:
    """Consecutive parts of so many frames or latents, which are all of them."""
    assert sum(sizes) == len(data)
    yield from (data[start:end] for start, end in pairwise(accumulate(sizes, initial=0)))


every_case = pytest.mark.parametrize("case", read_cases(), ids=lambda case: case.name)
