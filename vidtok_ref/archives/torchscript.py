"""Tensors of an archive that `torch.jit.save` wrote; nothing in it is run, and the code in it is not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from torch import Tensor

from vidtok_ref.archives.opcodes import DICT, TENSOR, Description, Named
from vidtok_ref.archives.zip_archive import DTYPES, LONGEST, Archive

# Limits for damaged and hostile files; the archives of video tokenizers stay far below.
_MAX_VALUES = 1_000_000  # that are visited, since containers may hold the same one many times
_DEEPEST = 64  # levels of a name

_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
_TYPED = Named("torch.jit._pickle", "restore_type_tag")
_KNOWN = {TENSOR, DICT, _TYPED, *(Named("torch.jit._pickle", name) for name in _LISTS)}
_KNOWN |= {Named("torch", name) for name in DTYPES}


class _Module(dict[Any, Any]):
    """Attributes of a module by name."""


def is_torchscript(path: Path) -> bool:
    """Whether a file is named or built as an archive of TorchScript; `torch.save` writes no constants."""
    if path.suffix == ".jit":
        return True
    try:
        with ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (BadZipFile, ValueError, OSError, RuntimeError):
        return False


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Tensors by the attributes that lead to them (`encoder.conv.weight`), in the dtype of the archive.

    Raises ValueError or what `zipfile` raises.
    """
    with ZipFile(path) as file:
        module = _Modules(Archive(file, path.stat().st_size)).content()
    if not isinstance(module, _Module):
        raise ValueError("it holds no module")
    found: dict[str, Tensor] = {}
    for name, tensor in _tensors(module):
        if name in found:
            raise ValueError(f"it holds {name!r} twice")
        found[name] = tensor
    if not found:
        raise ValueError("it holds no tensor under a name, as is so when a module was frozen")
    return found


class _Modules(Description):
    """Modules besides tensors and containers, and no other name than those that TorchScript uses."""

    def named(self, name: Named) -> Named:
        if name not in _KNOWN and name.module.split(".")[0] != "__torch__":
            raise ValueError(f"its data.pkl asks for {' '.join(name)[:LONGEST]!r}, which is not allowed")
        return name

    def new(self, name: Named, arguments: Any) -> _Module:
        if name in _KNOWN or arguments != ():
            raise ValueError("its data.pkl makes an object that is no module")
        return _Module()

    def build(self, value: Any, state: Any) -> None:
        if not isinstance(value, _Module) or type(state) is not dict:
            raise ValueError("its data.pkl has a module whose state is no dictionary")
        value.update(state)

    def called(self, name: Named, arguments: Any) -> Any:
        match name, arguments:
            case (Named("torch.jit._pickle", called), (list(items),)) if called in _LISTS:
                return items
            case (_, (value, str())) if name == _TYPED:
                return value
        raise ValueError("its data.pkl calls what is no function of TorchScript, or calls one in an unknown way")


def _tensors(module: _Module) -> Iterator[tuple[str, Tensor]]:
    """All tensors in modules and containers, by their attributes, keys and positions, joined by dots."""
    waiting: list[tuple[str, int, Any]] = [("", 0, module)]
    left = _MAX_VALUES
    while waiting:
        prefix, depth, container = waiting.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        left -= len(container)
        if left < 0 or depth > _DEEPEST:
            raise ValueError("its modules are nested too deeply, or too many")
        for key, value in items:
            if isinstance(value, Tensor | dict | list) or type(value) is tuple:
                name = f"{prefix}{key}"
                if len(name) > LONGEST:
                    raise ValueError("it has a tensor whose name is too long")
                if isinstance(value, Tensor):
                    yield name, value
                else:
                    waiting.append((f"{name}.", depth + 1, value))
