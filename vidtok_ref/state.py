"""Temporal memory as a value: nested dictionaries that follow the module tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Union

from torch import Tensor

from vidtok_ref.errors import ShapeError

State = dict[str, Union[Tensor, "State"]]


class Thread:
    """Carries a state through the children of one module, in the order in which they run.

    `old` is the state before the step (None: the initial state); `new` fills up with the
    states after it. Calling the thread runs one child.
    """

    def __init__(self, old: State | None) -> None:
        self.old = old
        self.new: State = {}

    def __call__(self, name: str, child: Any, x: Tensor) -> Tensor:
        """Run `child.step` on `x` with the state filed under `name`, a dotted path below this module."""
        *parents, leaf = name.split(".")
        old: Any = self.old
        new: Any = self.new
        for part in parents:
            old = None if old is None else old[part]
            new = new.setdefault(part, {})
        y, new[leaf] = child.step(x, None if old is None else old[leaf])
        return y


def flatten(state: State, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Dotted module path and tensor of every state, in running order."""
    for key, value in state.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def unflatten(flat: Mapping[str, Tensor], like: list[str]) -> State:
    """Inverse of `flatten`; raises ShapeError unless the names are exactly those in `like`."""
    if set(flat) != set(like):
        missing, extra = sorted(set(like) - set(flat)), sorted(set(flat) - set(like))
        raise ShapeError(f"states do not match the model: missing {missing}, not used {extra}")
    tree: State = {}
    for path in like:
        node: Any = tree
        *parents, leaf = path.split(".")
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = flat[path]
    return tree
