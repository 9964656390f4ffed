"""Fewer and more frames and pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.layers.conv import ClipConv3d, TimeConv1d, TimeConv3d, per_frame
from vidtok_ref.streaming.causal_cache import CausalCache, Padding
from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope


class SpatialDown(nn.Module):
    """Halve H and W: 3x3 convolution of stride 2, padded on the right and bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(lambda frame: self.conv(F.pad(frame, (0, 1, 0, 1))), x)


class SpatialUp(nn.Module):
    """Double H and W: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(lambda frame: self.conv(F.interpolate(frame, scale_factor=2.0)), x)


class PooledDown(nn.Module):
    """Halve H and W: a 3x3 convolution as of `SpatialDown` plus means of 2x2 pixels, then a 1x1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, (1, 3, 3), stride=(1, 2, 2))
        self.point = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.point(self.conv(F.pad(x, (0, 1, 0, 1))) + F.avg_pool3d(x, (1, 2, 2)))
        return y


class SharpenedUp(nn.Module):
    """Double H and W: nearest neighbour plus a 3x3 convolution of that, then a 1x1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1))
        self.point = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=(1.0, 2.0, 2.0))
        y: Tensor = self.point(x + self.conv(x))
        return y


def blend(mix_factor: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """AlphaBlender: `alpha * a + (1 - alpha) * b` with `alpha = sigmoid(mix_factor)`."""
    alpha = torch.sigmoid(mix_factor).to(a.dtype)  # or the result of bfloat16 would be float32
    return alpha * a + (1 - alpha) * b


class TemporalDown(nn.Module):
    """Halve T, which must be even: average pooling blended with a strided 3x3x3 convolution of the same frames."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([2.0]))
        self.conv = TimeConv3d(channels, channels, padding, stride=2)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.conv.cache.step(x, state, call)
        pooled = (x[:, :, 0:-1:2] + x[:, :, 1::2] + x[:, :, 2::2]) / 3
        return blend(self.mix_factor, pooled, self.conv(x)), remembered


class TemporalUp(nn.Module):
    """Double T: nearest neighbour, blended with a 3x3x3 convolution of itself."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([2.0]))
        self.conv = TimeConv3d(channels, channels, padding)

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = StateScope(state, call)
        x = x.repeat_interleave(2, dim=2)
        return blend(self.mix_factor, x, run("conv", self.conv, x)), run.new


class NearestUp(nn.Module):
    """Nearest neighbour by factors along T and in space, then a convolution; the ablations' way up."""

    def __init__(self, conv: TimeConv1d | TimeConv3d, time: int, space: int) -> None:
        super().__init__()
        self.scale = (float(time), float(space), float(space))
        self.conv = conv

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = StateScope(state, call)
        return run("conv", self.conv, F.interpolate(x, scale_factor=self.scale)), run.new


def upsample_linear(x: Tensor, boundary: Tensor | None, at: int) -> Tensor:
    """Linear upsampling by 2 between neighbours: `N C T+1 H W` to `N C 2T H W`.

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
    """Double T: linear upsampling, blended with a causal 3x3x3 convolution of itself.

    A frame's second half needs the next frame, so the newest frame waits as state `prev`, and the output lags
    by one frame more than twice the `lag` of the input. After a boundary the first `lag` frames of the input
    still come from before it: it lies between x[lag - 1] and x[lag], the pair at index `lag` behind `prev`.
    """

    def __init__(self, channels: int, padding: Padding, lag: int) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([2.0]))
        self.conv = TimeConv3d(channels, channels, padding)
        self.prev = CausalCache(1, padding)
        self.lag = lag

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = StateScope(state, call)
        x = upsample_linear(run("prev", self.prev, x), call and call.boundary, self.lag)
        return blend(self.mix_factor, x, run("conv", self.conv, x)), run.new


def place_first(y: Tensor, at: int, frame: Tensor, starts: bool, call: Call | None) -> Tensor:
    """`y` with another frame at `at`, if a stream starts with it: by its state, or by its call."""
    if not starts and call is None:
        return y
    there = (torch.arange(y.shape[2], device=y.device) == at).view(1, 1, -1, 1, 1)
    return torch.where(there if call is None else there & call.first, frame, y)


class FirstFrameDown(nn.Module):
    """Halve T by a convolution along T of stride 2, but for the first frame of a stream, which passes as it is.

    dummies: frames before that first frame in the first call, an odd number: they fill its latent.
    """

    def __init__(self, channels: int, dummies: int) -> None:
        super().__init__()
        self.dummies = dummies
        self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))
        self.cache = CausalCache(1, Padding.ZEROS)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        padded, remembered = self.cache.step(x, state, call)
        first = x[:, :, self.dummies : self.dummies + 1]
        return place_first(self.time_conv(padded), self.dummies // 2, first, state is None, call), remembered


class FirstFrameUp(nn.Module):
    """Double T by a convolution along T with twice the outputs, but for the first frame of a stream, which passes.

    It is no part of what the frames behind it see before them. dummies: as of `FirstFrameDown`, any number; behind the
    layer there are `2 * dummies + 1`.
    """

    def __init__(self, channels: int, dummies: int) -> None:
        super().__init__()
        self.dummies = dummies
        self.time_conv = nn.Conv3d(channels, 2 * channels, (3, 1, 1))
        self.cache = CausalCache(2, Padding.ZEROS, dummies + 1)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        padded, remembered = self.cache.step(x, state, call)
        y = self.time_conv(padded).unflatten(1, (2, -1)).movedim(1, 3).flatten(2, 3)
        first = x[:, :, self.dummies : self.dummies + 1]
        return place_first(y, 2 * self.dummies + 1, first, state is None, call), remembered


def repeated(x: Tensor, length: int, times: int) -> Tensor:
    """Every frame of `N C T H W` `times` times, but the first one only as often as fills `length`."""
    missing = times * x.shape[2] - length
    if times == 1:
        return x
    return x.index_select(2, (torch.arange(length, device=x.device) + missing) // times)


class PairMean(nn.Module):
    """Halve T by the mean of pairs; of an odd number of frames the first one stays alone."""

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[2]
        second = 2 * torch.arange((frames + 1) // 2, device=x.device) + (frames + 1) % 2
        first = (second - 1).clamp(min=0)
        return 0.5 * (x.index_select(2, first) + x.index_select(2, second))


class PairRepeat(nn.Module):
    """Double T by nearest neighbours; of an odd number of latents, and so of frames, the first one stays single."""

    def forward(self, x: Tensor, latents: int) -> Tensor:
        return repeated(x, 2 * x.shape[2] - latents % 2, 2)


class WholeLatents(nn.Module):
    """Before an odd number of frames copies of the first one, so that its latent is whole: `factor` frames a latent."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.missing = factor - 1

    def forward(self, x: Tensor) -> Tensor:
        missing = x.shape[2] % 2 * self.missing
        return x.index_select(2, (torch.arange(x.shape[2] + missing, device=x.device) - missing).clamp(min=0))


class NearestUp3d(nn.Module):
    """Double H and W: nearest neighbour, then a convolution of the clip."""

    def __init__(self, conv: ClipConv3d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.interpolate(x, scale_factor=(1.0, 2.0, 2.0)))
        return y


class ChannelsToFrames(nn.Module):
    """Double T: every frame as two with half of its channels.

    pairs: these halves are every other channel, else the first ones and the last ones. drop: first frames left out.
    """

    def __init__(self, *, pairs: bool, drop: int = 0) -> None:
        super().__init__()
        self.pairs = pairs
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        n, channels, time, height, width = x.shape
        halves = (channels // 2, 2) if self.pairs else (2, channels // 2)
        x = x.reshape(n, *halves, time, height, width).movedim(2 if self.pairs else 1, 3)
        return x.reshape(n, channels // 2, 2 * time, height, width)[:, :, self.drop :]


class LinearUp(nn.Module):
    """Double H and W, and T but for the first frame, by linear interpolation, then a convolution of the clip.

    The first frame stays out of the interpolation of the others; edges are held.
    """

    def __init__(self, conv: ClipConv3d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        time = x.shape[2]
        frame = torch.arange(2 * time - 1, device=x.device)
        nearest = (frame + 1) // 2
        beside = (nearest + 1 - 2 * (frame % 2)).clamp(1, max(time - 1, 1)) * (frame > 0)
        x = 0.75 * x.index_select(2, nearest) + 0.25 * x.index_select(2, beside)
        y: Tensor = self.conv(F.interpolate(x, scale_factor=(1.0, 2.0, 2.0), mode="trilinear"))
        return y


class ShuffledUp(nn.Module):
    """Double H and W and, with `time` 2, T: a convolution whose outputs are the frames, rows and columns of a block.

    Of the first frame's block only the first frame stays: T becomes 2T - 1.
    """

    def __init__(self, conv: ClipConv3d, time: int) -> None:
        super().__init__()
        self.time = time
        self.conv = conv

    def spread(self, y: Tensor) -> Tensor:
        """What the convolution gives, `N (a 2 2 C) T H W`, as frames."""
        y = y.unflatten(1, (self.time, 2, 2, -1)).permute(0, 4, 5, 1, 6, 2, 7, 3)  # N C T a H 2 W 2
        y = y.flatten(6).flatten(4, 5).flatten(2, 3)
        if self.time == 1:
            return y
        frames = torch.arange(y.shape[2] - 1, device=y.device)
        return y.index_select(2, frames + (frames > 0).long())

    def forward(self, x: Tensor) -> Tensor:
        return self.spread(self.conv(x))


class JoinedFrames(nn.Module):
    """T divided by `time`: a linear map of the channels of so many frames, beside each other."""

    def __init__(self, channels: int, time: int) -> None:
        super().__init__()
        self.time = time
        self.conv = nn.Conv2d(time * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight.unflatten(1, (self.time, -1)).transpose(1, 2)  # O I T 1 1
        return F.conv3d(x, weight, stride=(self.time, 1, 1))


class SplitFrames(nn.Module):
    """T times `time`: a linear map of the channels of a frame to those of so many."""

    def __init__(self, channels: int, time: int) -> None:
        super().__init__()
        self.time = time
        self.conv = nn.Conv2d(channels, time * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv3d(x, self.conv.weight.unsqueeze(2))
        frames: Tensor = y.unflatten(1, (self.time, -1)).movedim(1, 3).flatten(2, 3)
        return frames
