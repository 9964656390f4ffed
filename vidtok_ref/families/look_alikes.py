"""Which variants a set of weights may belong to, by the names and shapes of its tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidtok_ref.families.registry import Family, all_families, make_model
from vidtok_ref.weights import few, of_the_model

Shapes = Mapping[str, tuple[int, ...]]


class _Likeness(NamedTuple):
    """Shares of the given names that a variant has, of all names that both have, and of the shapes that fit."""

    known: float
    shared: float
    fitting: float


def look_alikes(weights: Mapping[str, Tensor]) -> str:
    """Which variants weights are like or nearest to, in words; "" where they resemble none."""
    family, given = max(
        ((family, _given(family, weights)) for family in all_families().values()),
        key=lambda pair: _compared(pair[1], _wanted(next(iter(pair[0].configs.values()))))[0],
    )
    found = {name: _compared(given, _wanted(config)) for name, config in family.configs.items()}
    best = max(likeness for likeness, _ in found.values())
    names = [name for name, (likeness, _) in found.items() if likeness == best]
    if best.known < 0.5:
        return ""
    if best < (1, 1, 1):
        return f"they are nearest to {few(names, ' or ')} of {family.title}"
    width = found[names[0]][1]
    return f"they look like {few(names, ' or ')}, at {'the' if width == 1 else f'{width} of the'} released width"


def _given(family: Family, weights: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in of_the_model(family.own_names(weights)).items()}


@cache
def _wanted(config: Any) -> Shapes:
    """Of a variant's tensors."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in make_model(config).state_dict().items()}


def _compared(given: Shapes, wanted: Shapes) -> tuple[_Likeness, Fraction]:
    """How much weights are like a variant, and their width in units of its own, with which most axes grow."""
    common = given.keys() & wanted.keys()
    if not common:
        return _Likeness(0, 0, 0), Fraction(1)
    ratios = Counter(Fraction(given[name][0], wanted[name][0]) for name in common if given[name] and wanted[name])
    width = max(ratios, key=lambda ratio: ratios[ratio], default=Fraction(1))
    fitting = sum(
        len(given[name]) == len(wanted[name])
        and all(a in (b, b * width) for a, b in zip(given[name], wanted[name], strict=True))
        for name in common
    )
    shared = len(common) / len(given.keys() | wanted.keys())
    return _Likeness(len(common) / len(given), shared, fitting / len(common)), width
