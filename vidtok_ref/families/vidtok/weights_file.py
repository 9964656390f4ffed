"""Safetensors files that say which variant they hold."""

from __future__ import annotations

import json
import os
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.vidtok.model import VidTok
from vidtok_ref.families.vidtok.variant import Variant


def embedded_variant(path: str | PathLike[str]) -> Variant | None:
    """The variant that `write_weights` put into a safetensors file; None where there is none. Raises WeightsError."""
    if Path(path).suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("variant")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    try:
        return None if text is None else Variant.from_dict(json.loads(text))
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} does not say which variant it is: {error}") from error


def write_weights(model: VidTok, path: Path, dtype: torch.dtype = torch.float32, **metadata: str) -> None:
    """Write the weights of a `VidTok` as safetensors with the variant in the metadata; complete or not at all."""
    tensors = {k: t.detach().to(dtype).contiguous() for k, t in model.state_dict().items()}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part, metadata={"variant": json.dumps(model.variant.to_dict()), **metadata})
        os.replace(part, path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
