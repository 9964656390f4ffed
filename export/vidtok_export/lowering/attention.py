"""Attention: in plain operators, and as one operator that never holds the scores of all pixels at once."""

from __future__ import annotations

import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from vidtok_export.compact import put
from vidtok_export.lowering.conv import conv3d
from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.layers.attention import Attention, SpaceTimeAttention, TimeAttention

_DOMAIN = "com.microsoft"  # of operators that ONNX Runtime adds to those of ONNX


@lower_layer.register(Attention)
class PlainAttention(nn.Module):
    """Attention written as two matrix products and a softmax, which `fuse_attention` finds in the graph."""

    def __init__(self, layer: Attention) -> None:
        super().__init__()
        self.norm = lower_layer(layer.norm)
        # One projection for q, k and v; the scale 1/sqrt(C) stays out of the weights, which keeps them exact.
        weight, bias = layer.projection()
        self.qkv = conv3d(weight, bias)
        self.proj_out = lower_layer(layer.output())
        self.scale = weight.shape[1] ** -0.5

    def added(self, x: Tensor) -> Tensor:
        """What is added to x."""
        n, c, t, h, w = x.shape
        qkv = self.qkv(self.norm(x)).movedim(1, -1).reshape(n * t, h * w, 3 * c)
        q, k, v = qkv.chunk(3, dim=2)
        attended = torch.softmax(q @ k.transpose(1, 2) * self.scale, dim=-1) @ v  # (N T) (H W) C
        projected: Tensor = self.proj_out(attended.reshape(n, t, h, w, c).movedim(-1, 1))
        return projected

    def forward(self, x: Tensor) -> Tensor:
        return x + self.added(x)


@lower_layer.register(TimeAttention)
class PlainTimeAttention(PlainAttention):
    """The same over the frames at each pixel, of which later ones are not seen where the layer is causal."""

    def __init__(self, layer: TimeAttention) -> None:
        super().__init__(layer)
        self.causal = layer.causal

    def added(self, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        qkv = self.qkv(self.norm(x)).permute(0, 3, 4, 2, 1).reshape(n * h * w, t, 3 * c)
        q, k, v = qkv.chunk(3, dim=2)
        scores = q @ k.transpose(1, 2) * self.scale
        if self.causal:
            frames = torch.arange(t, device=x.device)
            scores = torch.where(frames[:, None] >= frames[None, :], scores, -torch.inf)
        attended = torch.softmax(scores, dim=-1) @ v  # (N H W) T C
        projected: Tensor = self.proj_out(attended.reshape(n, h, w, t, c).permute(0, 4, 3, 1, 2))
        return projected


@lower_layer.register
def space_time(layer: SpaceTimeAttention) -> SpaceTimeAttention:
    """Both attentions, in place."""
    layer.space, layer.time = lower_layer(layer.space), lower_layer(layer.time)  # type: ignore[assignment]
    return layer


def fuse_attention(model: onnx.ModelProto) -> None:
    """Put one operator in the place of every attention in plain operators, softmax(q k^T scale) v of `B L C`, in place.

    ONNX Runtime (from 1.20) and OpenVINO (from 2026.3) run it in blocks of pixels. ONNX's own Attention does not help:
    ONNX Runtime holds all scores for it. Neither onnxsim nor shape inference know the operator.
    """
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    scales = {t.name: float(numpy_helper.to_array(t)) for t in graph.initializer if not t.dims}
    fused: dict[str, NodeProto] = {}  # by the names of their results
    replaced: set[str] = set()  # results of the other nodes
    for product in graph.node:
        steps = _steps(product, made)
        if not steps or steps["Mul"].input[1] not in scales or _order(steps["Transpose"]) != [0, 2, 1]:
            continue
        takes = [steps["MatMul"].input[0], steps["Transpose"].input[0], product.input[1]]
        scale = scales[steps["Mul"].input[1]]
        fused[product.output[0]] = helper.make_node(
            "MultiHeadAttention",
            takes,
            product.output,
            f"attention.{len(fused)}",
            domain=_DOMAIN,
            num_heads=1,
            scale=scale,
        )
        replaced |= {step.output[0] for step in steps.values()}
    if not fused:
        return
    nodes = [fused.get(node.output[0], node) for node in graph.node if node.output[0] not in replaced]
    known = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in fused]
    others = [value for value in graph.value_info if value.name not in {*replaced, *fused}]
    used = {name for node in nodes for name in node.input}
    put(graph, "node", nodes)
    put(graph, "value_info", [*others, *known])
    put(graph, "initializer", [t for t in graph.initializer if t.name in used or t.name not in scales])
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))


def _order(transpose: NodeProto) -> list[int]:
    """Of which axes its result is made."""
    return [axis for attribute in transpose.attribute if attribute.name == "perm" for axis in attribute.ints]


def _steps(product: NodeProto, made: dict[str, NodeProto]) -> dict[str, NodeProto]:
    """The nodes before the last of an attention, by their operators; none where that node ends no attention."""
    found: dict[str, NodeProto] = {}
    if product.op_type != "MatMul":
        return found
    name = product.input[0]
    for operator, place in (("Softmax", 0), ("Mul", 0), ("MatMul", 1), ("Transpose", 0)):
        node = made.get(name)
        if node is None or node.op_type != operator:
            return {}
        found[operator] = node
        name = node.input[place]
    return found
