"""How pictures are meant to be shown: what travels beside the pixels. Numbers are those of ITU-T H.273."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

UNSPECIFIED = 2
BT709 = 1
BT601 = 6
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
        """Inverse of `str`; raises KeyError or ValueError."""
        values = dict(part.split("=", 1) for part in text.split())
        aspect = Fraction(values["aspect"])
        numbers = [int(values[name]) for name in ("matrix", "primaries", "transfer")]
        if aspect <= 0 or not all(0 <= n < 256 for n in numbers):
            raise ValueError(f"{text!r} describes no picture")
        return cls(aspect, numbers[0], numbers[1], numbers[2], values["range"] == "full")

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> Display:
        """The same picture shape when `before` (height, width) is stretched to `after`."""
        scale = Fraction(before[1] * after[0], before[0] * after[1])
        return replace(self, pixel_aspect=(self.pixel_aspect * scale).limit_denominator(10000))

    def matrix_for(self, height: int, width: int) -> int:
        """The matrix named; where none is, BT.709 from 1280 pixels wide or above 576 high, else BT.601."""
        if self.matrix in _KNOWN:
            return self.matrix
        return BT709 if width >= 1280 or height > 576 else BT601
