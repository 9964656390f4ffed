"""What `eval` compares: ways to turn a clip into bits and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import VideoError
from vidtok_runtime.evaluation.block_pca import BlockTransform
from vidtok_runtime.evaluation.codecs import Codec, Coded
from vidtok_runtime.evaluation.protocol import Excerpt
from vidtok_runtime.pipeline.files import round_trip
from vidtok_runtime.quality.bits_per_pixel import LATENT_BITS, bits_per_number
from vidtok_runtime.quality.metrics import Pixels
from vidtok_runtime.tokenizer import Tokenizer


class Method(Protocol):
    """A way to turn a clip into bits and back; `kind` is model, pca or codec."""

    kind: str
    name: str
    bits: float

    def round_trip(self, clip: Excerpt) -> Iterator[tuple[Pixels, Pixels]]:
        """Every frame with what comes back of it, uint8 `H W 3`; then `bits` are those of this clip."""
        ...

    def describe(self) -> dict[str, Any]:
        """What else there is to know about it, for the JSON."""
        ...


class Model:
    """A bundle; counts over all clips which codes occur."""

    kind = "model"

    def __init__(self, tok: Tokenizer, name: str) -> None:
        self.name = name
        self.tok = tok
        codes = tok.stream.codebook_size
        self._seen: NDArray[np.bool_] | None = np.zeros(codes, np.bool_) if codes else None
        self.tokens = 0
        self.bits = 0.0

    @property
    def channels(self) -> int:
        """Numbers a latent."""
        return self.tok.stream.latent_channels

    def round_trip(self, clip: Excerpt) -> Iterator[tuple[Pixels, Pixels]]:
        numbers = 0
        codes: list[NDArray[Any]] = []

        def look(data: NDArray[Any]) -> None:
            nonlocal numbers
            numbers += data.size
            if self._seen is not None:
                codes.append(np.unique(data))

        for frame, pixels in round_trip(self.tok, clip, clip.height, clip.width, look):
            yield frame.pixels, pixels
        self.bits = bits_per_number(self.tok.stream.codebook_size) * numbers
        if self._seen is not None:  # only now: a clip that fails does not count
            self.tokens += numbers
            for found in codes:
                self._seen[found] = True

    @property
    def codes_used(self) -> float | None:
        """Utilization: share of the codebook that occurred at least once; None for KL."""
        return None if self._seen is None else float(self._seen.mean())

    def describe(self) -> dict[str, Any]:
        manifest = self.tok.manifest
        return {
            "family": manifest.family,
            "model": manifest.name,
            "weights_sha256": manifest.weights_sha256,
            "provider": self.tok.engine,
            "precision": self.tok.precision,
            "codebook_size": manifest.stream.codebook_size,
            "codes_used": self.codes_used,
            "tokens": self.tokens or None,
        }


class BlockPca:
    """The best linear transform of a model's blocks, with `count` numbers a block."""

    kind = "pca"

    def __init__(self, transform: BlockTransform, count: int) -> None:
        self.name = f"pca-{count} of {transform.grid}"
        self._transform = transform
        self._count = count
        self.bits = 0.0

    def round_trip(self, clip: Excerpt) -> Iterator[tuple[Pixels, Pixels]]:
        self.bits, grid = 0.0, self._transform.grid
        for group, start, blocks in grid.cut(clip):
            self.bits += LATENT_BITS * self._count * len(blocks)
            frames = grid.join(self._transform.apply(blocks, self._count), clip.height, clip.width)
            for frame, pixels in zip(group, frames[start : start + len(group)], strict=True):
                yield frame.pixels, pixels

    def describe(self) -> dict[str, Any]:
        return {"blocks": str(self._transform.grid), "transform": self._transform.source}


class CodecMethod:
    """A codec; `code` chooses the rate of a clip."""

    kind = "codec"

    def __init__(self, name: str, codec: Codec, code: Callable[[Excerpt], Coded]) -> None:
        self.name = name
        self._codec = codec
        self._code = code
        self.bits = 0.0

    def round_trip(self, clip: Excerpt) -> Iterator[tuple[Pixels, Pixels]]:
        coded = self._code(clip)
        self.bits = coded.bits
        for frame, pixels in zip_longest(clip, coded.frames()):
            if frame is None or pixels is None:
                raise VideoError(f"{self._codec.encoder} gave back another number of frames than {clip.path} has")
            yield frame.pixels, pixels

    def describe(self) -> dict[str, Any]:
        return {"codec": str(self._codec)}
