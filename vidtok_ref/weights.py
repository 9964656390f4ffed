"""Reading checkpoints without ever unpickling, and the identity of a set of weights."""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vidtok_ref.archives import is_torchscript, read_saved, read_torchscript
from vidtok_ref.errors import MisfitError, WeightsError

T = TypeVar("T")

# Where a checkpoint keeps its state dict, outermost first; a running average is what a release uses that keeps one.
_STATE_DICTS = ("ema_state_dict", "state_dict", "gen_model")
# What training puts around a tokenizer: parallel training, and a model of latents that holds its tokenizer.
_WRAPPERS = ("module.", "first_stage_model.")
# A released checkpoint also holds the discriminator, the perceptual loss and perhaps a running average.
_NOT_THE_MODEL = ("loss.", "model_ema.")
# Suffixes of checkpoints, in the order in which a folder is searched for them.
_KINDS = ((".safetensors",), (".ckpt", ".pth", ".pt", ".bin"), (".jit",))
UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    OSError,
    struct.error,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
)


def read_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Tensors by name, of a checkpoint or of all in a folder; raises WeightsError.

    A checkpoint is a `.safetensors` file, one of `torch.save`, or a TorchScript archive. Of a folder only the first
    kind is read that it has any file of.
    """
    path = Path(path)
    if path.is_dir():
        return _joined(_checkpoints_in(path))
    if not path.is_file():
        raise WeightsError(
            f"{path} is neither a file nor a folder; give a .safetensors, .ckpt, .pth or .jit checkpoint"
        )
    if path.name.endswith(".index.json"):
        raise WeightsError(f"{path} only lists the files of a checkpoint; give the folder that it is in")
    try:
        content = _content(path)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is not a checkpoint that can be read safely: {reason}") from error
    for key in _STATE_DICTS:
        if isinstance(content, dict) and isinstance(inner := content.get(key), dict) and inner:
            content = inner
    if not isinstance(content, dict) or not any(isinstance(t, Tensor) for t in content.values()):
        raise WeightsError(f"{path} holds no state dict")
    return _unwrapped({k: t for k, t in content.items() if isinstance(k, str) and isinstance(t, Tensor)})


def _content(path: Path) -> Any:
    """What a checkpoint holds, by its kind."""
    if path.suffix == ".safetensors":
        return load_file(path)
    if is_torchscript(path):
        return read_torchscript(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path):
            # The error's own text advises to load it in a way that runs what it holds.
            named = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
            held = f"it holds {named[1]}" if named else "it holds no tensors as torch.save writes them"
            raise ValueError(f"{held}; save its state dict alone, as .safetensors or by torch.save") from error
        return read_saved(path)  # objects lie beside the weights


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the tokenizer under its own names, where it is a part of something larger."""
    for wrapper in _WRAPPERS:
        inside = {k.removeprefix(wrapper): t for k, t in weights.items() if k.startswith(wrapper)}
        weights = inside or weights
    return weights


def _checkpoints_in(folder: Path) -> list[Path]:
    for suffixes in _KINDS:
        if found := sorted(path for path in folder.iterdir() if path.suffix in suffixes):
            return found
    cure = "; give the folder vae in it" if (folder / "vae").is_dir() else ""
    known = ", ".join(suffix for kind in _KINDS for suffix in kind)
    raise WeightsError(f"the folder {folder} holds no checkpoint ({known}){cure}")


def _joined(files: list[Path]) -> dict[str, Tensor]:
    """What several files hold together; what two of them hold must be the same."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        found = read_weights(file)
        for name in tensors.keys() & found.keys():
            if not torch.equal(tensors[name], found[name]):
                raise WeightsError(
                    f"{file} has another {name} than the files before it in {file.parent}; give one file, or a folder "
                    "of files that belong together"
                )
        tensors |= found
    return tensors


def few(names: list[str], joint: str = ", ") -> str:
    """The first three names, and how many more there are."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:3]]
    return joint.join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def of_the_model(weights: Mapping[str, T]) -> dict[str, T]:
    """Tensors of a tokenizer without those that only its training needs."""
    return {k: t for k, t in weights.items() if not k.startswith(_NOT_THE_MODEL)}


def load_into(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load weights strictly, as float32; raises MisfitError that says what differs, WeightsError for NaN."""
    given, wanted = of_the_model(weights), model.state_dict()
    problems = {
        "missing": sorted(wanted.keys() - given.keys()),
        "unexpected": sorted(given.keys() - wanted.keys()),
        "misshapen": sorted(
            f"{k} {tuple(given[k].shape)} instead of {tuple(wanted[k].shape)}"
            for k in wanted.keys() & given.keys()
            if given[k].shape != wanted[k].shape
        ),
    }
    found = "; ".join(f"{len(names)} {what}: {few(names)}" for what, names in problems.items() if names)
    if found:
        raise MisfitError(f"these weights do not belong to {name}: {found}")
    if broken := sorted(k for k, t in given.items() if t.is_floating_point() and not t.isfinite().all()):
        raise WeightsError(f"these weights of {name} are damaged; {len(broken)} not finite: {few(broken)}")
    model.load_state_dict({k: t.float() for k, t in given.items()}, strict=True)


def weights_sha256(model: nn.Module) -> str:
    """Identity of a model's weights: SHA-256 over sorted names and float32 little-endian bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()
