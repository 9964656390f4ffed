"""Every identity that the lowering folds, on its own and as a whole."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from vidtok_export.lowering import resample_time
from vidtok_export.lowering.attention import PlainAttention, PlainTimeAttention
from vidtok_export.lowering.conv import PixelConv1d, clip_conv, frame_conv, point_linear
from vidtok_export.lowering.layer import lower_layer
from vidtok_export.lowering.lower import lower
from vidtok_export.lowering.norm import FEW_CHANNELS, PlainGroupNorm, WholeFrameNorm, layer_norm, lower_behind, rms_norm
from vidtok_export.lowering.patches import from_channels, to_channels
from vidtok_export.lowering.resample_space import nearest_up, pooled_down, sharpened_up, spatial_down, spatial_up
from vidtok_export.lowering.resample_time import (
    FoldedLinearTemporalUp,
    FoldedTemporalDown,
    FoldedTemporalUp,
    TapwiseTemporalUp,
)
from vidtok_ref import VideoTokenizer
from vidtok_ref.layers.attention import JointAttention, SpaceTimeAttention, SplitAttention, TimeAttention
from vidtok_ref.layers.conv import Beyond, ClipConv3d, FrameConv2d, PointConv3d, PointLinear, TimeConv1d
from vidtok_ref.layers.norm import FrameGroupNorm, FrameNorm, LayerNorm, RMSNorm
from vidtok_ref.layers.patches import averages, copies
from vidtok_ref.layers.resample import (
    LinearTemporalUp,
    NearestUp3d,
    PooledDown,
    SharpenedUp,
    SpatialDown,
    SpatialUp,
    TemporalDown,
    TemporalUp,
    upsample_linear,
)
from vidtok_ref.streaming.causal_cache import Padding
from vidtok_ref.streaming.state import Call

C = 6


def point(padding: Padding) -> partial[PointConv3d]:
    return partial(PointConv3d, padding=padding)


def space_then_time() -> SpaceTimeAttention:
    space = SplitAttention(C, PointLinear, partial(FrameGroupNorm, 2))
    return SpaceTimeAttention(space, TimeAttention(C, PointLinear, causal=False))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, C, 4, 5, 7, generator=torch.Generator().manual_seed(0))


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("reference", "lowered"),
    [
        (lambda: LayerNorm(C), layer_norm),
        (lambda: RMSNorm(C), rms_norm),
        (lambda: FrameConv2d(C, 4, 3, padding=1), frame_conv),
        (lambda: FrameConv2d(C, 4, 1), frame_conv),
        (lambda: FrameNorm(C), WholeFrameNorm),
        (lambda: SpatialDown(C), spatial_down),
        (lambda: PooledDown(C), pooled_down),
        (lambda: SpatialUp(C, C), spatial_up),
        (lambda: SpatialUp(C, 3), spatial_up),
        (lambda: SharpenedUp(C), sharpened_up),
        (lambda: averages(C, 4, 2, 1), to_channels),
        (lambda: copies(C, 3, 1, 2), from_channels),
        (lambda: SplitAttention(C, point(Padding.ZEROS)), PlainAttention),
        (lambda: SplitAttention(C, point(Padding.BOTH_SIDES)), PlainAttention),
        (lambda: SplitAttention(C, PointLinear), PlainAttention),
        (lambda: JointAttention(C), PlainAttention),
        (lambda: TimeAttention(C, point(Padding.FIRST_FRAME), causal=True), PlainTimeAttention),
        (lambda: TimeAttention(C, PointLinear, causal=False), PlainTimeAttention),
        (space_then_time, lower_layer),
        (lambda: PointLinear(C, 4), point_linear),
        (lambda: ClipConv3d(C, 4, Beyond(2, copies=False), bias=False), clip_conv),
        (lambda: nn.GroupNorm(3, C), PlainGroupNorm),
        (lambda: FrameGroupNorm(3, C), PlainGroupNorm),
        (lambda: NearestUp3d(ClipConv3d(C, 4, Beyond(1, 1))), nearest_up),
        (lambda: NearestUp3d(ClipConv3d(C, 4, Beyond(0), time=1)), nearest_up),
    ],
)
@torch.no_grad()
def test_stateless_layers(x: torch.Tensor, reference: Any, lowered: Any) -> None:
    layer = reference()
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.normal_(std=0.5, generator=generator)
    close(lowered(layer)(x), layer(x))


@pytest.mark.parametrize("channels", [C, FEW_CHANNELS + 4])
@torch.no_grad()
def test_norms_of_few_and_of_many_channels(channels: int) -> None:
    layer = LayerNorm(channels)
    layer.norm.weight.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    layer.norm.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
    conv = torch.nn.Conv3d(3, channels, 1)
    video = torch.randn(2, 3, 4, 5, 7, generator=torch.Generator().manual_seed(2))
    wanted = layer(conv(video))
    close(layer_norm(layer)(conv(video)), wanted)
    behind = lower_behind(layer, conv)
    assert conv(video).mean(1).abs().max() < 1e-6
    close(behind(conv(video)), wanted)
    root = RMSNorm(channels)
    root.gamma.uniform_(-1, 1, generator=torch.Generator().manual_seed(3))
    close(lower_behind(root, conv)(conv(video)), root(conv(video)))
    assert not rms_norm(root)(torch.zeros_like(wanted)).any()  # and no NaN


def flags(first: bool, boundary: bool) -> Call:
    return Call(torch.tensor([first]), torch.tensor([boundary]))


ZERO_PADDED = (Padding.ZEROS, Padding.BOTH_SIDES)
ALONG_TIME = [
    (lambda padding: TimeConv1d(C, C, padding), PixelConv1d, tuple(Padding)),
    (lambda padding: TemporalDown(C, padding), FoldedTemporalDown, tuple(Padding)),
    (lambda padding: TemporalUp(C, padding), FoldedTemporalUp, ZERO_PADDED),
    (lambda padding: TemporalUp(C, padding), TapwiseTemporalUp, ZERO_PADDED),
    (lambda padding: LinearTemporalUp(C, padding, 2), FoldedLinearTemporalUp, (Padding.FIRST_FRAME,)),
]


@pytest.mark.parametrize(
    ("reference", "lowered", "padding"),
    [pytest.param(r, f, p, id=f"{f.__name__}-{p.name}") for r, f, paddings in ALONG_TIME for p in paddings],
)
@pytest.mark.parametrize("mix", [-1.0, 2.0])
@torch.no_grad()
def test_layers_that_look_along_time(
    x: torch.Tensor, reference: Any, lowered: Any, padding: Padding, mix: float
) -> None:
    layer = reference(padding)
    if hasattr(layer, "mix_factor"):
        layer.mix_factor.fill_(mix)
    folded = lowered(layer)
    wanted, _ = layer.step(x, None, None)
    close(folded.step(x, None, None)[0], wanted)
    if padding.causal:
        first, state = folded.step(x[:, :, :2], None, None)
        close(torch.cat([first, folded.step(x[:, :, 2:], state, None)[0]], dim=2), wanted)
        # With the flag, the first call pays no attention to what the states hold (version 1.0: zeros, no flag).
        if padding is Padding.FIRST_FRAME:
            close(folded.step(x, state, flags(True, False))[0], wanted)


@pytest.mark.parametrize("frames", [1, 2, 4])
@torch.no_grad()
def test_the_linear_fold_at_boundaries(frames: int) -> None:
    """Calls of 1, 1, 2 and 1 latents: boundaries in the second and the last, which may end with the chunk."""
    x = torch.randn(2, C, 5 * frames, 5, 7, generator=torch.Generator().manual_seed(0))
    layer = LinearTemporalUp(C, Padding.FIRST_FRAME, frames - 1)
    folded = FoldedLinearTemporalUp(layer)
    states: list[Any] = [None, None]
    outputs: list[list[torch.Tensor]] = [[], []]
    for i, piece in enumerate(x.split([frames, frames, 2 * frames, frames], dim=2)):
        for k, version in enumerate((layer, folded)):
            y, states[k] = version.step(piece, states[k], flags(i == 0, i in (1, 3)))
            assert y.shape[2] == 2 * piece.shape[2]
            outputs[k].append(y)
    wanted, got = (torch.cat(pieces, dim=2) for pieces in outputs)
    close(got, wanted)
    unaware = layer.step(x, None, None)[0]
    assert (unaware - wanted).abs().max() > 1e-2  # the boundaries make a difference


def test_width_decides_how_time_is_doubled() -> None:
    for channels, form in ((C, FoldedTemporalUp), (resample_time.MANY_CHANNELS, TapwiseTemporalUp)):
        assert isinstance(lower_layer(TemporalUp(channels, Padding.ZEROS)), form)


@torch.no_grad()
def test_linear_upsampling() -> None:
    x = torch.arange(5.0).view(1, 1, 5, 1, 1)
    plain = [0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75]
    assert upsample_linear(x, None, 0).flatten().tolist() == plain
    assert upsample_linear(x, torch.tensor([False]), 2).flatten().tolist() == plain
    assert upsample_linear(x, torch.tensor([True]), 2).flatten().tolist() == [*plain[:4], 2, 3, *plain[6:]]
    halves = torch.nn.functional.interpolate(x[0].flatten(1)[None], scale_factor=2, mode="linear")
    assert halves.flatten().tolist()[1:-1] == plain


@torch.no_grad()
def test_doubling_layers_remember_little(x: torch.Tensor) -> None:
    _, state = FoldedTemporalUp(TemporalUp(C, Padding.ZEROS)).step(x, None, None)
    assert state.shape[1:3] == (C, 1)
    _, state = TapwiseTemporalUp(TemporalUp(C, Padding.ZEROS)).step(x, None, None)
    assert state.shape[1:3] == (2 * C, 1)
    _, state = FoldedLinearTemporalUp(LinearTemporalUp(C, Padding.FIRST_FRAME, 1)).step(x, None, None)
    assert {k: tuple(t.shape[1:3]) for k, t in state.items()} == {"prev": (3 * C, 1), "tap0": (C, 1), "tap1": (C, 1)}


@torch.no_grad()
def test_whole_networks_and_the_original_is_left_alone(model: VideoTokenizer, video: torch.Tensor) -> None:
    before = {k: t.clone() for k, t in model.state_dict().items()}
    padded = model.pad(video)
    encoded = model.encoder.step(padded)[0]
    torch.testing.assert_close(lower(model.encoder).step(padded)[0], encoded, atol=2e-5, rtol=0)
    latent = model.regularization(encoded).latent
    decoded = model.decoder.step(latent)[0]
    torch.testing.assert_close(lower(model.decoder).step(latent)[0], decoded, atol=1e-4, rtol=0)
    assert all(torch.equal(before[k], t) for k, t in model.state_dict().items())
