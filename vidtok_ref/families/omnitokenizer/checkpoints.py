"""Released weights of OmniTokenizer: where they are, and their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from vidtok_ref.families.names import Rule, renamed

T = TypeVar("T")

# Of no effect on what a tokenizer gives: networks for training, those of positions that the release does not ask, norms
# that nothing passes, offsets that are zero, statistics of the codebook, and a table that follows from its size.
_UNUSED = re.compile(
    r"(image_discriminator|video_discriminator|perceptual_model)\.|.*\.(spatial_rel_pos_bias|context_norm)\."
    r"|.*\.(beta|relative_position_index)$|codebook\.(N|z_avg|codebook_usage)$"
)

# Ours by the released ones.
_OURS: list[Rule] = [
    (r"^encoder\.to_patch_emb_first_frame\.", "encoder.embedding.first."),
    (r"^encoder\.to_patch_emb\.", "encoder.embedding.others."),
    (r"^(encoder\.embedding\.\w+)\.1\.", r"\1.norm_in."),
    (r"^(encoder\.embedding\.\w+)\.2\.", r"\1.linear."),
    (r"^(encoder\.embedding\.\w+)\.3\.", r"\1.norm_out."),
    (r"^decoder\.to_pixels_first_frame\.0\.", "decoder.pixels.first.linear."),
    (r"^decoder\.to_pixels\.0\.", "decoder.pixels.others.linear."),
    (r"\.(?:enc|dec)_(spatial|temporal)_transformer\.", r".\1."),
    (r"(\.layers\.\d+)\.0\.", r"\1.position."),
    (r"(\.layers\.\d+)\.1\.", r"\1.attention."),
    (r"(\.layers\.\d+)\.3\.0\.", r"\1.feed_forward.norm."),
    (r"(\.layers\.\d+)\.3\.1\.", r"\1.feed_forward.inner."),
    (r"(\.layers\.\d+)\.3\.4\.", r"\1.feed_forward.outer."),
    (r"\.relative_position_bias_table$", ".biases"),
    (r"\.gamma$", ".weight"),
    (r"^pre_vq_conv\.1\.", "encoder.pre_vq.linear."),
    (r"^post_vq_conv\.1\.", "decoder.post_vq.linear."),
    (r"^codebook\.embeddings$", "regularization.codebook"),
]


def own_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Tensors by our names, of released ones or of ours; without those that have no effect."""
    ours = {}
    for name, tensor in weights.items():
        if _UNUSED.match(name):
            continue
        ours[renamed(name, _OURS)] = tensor
    return ours
