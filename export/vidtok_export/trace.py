"""A PyTorch module as an ONNX graph."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
import torch._dynamo.config
from torch import nn

from vidtok_export.errors import ExportError

OPSET = 20


@contextmanager
def _quickly() -> Iterator[None]:
    """Without what costs a tracer of dynamic axes more than it gives.

    Of 42 s for a narrow decoder, the search for garbage takes 6 s, and looking results up by their symbolic shapes
    8 s more than computing them.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        with torch._dynamo.config.patch(fake_tensor_cache_enabled=False):
            yield
    finally:
        if collected:
            gc.enable()


def trace(
    module: nn.Module,
    examples: tuple[Any, ...],
    dynamic: tuple[Any, ...],
    names: tuple[Sequence[str], Sequence[str]],
    what: str,
) -> onnx.ModelProto:
    """The graph of a module that takes `examples`.

    dynamic: as `dynamic_shapes` of `torch.onnx.export`; names: of inputs and outputs. Raises ExportError, which calls
    the module `what`.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings(), _quickly():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=dynamic,
                input_names=names[0],
                output_names=names[1],
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"tracing {what} failed: {error}") from error
    assert program is not None
    return program.model_proto
