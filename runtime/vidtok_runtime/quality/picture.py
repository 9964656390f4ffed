"""What drawn pictures have in common: their kinds, colours, and bytes that are the same for the same figures."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING

from vidtok_runtime.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_SUFFIXES = (".png", ".svg")
COLOURS = ["#d55e00", "#0072b2", "#cc79a7", "#000000"]


def check_picture(path: Path) -> None:
    """Raise InputError unless a picture can be drawn and has a suffix that says how."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path}: a picture is {' or '.join(_SUFFIXES)}, by its suffix")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(
            "pictures need matplotlib, which is not installed; pip install matplotlib, or 'vidtok-onnx[eval]'"
        )


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def content(figure: Figure, suffix: str) -> bytes:
    """The file's bytes, the same for the same figures."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    kind = suffix.lower().lstrip(".")
    with rc_context({"svg.hashsalt": "vidtok"}):
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return buffer.getvalue()
