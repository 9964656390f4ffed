"""Networks as ONNX graphs: traced once, and not less true for it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vidtok_export.errors import ExportError
from vidtok_export.trace import trace


class Operators(nn.Module):
    """Those that need a translation of ours, and others."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(4, 2, (1, 4, 4), stride=(1, 2, 2), padding=(0, 1, 1))
        self.norm = nn.BatchNorm3d(4, eps=1e-3)
        self.norm.running_mean = torch.linspace(-1, 1, 4)
        self.norm.running_var = torch.linspace(0.5, 2, 4)

    def forward(self, x: Tensor, flag: Tensor) -> Tensor:
        scale = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, -1, 1, 1, 1)
        kept = (flag & (x > 0)).to(x.dtype)
        y = self.up(self.norm(x * scale) * kept)
        y = y + y.flatten(2).softmax(2).view_as(y)
        return y.flatten(1, 2).movedim(1, 3).movedim(-1, 0)


class Mixed(nn.Module):
    """Whole numbers that become floats without being told to."""

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        return x * count + (count + 1) / 2


class Composite(nn.Module):
    """An operator that has no translation."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, (3,))


def traced(module: nn.Module, examples: tuple[Tensor, ...], names: list[str], axis: int) -> onnx.ModelProto:
    dynamic = ({axis: Dim("t")}, *({} for _ in examples[1:]))
    return trace(module.eval(), examples, dynamic, (names, ["y"]), "the test")


def test_operators_of_lowered_networks_are_not_traced_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def decompose(*_: object) -> ExportedProgram:
        raise AssertionError("the network is traced once more")

    monkeypatch.setattr(ExportedProgram, "run_decompositions", decompose)
    module, x, flag = Operators(), torch.randn(1, 4, 3, 5, 6), torch.tensor([True])
    model = traced(module, (x, flag), ["x", "flag"], 2)
    with torch.no_grad():
        for frames in (2, 3):
            wanted = module(x[:, :, :frames], flag).numpy()
            (found,) = ReferenceEvaluator(model).run(None, {"x": x[:, :, :frames].numpy(), "flag": flag.numpy()})
            np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_types_are_promoted_where_they_differ() -> None:
    x, count = torch.randn(4, 3), torch.tensor([1, 2, 4], dtype=torch.int32)
    model = traced(Mixed(), (x, count), ["x", "count"], 0)
    onnx.checker.check_model(model, full_check=True)
    (found,) = ReferenceEvaluator(model).run(None, {"x": x[:2].numpy(), "count": count.numpy()})
    np.testing.assert_allclose(found, Mixed()(x[:2], count).numpy(), atol=1e-6)


def test_types_are_not_looked_for_where_all_are_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def promote(*_: object) -> None:
        raise AssertionError("all shapes are computed once more")

    monkeypatch.setattr("vidtok_export.trace._promote", promote)
    module, x = nn.Conv1d(3, 2, 1), torch.randn(1, 3, 5)
    (found,) = ReferenceEvaluator(traced(module, (x,), ["x"], 2)).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=1e-5)
    with pytest.raises(ExportError, match="all shapes are computed once more"):
        traced(Mixed(), (x, torch.ones(5, dtype=torch.int32)), ["x", "count"], 0)


def test_others_are_decomposed() -> None:
    x = torch.randn(1, 5, 3)
    (found,) = ReferenceEvaluator(traced(Composite(), (x,), ["x"], 1)).run(None, {"x": x[:, :4].numpy()})
    np.testing.assert_allclose(found, Composite()(x[:, :4]).numpy(), atol=1e-5)


def test_what_cannot_be_traced_is_named() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match="tracing the test failed"):
        traced(Branches(), (torch.randn(2, 3),), ["x"], 0)
