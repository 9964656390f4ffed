"""How large the tensors inside a network are and how far it looks in space: found by running it without storage."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vidtok_ref.layers.attention import Attention
from vidtok_ref.streaming.state import State


def example(channels: int, time: int, space: int) -> Tensor:
    """The least that a network takes, `1 C T H W` without storage."""
    return torch.empty((1, channels, time, space, space), device="meta")


@contextmanager
def _watched(network: nn.Module, see: Callable[[nn.Module, Tensor, Tensor], None]) -> Iterator[Any]:
    """A copy without storage whose modules tell `see` what they take and give, `N C T H W`, in running order."""
    bare = copy.deepcopy(network).to("meta")

    def tell(module: nn.Module, x: Any, y: Any) -> None:
        if isinstance(x, Tensor) and isinstance(y, Tensor) and x.ndim == y.ndim == 5:
            see(module, x, y)

    def watch(module: nn.Module) -> None:
        step: Any = module.step

        def told(x: Tensor, *rest: Any) -> tuple[Tensor, State]:
            y, state = step(x, *rest)
            tell(module, x, y)
            return y, state

        module.step = told  # type: ignore[assignment]

    for module in bare.modules():
        module.register_forward_hook(lambda module, inputs, y: tell(module, inputs[0], y))
        if hasattr(module, "step"):
            watch(module)
    yield bare


def stages(network: nn.Module, x: Tensor, pixels: int, frames: int) -> list[dict[str, Any]]:
    """The widest tensor of each resolution of a reference coder, in the order of the data; rows of the manifest.

    x: as of `example`; pixels, frames: the side and the length that it stands for.
    """
    rows: list[dict[str, Any]] = []

    def see(module: nn.Module, _: Tensor, y: Tensor) -> None:
        _, channels, time, height, _ = y.shape
        row: dict[str, Any] = {"channels": channels, "space": pixels // height, "time": -(-frames // time), "attention": False}
        if not rows or any(rows[-1][key] != row[key] for key in ("space", "time")):
            rows.append(row)
        rows[-1]["channels"] = max(rows[-1]["channels"], channels)
        rows[-1]["attention"] |= isinstance(module, Attention)

    with _watched(network, see) as bare:
        bare.step(x, None, None)
    return rows


def receptive_field(lowered: nn.Module, x: Tensor, pixels: int) -> int:
    """Pixels that an output of a lowered coder looks at on either side of its own, attention left out."""
    reach = 0

    def see(module: nn.Module, x: Tensor, y: Tensor) -> None:
        nonlocal reach
        if isinstance(module, nn.Conv3d):
            reach += module.kernel_size[1] // 2 * (pixels // x.shape[3])
        elif isinstance(module, nn.ConvTranspose3d):
            reach += (module.kernel_size[1] // module.stride[1]) // 2 * (pixels // y.shape[3])

    with _watched(lowered, see) as bare:
        bare.step(x, None, None)
    return reach
