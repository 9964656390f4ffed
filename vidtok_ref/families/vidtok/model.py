"""The whole tokenizer."""

from __future__ import annotations

from vidtok_ref.families.vidtok.coder import Decoder, Encoder
from vidtok_ref.families.vidtok.variant import Variant
from vidtok_ref.regularizers import make_regularizer
from vidtok_ref.tokenizer import VideoTokenizer


class VidTok(VideoTokenizer):
    """Encoder, regularizer and decoder of one variant under the released state-dict names."""

    config: Variant
    encoder: Encoder
    decoder: Decoder

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant)
        self.encoder = Encoder(variant)
        self.decoder = Decoder(variant)
        self.regularization = make_regularizer(variant.regularizer, variant.z_channels, variant.levels)
