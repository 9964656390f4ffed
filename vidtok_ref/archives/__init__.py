"""Reading the zip archives that PyTorch writes without ever unpickling."""

from vidtok_ref.archives.saved import read_saved
from vidtok_ref.archives.torchscript import is_torchscript, read_torchscript

__all__ = ["is_torchscript", "read_saved", "read_torchscript"]
