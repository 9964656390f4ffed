"""Values out of JSON that may hold anything: each has the type and the range that was asked for, or it is an error."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Collection
from typing import NoReturn

_MAX_DEPTH = 64  # objects and lists inside each other
_MAX_NUMBER = 1e300
_MAX_WHOLE = 2**53 - 1  # what every language can hold
# Controls, and what shows nothing or turns the direction of writing.
_HIDDEN = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]")


def parse_json(content: bytes) -> object:
    """What JSON text holds, by the rules of docs/format.md; raises ValueError."""
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=lambda digits: int(_in_range(digits)),
            parse_float=lambda digits: float(_in_range(digits)),
            parse_constant=_no_constant,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check(value, 0)
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("an object has two values of one name")
    return values


def _in_range(digits: str) -> str:
    if not abs(float(digits)) < _MAX_NUMBER:
        raise ValueError(f"the number {digits[:20]} is out of range")
    return digits


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _check(value: object, depth: int) -> None:
    """Raise ValueError for what is nested too deeply, and for half a character of UTF-16."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict | list):
        if depth == _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check(item, depth + 1)


def is_printable(text: str) -> bool:
    """Whether text can be shown on a terminal and shows what it is."""
    return not _HIDDEN.search(text)


def shown(value: object) -> str:
    """A short form of any value for an error's line; what a terminal would hide is escaped."""
    return _HIDDEN.sub(lambda hidden: hidden[0].encode("unicode_escape").decode(), reprlib.repr(value))


class Fields:
    """An object out of JSON. Every method raises ValueError that says where and what."""

    def __init__(self, raw: object, where: str) -> None:
        if not isinstance(raw, dict):
            raise ValueError(f"{where} is {shown(raw)}, not an object")
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
        """At most so many whole numbers from 0 to 2^53 - 1."""
        value = self._get(name)
        if not isinstance(value, list) or len(value) > most or any(type(n) is not int for n in value):
            raise self._wrong(name, f"a list of at most {most} whole numbers")
        if any(not 0 <= n <= _MAX_WHOLE for n in value):
            raise self._wrong(name, "a list of sizes")
        return tuple(value)

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def numbers(self, name: str, most: int) -> tuple[float, ...]:
        """At most so many numbers."""
        value = self._get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(name, f"a list of at most {most} numbers")
        return tuple(Fields({name: item}, self.where).number(name) for item in value)

    def numbers_or_none(self, name: str, most: int) -> tuple[float, ...] | None:
        """At most so many numbers, or None for null."""
        return None if self._get(name) is None else self.numbers(name, most)

    def number(self, name: str) -> float:
        """A number."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, "a number")
        return float(value)

    def count(self, name: str) -> int:
        """A whole number from 0 to 2^53 - 1."""
        return self.integer(name, 0, _MAX_WHOLE)

    def text(self, name: str) -> str:
        """Short text that can be shown on a terminal."""
        value = self._get(name)
        if not isinstance(value, str) or len(value) > 300 or not is_printable(value):
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
        return ValueError(f"{name} of {self.where} is {shown(self.raw[name])}, not {wanted}")
