"""An encoder or decoder in the parts of which graphs are made."""

from __future__ import annotations

from torch import Tensor, nn

from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope

LOCAL, GLOBAL = "local", "global"


class Coder(nn.Module):
    """Children that run one after the other, grouped into parts that can run alone.

    parts: name of each part to the dotted paths of its children, both in running order. In `local` every output
    depends on a bounded neighbourhood in space; `global` sees whole frames.
    """

    parts: dict[str, list[str]]

    def step(
        self, x: Tensor, state: State | None = None, call: Call | None = None, part: str | None = None
    ) -> tuple[Tensor, State]:
        """Encode the next frames, or decode the next latents; `state` None starts a stream.

        part: runs it alone, on what the one before gives and with its own states; None: all of them.
        """
        run = StateScope(state, call)
        for paths in self.parts.values() if part is None else (self.parts[part],):
            for path in paths:
                x = run(path, self.get_submodule(path), x)
        return x, run.new
