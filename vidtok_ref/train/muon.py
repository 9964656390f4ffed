"""Muon (Jordan et al. 2024): steps of equal size in every direction of a weight matrix.

Gradients of a narrow coder are dominated by a few directions, brightness above all; orthogonalised steps let colour
and detail learn as fast. PyTorch's own Muon takes matrices only, while here nearly all weights are convolutions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vidtok_ref.streaming.parts import is_matrix

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the published Newton-Schulz iteration
_ITERATIONS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring every singular value of `B rows columns` near 1 (0.7 to 1.2), keeping the singular vectors."""
    a, b, c = _COEFFICIENTS
    x = matrices / (torch.linalg.matrix_norm(matrices)[:, None, None] + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    directions: Tensor = x.mT if tall else x
    return directions


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for weights between hidden channels; Adam for all other parameters.

    ends: weights that see pixels or latents, where directions differ in more than size; Adam takes them, too. Steps are
    scaled so that their root mean square is 0.2 of the learning rate, about that of Adam's.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        ends: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float],
        momentum: float,
    ) -> None:
        hidden: list[nn.Parameter] = []
        other: list[nn.Parameter] = []
        ends = set(ends)
        for parameter in parameters:
            (hidden if is_matrix(parameter) and parameter not in ends else other).append(parameter)
        groups: list[dict[str, Any]] = [{"params": hidden, "hidden": True}, {"params": other, "hidden": False}]
        super().__init__([g for g in groups if g["params"]], {"lr": lr, "betas": betas, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter that has a gradient; the closure, if given, computes them."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            (self._muon if group["hidden"] else self._adam)(parameters, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        alike = defaultdict(list)  # matrices of one shape are handled together
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
            ahead = parameter.grad + group["momentum"] * state["momentum"]
            alike[ahead.flatten(1).shape].append((parameter, ahead.flatten(1)))
        for (rows, columns), members in alike.items():
            steps = orthogonalise(torch.stack([ahead for _, ahead in members]))
            scale = 0.2 * max(rows, columns) ** 0.5
            for (parameter, _), update in zip(members, steps, strict=True):
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        fast, slow = group["betas"]
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            state["mean"].lerp_(parameter.grad, 1 - fast)
            state["square"].lerp_(parameter.grad.square(), 1 - slow)
            count = state["step"].item()
            size = (state["square"] / (1 - slow**count)).sqrt_().add_(1e-8)
            parameter.addcdiv_(state["mean"], size, value=-group["lr"] / (1 - fast**count))
