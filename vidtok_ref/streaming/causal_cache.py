"""The frames beyond its chunk that a layer looks at along T."""

from __future__ import annotations

from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor

from vidtok_ref.streaming.state import Call, State


class Padding(Enum):
    """What lies beyond a stream of frames for a layer that looks along T."""

    ZEROS = "zeros before the first frame"
    FIRST_FRAME = "copies of the layer's own first frame before it"
    BOTH_SIDES = "zeros around every chunk, which is a clip of its own"

    @property
    def causal(self) -> bool:
        """Whether a layer looks back only, so that it can go on from chunk to chunk."""
        return self is not Padding.BOTH_SIDES


def without_first(x: Tensor, frames: int, starts: bool, call: Call | None) -> Tensor:
    """`x` with zeros in the place of its first frames, if a stream starts with it: by its state, or by its call."""
    if not frames or not (starts or call):
        return x
    beyond = (torch.arange(x.shape[2], device=x.device) >= frames).to(x.dtype)
    kept = beyond if call is None else 1 - call.first.to(x.dtype) * (1 - beyond)
    return x * kept.view(1, 1, -1, 1, 1)


class CausalCache:
    """The `frames` beyond its chunk that a layer sees along T.

    Causal padding: all of them come before the chunk and are remembered from call to call.
    Non-causal: one comes behind, the others before, and nothing is remembered.
    dummies: frames at the start of a stream that only fill its first latent; the layer sees zeros in their place.
    """

    def __init__(self, frames: int, padding: Padding, dummies: int = 0) -> None:
        self.frames = frames
        self.padding = padding
        self.dummies = dummies

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        """The chunk `N C T H W` with these frames around it, and what to remember."""
        if not self.padding.causal:
            return F.pad(x, (0, 0, 0, 0, self.frames - 1, 1)), {}
        x = without_first(x, self.dummies, state is None, call)
        copies = self.padding is Padding.FIRST_FRAME
        start = (x[:, :, :1] if copies else torch.zeros_like(x[:, :, :1])).expand(-1, -1, self.frames, -1, -1)
        if state is None:
            state = start
        elif copies and call is not None:
            state = torch.where(call.first, start, state)
        x = torch.cat([state, x], dim=2)
        return x, x[:, :, -self.frames :]
