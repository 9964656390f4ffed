"""Reference model -> bundle: lowered, traced, simplified, written and verified."""

from vidtok_export.bundle import export
from vidtok_export.errors import ExportError

__all__ = ["ExportError", "export"]
