"""Layer normalisation of few channels in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from vidtok_ref.layers.norm import LayerNorm


def widen_narrow_norms(model: nn.Module) -> None:
    """Let layer norms of fewer than 16 channels compute in float32 on the CPU; names and values stay what they are.

    PyTorch (2.13) takes 25 times as long for the gradient of 8 channels in bfloat16.
    """
    for module in model.modules():
        if isinstance(module, LayerNorm) and module.norm.normalized_shape[0] < 16:
            module.forward = partial(_in_float32, module.forward)  # type: ignore[method-assign]


def _in_float32(plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return plain(x)
    with torch.autocast("cpu", enabled=False):
        return plain(x.float()).to(x.dtype)
