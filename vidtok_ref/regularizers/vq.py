"""VQ (arXiv 1711.00937): the nearest of K vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidtok_ref.errors import ModelError
from vidtok_ref.regularizers.base import Encoded, Quantizer, Terms, straight_through


class NearestCode(Quantizer):
    """Every latent becomes the nearest of K vectors of C numbers."""

    @property
    def codes(self) -> Tensor:
        """The vectors, `K C`."""
        raise NotImplementedError

    def forward(self, h: Tensor) -> Encoded:
        codebook: Tensor = self.codes
        with torch.autocast(h.device.type, enabled=False):
            tokens = h.to(codebook.dtype).movedim(1, -1)
            # The nearest code by -|h - c|^2 / 2, without |h|^2, which all codes share.
            closeness = tokens @ codebook.transpose(0, 1) - codebook.square().sum(1) / 2
        # Squeezed last, since OpenVINO takes a converted ArgMax by the name of what was converted.
        indices = closeness.argmax(-1, keepdim=True).to(torch.int32).squeeze(-1)
        return Encoded(straight_through(h, self.from_indices(indices)), indices=indices)

    def from_indices(self, indices: Tensor) -> Tensor:
        codes: Tensor = F.embedding(indices, self.codes)
        return codes.movedim(-1, 1)

    def distance_to_cell(self, h: Tensor, indices: Tensor) -> Tensor:
        """In the latent's own units: the distance from the plane between the right code and the given one."""
        encoded: Encoded = self(h)
        right, given = encoded.latent, self.from_indices(indices)
        excess = (h - given).square().sum(1) - (h - right).square().sum(1)
        distance: Tensor = excess / (2 * (given - right).norm(dim=1)).clamp(min=1e-12)
        return distance.clamp(min=0)


class VectorQuantizer(NearestCode):
    """A codebook that is kept and trained by vector-quantize-pytorch.

    In training mode `regularize` moves the codebook, as the library does it by default: every code follows a running
    mean of the tokens that chose it, without any loss; in several processes that of the first one's tokens. It needs
    memory for tokens times codes. Raises ModelError without the library.
    """

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        try:
            from vector_quantize_pytorch import VectorQuantize
        except ImportError as error:
            raise ModelError(
                "regularizer vq needs vector-quantize-pytorch: pip install 'vidtok-onnx[train]'"
            ) from error
        # Plain straight-through gradients, as in the paper, instead of the library's rotation trick.
        self.vq = VectorQuantize(channels, size, rotation_trick=False)

    @property
    def codes(self) -> Tensor:
        codebook: Tensor = self.vq.codebook
        return codebook

    @torch.no_grad()
    def place(self, tokens: Tensor) -> None:
        """Start every code at one of the given tokens `n C`, drawn at random."""
        seeded = torch.Generator().manual_seed(0)
        drawn = tokens[torch.randint(len(tokens), (len(self.vq.codebook),), generator=seeded)]
        kept = self.vq._codebook  # the codes are running sums over running counts
        kept.embed.copy_(drawn)
        kept.embed_avg.copy_(drawn)
        kept.cluster_size.fill_(1)

    def regularize(self, h: Tensor) -> tuple[Encoded, Terms]:
        """The codes, and `commitment` (mean square of `h` minus its code; 0 in evaluation mode)."""
        tokens = h.float().movedim(1, -1)
        codes, indices, _, parts = self.vq(tokens.flatten(0, 3)[None], return_loss_breakdown=True)
        latent = codes.view(tokens.shape).movedim(-1, 1)
        return Encoded(latent, indices=indices.view(tokens.shape[:-1]).to(torch.int32)), {
            "commitment": parts.commitment
        }


class Codebook(NearestCode):
    """A codebook that training leaves as it is; at random, its vectors have the length 1."""

    codebook: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("codebook", F.normalize(torch.randn(size, channels), dim=1))

    @property
    def codes(self) -> Tensor:
        return self.codebook

    def regularize(self, h: Tensor) -> tuple[Encoded, Terms]:
        """The codes, and `commitment` (mean square of `h` minus its code)."""
        encoded: Encoded = self(h)
        return encoded, {"commitment": F.mse_loss(h.float(), encoded.latent.detach())}
