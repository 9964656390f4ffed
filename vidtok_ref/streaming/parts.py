"""An encoder or decoder in the parts of which graphs are made."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope

LOCAL, GLOBAL = "local", "global"


class Coder(nn.Module):
    """Children that run one after the other, and which of them look how far.

    parts: `local`, in which every output depends on a bounded neighbourhood in space, and `global`, which sees whole
    frames, to the dotted paths of their children, both in running order.
    """

    parts: dict[str, list[str]]

    def step(
        self, x: Tensor, state: State | None = None, call: Call | None = None, paths: Iterable[str] | None = None
    ) -> tuple[Tensor, State]:
        """Encode the next frames, or decode the next latents; `state` None starts a stream.

        paths: runs these children alone, on what those before give and with their own states; None: all of them.
        """
        run = StateScope(state, call)
        for path in (path for part in self.parts.values() for path in part) if paths is None else paths:
            x = run(path, self.get_submodule(path), x)
        return x, run.new
