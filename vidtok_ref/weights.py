"""Reading checkpoints without ever unpickling, and the identity of a set of weights."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vidtok_ref.errors import WeightsError

# A released checkpoint also holds the discriminator, the perceptual loss and perhaps a running average.
_NOT_THE_MODEL = ("loss.", "model_ema.")
UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
)


def read_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Tensors by name, of a `.safetensors` or PyTorch checkpoint or of all in a folder; raises WeightsError.

    Of a folder that has `.safetensors` files only these are read.
    """
    path = Path(path)
    if path.is_dir():
        tensors: dict[str, Tensor] = {}
        for file in _checkpoints_in(path):
            tensors |= read_weights(file)
        return tensors
    if not path.is_file():
        raise WeightsError(f"{path} is neither a file nor a folder; give a .ckpt, .pth or .safetensors checkpoint")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is not a checkpoint that can be read safely: {reason}") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not any(isinstance(t, Tensor) for t in content.values()):
        raise WeightsError(f"{path} holds no state dict")
    return {k: t for k, t in content.items() if isinstance(k, str) and isinstance(t, Tensor)}


def _checkpoints_in(folder: Path) -> list[Path]:
    for suffixes in ((".safetensors",), (".ckpt", ".pth", ".pt", ".bin")):
        if found := sorted(path for path in folder.iterdir() if path.suffix in suffixes):
            return found
    raise WeightsError(f"the folder {folder} holds no checkpoint (.safetensors, .ckpt, .pth, .pt, .bin)")


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def load_into(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load weights strictly, as float32; raises WeightsError that says what differs."""
    given = {k: t for k, t in weights.items() if not k.startswith(_NOT_THE_MODEL)}
    wanted = model.state_dict()
    problems = {
        "missing": sorted(wanted.keys() - given.keys()),
        "unexpected": sorted(given.keys() - wanted.keys()),
        "misshapen": sorted(
            f"{k} {tuple(given[k].shape)} instead of {tuple(wanted[k].shape)}"
            for k in wanted.keys() & given.keys()
            if given[k].shape != wanted[k].shape
        ),
        "not finite": sorted(k for k, t in given.items() if t.is_floating_point() and not t.isfinite().all()),
    }
    found = "; ".join(f"{len(names)} {what}: {_few(names)}" for what, names in problems.items() if names)
    if found:
        raise WeightsError(f"these weights do not belong to {name}: {found}")
    model.load_state_dict({k: t.float() for k, t in given.items()}, strict=True)


def weights_sha256(model: nn.Module) -> str:
    """Identity of a model's weights: SHA-256 over sorted names and float32 little-endian bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()
