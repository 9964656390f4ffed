"""First weights from a narrower trained model, whose function they keep.

New channels are mixtures of the old ones about their mean, and nothing reads them yet. So a layer normalisation finds
the mean that it knew and a variance that it knew up to a factor, which its gain takes back, whatever the widths. What
begins to read a new channel finds a feature of a trained network in it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vidtok_ref.errors import VariantError
from vidtok_ref.families.vidtok.model import VidTok
from vidtok_ref.layers.attention import SplitAttention
from vidtok_ref.layers.conv import kernel

# Of new channels about the mean, in units of the old ones. On held-out clips 0.3 cost less than 0.1 dB at the start and
# 1 cost 0.9 dB: mixtures scatter, so that the factor in the variance is right on average only.
SPREAD = 0.3


@torch.no_grad()
def start_from_narrow(model: VidTok, narrow: VidTok) -> None:
    """Give `model` weights with which it does what `narrow` does, in place.

    Raises VariantError where the two differ in more than `ch` and `ch_mult`, where `narrow` is wider, or where other
    levels of it are equally wide.
    """
    given, own = narrow.state_dict(), model.state_dict()
    v = model.config
    if replace(narrow.config, name=v.name, ch=v.ch, ch_mult=v.ch_mult) != v:
        raise VariantError("a model grows in `ch` and `ch_mult` alone; the narrower one differs in more")
    if given.keys() != own.keys() or any(a > b for k in own for a, b in zip(given[k].shape, own[k].shape, strict=True)):
        raise VariantError(
            f"widths {narrow.config.ch} times {narrow.config.ch_mult} cannot grow into {v.ch} times {v.ch_mult}: none "
            "may shrink, and the same levels must be equally wide"
        )
    model.load_state_dict({k: t if t.shape == own[k].shape else _wider(t, own[k].shape) for k, t in given.items()})
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            before, now = len(given[f"{name}.weight"]), len(module.weight)
            module.weight.mul_(((before + SPREAD**2 * (now - before)) / now) ** 0.5)
        elif isinstance(module, SplitAttention):
            before = len(given[f"{name}.norm.norm.weight"])
            for tensor in kernel(module.q):
                tensor *= (len(tensor) / before) ** 0.5  # scores are divided by the root of the channels
                tensor[before:] = 0


def _wider(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Weights, bias or gain of more channels: mixtures for those that are new behind it, 0 for those in front."""
    before = len(tensor)
    if before < shape[0]:
        mix = torch.randn(shape[0] - before, before, generator=torch.Generator().manual_seed(0)) * before**-0.5
        mean = tensor.mean(0, keepdim=True)
        tensor = torch.cat([tensor, mean + SPREAD * torch.tensordot(mix, tensor - mean, 1)])
    if tensor.ndim > 1:
        tensor = torch.cat([tensor, tensor.new_zeros(shape[0], shape[1] - tensor.shape[1], *shape[2:])], dim=1)
    return tensor
