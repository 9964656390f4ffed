"""What regularizers have in common."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

Terms = dict[str, Tensor]


class Encoded(NamedTuple):
    """What an encoder yields: `latent` `N C t h w`; quantizers: `indices` int `N t h w`; KL: `log_variance`."""

    latent: Tensor
    indices: Tensor | None = None
    log_variance: Tensor | None = None


class Regularizer(nn.Module):
    """`forward` of the encoder's output is what an encoder yields, `Encoded`."""

    def regularize(self, h: Tensor) -> tuple[Encoded, Terms]:
        """The same with straight-through gradients, and the unweighted terms of its loss."""
        raise NotImplementedError


class Quantizer(Regularizer):
    """A regularizer with a codebook; its tokens are int32 `N t h w`."""

    def from_indices(self, indices: Tensor) -> Tensor:
        """Codes `N C t h w` of tokens `N t h w`."""
        raise NotImplementedError

    def distance_to_cell(self, h: Tensor, indices: Tensor) -> Tensor:
        """How far the encoder's output lies outside the cell of the given tokens, `N t h w`; 0 where they are right."""
        raise NotImplementedError


def straight_through(h: Tensor, codes: Tensor) -> Tensor:
    """The codes, with the gradient of what was quantized."""
    return h + (codes - h).detach() if h.requires_grad else codes
