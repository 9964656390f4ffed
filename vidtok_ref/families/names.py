"""Names of tensors by rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Rule = tuple[str, str | Callable[[re.Match[str]], str]]


def renamed(name: str, rules: Iterable[Rule]) -> str:
    """A name after every rule in its order: a pattern, and what takes the place of what it finds."""
    for pattern, ours in rules:
        name = re.sub(pattern, ours, name)
    return name
