"""A video tokenizer of any family: encode and decode whole clips as its StreamSpec says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vidtok_ref.errors import ShapeError
from vidtok_ref.regularizers.base import Encoded, Quantizer, Regularizer
from vidtok_ref.streaming.parts import Coder
from vidtok_ref.streaming.state import Call
from vidtok_runtime.bundle.stream_spec import (
    FIRST_CALL,
    FLUSH_CALL,
    SECOND_CALL,
    CallSpec,
    Groups,
    StreamSpec,
)


class VideoTokenizer(nn.Module):
    """Encoder, regularizer and decoder of one configuration of a family.

    `encoder` and `decoder` have `step(x, state, call, part) -> (y, state)`: x and y `N C T H W`, state None at the
    start of a stream, call None where the StreamSpec has no flags, part None for all parts. `config` says what was
    built. `source` says where the weights came from; `seed` is that of untrained ones, None for loaded ones. Pixels lie
    in the range of the StreamSpec.
    """

    encoder: Coder
    decoder: Coder
    regularization: Regularizer

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.source = "untrained"
        self.seed: int | None = None

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls."""
        spec: StreamSpec = self.config.stream
        return spec

    def pad(self, video: Tensor) -> Tensor:
        """A stream of frames: copies of the first frame in front and of the last one behind, as the StreamSpec says."""
        front = video[:, :, :1].expand(-1, -1, self.stream.front_frames, -1, -1)
        length = self.stream.front_frames + video.shape[2]
        back = video[:, :, -1:].expand(-1, -1, self.stream.length.padded(length) - length, -1, -1)
        return torch.cat([front, video, back], dim=2)

    def features(self, video: Tensor, chunk: int | None = None) -> Tensor:
        """What the encoder gives for a whole clip, before the regularizer; arguments and errors as for `encode`."""
        s = self.stream.side_multiple
        if video.ndim != 5 or video.shape[1] != 3 or 0 in video.shape:
            raise ShapeError(f"video must be N 3 T H W with no empty axis, got {tuple(video.shape)}")
        if video.shape[3] % s or video.shape[4] % s or (self.stream.square and video.shape[3] != video.shape[4]):
            square = " and equal" if self.stream.square else ""
            raise ShapeError(f"H and W must be multiples of {s}{square}, got {tuple(video.shape[3:])}; pad the clip")
        groups = self._groups(chunk, video.shape[2])
        spec = self._in_chunks(self.stream.encoder, None if chunk is None else chunk * self.stream.time_factor)
        out = []
        for start in _starts(video.shape[2], groups.frames, groups.shared_frames):
            y = self._run(self.encoder, self.pad(video[:, :, start : start + groups.frames]), spec)
            out.append(y[:, :, groups.shared_latents if start else 0 :])
        return torch.cat(out, dim=2)

    def encode(self, video: Tensor, chunk: int | None = None) -> Encoded:
        """Encode a whole clip.

        video: `N 3 T H W`, float in the pixel range (-1..1), H and W multiples of the spatial factor.
        chunk: latents a call, None for as many as there are. A stream gives the same latents for every chunk; where
        groups may have any length, each chunk is a group of its own. Raises ShapeError.
        """
        encoded: Encoded = self.regularization(self.features(video, chunk))
        return encoded

    def decode(self, latent: Tensor, num_frames: int | None = None, chunk: int | None = None) -> Tensor:
        """Decode a whole clip.

        latent: `N C t h w` float, or tokens `N t h w` int. Returns `N 3 T H W`, not clipped, with
        T = num_frames, the first ones, or all frames that the latents hold. A num_frames that makes as many latents is
        taken for the length of the clip, on which their frames may depend. chunk: as for `encode`. Raises ShapeError.
        """
        if isinstance(self.regularization, Quantizer) and not latent.is_floating_point():
            latent = self.regularization.from_indices(latent)
        channels = self.stream.latent_channels
        if latent.ndim != 5 or latent.shape[1] != channels or 0 in latent.shape:
            raise ShapeError(f"latent must be N {channels} t h w, got {tuple(latent.shape)}")
        f, count = self.stream.time_factor, latent.shape[2]
        groups = self._groups(chunk, count * f)
        spec = self._in_chunks(self.stream.decoder, chunk)
        out: list[Tensor] = []
        for start in _starts(count, groups.latents, groups.shared_latents):
            piece = latent[:, :, start : start + groups.latents]
            video = self._run(self.decoder, piece, spec)
            shared = groups.shared_frames if start else 0
            holds = min(self.stream.frames(piece.shape[2]), groups.frames)
            if num_frames is not None:
                told = min(holds, num_frames - _length(out) + shared)
                # Only what makes these latents can be the length of what they were made from.
                if told > 0 and self.stream.latents(told) == piece.shape[2]:
                    holds = told
            out.append(video[:, :, self.stream.dropped(holds) + shared :])
        held = _length(out)
        if num_frames is not None and num_frames > held:
            raise ShapeError(f"{count} latents hold {held} frames, {num_frames} were asked for")
        return torch.cat(out, dim=2)[:, :, :num_frames]

    def forward(self, video: Tensor) -> tuple[Tensor, Encoded]:
        """Reconstruction (from the mean or the codes) and what was encoded."""
        encoded = self.encode(video)
        return self.decode(encoded.latent, video.shape[2]), encoded

    def _groups(self, chunk: int | None, frames: int) -> Groups:
        """The groups of a clip: those of the StreamSpec, chunks where they may have any length, else one."""
        groups = self.stream.groups
        if groups is not None and groups.multiple is None:
            return groups
        f = self.stream.time_factor
        if groups is not None and chunk is not None:
            return Groups(chunk * f, chunk)
        return Groups(frames, -(-frames // f))

    @staticmethod
    def _in_chunks(spec: CallSpec, most: int | None) -> CallSpec:
        """Calls of at most so many; None: as long as they may be. Those that take a whole group stay."""
        return spec if spec.exact or spec.max is None else replace(spec, max=most)

    def _run(self, coder: Coder, x: Tensor, spec: CallSpec) -> Tensor:
        """All that a fresh stream of calls gives for `x`, of a flush call what counts."""
        state, out = None, []
        for piece, call, keep in _calls(x, spec):
            y, state = coder.step(piece, state, call)
            out.append(y[:, :, :keep])
        return torch.cat(out, dim=2)


def _length(parts: list[Tensor]) -> int:
    return sum(part.shape[2] for part in parts)


def _starts(length: int, group: int, shared: int) -> range:
    """Where the groups of a clip begin."""
    return range(0, max(length - shared, 1), group - shared)


def _calls(x: Tensor, spec: CallSpec) -> Iterator[tuple[Tensor, Call | None, int | None]]:
    """Pieces of a stream in the order in which a coder takes them, the flags of each, and what counts of its output."""
    sizes = spec.sizes(x.shape[2])
    pieces: list[tuple[Tensor, int | None]] = [(piece, None) for piece in x.split(sizes, dim=2)]
    if spec.flush is not None:
        pieces.append((x[:, :, -1:].expand(-1, -1, spec.flush.size, -1, -1), spec.flush.keep))
    for i, (piece, keep) in enumerate(pieces):
        now = {(FIRST_CALL, SECOND_CALL)[i] if i < 2 else None, FLUSH_CALL if keep is not None else None}
        yield piece, make_call(spec, now, x), keep


def make_call(spec: CallSpec, now: set[str | None], like: Tensor) -> Call | None:
    """The flags of a call that is the first, the second, the flush call ...; None where a coder has no flags."""
    if not spec.flags:
        return None
    return Call(**{n: torch.tensor([not now.isdisjoint(when)], device=like.device) for n, when in spec.flags.items()})
