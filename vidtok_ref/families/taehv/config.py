"""What a TAEHV is built from."""

from __future__ import annotations

from dataclasses import dataclass

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import FamilyConfig
from vidtok_runtime.bundle.stream_spec import CallSpec, Length, StreamSpec

HALVINGS = 2  # of T: in the encoder's first levels, and in the decoder's last ones
TIME_FACTOR = 1 << HALVINGS


@dataclass(frozen=True)
class TaehvConfig(FamilyConfig):
    """One tokenizer: the encoder has `ch` channels, level i of the decoder, from its end, `ch * decoder_mult[i]`.

    Every level halves H and W, or doubles them. num_blocks: of each level.
    """

    kind = "a configuration of TAEHV"

    ch: int = 64
    decoder_mult: tuple[int, ...] = (1, 2, 4)
    z_channels: int = 16
    num_blocks: int = 3

    def __post_init__(self) -> None:
        if min(self.ch, self.z_channels, self.num_blocks, *self.decoder_mult) < 1:
            raise VariantError(f"{self.name}: widths and counts of blocks must be positive")
        if len(self.decoder_mult) < HALVINGS:
            raise VariantError(f"{self.name}: decoder_mult has {len(self.decoder_mult)} levels, fewer than {HALVINGS}")

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls: each takes whole latents, but for the last one, whose frames may be fewer.

        The first latent's frames come to one, the last of what the decoder gives for it.
        """
        f = TIME_FACTOR
        return StreamSpec(
            time_factor=f,
            spatial_multiple=1 << len(self.decoder_mult),
            latent_channels=self.z_channels,
            encoder=CallSpec(f, 4 * f),
            decoder=CallSpec(1, 4, drop=f - 1),
            length=Length(1, f),
            pixel_range=(0.0, 1.0),
        )


CONFIGS = {"taehv": TaehvConfig("taehv")}
