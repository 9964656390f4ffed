"""Encoder and decoder networks (paper, section 3.1) in the architectures of Table 2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from torch import Tensor, nn

from vidtok_ref.families.vidtok.variant import Variant
from vidtok_ref.layers.attention import SplitAttention
from vidtok_ref.layers.blocks import SpatialBlock, TimeBlock
from vidtok_ref.layers.conv import FactorizedConv, PointConv3d, TimeConv1d, TimeConv3d
from vidtok_ref.layers.norm import LayerNorm
from vidtok_ref.layers.resample import (
    LinearTemporalUp,
    NearestUp,
    SpatialDown,
    SpatialUp,
    TemporalDown,
    TemporalUp,
)
from vidtok_ref.streaming.causal_cache import Padding
from vidtok_ref.streaming.parts import GLOBAL, LOCAL, Coder
from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope


def padding_of(v: Variant) -> Padding:
    """Causal models of version 1.0 begin with zeros, those of 1.1 with copies of the first frame."""
    if not v.causal:
        return Padding.BOTH_SIDES
    return Padding.FIRST_FRAME if v.version == "1.1" else Padding.ZEROS


class Level(nn.Module):
    """Blocks of one resolution and, at `resample`, the layer that leaves it."""

    def __init__(self, blocks: list[nn.Module], role: str, resample: nn.Module | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        if resample is not None:
            self.add_module(role, resample)


def level_blocks(v: Variant, c_in: int, c_out: int, count: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """Residual blocks of one level: those in space and those along T, which take turns; fully 3D: one kind alone."""
    padding = padding_of(v)
    widths = [(c_in if j == 0 else c_out, c_out) for j in range(count)]
    if v.architecture == "3d":
        return [TimeBlock(*pair, partial(TimeConv3d, padding=padding)) for pair in widths], []
    return [SpatialBlock(*pair) for pair in widths], [
        TimeBlock(c_out, c_out, partial(TimeConv1d, padding=padding)) for _ in widths
    ]


class Middle(nn.Module):
    """The deepest part: 3D block, per-frame attention, 3D block."""

    def __init__(self, v: Variant, channels: int) -> None:
        super().__init__()
        padding = padding_of(v)
        conv = partial(FactorizedConv if v.architecture == "2d" else TimeConv3d, padding=padding)
        self.block_1 = TimeBlock(channels, channels, conv)
        self.attn_1 = SplitAttention(channels, partial(PointConv3d, padding=padding))
        self.block_2 = TimeBlock(channels, channels, conv)

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = StateScope(state, call)
        x = self.attn_1(run("block_1", self.block_1, x))
        return run("block_2", self.block_2, x), run.new


class VidTokCoder(Coder):
    """What encoder and decoder share: levels, the middle, and at the end a norm and a convolution."""

    norm_out: LayerNorm
    conv_out: TimeConv3d
    HEAD = ("norm_out", "silu", "conv_out")

    def __init__(self) -> None:
        super().__init__()
        self.silu = nn.SiLU()

    @property
    def trunk(self) -> list[str]:
        """Paths of the children in front of the head, in running order."""
        return [path for paths in self.parts.values() for path in paths if path not in self.HEAD]

    def _level_order(self, names: tuple[str, str], role: str, levels: Iterable[int]) -> Iterator[str]:
        """Blocks in space and along T in turns, then the layers that resample in space and along T."""
        space, time = (getattr(self, name) for name in names)
        parts = dict(zip(names, (space, time), strict=True)) if len(time) else {names[0]: space}
        for i in levels:
            for j in range(len(space[i].block)):
                yield from (f"{name}.{i}.block.{j}" for name in parts)
            yield from (f"{name}.{i}.{role}" for name, part in parts.items() if hasattr(part[i], role))


class Encoder(VidTokCoder):
    """Video `N 3 T H W` in -1..1, T a multiple of f, to `N z T/f H/s W/s` (KL: mean and log-variance)."""

    def __init__(self, v: Variant) -> None:
        super().__init__()
        padding = padding_of(v)
        widths = [v.ch * m for m in v.ch_mult]
        self.conv_in = TimeConv3d(3, v.ch, padding)
        self.down = nn.ModuleList()
        self.down_temporal = nn.ModuleList()
        c = v.ch
        for i, width in enumerate(widths):
            blocks, temporal = level_blocks(v, c, width, v.num_res_blocks)
            c = width
            space, time = i in v.spatial_down, i in v.temporal_down
            if v.architecture == "3d":
                volume_down = TimeConv3d(c, c, padding, 1 + time, 1 + space) if space or time else None
                self.down.append(Level(blocks, "downsample", volume_down))
                continue
            self.down.append(Level(blocks, "downsample", SpatialDown(c) if space else None))
            temporal_down: nn.Module | None = None
            if time and v.architecture == "separated":
                temporal_down = TimeConv1d(c, c, padding, stride=2)
            elif time:
                temporal_down = TemporalDown(c, padding)
            self.down_temporal.append(Level(temporal, "downsample", temporal_down))
        self.mid = Middle(v, c)
        self.norm_out = LayerNorm(c)
        self.conv_out = TimeConv3d(c, v.encoder_channels, padding)
        levels = list(self._level_order(("down", "down_temporal"), "downsample", range(len(widths))))
        # The deepest resolution is small, and its blocks see far: as a part of the whole, tiles need less of a margin.
        deep = levels.index(f"down.{max(v.spatial_down)}.downsample") + 1
        self.parts = {LOCAL: ["conv_in", *levels[:deep]], GLOBAL: [*levels[deep:], "mid", *self.HEAD]}


class Decoder(VidTokCoder):
    """Latent `N z t h w` to video `N 3 t*f h*s w*s`.

    Causal: the first f-1 frames belong to the front padding. Version 1.1 comes late by as many (linear interpolation
    looks ahead), which are surplus in front, too. It equals the released one-shot result. The released chunked path
    with overlap interpolates otherwise behind the first latent: in the golden vectors it differs from that by up to
    0.14 within the first 33 frames, at 2x8x8 not at all.
    """

    def __init__(self, v: Variant) -> None:
        super().__init__()
        padding = padding_of(v)
        widths = [v.ch * m for m in v.ch_mult]
        c = widths[-1]
        lag = 0
        self.conv_in = TimeConv3d(v.z_channels, c, padding)
        self.mid = Middle(v, c)
        spatial_levels: list[Level] = []
        temporal_levels: list[Level] = []
        for i, width in reversed(list(enumerate(widths))):
            blocks, temporal = level_blocks(v, c, width, v.num_res_blocks + 1)
            c = width
            space, time = i in v.spatial_up, i in v.temporal_up
            if v.architecture == "3d":
                volume_up = NearestUp(TimeConv3d(c, c, padding), 1 + time, 1 + space) if space or time else None
                spatial_levels.insert(0, Level(blocks, "upsample", volume_up))
                continue
            spatial_levels.insert(0, Level(blocks, "upsample", SpatialUp(c, c) if space else None))
            temporal_up: nn.Module | None = None
            if time and v.architecture == "separated":
                temporal_up = NearestUp(TimeConv1d(c, c, padding), 2, 1)
            elif time and v.version == "1.1":
                temporal_up = LinearTemporalUp(c, padding, lag)
                lag = 2 * lag + 1
            elif time:
                temporal_up = TemporalUp(c, padding)
            temporal_levels.insert(0, Level(temporal, "upsample", temporal_up))
        self.up = nn.ModuleList(spatial_levels)
        self.up_temporal = nn.ModuleList(temporal_levels)
        self.norm_out = LayerNorm(c)
        self.conv_out = TimeConv3d(c, 3, padding)
        levels = list(self._level_order(("up", "up_temporal"), "upsample", reversed(range(len(widths)))))
        deep = levels.index(f"up.{max(v.spatial_up)}.upsample")  # as in the encoder
        self.parts = {GLOBAL: ["conv_in", "mid", *levels[:deep]], LOCAL: [*levels[deep:], *self.HEAD]}
