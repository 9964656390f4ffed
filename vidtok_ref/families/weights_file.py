"""Safetensors files that say which configuration they hold."""

from __future__ import annotations

import json
import os
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.registry import all_families, family_of
from vidtok_ref.tokenizer import VideoTokenizer


def embedded_variant(path: str | PathLike[str]) -> Any | None:
    """The configuration that `write_weights` put into a safetensors file; None where there is none.

    Raises WeightsError.
    """
    if Path(path).suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    try:
        return next((c for family in all_families().values() if (c := family.embedded(metadata)) is not None), None)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise WeightsError(f"{path} does not say which variant it is: {error}") from error


def write_weights(model: VideoTokenizer, path: Path, dtype: torch.dtype = torch.float32, **metadata: str) -> None:
    """Write the weights of a model as safetensors with its configuration in the metadata; complete or not at all."""
    tensors = {k: t.detach().to(dtype).contiguous() for k, t in model.state_dict().items()}
    said = {"family": family_of(model.config).name, "config": json.dumps(model.config.to_dict())}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        # `save_file` would make a file that nobody else may read.
        part.write_bytes(save(tensors, {**said, **metadata}))
        os.replace(part, path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
