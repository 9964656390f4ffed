"""How large the tensors inside a network are and how far it looks in space: found by running it without storage."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidtok_ref.layers.attention import Attention
from vidtok_ref.layers.conv import PointConv3d, PointLinear, TimeConv3d, kernel
from vidtok_ref.layers.transformer import FrameAttention, TokenLayer
from vidtok_ref.streaming.state import State
from vidtok_runtime.bundle.stream_spec import StreamSpec


def smallest_input(spec: StreamSpec, role: str) -> Tensor:
    """The least that calls take, `1 C T H W` without storage."""
    time, space = spec.unit(role), spec.side_multiple
    if role == "encoder":
        return torch.empty(1, 3, time, space, space, device="meta")
    cells = space // spec.spatial_multiple
    return torch.empty(1, spec.latent_channels, time, cells, cells, device="meta")


def stages(coder: nn.Module, x: Tensor, pixels: int, frames: int, paths: Sequence[str]) -> list[dict[str, Any]]:
    """The widest tensor of each resolution in children of a reference coder, in the order of the data; manifest rows.

    x: what they take of `smallest_input`; pixels, frames: the side and the length that it stands for.
    """
    rows: list[dict[str, Any]] = []

    def see(module: nn.Module, y: Any) -> None:
        # What sees points alone never widens, and may see latents beside the frames.
        if not isinstance(y, Tensor) or y.ndim != 5 or isinstance(module, PointConv3d | PointLinear):
            return
        channels_last = isinstance(module, nn.LayerNorm | nn.Linear | TokenLayer)
        _, channels, time, height, _ = (y.movedim(-1, 1) if channels_last else y).shape
        place = {"space": pixels // height, "time": round(frames / time)}
        if not rows or any(rows[-1][key] != value for key, value in place.items()):
            rows.append({"channels": channels, **place, "attention": False})
        rows[-1]["channels"] = max(rows[-1]["channels"], channels)
        rows[-1]["attention"] |= isinstance(module, Attention | FrameAttention)

    def watch(module: nn.Module) -> None:
        step: Any = module.step

        def told(*inputs: Any) -> tuple[Tensor, State]:
            y, state = step(*inputs)
            see(module, y)
            return y, state

        module.step = told  # type: ignore[assignment]

    bare: Any = copy.deepcopy(coder).to("meta")
    for module in bare.modules():
        module.register_forward_hook(lambda module, _, y: see(module, y))
        if hasattr(module, "step"):
            watch(module)
    bare.step(x, None, None, paths)
    return rows


class Look(NamedTuple):
    """Of children of a coder: pixels that an output looks at on either side of its own, and how many numbers they give.

    Attention is left out.
    """

    reach: int
    gives: int


def looks(lowered: nn.Module, x: Tensor, pixels: int, steps: Sequence[Sequence[str]]) -> tuple[list[Look], Tensor]:
    """What steps of a lowered coder look at, each of so many children, one after the other, and what the last gives.

    x, pixels: as for `stages`.
    """
    reach = 0

    def see(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        nonlocal reach
        if isinstance(module, nn.Conv3d | TimeConv3d):
            stride = module.stride[1] if isinstance(module, nn.Conv3d) else module.space_stride
            reach += (kernel(module)[0].shape[3] - stride + 1) // 2 * (pixels // y.shape[3] // stride)
        elif isinstance(module, nn.ConvTranspose3d):
            reach += module.kernel_size[1] // module.stride[1] // 2 * (pixels // inputs[0].shape[3])

    bare: Any = copy.deepcopy(lowered).to("meta")
    for module in bare.modules():
        module.register_forward_hook(see)
    found = []
    for paths in steps:
        reach = 0
        x, _ = bare.step(x, None, None, paths)
        found.append(Look(reach, x.numel()))
    return found, x
