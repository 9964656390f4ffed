"""How pictures are meant to be shown: what travels beside the pixels. Numbers are those of ITU-T H.273."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

UNSPECIFIED = 2
BT709 = 1
BT601 = 6
_TEXT = re.compile(
    r"aspect=([0-9]{1,9})(?:/([0-9]{1,9}))? matrix=([0-9]{1,3}) primaries=([0-9]{1,3}) transfer=([0-9]{1,3}) "
    "range=(full|limited)"
)
_KNOWN = (1, 4, 5, 6, 7, 9, 10)  # matrices


@dataclass(frozen=True)
class Display:
    """How pictures are meant to be shown: the shape of a pixel (width by height) and H.273 numbers of the colours.

    `full_range` and `matrix` are those of the stored luma and chroma; a source of RGB or grey leaves them open.
    """

    pixel_aspect: Fraction = Fraction(1)
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full_range: bool = False

    def __str__(self) -> str:
        return (
            f"aspect={self.pixel_aspect} matrix={self.matrix} primaries={self.primaries} transfer={self.transfer} "
            f"range={'full' if self.full_range else 'limited'}"
        )

    @classmethod
    def parse(cls, text: str) -> Display:
        """Inverse of `str`; raises ValueError."""
        match = _TEXT.fullmatch(text)
        if not match or not int(match[1]) > 0 or int(match[2] or 1) == 0 or max(map(int, match.groups()[2:5])) > 255:
            raise ValueError(f"{text!r} describes no picture")
        matrix, primaries, transfer = map(int, match.groups()[2:5])
        return cls(Fraction(f"{match[1]}/{match[2] or 1}"), matrix, primaries, transfer, match[6] == "full")

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> Display:
        """The same picture shape when `before` (height, width) is stretched to `after`."""
        scale = Fraction(before[1] * after[0], before[0] * after[1])
        return replace(self, pixel_aspect=(self.pixel_aspect * scale).limit_denominator(10000))

    def matrix_for(self, height: int, width: int) -> int:
        """The matrix named; where none is, BT.709 from 1280 pixels wide or above 576 high, else BT.601."""
        if self.matrix in _KNOWN:
            return self.matrix
        return BT709 if width >= 1280 or height > 576 else BT601
