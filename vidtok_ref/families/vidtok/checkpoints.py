"""Where the weights of a variant are: a given file, a folder of released checkpoints, or the model hub."""

from __future__ import annotations

import os
from pathlib import Path

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.vidtok.variant import Variant

FOLDER_VARIABLE = "VIDTOK_CHECKPOINTS"
HUB = "microsoft/VidTok"
_SUFFIXES = (".safetensors", ".ckpt")


def release_name(v: Variant) -> str:
    """Name of the released checkpoint without its suffix: `vidtok_kl_causal_488_4chn`."""
    causal = "causal" if v.causal else "noncausal"
    latent = f"{v.codebook_size}" if v.codebook_size else f"{v.z_channels}chn"
    later = "" if v.version == "1.0" else f"_v{v.version.replace('.', '_')}"
    return f"vidtok_{v.regularizer}_{causal}_{v.time_factor}{v.spatial_factor}{v.spatial_factor}_{latent}{later}"


def _folders() -> list[Path]:
    named = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(named)] if named else []), Path("checkpoints")]


def _from_hub(v: Variant) -> tuple[Path | None, str]:
    """Path in the hub's cache, downloaded if need be, or why there is none."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        return None, "pip install 'vidtok-onnx[hub]' to download it"
    below = "checkpoints" if v.version == "1.0" else f"checkpoints/vidtok_v{v.version.replace('.', '_')}"
    try:
        return Path(hf_hub_download(HUB, f"{below}/{release_name(v)}.ckpt")), ""
    except Exception as error:  # the hub's client and its transports raise many unrelated classes
        return None, f"the hub did not give it: {str(error).strip().splitlines()[0]}"


def find_checkpoint(v: Variant, option: str = "--checkpoint") -> Path:
    """Released checkpoint of a variant: `$VIDTOK_CHECKPOINTS`, `./checkpoints`, then the hub.

    Raises WeightsError that lists these ways, after the option that takes a file.
    """
    name = release_name(v)
    for folder in _folders():
        for suffix in _SUFFIXES:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    path, reason = _from_hub(v)
    if path is not None:
        return path
    raise WeightsError(
        f"no weights of {v.name}: give {option} FILE; or put {name}.ckpt (or .safetensors) into a folder that "
        f"${FOLDER_VARIABLE} names, or into ./checkpoints; or take them from the hub ({HUB}: {reason})"
    )
