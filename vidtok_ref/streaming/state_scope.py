"""The states of one module's children during a step."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vidtok_ref.streaming.state import Call, State


class StateScope:
    """Carries a state through the children of one module, in the order in which they run.

    `old` is the state before the step (None: the initial state); `new` fills up with the
    states after it. Calling the scope runs one child.
    """

    def __init__(self, old: State | None, call: Call | None) -> None:
        self.old = old
        self.call = call
        self.new: State = {}

    def __call__(self, name: str, child: Any, x: Tensor) -> Tensor:
        """Run `child` on `x`; the state of one with `step` is filed under `name`, a dotted path below this module."""
        if not hasattr(child, "step"):
            y: Tensor = child(x)
            return y
        # A child without states may be missing: flat states do not name it.
        *parents, leaf = name.split(".")
        old: Any = self.old
        new: Any = self.new
        for part in parents:
            old = None if old is None else old.get(part, {})
            new = new.setdefault(part, {})
        y, new[leaf] = child.step(x, None if old is None else old.get(leaf, {}), self.call)
        return y
