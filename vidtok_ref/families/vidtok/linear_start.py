"""First weights from training clips: the trunk is solved for by least squares, the rest starts silent.

A network that starts at random spends most of a short training on finding what a linear transform can do, colour
last. Here every residual branch starts silent, which leaves a trunk of convolutions, and each of these is fitted to
the principal components of the video at its resolution. What is left to learn is what makes a network better.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.errors import VariantError
from vidtok_ref.families.vidtok.coder import Middle, VidTokCoder
from vidtok_ref.families.vidtok.model import VidTok
from vidtok_ref.layers.attention import Attention
from vidtok_ref.layers.blocks import SpatialBlock, TimeBlock
from vidtok_ref.layers.conv import FrameConv2d, TimeConv3d, kernel, per_frame
from vidtok_ref.layers.resample import SpatialDown, SpatialUp, TemporalDown, TemporalUp
from vidtok_ref.regularizers.vq import VectorQuantizer
from vidtok_ref.streaming.state_scope import StateScope

# Chosen by the held-out PSNR at the start and after 200 steps.
MIX_FACTOR = -2.0  # AlphaBlenders start as convolutions rather than as pooling and repetition
SPARE = 0.02  # weights of channels that hold no component, in units of PyTorch's own random ones
CONSTANT = 8.0  # of the constant channels in front of an output's norm, in units of the components together
QUIET = 0.1  # of the constant channels behind the norm, where the components are 1
RIDGE = 1e-4  # of least squares, in units of the mean square of the inputs
ROWS = 60_000  # positions that least squares looks at


@torch.no_grad()
def start_from_linear(model: VidTok, video: Tensor, log_variance: float) -> None:
    """Solve for first weights on `video` `N 3 T H W`, in place.

    KL: `log_variance` is where it starts, so low that sampling noise does not drown the signal.
    Raises VariantError for other architectures than that of the released version 1.0, or too few channels.
    """
    v = model.config
    if v.architecture != "mixed" or v.version != "1.0":
        raise VariantError(
            f"the linear start is for architecture mixed of version 1.0, got {v.architecture} of {v.version}; give "
            '`start = "random"`'
        )
    for module in model.modules():
        if isinstance(module, SpatialBlock | TimeBlock | Attention):
            last = module.output() if isinstance(module, Attention) else module.conv2
            for parameter in last.parameters():
                parameter.zero_()
        elif isinstance(module, TemporalDown | TemporalUp):
            module.mix_factor.fill_(MIX_FACTOR)
    goal = Goal(model.pad(video))
    x = _fit_coder(model.encoder, goal.frames, goal, v.z_channels)
    latent = goal.components(v.z_channels)
    axes = (0, 2, 3, 4)
    standard = (latent - latent.mean(axes, keepdim=True)) / latent.std(axes, keepdim=True)
    _fit(model.encoder.conv_out, x, x.shape[1], standard)
    if v.regularizer == "kl":
        kernel(model.encoder.conv_out)[1][v.z_channels :] = log_variance
    h, _ = model.encoder.conv_out.step(x, None, None)
    if isinstance(model.regularization, VectorQuantizer):
        model.regularization.place(_rows(h))
    x = _fit_coder(model.decoder, model.regularization(h).latent, goal, 3)
    _fit(model.decoder.conv_out, x, x.shape[1], goal.frames)


class Goal:
    """What a trunk should hold where it cuts the video into blocks of `time` frames of `space` x `space` pixels."""

    def __init__(self, frames: Tensor) -> None:
        self.frames, self.time, self.space = frames, 1, 1

    def components(self, count: int) -> Tensor:
        """The first principal components of the blocks, `N K T/time H/space W/space`, K at most count.

        Each is divided by the square root of its size, halfway to unit variance, so that weights of one size serve
        weak ones, too; the sizes of all are such that a constant keeps its value.
        """
        x = self.frames.unflatten(2, (-1, self.time)).unflatten(4, (-1, self.space)).unflatten(6, (-1, self.space))
        x = x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        rows = x.flatten(0, 3).double()
        power, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
        power, directions = power.flip(0)[:count].clamp_min(1e-10), directions.flip(1)[:, :count]
        directions *= (power[0] / power) ** 0.25 / (self.time * self.space**2) ** 0.5
        components: Tensor = x @ directions.to(x)
        return components.movedim(-1, 1)

    def in_pairs(self, count: int, channels: int) -> Tensor:
        """The first `count` components so that they pass through LayerNorm and SiLU unharmed, with `channels` in all.

        Each comes with both signs, since silu(x) - silu(-x) = x, and beside two large constants, since the norm then
        divides by nearly the same number everywhere. Raises VariantError where there are too few channels.
        """
        if channels < 2 * count + 2:
            raise VariantError(f"the linear start needs {2 * count + 2} channels in front of an output, got {channels}")
        both = self.components(channels - count - 2)
        first, more = both[:, :count], both[:, count:]
        large = CONSTANT * first.square().sum(1).mean().sqrt() * torch.ones_like(first[:, :1])
        return torch.cat([first, -first, large, -large, more], dim=1)


def _trunk(coder: VidTokCoder) -> Iterator[nn.Module]:
    """Layers outside the residual branches, in running order, without the last convolution."""
    for path in coder.trunk:
        part = coder.get_submodule(path)
        if isinstance(part, SpatialBlock | TimeBlock):
            yield from () if part.nin_shortcut is None else (part.nin_shortcut,)
        elif not isinstance(part, Middle):
            yield part


def _fit_coder(coder: VidTokCoder, x: Tensor, goal: Goal, count: int) -> Tensor:
    """Fit the trunk so that `count` components come out of it; returns what its last convolution gets."""
    layers, live = list(_trunk(coder)), x.shape[1]
    for layer in layers:
        goal.time *= 2 if isinstance(layer, TemporalDown) else 1
        goal.space *= 2 if isinstance(layer, SpatialDown) else 1
        goal.time //= 2 if isinstance(layer, TemporalUp) else 1
        goal.space //= 2 if isinstance(layer, SpatialUp) else 1
        channels = len(_parameters(layer)[0])
        reachable = min(channels, live) if isinstance(layer, FrameConv2d) else channels
        target = goal.in_pairs(count, channels) if layer is layers[-1] else goal.components(reachable)
        x, live = _fit(layer, x, live, target), target.shape[1]
    # The norm's weights undo what the constants did to the scale, and keep these from drowning the components.
    scale = coder.norm_out(x).square().mean((0, 2, 3, 4)).rsqrt()
    scale[2 * count : 2 * count + 2] *= QUIET
    coder.norm_out.norm.weight.copy_(scale)
    return F.silu(coder.norm_out(x))


def _parameters(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of the layer's convolution."""
    return kernel(layer.conv if isinstance(layer, TemporalDown | TemporalUp) else layer)


def _rows(x: Tensor) -> Tensor:
    """`N C T H W` to one row of C numbers a position."""
    return x.movedim(1, -1).flatten(0, -2)


def _run(layer: nn.Module, x: Tensor) -> Tensor:
    return StateScope(None, None)("layer", layer, x)


def _seen(layer: nn.Module, x: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """What the layer's convolution slides over, padding included, and its strides."""
    if isinstance(layer, FrameConv2d):
        return x, (1, 1, 1)
    if isinstance(layer, SpatialDown):
        return F.pad(x, (0, 1, 0, 1)), (1, 2, 2)
    if isinstance(layer, SpatialUp):
        return F.pad(per_frame(lambda frame: F.interpolate(frame, scale_factor=2.0), x), (1, 1, 1, 1)), (1, 1, 1)
    if isinstance(layer, TemporalUp):
        x = x.repeat_interleave(2, dim=2)
    conv = layer.conv if isinstance(layer, TemporalDown | TemporalUp) else layer
    assert isinstance(conv, TimeConv3d)
    return F.pad(conv.cache.step(x, None, None)[0], (1, 1, 1, 1)), (conv.stride, 1, 1)


def _fit(layer: nn.Module, x: Tensor, live: int, target: Tensor) -> Tensor:
    """Least squares: the layer's first channels become `target`, the others nearly nothing; returns its output."""
    weight, bias = _parameters(layer)
    spare = weight * SPARE
    share: Tensor | float = 1.0
    weight.zero_()
    bias.zero_()
    if isinstance(layer, TemporalDown | TemporalUp):
        share = 1 - torch.sigmoid(layer.mix_factor)
    wanted = (target - _run(layer, x)[:, : target.shape[1]]) / share
    padded, strides = _seen(layer, x[:, :live])
    sizes = (1,) * (5 - weight.ndim) + tuple(weight.shape[2:])
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True), start=2):
        padded = padded.unfold(axis, size, stride)
    n, t, h, w = wanted[:, 0].shape
    flat = torch.arange(0, n * t * h * w, max(1, n * t * h * w // ROWS) | 1)  # an odd step, which meets all columns
    at = torch.unravel_index(flat, (n, t, h, w))
    inputs = F.pad(padded[at[0], :, at[1], at[2], at[3]].flatten(1).double(), (0, 1), value=1.0)
    outputs = wanted[at[0], :, at[1], at[2], at[3]].double()
    gram = inputs.T @ inputs
    gram += torch.diag(RIDGE * gram.diagonal() + 1e-12 * len(inputs))
    solution = torch.linalg.solve(gram, inputs.T @ outputs).to(weight)
    weight.copy_(spare)
    weight[: target.shape[1], :live] = solution[:-1].T.unflatten(1, (live, *weight.shape[2:]))
    bias[: target.shape[1]] = solution[-1]
    return _run(layer, x)
