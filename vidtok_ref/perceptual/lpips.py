"""LPIPS, the perceptual distance, from weights that are on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from vidtok_ref.errors import MissingError, WeightsError
from vidtok_ref.weights import load_into, read_weights

Net = Literal["vgg", "alex"]
VARIABLE = "VIDTOK_LPIPS"
# Torchvision's own file names of its ImageNet weights.
BACKBONES = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}


class LpipsNetwork(nn.Module):
    """LPIPS 0.1 (Zhang et al. 2018), frozen: two images `N 3 H W` in -1..1 to a distance `N`, 0 for equal ones."""

    def __init__(self, net: Net = "vgg") -> None:
        super().__init__()
        self.net = net
        try:
            import torchvision  # noqa: F401  the backbone below comes from it
            from torchmetrics.functional.image.lpips import _NoTrainLpips
        except ImportError as error:
            raise MissingError(
                f"LPIPS needs torchmetrics and torchvision ({error}); pip install 'vidtok-onnx[eval]'"
            ) from error
        # The linear layers are in torchmetrics; the backbone starts at random, `load_lpips` fills it.
        self.distance = _NoTrainLpips(net=net, pnet_rand=True)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        distance: Tensor = self.distance(a, b)
        return distance.flatten()


def find_backbone(net: str, weights: Path | None = None) -> Path:
    """The ImageNet weights: `weights` or `$VIDTOK_LPIPS` (a file, or the folder it is in), else torch's own cache.

    Raises WeightsError that names what to set.
    """
    if net not in BACKBONES:
        raise WeightsError(f"LPIPS comes with {' or '.join(BACKBONES)}, not {net!r}")
    file = BACKBONES[net]
    named = weights or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    place = named or Path(torch.hub.get_dir()) / "checkpoints"
    path = place if named and not named.is_dir() else place / file
    if not path.is_file():
        raise WeightsError(
            f"no LPIPS weights: {path} is not there; set ${VARIABLE} to torchvision's {file} or the folder it is in"
        )
    return path


def load_lpips(net: Net = "vgg", weights: Path | None = None) -> nn.Module:
    """The LPIPS network: two images `N 3 H W` in -1..1 to a distance an image `N`, differentiable in both.

    net: vgg, as in VidTok's loss and tables, or alex. weights: torchvision's ImageNet weights of that network, a file
    or the folder it is in; None: `$VIDTOK_LPIPS`, then torch's own cache. Raises MissingError without torchvision or
    torchmetrics, WeightsError without weights or with others.
    """
    path = find_backbone(net, weights)
    lpips = LpipsNetwork(net)
    backbone = lpips.distance.net
    slices = {name.partition(".")[2]: name for name in backbone.state_dict()}  # "10.weight" -> "slice3.10.weight"
    features = {k.removeprefix("features."): t for k, t in read_weights(path).items() if k.startswith("features.")}
    load_into(backbone, {slices.get(k, k): t for k, t in features.items()}, f"the LPIPS network {net} ({path})")
    return lpips
