"""The whole tokenizer: build, encode, decode."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vidtok_ref.errors import ShapeError
from vidtok_ref.families.vidtok.coder import Decoder, Encoder
from vidtok_ref.families.vidtok.variant import Variant
from vidtok_ref.regularizers import make_regularizer
from vidtok_ref.regularizers.base import Encoded, Quantizer
from vidtok_ref.streaming.state import Call


class VidTok(nn.Module):
    """Encoder, regularizer and decoder of one variant under the released state-dict names.

    `source` says where the weights came from; `seed` is that of untrained ones, None for loaded ones.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.source = "untrained"
        self.seed: int | None = None
        self.encoder = Encoder(variant)
        self.decoder = Decoder(variant)
        self.regularization = make_regularizer(variant.regularizer, variant.z_channels, variant.levels)

    def pad(self, video: Tensor) -> Tensor:
        """Causal: repeat the first frame f-1 times in front. Repeat the last frame up to a multiple of f behind."""
        f, front_frames = self.variant.time_factor, self.variant.front_frames
        front = video[:, :, :1].expand(-1, -1, front_frames, -1, -1)
        back = video[:, :, -1:].expand(-1, -1, -(video.shape[2] + front_frames) % f, -1, -1)
        return torch.cat([front, video, back], dim=2)

    def features(self, video: Tensor, chunk: int | None = None) -> Tensor:
        """What the encoder gives for a whole clip, before the regularizer; arguments and errors as for `encode`."""
        s = self.variant.spatial_factor
        if video.ndim != 5 or video.shape[1] != 3 or 0 in video.shape:
            raise ShapeError(f"video must be N 3 T H W with no empty axis, got {tuple(video.shape)}")
        if video.shape[3] % s or video.shape[4] % s:
            raise ShapeError(f"H and W must be multiples of {s}, got {tuple(video.shape[3:])}; pad the clip")
        padded = self.pad(video)
        state, out = None, []
        for frames in padded.split(chunk * self.variant.time_factor if chunk else padded.shape[2], dim=2):
            y, state = self.encoder.step(frames, state)
            out.append(y)
        return torch.cat(out, dim=2)

    def encode(self, video: Tensor, chunk: int | None = None) -> Encoded:
        """Encode a whole clip.

        video: `N 3 T H W`, float in -1..1, H and W multiples of the spatial factor.
        chunk: latents a step, None for all at once. A causal model gives the same latents for every chunk,
        a non-causal one takes each as a window of its own. Raises ShapeError.
        """
        encoded: Encoded = self.regularization(self.features(video, chunk))
        return encoded

    def decode(self, latent: Tensor, num_frames: int | None = None, chunk: int | None = None) -> Tensor:
        """Decode a whole clip.

        latent: `N z t h w` float, or FSQ indices `N t h w` int. Returns `N 3 T H W`, not clipped, with
        T = num_frames or all frames that the latents hold. chunk: as for `encode`. Raises ShapeError.
        """
        if isinstance(self.regularization, Quantizer) and not latent.is_floating_point():
            latent = self.regularization.from_indices(latent)
        if latent.ndim != 5 or latent.shape[1] != self.variant.z_channels or 0 in latent.shape:
            raise ShapeError(f"latent must be N {self.variant.z_channels} t h w, got {tuple(latent.shape)}")
        held = latent.shape[2] * self.variant.time_factor - self.variant.front_frames
        if num_frames is not None and num_frames > held:
            raise ShapeError(f"{latent.shape[2]} latents hold {held} frames, {num_frames} were asked for")
        state, out = None, []
        for piece, call in self._decoder_calls(latent, chunk or latent.shape[2]):
            y, state = self.decoder.step(piece, state, call)
            out.append(y)
        first = self.decoder.lag + self.variant.front_frames
        return torch.cat(out, dim=2)[:, :, first : first + (held if num_frames is None else num_frames)]

    def _decoder_calls(self, latent: Tensor, chunk: int) -> Iterator[tuple[Tensor, Call | None]]:
        """Pieces of a clip in the order in which the decoder takes them."""
        if self.decoder.lag == 0:
            yield from ((piece, None) for piece in latent.split(chunk, dim=2))
            return
        # A boundary lies behind the first latent, which goes alone, and before a dummy latent behind the last,
        # which pushes out the frames that still wait.
        pieces = [latent[:, :, :1], *latent[:, :, 1:].split(chunk, dim=2), latent[:, :, -1:]]
        pieces = [piece for piece in pieces if piece.shape[2]]
        for i, piece in enumerate(pieces):
            flags = torch.tensor([i == 0, i in (1, len(pieces) - 1)], device=latent.device)
            yield piece, Call(flags[:1], flags[1:])

    def forward(self, video: Tensor) -> tuple[Tensor, Encoded]:
        """Reconstruction (from the mean or the codes) and what was encoded."""
        encoded = self.encode(video)
        return self.decode(encoded.latent, video.shape[2]), encoded
