"""First weights that let a narrow model learn quickly."""

from __future__ import annotations

import torch

from vidtok_ref.layers import Attention, SpatialBlock, TimeBlock, kernel
from vidtok_ref.model import VidTok


@torch.no_grad()
def start_from_linear(model: VidTok, log_variance: float) -> None:
    """Silence every residual branch and scale the trunk so that it passes signals on at their own size.

    What is left is a linear network around the norms and activations of the two ends, which soon learns
    what a linear transform can; PyTorch's own start shrinks a signal by sqrt(3) a convolution and buries
    it under random branches. KL: `log_variance` is where the log-variance starts, so low that sampling
    noise does not drown the signal.
    """
    branches: set[torch.nn.Module] = set()
    for module in model.modules():
        if isinstance(module, SpatialBlock | TimeBlock):
            branches |= {*module.conv1.modules(), *module.conv2.modules()}
            last: torch.nn.Module = module.conv2
        elif isinstance(module, Attention):
            branches |= {*module.modules()}
            last = module.proj_out
        else:
            continue
        for parameter in last.parameters():
            parameter.zero_()
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if "weight" in own and own["weight"].ndim > 1 and module not in branches:
            own["weight"] *= 3**0.5
            own["bias"].zero_()
    if model.variant.regularizer == "kl":
        _, bias = kernel(model.encoder.conv_out)
        bias[model.variant.z_channels :] = log_variance
