"""Attention as one operator: it is found wherever a model attends, computes the same, and holds no scores."""

from __future__ import annotations

import copy
from collections import Counter
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import onnxsim
import openvino
import pytest
import torch
from conftest import SHALLOWEST
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from torch import nn
from torch.export import Dim

from vidtok_export.compact import forget_shapes
from vidtok_export.graph import make_graphs
from vidtok_export.lowering.attention import PlainAttention, fuse_attention
from vidtok_export.trace import trace
from vidtok_ref import VideoTokenizer, build
from vidtok_ref.families import all_families, family_of
from vidtok_ref.layers.attention import Attention, JointAttention, SplitAttention
from vidtok_ref.layers.conv import PointConv3d
from vidtok_ref.streaming.causal_cache import Padding
from vidtok_runtime.bundle.graph_entry import ROLES
from vidtok_runtime.bundle.manifest import read_manifest

C = 6
LAYERS = {
    "split": lambda: SplitAttention(C, partial(PointConv3d, padding=Padding.ZEROS)),
    "joint": lambda: JointAttention(C),
}
OVERRIDES = {"vidtok": SHALLOWEST, "wan": {"ch": 4, "ch_mult": (1, 1), "num_res_blocks": 1, "temporal_down": (True,)}}
EVERY = [
    (name, role)
    for family in all_families().values()
    if family.name in OVERRIDES
    for name in family.configs
    for role in ("encoder", "decoder")
]


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@cache
def plain(kind: str) -> tuple[Attention, onnx.ModelProto]:
    """A layer with random weights and its graph in plain operators, which is traced once: copy it to change it."""
    layer = LAYERS[kind]()
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.requires_grad_(False).normal_(std=0.5, generator=generator)
    axes = {i: Dim(name) for i, name in zip((0, 2, 3, 4), "nthw", strict=True)}
    example = torch.zeros(2, C, 3, 4, 6)
    module: nn.Module = PlainAttention(layer).eval()
    return layer, trace(module, (example,), (axes,), (["x"], ["y"]), "the layer")


def run(model: onnx.ModelProto, engine: str, x: np.ndarray) -> np.ndarray:
    content = model.SerializeToString()
    if engine == "cpu":
        (y,) = InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})
        return y
    core = openvino.Core()
    return core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]


@pytest.mark.parametrize("engine", ["cpu", "openvino"])
@pytest.mark.parametrize("simplified", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_one_operator_computes_what_five_do(kind: str, simplified: bool, engine: str) -> None:
    layer, traced = plain(kind)
    before = copy.deepcopy(traced)
    if simplified:
        before, _ = onnxsim.simplify(before)
    assert operators(before)["Softmax"] == 1
    after = copy.deepcopy(before)
    fuse_attention(after)
    found = operators(after)
    assert (found["MultiHeadAttention"], found["Softmax"], found["MatMul"]) == (1, 0, operators(before)["MatMul"] - 2)
    assert "com.microsoft" in {opset.domain for opset in after.opset_import}
    for n, t, h, w in ((1, 1, 1, 1), (1, 1, 5, 7), (2, 3, 8, 4), (1, 2, 40, 36)):
        x = torch.randn(n, C, t, h, w, generator=torch.Generator().manual_seed(h))
        wanted = layer(x).numpy()
        np.testing.assert_allclose(run(before, engine, x.numpy()), wanted, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(run(after, engine, x.numpy()), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "role"), EVERY)
def test_every_model_that_attends(name: str, role: str) -> None:
    config = next(family.configs[name] for family in all_families().values() if name in family.configs)
    model = build(name, **OVERRIDES[family_of(config).name])
    check_attention([graph.model for graph in make_graphs(model, role)], model, role)


@pytest.mark.parametrize("role", ROLES)
def test_a_bundle_attends(bundle: Path, shallow: VideoTokenizer, role: str) -> None:
    chain = read_manifest(bundle).chain(role, "cpu", None)
    check_attention([onnx.load(bundle / entry.file) for entry in chain], shallow, role)


def check_attention(made: list[onnx.ModelProto], model: VideoTokenizer, role: str) -> None:
    """Every layer of the reference that attends is one operator of the graphs."""
    attending = sum(isinstance(layer, Attention) for layer in getattr(model, role).modules())
    assert attending
    assert sum(operators(model)["MultiHeadAttention"] for model in made) == attending
    for graph in (model.graph for model in made):
        assert not any(node.op_type == "Softmax" for node in graph.node)
        known = {value.name for value in graph.value_info}
        assert known <= {name for node in graph.node for name in node.output}


def test_what_follows_has_types_though_inference_does_not_know_the_operator() -> None:
    model, _ = onnxsim.simplify(copy.deepcopy(plain("split")[1]))
    fuse_attention(model)
    forget_shapes(model.graph)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = {value.name: value.type.tensor_type for value in (*inferred.graph.value_info, *inferred.graph.output)}
    names = [name for node in inferred.graph.node for name in node.output]
    assert set(names) <= set(known)
    project = next(node for node in reversed(inferred.graph.node) if node.op_type == "Conv")
    assert known[project.output[0]].elem_type == TensorProto.FLOAT
    assert len(known[project.output[0]].shape.dim) == 5


def test_another_softmax_stays() -> None:
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"], axis=-1),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 3]) for name in "xy"]
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    before = model.SerializeToString()
    fuse_attention(model)
    assert model.SerializeToString() == before
