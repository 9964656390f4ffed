"""The running average of the weights, which is what a run hands on."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move `average` towards `model` after `step` steps.

    It starts short and lengthens up to `decay`, so that the first steps are soon forgotten.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), share)
    for slow, fast in zip(average.buffers(), model.buffers(), strict=True):
        slow.copy_(fast)
