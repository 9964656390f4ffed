"""What an archive of `torch.save` holds beside objects of any class, which are left out; nothing in it is run.

Training programs put settings of the run, counters and optimizers beside the weights, of classes that may not be
installed. Where `torch.load` refuses such a file, the weights in it can still be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

from torch import Tensor

from vidtok_ref.archives.opcodes import Description, Named
from vidtok_ref.archives.zip_archive import Archive

_PARAMETER = Named("torch._utils", "_rebuild_parameter")


class _LeftOut:
    """An object of any class, without what is in it."""


def read_saved(path: Path) -> Any:
    """Tensors, numbers, texts and containers of them as they were saved, and in the place of each object an empty one.

    Items of dictionaries whose keys are neither texts nor integers are left out. Raises ValueError or
    what `zipfile` raises.
    """
    with ZipFile(path) as file:
        return _Saved(Archive(file, path.stat().st_size)).content()


class _Saved(Description):
    """Any name may be asked for: it stays a name."""

    def new(self, name: Named, arguments: Any) -> _LeftOut:
        return _LeftOut()

    def build(self, value: Any, state: Any) -> None:
        """What an object holds, or a dictionary besides its items, is left out."""

    def called(self, name: Named, arguments: Any) -> Any:
        match name, arguments:
            case (_, (Tensor() as tensor, bool(), dict())) if name == _PARAMETER:
                return tensor
        return _LeftOut()

    def holds(self, container: Any, kind: type) -> bool:
        return not isinstance(container, _LeftOut) and super().holds(container, kind)
