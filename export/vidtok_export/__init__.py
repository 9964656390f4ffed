"""Reference model -> bundle: lowered, traced, simplified, written and verified.

PyTorch and onnx are loaded with the first use of `export`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidtok_export.errors import ExportError

if TYPE_CHECKING:
    from vidtok_export.bundle import export

__all__ = ["ExportError", "export"]


def __getattr__(name: str) -> Any:
    if name == "export":
        from vidtok_export.bundle import export

        return export
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
