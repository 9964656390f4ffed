"""Into which graphs an encoder or decoder is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

from torch import Tensor

from vidtok_export.footprint import Look, looks
from vidtok_ref.streaming.parts import LOCAL, Coder

# Latents that a tile may compute beside what it keeps before its graph is cut in two. Tiles begin at multiples of four
# latents: a narrower margin saves nothing.
WIDE = 3


@dataclass(frozen=True)
class Part:
    """Children of a coder, by their dotted paths, that become one graph.

    kind: `local` or `global`; name: that and, of the second on, a number. receptive_field: pixels that an output looks
    at on either side of its own, attention left out.
    """

    kind: str
    name: str
    paths: list[str]
    receptive_field: int


def parts_of(lowered: Coder, x: Tensor, pixels: int, multiple: int) -> list[Part]:
    """The parts of a lowered coder, in the order of the data.

    x: what it takes of `smallest_input`; pixels: the side that it stands for; multiple: pixels a latent.
    """
    found = []
    for kind, paths in lowered.parts.items():
        # Elsewhere children may hand over more than a tensor.
        steps = [[path] for path in paths] if kind == LOCAL else [paths]
        seen, x = looks(lowered, x, pixels, steps)
        ends = [0, len(steps)]
        if kind == LOCAL and len(steps) > 1 and sum(look.reach for look in seen) > WIDE * multiple:
            ends.insert(1, _middle(seen, multiple))
        for i, (start, end) in enumerate(pairwise(ends)):
            reach = sum(look.reach for look in seen[start:end])
            found.append(Part(kind, numbered(kind, i), list(chain.from_iterable(steps[start:end])), reach))
    return found


def numbered(name: str, before: int) -> str:
    """A name of which so many were given before."""
    return f"{name}{before + 1}" if before else name


def _middle(seen: Sequence[Look], multiple: int) -> int:
    """Where to cut children in two: where the half that looks farther looks at the fewest latents.

    The layers of high resolution, which look at few, then do not compute in every tile what those of low resolution
    look at. Of equal cuts it is the last of those that hand over least.
    """
    before = list(accumulate(look.reach for look in seen))

    def worth(end: int) -> tuple[int, int, int]:
        reach = before[end - 1]
        return -(-max(reach, before[-1] - reach) // multiple), seen[end - 1].gives, -end

    return min(range(1, len(seen)), key=worth)
