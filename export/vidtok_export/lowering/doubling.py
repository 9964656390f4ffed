"""Doublings in time as transposed convolutions, which OpenVINO runs in 8-bit integers without reordering memory.

In float32 they have one of two forms, since ONNX Runtime has no fast transposed convolution: one with two taps
whose outputs are interleaved, or a convolution of single frames for every tap (`resample_time.FoldedTemporalUp`,
`resample_time.TapwiseTemporalUp`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from vidtok_export.compact import forget_shapes, put
from vidtok_export.lowering.doubling_taps import doubling_taps
from vidtok_runtime.bundle.graph_entry import GraphEntry, State
from vidtok_runtime.engines.base import Array

_LAST = {"last": [-1], "end": [2**62], "time": [2]}  # what a Slice of the newest frame takes
_BETWEEN = {"Split", "Concat", "Slice", "Add", "Unsqueeze", "Transpose", "Reshape"}


@dataclass
class Doublings:
    """What `transpose_doublings` changed."""

    inputs: dict[str, str] = field(default_factory=dict)  # what is convolved now: what was before
    channels: dict[str, int] = field(default_factory=dict)  # of states that remember something else now

    def entry(self, old: GraphEntry) -> GraphEntry:
        """A graph's row of the manifest with its states as they are now."""

        def changed(state: State) -> State:
            n, c, *rest = state.axes.split()
            return replace(state, axes=" ".join([n, str(self.channels.get(state.input, c)), *rest]))

        return replace(old, states=tuple(map(changed, old.states)))


def transpose_doublings(model: onnx.ModelProto) -> Doublings:
    """Put a transposed convolution with four taps in the place of every doubling in time, in place.

    It has the name of the convolution that it replaces. Where that was one of single frames, its results for two taps
    were remembered; now it is the newest frame itself.
    """
    graph, done = model.graph, Doublings()
    weights = {t.name: t for t in graph.initializer}
    ports = {v.name: v for v in (*graph.input, *graph.output)}
    known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    axes = {v.name: len(v.type.tensor_type.shape.dim) for v in known}
    nodes = {node.output[0]: [node] for node in graph.node}
    for conv in graph.node:
        inside = _doubling(graph, conv, weights, axes)
        if inside is None:
            continue
        end = inside[-1].output[0]
        kernel, bias = (numpy_helper.to_array(weights[name]) for name in conv.input[1:])
        taps = _taps(kernel)
        made = {"taps": taps, "bias": bias[-taps.shape[1] :]}
        x, before = conv.input[0], []
        state = next((name for node in inside for name in node.input if name in ports), None)
        if state is not None:
            new = next(name for node in inside for name in node.output if name in ports)
            made |= {name: np.array(value) for name, value in _LAST.items()}
            x = f"{end}.x"
            before = [
                helper.make_node("Concat", [state, conv.input[0]], [x], x, axis=2),
                helper.make_node("Slice", [x, *(f"{end}.{name}" for name in _LAST)], [new], f"{end}.newest"),
            ]
            for name in (state, new):
                ports[name].type.tensor_type.shape.dim[1].dim_value = taps.shape[1]
            done.channels[state] = taps.shape[1]
        done.inputs[x] = conv.input[0]
        takes = [x, f"{end}.taps", f"{end}.bias"]
        zeros = next((list(a.ints) for a in conv.attribute if a.name == "pads"), [0] * 6)
        pads = [2 - 2 * zeros[0], 1, 1, 2 - 2 * zeros[3], 1, 1]
        doubled = helper.make_node("ConvTranspose", takes, [end], conv.name, strides=[2, 1, 1], pads=pads)
        nodes |= {node.output[0]: [] for node in inside} | {conv.output[0]: [*before, doubled]}
        graph.initializer.extend(numpy_helper.from_array(value, f"{end}.{name}") for name, value in made.items())
    if done.inputs:
        put(graph, "node", _needed(graph, [made for node in graph.node for made in nodes[node.output[0]]]))
        used = {name for node in graph.node for name in node.input}
        put(graph, "initializer", [t for t in graph.initializer if t.name in used])
        forget_shapes(graph)
    return done


def _doubling(
    graph: onnx.GraphProto, conv: NodeProto, weights: dict[str, onnx.TensorProto], axes: dict[str, int]
) -> list[NodeProto] | None:
    """The nodes after a convolution that with it double in time, in running order; None where it does not."""
    if conv.op_type != "Conv" or len(conv.input) < 3 or conv.input[1] not in weights:
        return None
    outputs, inputs, time, *space = weights[conv.input[1]].dims
    if (outputs, time) not in ((2 * inputs, 2), (3 * inputs, 1)) or space != [3, 3]:
        return None
    reached, inside = set(conv.output), list[NodeProto]()
    for node in graph.node:
        if not reached & set(node.input) or (node.op_type == "Reshape" and axes.get(node.output[0], 0) < 5):
            continue
        if node.op_type == "Shape":  # of what is reshaped
            continue
        inside.append(node)
        if node.op_type == "Reshape" and axes[node.output[0]] == 5:
            return inside if _take_from_end(graph, inside) else None
        if node.op_type not in _BETWEEN or (len(inside) == 1 and node.op_type not in ("Split", "Reshape")):
            return None
        reached |= set(node.output)
    return None


def _take_from_end(graph: onnx.GraphProto, inside: list[NodeProto]) -> bool:
    """Let what is reshaped once more be taken from the last node; False, nothing changed, where others look inside."""
    end, hidden = inside[-1], {name for node in inside[:-1] for name in node.output}
    own = {node.output[0] for node in inside}
    others = _needed(graph, [node for node in graph.node if node.output[0] not in own])
    users = [node for node in others if hidden & set(node.input)]
    if any(node.op_type != "Reshape" or node.input[0] != end.input[0] for node in users):
        return False
    for node in users:
        node.input[0] = end.output[0]
    return True


def _taps(kernel: Array) -> Array:
    """The kernel of the transposed convolution, `I O 4 3 3`, of a kernel of either form."""
    channels = kernel.shape[1]
    if kernel.shape[2] == 2:
        even, odd = kernel[:channels], kernel[channels:]
        taps = [even[:, :, 1], odd[:, :, 1], even[:, :, 0], odd[:, :, 0]]
    else:
        taps = doubling_taps(*np.split(kernel[:, :, 0], 3))
    # What a convolution has on one side, a transposed one has on the other.
    return np.ascontiguousarray(np.stack(taps, 2)[..., ::-1, ::-1].swapaxes(0, 1))


def _needed(graph: onnx.GraphProto, nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes that an output depends on."""
    wanted, kept = {v.name for v in graph.output}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]
