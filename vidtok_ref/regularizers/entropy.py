"""How sharply tokens choose their codes, and how evenly a batch uses the codebook."""

from __future__ import annotations

from functools import reduce

import torch
import torch.distributed
import torch.distributed.nn
from torch import Tensor

INVERSE_TEMPERATURE = 100.0
# The released recipe bounds the logarithm of a probability from below; so do we where its slope would be infinite.
_MIN_PROBABILITY = 1e-5


def mean_over_processes(x: Tensor) -> Tensor:
    """Mean of `x` over all training processes, with gradients; `x` itself in a single one."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return x
    total: Tensor = torch.distributed.nn.functional.all_reduce(x)
    return total / torch.distributed.get_world_size()


def _joint(log_probabilities: list[Tensor]) -> Tensor:
    """Distribution over all combinations of independent choices: `n L_i` each, in logarithms, to `n prod(L)`."""
    return reduce(lambda a, b: (a[:, :, None] + b[:, None, :]).flatten(1), log_probabilities).exp()


def mean_distribution(choices: list[Tensor]) -> Tensor:
    """Mean over n tokens of the distribution over all combinations of their channels' choices, in two axes.

    choices: the logarithms of each channel's distribution, `n L_i`. The mean is no product, but with the channels in
    two halves it is one matrix product: `A^T B / n`, A and B being the tokens' distributions over the codes of each
    half. That holds 2 n sqrt(K) + K numbers instead of n K.
    """
    certain = torch.zeros_like(choices[0][:, :1])  # a choice of one, so that a single channel has halves, too
    middle = len(choices) // 2
    a, b = _joint([certain, *choices[:middle]]), _joint(choices[middle:])
    return a.T @ b / len(a)


def entropy_gap(h: Tensor, channel_codes: list[Tensor], inverse_temperature: float = INVERSE_TEMPERATURE) -> Tensor:
    """Mean entropy of the tokens' code distributions minus the entropy of their mean distribution, in nats (a scalar).

    h: `N C t h w`, before the quantizer. channel_codes: the values that each of the C channels can take; the codebook
    is all of their combinations. As in the released recipe, token i chooses code c with the probability
    softmax over c of `2 * inverse_temperature * <h_i, c>`, and the mean is over all processes.

    The inner product is a sum over the channels, so this softmax over K codes is exactly a product of one small
    softmax a channel. Hence the entropy of a token is the sum of its channels' entropies.
    """
    with torch.autocast(h.device.type, enabled=False):
        channels = h.float().transpose(0, 1).flatten(1)
        choices = [
            torch.log_softmax(2 * inverse_temperature * x[:, None] * codes, dim=1)
            for x, codes in zip(channels, channel_codes, strict=True)
        ]
        token_entropy = -torch.stack([(log_p.exp() * log_p).sum(1) for log_p in choices]).sum(0).mean()
        mean = mean_over_processes(mean_distribution(choices))
        return token_entropy + (mean * mean.clamp(min=_MIN_PROBABILITY).log()).sum()


def utilization(indices: Tensor, codebook_size: int) -> float:
    """Share of the codebook that occurs at least once among tokens (int, any shape), as in `vidtok-run eval`."""
    used: Tensor = indices.unique()
    return used.numel() / codebook_size
