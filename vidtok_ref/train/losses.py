"""What is minimised besides the GAN: reconstruction terms, learned log-variance, the regularizer's terms."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.train.recipe import LossPart

_PSNR_FLOOR = 1e-6  # mean square error below which more accuracy is not rewarded: 66 dB
_SCALES = 3  # of which the gradient is compared: as it is, at half and at a quarter of the resolution
_WINDOW = 4  # pixels of a scale in which the amount of texture is compared


def frames_of(video: Tensor) -> Tensor:
    """`N C T H W` to frames `(N T) C H W`."""
    return video.transpose(1, 2).flatten(0, 1)


def entropy_weight(part: LossPart, step: int) -> float:
    """Weight of the entropy term at a step: boosted at first, falling linearly to the recipe's own."""
    remaining = max(0.0, 1 - step / max(1, part.entropy_steps))
    return part.entropy * (1 + (part.entropy_boost - 1) * remaining)


def log_error(error: Tensor) -> Tensor:
    """`10 log10` of the mean square error of each clip `N ...`, averaged over the clips: minus mean PSNR, shifted."""
    return 10 * torch.log10(error.square().flatten(1).mean(1) + _PSNR_FLOOR).mean()


def _gradients(video: Tensor) -> list[Tensor]:
    """Those along rows and columns of frames `N C T H W`, at each scale."""
    frames, gradients = frames_of(video), []
    for scale in range(_SCALES):
        frames = F.avg_pool2d(frames, 2) if scale else frames
        gradients += [frames.diff(dim=-1), frames.diff(dim=-2)]
    return gradients


def gradient_error(error: Tensor) -> Tensor:
    """Mean absolute gradient over rows, columns and three scales of `error` `N C T H W`: blur is dear, a shift free."""
    return torch.stack([gradient.abs().mean() for gradient in _gradients(error)]).mean()


def texture_error(recon: Tensor, video: Tensor) -> Tensor:
    """Mean difference of how much there is of gradients in windows of 4x4, over rows, columns and three scales.

    Detail counts by its amount, wherever in a window it is, so that what cannot be known exactly is not left out.
    """
    amounts = [[F.avg_pool2d(g.abs(), _WINDOW, ceil_mode=True) for g in _gradients(x)] for x in (recon, video)]
    return torch.stack([(a - b).abs().mean() for a, b in zip(*amounts, strict=True)]).mean()


class Objective(nn.Module):
    """The weighted sum of a recipe; owns the learned log-variance where there is one.

    perceptual: frames `N 3 H W` in -1..1, twice, to a distance a frame. It is not a submodule, so that its fixed
    weights stay out of checkpoints.
    """

    def __init__(self, part: LossPart, perceptual: nn.Module | None = None) -> None:
        super().__init__()
        self.part = part
        self.perceptual = (perceptual,)
        self.log_variance = nn.Parameter(torch.zeros(())) if part.log_variance else None

    def reconstruction(self, video: Tensor, recon: Tensor) -> dict[str, Tensor]:
        """Unweighted terms of clips `N 3 T H W` in -1..1, each a mean over numbers, frames or clips."""
        part, (perceptual,) = self.part, self.perceptual
        error = recon - video
        terms = {}
        if part.l1:
            terms["l1"] = error.abs().mean()
        if part.l2:
            terms["l2"] = error.square().mean()
        if part.perceptual:
            assert perceptual is not None
            terms["perceptual"] = perceptual(frames_of(recon), frames_of(video)).mean()
        if part.gradient:
            terms["gradient"] = gradient_error(error)
        if part.texture:
            terms["texture"] = texture_error(recon, video)
        if part.psnr:
            terms["psnr"] = log_error(error)
        return terms

    def likelihood(self, terms: Mapping[str, Tensor], video: Tensor) -> Tensor:
        """Reconstruction terms weighted and, with a learned log-variance s, as `terms / exp(s) + s`."""
        part = self.part
        total = torch.zeros((), device=video.device)
        for name in ("l1", "l2", "perceptual", "gradient", "texture"):
            if name in terms:
                total = total + getattr(part, name) * terms[name]
        if self.log_variance is not None:
            total = total * torch.exp(-self.log_variance) + self.log_variance
        if part.per == "frame":
            total = total * (video[0].numel() / video.shape[2])
        # A logarithm may be negative, which the log-variance must not divide.
        return total + part.psnr * terms["psnr"] if part.psnr else total

    def regularization(self, terms: Mapping[str, Tensor], video: Tensor, step: int) -> Tensor:
        """Terms of the regularizer (`kl` in nats a clip, `entropy`, `commitment`, `usage`), weighted as at `step`."""
        part = self.part
        weights = {
            "kl": part.kl if part.per == "frame" else part.kl / video[0].numel(),
            "entropy": entropy_weight(part, step),
            "commitment": part.commitment,
            "usage": part.usage,
        }
        total = torch.zeros((), device=video.device)
        for name, term in terms.items():
            if weights[name]:  # 0 times infinity would be no number
                total = total + weights[name] * term
        return total
