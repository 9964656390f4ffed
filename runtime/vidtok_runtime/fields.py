"""Values out of JSON that may hold anything: each has the type and the range that was asked for, or it is an error."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Collection


def parse_json(content: bytes) -> object:
    """What JSON text holds; raises ValueError."""
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class Fields:
    """An object out of JSON. Every method raises ValueError that says where and what."""

    def __init__(self, raw: object, where: str) -> None:
        if not isinstance(raw, dict):
            raise ValueError(f"{where} is {reprlib.repr(raw)}, not an object")
        self.raw = raw
        self.where = where

    def names(self) -> set[str]:
        """All keys."""
        return set(self.raw)

    def integer(self, name: str, least: int, most: int) -> int:
        """A whole number of the range."""
        value = self._get(name)
        if type(value) is not int or not least <= value <= most:
            raise self._wrong(name, f"a whole number in {least}..{most}")
        return value

    def integer_or_none(self, name: str, least: int, most: int) -> int | None:
        """A whole number of the range, or None for null."""
        return None if self._get(name) is None else self.integer(name, least, most)

    def integers(self, name: str, most: int) -> tuple[int, ...]:
        """At most so many whole numbers from 0 to 2^62."""
        value = self._get(name)
        if not isinstance(value, list) or len(value) > most or any(type(n) is not int for n in value):
            raise self._wrong(name, f"a list of at most {most} whole numbers")
        if any(not 0 <= n < 2**62 for n in value):
            raise self._wrong(name, "a list of sizes")
        return tuple(value)

    def number(self, name: str) -> float:
        """A finite number."""
        value = self._get(name)
        if type(value) not in (int, float) or not abs(value) < 1e300:  # type: ignore[arg-type]
            raise self._wrong(name, "a number")
        return float(value)  # type: ignore[arg-type]

    def text(self, name: str) -> str:
        """Short text that can be shown on a terminal."""
        value = self._get(name)
        if not isinstance(value, str) or len(value) > 300 or not value.isprintable():
            raise self._wrong(name, "short, printable text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of such texts."""
        value = self._get(name)
        if not isinstance(value, list) or len(value) > 100:
            raise self._wrong(name, "a list of texts")
        return tuple(Fields({name: item}, self.where).text(name) for item in value)

    def sha256(self, name: str) -> str:
        """64 hexadecimal digits."""
        value = self.text(name)
        if not re.fullmatch("[0-9a-f]{64}", value):
            raise self._wrong(name, "a SHA-256")
        return value

    def one_of(self, name: str, choices: Collection[str]) -> str:
        """One of the choices."""
        value = self.text(name)
        if value not in choices:
            raise self._wrong(name, f"one of {', '.join(choices)}")
        return value

    def fields(self, name: str) -> Fields:
        """An object inside."""
        return Fields(self._get(name), name)

    def fields_or_none(self, name: str) -> Fields | None:
        """An object inside, or None for null."""
        return None if self._get(name) is None else self.fields(name)

    def mapping(self, name: str) -> dict[str, object]:
        """An object inside, as it is."""
        return self.fields(name).raw

    def rows(self, name: str) -> list[Fields]:
        """A list of objects."""
        value = self._get(name)
        if not isinstance(value, list) or len(value) > 10_000:
            raise self._wrong(name, "a list")
        return [Fields(row, f"{name}[{i}]") for i, row in enumerate(value)]

    def _get(self, name: str) -> object:
        if name not in self.raw:
            raise ValueError(f"{self.where} lacks {name}")
        return self.raw[name]

    def _wrong(self, name: str, wanted: str) -> ValueError:
        return ValueError(f"{name} of {self.where} is {reprlib.repr(self.raw[name])}, not {wanted}")
