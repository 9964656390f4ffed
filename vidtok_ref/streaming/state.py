"""Temporal memory as a value: nested dictionaries that follow the module tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Union

from torch import Tensor

from vidtok_ref.errors import ShapeError

State = dict[str, Union[Tensor, "State"]]


class Call(NamedTuple):
    """Where in its stream a call stands, as flags (bool `1`); only version 1.1 looks at them.

    first: the first call, whatever the states hold (a state of None says the same).
    boundary: the second call, where the first latent's frames end, or the last one, where the clip does.
    """

    first: Tensor
    boundary: Tensor | None = None


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
