"""The adversary: a patch discriminator on frames, its losses, and how much the generator heeds it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.train.recipe import GanPart

_LECAM_DECAY = 0.999
_MAX_WEIGHT = 1e4  # bound of the adaptive weight


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator loss: half of `relu(1 - real) + relu(1 + fake)`, means over logits of any shape."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def non_saturating(fake: Tensor) -> Tensor:
    """Generator loss `-log sigmoid(fake)`, mean over logits of any shape."""
    return F.softplus(-fake).mean()


def adaptive_weight(likelihood_gradients: Iterable[Tensor], gan_gradients: Iterable[Tensor]) -> Tensor:
    """Ratio of the norms of both losses' gradients at the decoder's last layer, at most 10,000 (arXiv 2012.09841)."""
    likelihood, gan = (torch.stack([g.norm() for g in of]).norm() for of in (likelihood_gradients, gan_gradients))
    ratio: Tensor = likelihood / (gan + 1e-4)
    return ratio.clamp(0, _MAX_WEIGHT).detach()


def lecam(real: Tensor, fake: Tensor, real_level: Tensor, fake_level: Tensor) -> Tensor:
    """LeCAM (arXiv 2104.03310): logits that leave the running mean of the other kind behind are drawn back to it."""
    return F.relu(real - fake_level).square().mean() + F.relu(real_level - fake).square().mean()


class Discriminator(nn.Module):
    """Frames `N 3 H W` in -1..1 to logits a patch `N 1 h w`; remembers the mean logits of both kinds for LeCAM.

    Group normalisation, so that no frame's logits depend on which other ones share its process.
    """

    real_level: Tensor
    fake_level: Tensor

    def __init__(self, part: GanPart) -> None:
        super().__init__()
        self.part = part
        c = part.width
        layers: list[nn.Module] = [nn.Conv2d(3, c, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i in range(1, part.layers + 1):
            wide = part.width * min(2**i, 8)
            stride = 2 if i < part.layers else 1
            layers += [nn.Conv2d(c, wide, 4, stride, padding=1, bias=False), nn.GroupNorm(math.gcd(32, wide), wide)]
            layers.append(nn.LeakyReLU(0.2))
            c = wide
        self.net = nn.Sequential(*layers, nn.Conv2d(c, 1, 4, padding=1))
        for module in self.net:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.02)
        self.register_buffer("real_level", torch.zeros(()))
        self.register_buffer("fake_level", torch.zeros(()))

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.net(frames)
        return logits

    def loss(self, real: Tensor, fake: Tensor, mean: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Hinge loss and unweighted LeCAM of both kinds of frames; `mean` averages over the processes."""
        real, fake = self(real), self(fake)
        with torch.no_grad():
            self.real_level.lerp_(mean(real.mean()), 1 - _LECAM_DECAY)
            self.fake_level.lerp_(mean(fake.mean()), 1 - _LECAM_DECAY)
        return hinge(real, fake), lecam(real, fake, self.real_level, self.fake_level)
