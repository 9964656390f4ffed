"""A wider model from the weights of a narrow one, with the same function."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# How unequally copies of a channel share its weight in what they enter: equal copies would learn the same for ever.
SPREAD = 0.5
LATENT_IN = "decoder.conv_in.conv.weight"


def widen(given: Mapping[str, Tensor], own: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Tensors of a narrower model, float32, in the shapes that the wider one has in `own`, where those are multiples.

    Every channel becomes several equal ones whose shares of its weight, random but for their sum, add up to it
    (Net2Net, Chen et al. 2015). Norms see the same mean and variance, so the output stays as it was. Latents are not
    widened, and what is not a multiple is left out, as is a shortcut that the wider model does not need.
    """
    generator = torch.Generator().manual_seed(seed)
    given, wide = {**given, **_shortcuts(given, own)}, {}
    for name in sorted(given.keys() & own.keys()):
        tensor, shape = given[name].float(), own[name].shape
        if tensor.shape == shape:
            wide[name] = tensor
            continue
        if tensor.ndim != len(shape) or tensor.shape[2:] != shape[2:] or not name.startswith(("encoder.", "decoder.")):
            continue
        times = [b // a for a, b in zip(tensor.shape[:2], shape[:2], strict=True)]
        if any(a * n != b for a, b, n in zip(tensor.shape[:2], shape[:2], times, strict=True)):
            continue
        if (name.startswith("encoder.conv_out.") and times[0] > 1) or (name == LATENT_IN and times[1] > 1):
            continue
        wide[name] = _repeat(tensor, times, generator)
        if ".attn_1.q." in name or ".attn_1.k." in name:
            wide[name] *= times[0] ** -0.25  # the scores: a sum over more channels, divided by their number's root
    return wide


def _shortcuts(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What blocks between equal widths, which had no shortcut, get where the widths are no longer equal: identities."""
    found = {}
    for name in own.keys() - given.keys():
        block, _, rest = name.rpartition("nin_shortcut.")
        if (
            rest == "weight"
            and (bias := given.get(f"{block}conv1.bias", given.get(f"{block}conv1.conv.bias"))) is not None
        ):
            found[name] = torch.eye(len(bias))[:, :, None, None]
            found[f"{block}nin_shortcut.bias"] = torch.zeros(len(bias))
    return found


def _repeat(tensor: Tensor, times: list[int], generator: torch.Generator) -> Tensor:
    """Copies of the outputs, and of the inputs with shares that add up to one."""
    rest = [1] * (tensor.ndim - len(times))
    tensor = tensor.repeat(*times, *rest)
    if len(times) < 2 or times[1] == 1:
        return tensor
    outputs, inputs = tensor.shape[:2]
    noise = torch.randn(outputs, times[1], inputs // times[1], generator=generator)
    share = 1 / times[1] + SPREAD * (noise - noise.mean(1, keepdim=True))
    return tensor * share.reshape(outputs, inputs, *rest)
