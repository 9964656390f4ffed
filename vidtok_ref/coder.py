"""Encoder and decoder networks (paper, section 3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.layers import (
    Attention,
    LayerNorm,
    LinearTemporalUp,
    SpatialBlock,
    SpatialDown,
    SpatialUp,
    TemporalDown,
    TemporalUp,
    TimeBlock,
    TimeConv1d,
    TimeConv3d,
)
from vidtok_ref.state import Call, State, Thread
from vidtok_ref.variant import Variant


class Level(nn.Module):
    """Blocks of one resolution and, at `resample`, the layer that leaves it."""

    def __init__(self, blocks: list[nn.Module], role: str, resample: nn.Module | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        if resample is not None:
            self.add_module(role, resample)


class Middle(nn.Module):
    """The deepest part: 3D block, per-frame attention, 3D block."""

    def __init__(self, v: Variant, channels: int) -> None:
        super().__init__()
        self.block_1 = TimeBlock(v, channels, TimeConv3d)
        self.attn_1 = Attention(v, channels)
        self.block_2 = TimeBlock(v, channels, TimeConv3d)

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = Thread(state, call)
        x = self.attn_1(run("block_1", self.block_1, x))
        return run("block_2", self.block_2, x), run.new


class Encoder(nn.Module):
    """Video `N 3 T H W` in -1..1, T a multiple of f, to `N z T/f H/s W/s` (KL: mean and log-variance)."""

    def __init__(self, v: Variant) -> None:
        super().__init__()
        widths = [v.ch * m for m in v.ch_mult]
        self.conv_in = TimeConv3d(v, 3, v.ch)
        self.down = nn.ModuleList()
        self.down_temporal = nn.ModuleList()
        c = v.ch
        for i, width in enumerate(widths):
            blocks = [SpatialBlock(c if j == 0 else width, width) for j in range(v.num_res_blocks)]
            temporal = [TimeBlock(v, width, TimeConv1d) for _ in range(v.num_res_blocks)]
            c = width
            spatial_down = SpatialDown(c) if i in v.spatial_down else None
            temporal_down = TemporalDown(v, c) if i in v.temporal_down else None
            self.down.append(Level(list(blocks), "downsample", spatial_down))
            self.down_temporal.append(Level(list(temporal), "downsample", temporal_down))
        self.mid = Middle(v, c)
        self.norm_out = LayerNorm(c)
        self.conv_out = TimeConv3d(v, c, v.encoder_channels)

    def step(self, x: Tensor, state: State | None = None, call: Call | None = None) -> tuple[Tensor, State]:
        """Encode the next frames; `state` None starts a stream."""
        run = Thread(state, call)
        x = run("conv_in", self.conv_in, x)
        for i, (spatial, temporal) in enumerate(zip(self.down, self.down_temporal, strict=True)):
            for j, (block, across) in enumerate(zip(spatial.block, temporal.block, strict=True)):
                x = run(f"down_temporal.{i}.block.{j}", across, block(x))
            if hasattr(spatial, "downsample"):
                x = spatial.downsample(x)
            if hasattr(temporal, "downsample"):
                x = run(f"down_temporal.{i}.downsample", temporal.downsample, x)
        x = F.silu(self.norm_out(run("mid", self.mid, x)))
        return run("conv_out", self.conv_out, x), run.new


class Decoder(nn.Module):
    """Latent `N z t h w` to video `N 3 t*f h*s w*s`.

    Causal: the first f-1 frames belong to the front padding. `lag`: frames by which the video comes late
    (version 1.1: linear interpolation looks ahead), so as many in front are surplus, too. Version 1.1 equals the
    released one-shot result. The released chunked path with overlap interpolates otherwise behind the first
    latent: in the golden vectors it differs from that by up to 0.14 within the first 33 frames, at 2x8x8 not at all.
    """

    def __init__(self, v: Variant) -> None:
        super().__init__()
        widths = [v.ch * m for m in v.ch_mult]
        c = widths[-1]
        self.lag = 0
        self.conv_in = TimeConv3d(v, v.z_channels, c)
        self.mid = Middle(v, c)
        spatial_levels: list[Level] = []
        temporal_levels: list[Level] = []
        for i, width in reversed(list(enumerate(widths))):
            count = v.num_res_blocks + 1
            blocks = [SpatialBlock(c if j == 0 else width, width) for j in range(count)]
            temporal = [TimeBlock(v, width, TimeConv1d) for _ in range(count)]
            c = width
            spatial_up = SpatialUp(c) if i in v.spatial_up else None
            temporal_up: nn.Module | None = None
            if i in v.temporal_up and v.version == "1.1":
                temporal_up = LinearTemporalUp(v, c, self.lag)
                self.lag = 2 * self.lag + 1
            elif i in v.temporal_up:
                temporal_up = TemporalUp(v, c)
            spatial_levels.insert(0, Level(list(blocks), "upsample", spatial_up))
            temporal_levels.insert(0, Level(list(temporal), "upsample", temporal_up))
        self.up = nn.ModuleList(spatial_levels)
        self.up_temporal = nn.ModuleList(temporal_levels)
        self.norm_out = LayerNorm(c)
        self.conv_out = TimeConv3d(v, c, 3)

    def step(self, z: Tensor, state: State | None = None, call: Call | None = None) -> tuple[Tensor, State]:
        """Decode the next latents; `state` None starts a stream."""
        run = Thread(state, call)
        x = run("conv_in", self.conv_in, z)
        x = run("mid", self.mid, x)
        for i in reversed(range(len(self.up))):
            spatial, temporal = self.up[i], self.up_temporal[i]
            for j, (block, across) in enumerate(zip(spatial.block, temporal.block, strict=True)):
                x = run(f"up_temporal.{i}.block.{j}", across, block(x))
            if hasattr(spatial, "upsample"):
                x = spatial.upsample(x)
            if hasattr(temporal, "upsample"):
                x = run(f"up_temporal.{i}.upsample", temporal.upsample, x)
        x = F.silu(self.norm_out(x))
        return run("conv_out", self.conv_out, x), run.new
