"""What attention gathers, in plain operators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.layers.transformer import Gathering


@lower_layer.register(Gathering)
class PlainGathering(nn.Module):
    """Gathering as two products and a softmax; of three axes and without a bias, `fuse_attention` finds it."""

    def __init__(self, layer: Gathering) -> None:
        super().__init__()
        self.scale, self.causal = layer.scale, layer.causal

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        scores = q @ k.transpose(-2, -1) * self.scale
        if bias is not None:
            scores = scores + bias
        if self.causal:
            place = torch.arange(q.shape[-2], device=q.device)
            scores = torch.where(place[:, None] >= place[None, :], scores, -torch.inf)
        return torch.softmax(scores, dim=-1) @ v
