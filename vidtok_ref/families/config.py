"""What the configurations of all families have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from math import prod
from typing import Any, ClassVar, Self

from vidtok_ref.errors import VariantError
from vidtok_runtime.bundle.stream_spec import StreamSpec


@dataclass(frozen=True)
class FamilyConfig:
    """What one model of a family is built from: a frozen dataclass of JSON values, lists of them as tuples.

    kind: what it is, for errors. name: by which people ask for it; no other configuration of any family has it.
    stream: how clips become calls.
    """

    kind: ClassVar[str]
    name: str

    @property
    @abstractmethod
    def stream(self) -> StreamSpec: ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready fields, tuples as lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; raises VariantError on unknown or missing fields."""
        known = {f.name for f in fields(cls)}
        needed = {f.name for f in fields(cls) if f.default is MISSING}
        if not needed <= set(data) <= known:
            raise VariantError(f"{cls.kind} has the fields {sorted(known)}, got {sorted(data)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any], /, **overrides: Any) -> Self:
        """The configuration called `name` with the settings of a release's own `config.json`; raises VariantError.

        overrides: fields that take the place of the release's.
        """
        raise VariantError(f"there is {cls.kind}, but its releases have no configuration files of their own")


def check_levels(name: str, levels: tuple[int, ...]) -> None:
    """Raise VariantError where tokens of so many values a channel cannot be."""
    if min(levels, default=2) < 2:
        raise VariantError(f"{name}: each of the levels is at least 2, got {levels}")
    # Channel by channel, indices are summed up in float32.
    if prod(levels) > 2**24:
        raise VariantError(f"{name}: {prod(levels):,} codes are too many, {2**24:,} are the limit")


def check_settings(name: str, data: Mapping[str, Any], only: Mapping[str, Any]) -> None:
    """Raise VariantError where a release's settings have another value than the only one that is built."""
    for key, wanted in only.items():
        if (found := data.get(key, wanted)) != wanted:
            raise VariantError(f"{key} of this configuration is {found!r}; {name} is built with {wanted!r} only")
