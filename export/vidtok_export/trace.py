"""A PyTorch module as an ONNX graph."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any
from unittest import mock

import onnx
import torch
import torch._dynamo.config
from onnx_ir.passes import Sequential, common
from onnxscript import opset20
from onnxscript.optimizer import fold_constants_ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import remove_optional_bias_from_conv_rule
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.onnx._internal._lazy_import import onnxscript_apis  # type: ignore[attr-defined]
from torch.onnx._internal.exporter import _fx_passes

from vidtok_export.errors import ExportError

OPSET = 20
op: Any = opset20  # its types know no constants


_all_translations = cache(onnxscript_apis.get_torchlib_ops)
_promote = _fx_passes.insert_type_promotion_nodes


def _promote_if_needed(module: GraphModule) -> None:
    """Make casts explicit, which computes all shapes once more, unless every tensor that is taken is float32."""
    for part in module.modules():
        assert isinstance(part, GraphModule)
        for node in part.graph.nodes:
            for value in (taken.meta.get("val") for taken in node.all_input_nodes):
                if isinstance(value, torch.Tensor) and value.dtype != torch.float32:
                    _promote(module)
                    return


@contextmanager
def _quickly() -> Iterator[None]:
    """Without what costs a tracer of dynamic axes more than it gives.

    Of 42 s for a narrow decoder, the search for garbage takes 6 s, and looking results up by their symbolic shapes
    8 s more than computing them. For a small graph, collecting the translations of all operators takes a seventh, and
    looking for types to promote where all are float32 a fifth.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        with (
            torch._dynamo.config.patch(fake_tensor_cache_enabled=False),
            mock.patch.object(onnxscript_apis, "get_torchlib_ops", _all_translations),
            mock.patch.object(_fx_passes, "insert_type_promotion_nodes", _promote_if_needed),
        ):
            yield
    finally:
        if collected:
            gc.enable()


def _cast(x: Any, dtype: int, non_blocking: bool = False, copy: bool = False, memory_format: Any = None) -> Any:
    return op.Cast(x, to=dtype)


def _conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    output_padding: Sequence[int] = (0, 0, 0),
    groups: int = 1,
    dilation: Sequence[int] = (1, 1, 1),
) -> Any:
    return op.ConvTranspose(
        x,
        weight,
        bias,
        strides=list(stride),
        pads=[*padding, *padding],
        output_padding=list(output_padding),
        group=groups,
        dilations=list(dilation),
    )


def _rsub(x: Any, other: float) -> Any:
    return op.Sub(op.CastLike(op.Constant(value_float=float(other)), x), x)


def _movedim(x: Any, source: int, destination: int) -> Any:
    order = list(range(len(x.shape)))
    order.insert(destination % len(order), order.pop(source))
    return op.Transpose(x, perm=order)


def _flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    rank = len(x.shape)
    start, end = start_dim % rank, end_dim % rank
    if end == rank - 1:
        return op.Reshape(x, op.Constant(value_ints=[0] * start + [-1]))  # 0: as it is
    sizes = (op.Shape(x, start=0, end=start), op.Constant(value_ints=[-1]), op.Shape(x, start=end + 1))
    return op.Reshape(x, op.Concat(*sizes, axis=0))


def _batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float, eps: float, cudnn: bool
) -> Any:
    assert not training
    return op.BatchNormalization(x, weight, bias, mean, variance, epsilon=eps)


# Operators of lowered networks for which `torch.onnx` has no translation unless they are decomposed, or a longer one.
_TRANSLATIONS: dict[Any, Any] = {
    torch.ops.aten.to.dtype: _cast,
    torch.ops.aten.detach_.default: lambda x: op.Identity(x),
    torch.ops.aten.__and__.Tensor: lambda x, y: op.And(x, y),  # of flags
    torch.ops.aten.conv_transpose3d.input: _conv_transpose3d,
    torch.ops.aten.rsub.Scalar: _rsub,
    torch.ops.aten.square.default: lambda x: op.Mul(x, x),
    torch.ops.aten.movedim.int: _movedim,
    torch.ops.aten.flatten.using_ints: _flatten,
    torch.ops.aten.batch_norm.default: _batch_norm,
}


# What `torch.onnx` does to a graph once constants are folded, without its rewriting, which takes a fifth of the time
# of an export: onnxsim comes to the same graphs.
_TIDY = Sequential(
    common.RemoveUnusedNodesPass(),
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    common.DeduplicateInitializersPass(),
    common.CommonSubexpressionEliminationPass(),
    common.OutputFixPass(),
    common.NameFixPass(),
)


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

    def converted() -> onnx.ModelProto:
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=dynamic,
            input_names=names[0],
            output_names=names[1],
            custom_translation_table=_TRANSLATIONS,
            verbose=False,
            optimize=False,
        )
        assert program is not None
        common.InlinePass()(program.model)
        fold_constants_ir(program.model)
        rewrite(program.model, [remove_optional_bias_from_conv_rule])  # a bias of zeros may have a wrong shape
        _TIDY(program.model)
        return program.model_proto

    try:
        with torch.no_grad(), warnings.catch_warnings(), _quickly():
            warnings.simplefilter("ignore")
            try:
                # Decomposing operators traces the network once more, which takes as long as all the rest. Regions
                # without autocast, of which an export has none anyway, would need it.
                with (
                    mock.patch.object(ExportedProgram, "run_decompositions", lambda self, table: self),
                    mock.patch.object(torch, "autocast", return_value=nullcontext()),
                ):
                    return converted()
            except torch.onnx.OnnxExporterError:
                return converted()
    except Exception as error:
        raise ExportError(f"tracing {what} failed: {error}") from error
