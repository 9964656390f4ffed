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
        for path in self._paths() if paths is None else paths:
            x = run(path, self.get_submodule(path), x)
        return x, run.new

    def first_weights(self) -> list[Tensor]:
        """Weights of the first layer that learns; of several where they stand side by side."""
        return self._weights()[:1]

    def last_weights(self) -> list[Tensor]:
        """Weights of the last layer that learns; of several where they stand side by side."""
        return self._weights()[-1:]

    def _paths(self) -> list[str]:
        return [path for part in self.parts.values() for path in part]

    def _weights(self) -> list[Tensor]:
        """Kernels and matrices in running order, without biases and the gains of norms."""
        return [p for path in self._paths() for p in self.get_submodule(path).parameters() if is_matrix(p)]


def is_matrix(parameter: Tensor) -> bool:
    """Whether a parameter maps channels to channels; axes of length 1, as gains of norms may have, do not count."""
    return parameter.squeeze().ndim > 1
