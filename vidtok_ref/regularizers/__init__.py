"""From the encoder's output to the latent that is stored: a Gaussian, or a quantizer with its tokens."""

from __future__ import annotations

from typing import Literal

from vidtok_ref.regularizers.base import Regularizer


def make_regularizer(
    kind: Literal["kl", "fsq", "lfq", "vq"], channels: int, levels: tuple[int, ...] = ()
) -> Regularizer:
    """The regularizer of a latent of so many channels; raises ModelError when VQ's library is not installed.

    levels: "fsq" one count a channel, "vq" one number, the size of the codebook; others do not look at it.
    """
    if kind == "kl":
        from vidtok_ref.regularizers.kl import DiagonalGaussian

        return DiagonalGaussian()
    if kind == "fsq":
        from vidtok_ref.regularizers.channel import FiniteScalarQuantizer

        return FiniteScalarQuantizer(levels)
    if kind == "lfq":
        from vidtok_ref.regularizers.channel import LookupFreeQuantizer

        return LookupFreeQuantizer(channels)
    from vidtok_ref.regularizers.vq import VectorQuantizer

    return VectorQuantizer(levels[0], channels)
