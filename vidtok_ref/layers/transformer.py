"""Layers of transformers over the tokens of a clip."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-5
LOGIT_SCALE = 8.0  # of products of normalised queries and keys
ROTATION_BASE = 10000.0


class TokenLayer(nn.Module):
    """A layer that takes and gives tokens, `N T H W C`."""


class PositionConv(TokenLayer):
    """A depthwise 3x3x3 convolution: zeros lie around every frame and, two of them, before the first.

    by_place: the tokens are laid out place by place, all frames of one after the other, and then read as if they were
    laid out frame by frame, so that it mixes others than neighbours. A release has it so, and its weights learned it.
    """

    def __init__(self, channels: int, *, by_place: bool) -> None:
        super().__init__()
        self.by_place = by_place
        self.dsconv = nn.Conv3d(channels, channels, 3, padding=(0, 1, 1), groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        n, t, h, w, c = x.shape
        grid = x.permute(0, 4, 2, 3, 1).reshape(n, c, t, h, w) if self.by_place else x.movedim(-1, 1)
        y: Tensor = self.dsconv(F.pad(grid, (0, 0, 0, 0, 2, 0)))
        return y.reshape(n, c, h, w, t).permute(0, 4, 2, 3, 1) if self.by_place else y.movedim(1, -1)


class Gathering(nn.Module):
    """What each of `... L d` gathers: values by the softmax of scaled products of queries and keys, and of a bias.

    causal: a place does not see those behind it.
    """

    def __init__(self, scale: float, *, causal: bool = False) -> None:
        super().__init__()
        self.scale, self.causal = scale, causal

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, bias, is_causal=self.causal, scale=self.scale)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`B L (heads d)` as `(B heads) L d`."""
    split: Tensor = x.unflatten(2, (heads, -1))
    return split.transpose(1, 2).flatten(0, 1)


def joined_heads(x: Tensor, heads: int) -> Tensor:
    """The inverse of `split_heads`."""
    apart: Tensor = x.unflatten(0, (-1, heads))
    return apart.transpose(1, 2).flatten(2)


def turns(height: int, width: int, dim: int, like: Tensor) -> Tensor:
    """Angles for the pairs of a head's channels at every pixel, `(H W) dim/2`: in turns by its column and its row."""
    speeds = ROTATION_BASE ** (-torch.arange(0, dim, 4, device=like.device).to(like.dtype) / dim)
    columns, rows = (torch.arange(n, device=like.device).to(like.dtype) for n in (width, height))
    by_column = (columns[:, None] * speeds).unsqueeze(0).expand(height, -1, -1)
    by_row = (rows[:, None] * speeds).unsqueeze(1).expand(-1, width, -1)
    return torch.stack([by_column, by_row], dim=-1).flatten(2).flatten(0, 1)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.unflatten(2, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(2)


class CosineAttention(TokenLayer):
    """Attention by the cosines of queries and keys. Queries are of normalised tokens, keys and values are not."""

    causal = False

    def __init__(self, channels: int, heads: int, dim: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS, bias=False)
        self.to_q = nn.Linear(channels, heads * dim, bias=False)
        self.to_kv = nn.Linear(channels, 2 * heads * dim, bias=False)
        self.to_out = nn.Linear(heads * dim, channels, bias=False)
        self.q_scale = nn.Parameter(torch.ones(dim))
        self.k_scale = nn.Parameter(torch.ones(dim))
        self.gathering = Gathering(LOGIT_SCALE, causal=self.causal)

    def rows(self, x: Tensor) -> Tensor:
        """`N T H W C` as `B L C`: what attends to itself is in one row."""
        raise NotImplementedError

    def tokens(self, y: Tensor, like: Tensor) -> Tensor:
        """The inverse of `rows`; like: what `rows` took."""
        raise NotImplementedError

    def placed(self, q: Tensor, k: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys `B L d` that tell their place; like: the tokens."""
        return q, k

    def forward(self, x: Tensor) -> Tensor:
        projections = self.to_q(self.norm(x)), *self.to_kv(x).chunk(2, dim=-1)
        q, k, v = (split_heads(self.rows(p), self.heads) for p in projections)
        q, k = (F.normalize(p, dim=-1) for p in self.placed(q, k, x))
        q, k = q * self.q_scale, k * self.k_scale
        gathered = self.tokens(joined_heads(self.gathering(q, k, v), self.heads), x)
        projected: Tensor = self.to_out(gathered)
        return projected


class FrameAttention(CosineAttention):
    """Over the pixels of each frame, whose queries and keys are turned by their place."""

    def rows(self, x: Tensor) -> Tensor:
        return x.flatten(2, 3).flatten(0, 1)

    def tokens(self, y: Tensor, like: Tensor) -> Tensor:
        frames: Tensor = y.unflatten(0, like.shape[:2]).unflatten(2, like.shape[2:4])
        return frames

    def placed(self, q: Tensor, k: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        angles = turns(like.shape[2], like.shape[3], self.dim, like)
        cos, sin = angles.cos(), angles.sin()
        return _turned(q, cos, sin), _turned(k, cos, sin)


class PlaceAttention(CosineAttention):
    """Over the frames at each place: a frame sees itself and those before it."""

    causal = True

    def rows(self, x: Tensor) -> Tensor:
        return x.movedim(1, 3).flatten(0, 2)

    def tokens(self, y: Tensor, like: Tensor) -> Tensor:
        n, _, h, w, _ = like.shape
        places: Tensor = y.unflatten(0, (n, h, w))
        return places.movedim(3, 1)


class WindowAttention(TokenLayer):
    """Over squares of `window` times `window` pixels of each frame, with a bias for each offset of query and key."""

    offsets: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS, bias=False)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)
        side = 2 * window - 1
        self.biases = nn.Parameter(0.02 * torch.randn(side**2, heads))
        pixel = torch.arange(window**2)
        down, right = (at[:, None] - at[None, :] + window - 1 for at in (pixel // window, pixel % window))
        self.register_buffer("offsets", down * side + right, persistent=False)
        self.gathering = Gathering((channels // heads) ** -0.5)

    def bias(self) -> Tensor:
        """What is added to the products of queries and keys, `heads L L`, L the pixels of a window."""
        return self.biases[self.offsets].movedim(-1, 0)

    def forward(self, x: Tensor) -> Tensor:
        n, t, h, w, c = x.shape
        side, rows = self.window, h // self.window
        qkv = self.qkv(self.norm(x)).reshape(n * t * rows, side, w // side, side, 3, self.heads, -1)
        q, k, v = qkv.permute(4, 0, 2, 5, 1, 3, 6).flatten(4, 5).flatten(1, 2).unbind(0)  # windows heads L d
        y = self.gathering(q, k, v, self.bias()).transpose(1, 2).reshape(n * t * rows, w // side, side, side, c)
        projected: Tensor = self.proj(y.transpose(1, 2).reshape(x.shape))
        return projected


class GatedFeedForward(TokenLayer):
    """Two linear maps, of which the first gives values and their gates."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.inner = nn.Linear(channels, 2 * hidden, bias=False)
        self.outer = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.inner(self.norm(x)).chunk(2, dim=-1)
        y: Tensor = self.outer(values * F.gelu(gates))
        return y


class Transformer(nn.Module):
    """`N C T H W` to the same: layers, each child of which adds to the tokens what it makes of them, then a norm."""

    def __init__(self, channels: int, layers: Sequence[dict[str, nn.Module]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict(layer) for layer in layers)
        self.norm_out = nn.LayerNorm(channels, eps=NORM_EPS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1)
        for layer in self.layers:
            for child in layer.values():  # type: ignore[operator]
                x = x + child(x)
        y: Tensor = self.norm_out(x).movedim(-1, 1)
        return y


class ChannelMap(nn.Module):
    """A linear map of the channels of `N C T H W`."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x.movedim(1, -1)).movedim(-1, 1)
        return y
