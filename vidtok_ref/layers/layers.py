"""Building blocks; x is float `N C T H W`.

What looks along T is `step(x, state, call) -> (y, new_state)`, the rest is `forward`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.families.vidtok.variant import Variant
from vidtok_ref.streaming.state import Call, State, Thread

NORM_EPS = 1e-6


def per_frame(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply an image function `(N T) C H W -> (N T) C' H' W'` to every frame of `N C T H W`."""
    n, t = x.shape[0], x.shape[2]
    y = fn(x.transpose(1, 2).flatten(0, 1))
    return y.unflatten(0, (n, t)).transpose(1, 2)


class Reach:
    """The `frames` beyond its chunk that a layer sees along T.

    Causal: all of them come before the chunk and are remembered from call to call; before the first
    chunk lie zeros (version 1.0) or copies of the layer's own first frame (1.1).
    Non-causal: one comes behind, the others before; they are zeros and nothing is remembered.
    """

    def __init__(self, v: Variant, frames: int) -> None:
        self.frames = frames
        self.causal = v.causal
        self.copies = v.version == "1.1"

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        """The chunk `N C T H W` with these frames around it, and what to remember."""
        if not self.causal:
            return F.pad(x, (0, 0, 0, 0, self.frames - 1, 1)), {}
        start = (x[:, :, :1] if self.copies else torch.zeros_like(x[:, :, :1])).expand(-1, -1, self.frames, -1, -1)
        if state is None:
            state = start
        elif self.copies and call is not None:
            state = torch.where(call.first, start, state)
        x = torch.cat([state, x], dim=2)
        return x, x[:, :, -self.frames :]


def adopt(module: nn.Module, conv: nn.Module, v: Variant) -> None:
    """Register a convolution's weights in `module` as released: under `conv` if causal, directly if not."""
    if v.causal:
        module.add_module("conv", conv)
    else:
        module.register_parameter("weight", conv.weight)  # type: ignore[arg-type]
        module.register_parameter("bias", conv.bias)  # type: ignore[arg-type]


def kernel(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias that `adopt` registered."""
    owner = getattr(module, "conv", module)
    return owner.weight, owner.bias


class LayerNorm(nn.Module):
    """Layer normalisation over C at every position of `N C ...`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.movedim(1, -1))
        return normed.movedim(-1, 1)


class TimeConv3d(nn.Module):
    """Convolution 3x3x3, zero-padded in space; of stride 2 along T it needs one frame around an even chunk.

    Of stride 2 in space it is padded on the right and bottom only, as `SpatialDown`.
    """

    def __init__(self, v: Variant, c_in: int, c_out: int, stride: int = 1, space_stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.space_stride = space_stride
        self.reach = Reach(v, 3 - stride)
        adopt(self, nn.Conv3d(c_in, c_out, 3), v)

    def forward(self, padded: Tensor) -> Tensor:
        """Convolve frames that `reach` has padded."""
        stride = (self.stride, self.space_stride, self.space_stride)
        if self.space_stride == 1:
            return F.conv3d(padded, *kernel(self), stride=stride, padding=(0, 1, 1))
        return F.conv3d(F.pad(padded, (0, 1, 0, 1)), *kernel(self), stride=stride)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.reach.step(x, state, call)
        return self(x), remembered


class TimeConv1d(nn.Module):
    """Convolution along T, kernel 3, at every pixel on its own; of stride 2 it needs an even chunk."""

    def __init__(self, v: Variant, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.reach = Reach(v, 3 - stride)
        adopt(self, nn.Conv1d(c_in, c_out, 3), v)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.reach.step(x, state, call)
        weight, bias = kernel(self)
        # Pixels side by side on one axis: the same sums as a Conv1d per pixel, without reordering memory.
        y = F.conv2d(x.flatten(3), weight.unsqueeze(-1), bias, stride=(self.stride, 1))
        return y.unflatten(3, x.shape[-2:]), remembered


class PointConv3d(nn.Module):
    """1x1x1 convolution."""

    def __init__(self, v: Variant, c_in: int, c_out: int) -> None:
        super().__init__()
        adopt(self, nn.Conv3d(c_in, c_out, 1), v)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv3d(x, *kernel(self))


class FrameConv2d(nn.Conv2d):
    """2D convolution of every frame of `N C T H W`; its weights carry the plain released names."""

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(super().forward, x)


class FactorizedConv(nn.Module):
    """A 3x3x3 convolution in two factors: 3x3 inside each frame, then `TimeConv1d`."""

    def __init__(self, v: Variant, c_in: int, c_out: int) -> None:
        super().__init__()
        self.space = FrameConv2d(c_in, c_out, 3, padding=1)
        self.time = TimeConv1d(v, c_out, c_out)

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = Thread(state, call)
        return run("time", self.time, self.space(x)), run.new


class SpatialBlock(nn.Module):
    """Residual block of 3x3 convolutions inside each frame; stateless."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(c_in)
        self.conv1 = FrameConv2d(c_in, c_out, 3, padding=1)
        self.norm2 = LayerNorm(c_out)
        self.conv2 = FrameConv2d(c_out, c_out, 3, padding=1)
        self.nin_shortcut = FrameConv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class TimeBlock(nn.Module):
    """Residual block of two convolutions that look along T."""

    def __init__(
        self, v: Variant, c_in: int, c_out: int, conv: type[TimeConv1d] | type[TimeConv3d] | type[FactorizedConv]
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(c_in)
        self.conv1 = conv(v, c_in, c_out)
        self.norm2 = LayerNorm(c_out)
        self.conv2 = conv(v, c_out, c_out)
        self.nin_shortcut = FrameConv2d(c_in, c_out, 1) if c_in != c_out else None

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = Thread(state, call)
        h = run("conv1", self.conv1, F.silu(self.norm1(x)))
        h = run("conv2", self.conv2, F.silu(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x)), run.new


class Attention(nn.Module):
    """Single-head attention over the pixels of each frame, with a residual; never across time."""

    def __init__(self, v: Variant, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.q = PointConv3d(v, channels, channels)
        self.k = PointConv3d(v, channels, channels)
        self.v = PointConv3d(v, channels, channels)
        self.proj_out = PointConv3d(v, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (p(h).movedim(1, -1).flatten(2, 3) for p in (self.q, self.k, self.v))  # N T (H W) C
        attended = F.scaled_dot_product_attention(q, k, v)
        attended = attended.unflatten(2, x.shape[-2:]).movedim(-1, 1)
        return x + self.proj_out(attended)


class SpatialDown(nn.Module):
    """Halve H and W: 3x3 convolution of stride 2, padded on the right and bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(lambda frame: self.conv(F.pad(frame, (0, 1, 0, 1))), x)


class SpatialUp(nn.Module):
    """Double H and W: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(lambda frame: self.conv(F.interpolate(frame, scale_factor=2.0)), x)


def blend(mix_factor: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """AlphaBlender: `alpha * a + (1 - alpha) * b` with `alpha = sigmoid(mix_factor)`."""
    alpha = torch.sigmoid(mix_factor)
    return alpha * a + (1 - alpha) * b


class TemporalDown(nn.Module):
    """Halve T, which must be even: average pooling blended with a strided 3x3x3 convolution of the same frames."""

    def __init__(self, v: Variant, channels: int) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([2.0]))
        self.conv = TimeConv3d(v, channels, channels, stride=2)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.conv.reach.step(x, state, call)
        pooled = (x[:, :, 0:-1:2] + x[:, :, 1::2] + x[:, :, 2::2]) / 3
        return blend(self.mix_factor, pooled, self.conv(x)), remembered


class TemporalUp(nn.Module):
    """Double T: nearest neighbour, blended with a 3x3x3 convolution of itself."""

    def __init__(self, v: Variant, channels: int) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([2.0]))
        self.conv = TimeConv3d(v, channels, channels)

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = Thread(state, call)
        x = x.repeat_interleave(2, dim=2)
        return blend(self.mix_factor, x, run("conv", self.conv, x)), run.new


class NearestUp(nn.Module):
    """Nearest neighbour by factors along T and in space, then a convolution; the ablations' way up."""

    def __init__(self, conv: TimeConv1d | TimeConv3d, time: int, space: int) -> None:
        super().__init__()
        self.scale = (float(time), float(space), float(space))
        self.conv = conv

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = Thread(state, call)
        return run("conv", self.conv, F.interpolate(x, scale_factor=self.scale)), run.new


def double(x: Tensor, boundary: Tensor | None, at: int) -> Tensor:
    """Linear interpolation x2 between neighbours: `N C T+1 H W` to `N C 2T H W`.

    Every pair (left, right) gives `.75 left + .25 right` and `.25 left + .75 right`; across a `boundary`
    (bool `1`) the pair at index `at` gives left and right themselves.
    """
    left, right = x[:, :, :-1], x[:, :, 1:]
    share = torch.full((left.shape[2],), 0.25, dtype=x.dtype, device=x.device)
    if boundary is not None:
        share = torch.where((torch.arange(left.shape[2], device=x.device) == at) & boundary, 0.0, share)
    # As a difference, so that equal neighbours give exactly themselves.
    step = share.view(1, 1, -1, 1, 1) * (right - left)
    return torch.stack([left + step, right - step], dim=3).flatten(2, 3)


class LinearTemporalUp(nn.Module):
    """Double T: linear interpolation (version 1.1), blended with a causal 3x3x3 convolution of itself.

    A frame's second half needs the next frame, so the newest frame waits as state `prev`, and the output lags
    by one frame more than twice the `lag` of the input. After a boundary the first `lag` frames of the input
    still come from before it: it lies between x[lag - 1] and x[lag], the pair at index `lag` behind `prev`.
    """

    def __init__(self, v: Variant, channels: int, lag: int) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([2.0]))
        self.conv = TimeConv3d(v, channels, channels)
        self.prev = Reach(v, 1)
        self.lag = lag

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = Thread(state, call)
        x = double(run("prev", self.prev, x), call and call.boundary, self.lag)
        return blend(self.mix_factor, x, run("conv", self.conv, x)), run.new
