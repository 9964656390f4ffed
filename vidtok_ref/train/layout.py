"""The layout of arrays in training on the CPU: channels last, as the batches come."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CHANNELS_FIRST = {torch.Tensor.repeat_interleave, F.pad}  # whatever they are given


class ChannelsLast(TorchFunctionMode):
    """Frames that are joined, padded or repeated along T stay channels last, so that all that follows does.

    Convolutions of few channels and layer norms take up to ten times as long channels first, which PyTorch (2.13)
    falls back to. It joins so where a part is expanded, as the frames in front of a clip are.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.cat and args[0][0].ndim == 5:
            args = ([_last(x) for x in args[0]], *args[1:])
        result = function(*args, **(kwargs or {}))
        return _last(result) if function in _CHANNELS_FIRST and result.ndim == 5 else result


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)
