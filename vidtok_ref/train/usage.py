"""An even use of the whole codebook, over many batches.

The entropy term of the released recipe takes inner products of the encoder's output with the codes. Over the levels of
a channel these are largest at one end, so it evens out the channels' signs and goes no further: 5 bits of 15.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vidtok_ref.regularizers.channel import ChannelQuantizer
from vidtok_ref.regularizers.entropy import mean_distribution, mean_over_processes

MEMORY = 0.99  # of the average use of each code, a step: a batch has far fewer tokens than there are codes
SHARPNESS = 2.0  # a token in the middle of its cell counts to a seventh of itself for a neighbour
_MIN_USE = 1e-2  # of an even use; what an unused code counts as


class UsageLoss(nn.Module):
    """How often tokens fall on codes that are used often; its gradient leads them to rare ones."""

    seen: Tensor

    def __init__(self, quantizer: ChannelQuantizer) -> None:
        super().__init__()
        self.digits = quantizer.digits  # the method alone: the quantizer is the model's
        size = math.prod(quantizer.levels)
        self.register_buffer("seen", torch.full((size,), 1 / size))

    def forward(self, bounded: Tensor) -> Tensor:
        """Mean logarithm of the use of the tokens' codes, nats (a scalar): minus the entropy of their use.

        bounded: `N C t h w`, of `ChannelQuantizer.bound`. A token counts for code c in the measure of
        exp(-SHARPNESS * distance^2), distances in digits. The use is an average over the steps and all processes.
        """
        with torch.autocast(bounded.device.type, enabled=False):
            channels = bounded.float().transpose(0, 1).flatten(1)
            choices = [
                torch.log_softmax(-SHARPNESS * (x[:, None] - digits).square(), dim=1)
                for x, digits in zip(channels, self.digits(channels), strict=True)
            ]
            use = mean_over_processes(mean_distribution(choices)).flatten()
            with torch.no_grad():
                self.seen.lerp_(use, 1 - MEMORY)
            return (use * self.seen.clamp(min=_MIN_USE / len(use)).log()).sum()
