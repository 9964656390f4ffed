"""Attention in plain operators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidtok_export.lowering.conv import conv3d
from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.layers.attention import Attention


@lower_layer.register(Attention)
class PlainAttention(nn.Module):
    """Attention written as two matrix products and a softmax."""

    def __init__(self, layer: Attention) -> None:
        super().__init__()
        self.norm = lower_layer(layer.norm)
        # One projection for q, k and v; the scale 1/sqrt(C) stays out of the weights, which keeps them exact.
        weight, bias = layer.projection()
        self.qkv = conv3d(weight, bias)
        self.proj_out = lower_layer(layer.output())
        self.scale = weight.shape[1] ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(3).transpose(1, 2)  # N T 3C (H W)
        q, k, v = qkv.chunk(3, dim=2)
        scores = torch.softmax(q.transpose(2, 3) @ k * self.scale, dim=-1)
        attended = (v @ scores.transpose(2, 3)).transpose(1, 2)
        projected: Tensor = self.proj_out(attended.unflatten(3, x.shape[-2:]))
        return x + projected
