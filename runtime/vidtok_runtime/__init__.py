"""Torch-free runtime of vidtok-onnx: bundle + video -> tokens -> video."""

from vidtok_runtime.errors import VidtokError
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.tokens import Tokens

__all__ = ["Tokenizer", "Tokens", "VidtokError"]
