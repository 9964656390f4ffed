"""Attention in plain operators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidtok_export.lowering.conv import conv3d
from vidtok_export.lowering.layer import lower_layer
from vidtok_export.lowering.norm import ChannelNorm
from vidtok_ref.layers.attention import Attention
from vidtok_ref.layers.conv import kernel


@lower_layer.register(Attention)
class PlainAttention(nn.Module):
    """Attention written as two matrix products and a softmax."""

    def __init__(self, layer: Attention) -> None:
        super().__init__()
        self.norm = ChannelNorm(layer.norm)
        # One projection for q, k and v; the scale 1/sqrt(C) stays out of the weights, which keeps them exact.
        weights, biases = zip(*(kernel(p) for p in (layer.q, layer.k, layer.v)), strict=True)
        self.qkv = conv3d(torch.cat(weights), torch.cat(biases))
        self.proj_out = layer.proj_out
        self.scale = len(biases[0]) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(3).transpose(1, 2)  # N T 3C (H W)
        q, k, v = qkv.chunk(3, dim=2)
        scores = torch.softmax(q.transpose(2, 3) @ k * self.scale, dim=-1)
        attended = (v @ scores.transpose(2, 3)).transpose(1, 2)
        projected: Tensor = self.proj_out(attended.unflatten(3, x.shape[-2:]))
        return x + projected
