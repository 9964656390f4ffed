"""The graphs of a chain as one graph, for servers that call one model a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx
from onnx import compose

from vidtok_runtime.bundle.graph_entry import GraphEntry


def joined(chain: Sequence[GraphEntry], graphs: Sequence[onnx.ModelProto]) -> tuple[GraphEntry, onnx.ModelProto]:
    """A chain's graphs in one, with all of their states, and its row of the manifest; flags are shared by name."""
    if len(chain) == 1:
        return chain[0], graphs[0]
    entry, model = _named_apart(chain[0], graphs[0], 0)
    for i, (part, graph) in enumerate(zip(chain[1:], graphs[1:], strict=True), 1):
        part, graph = _named_apart(part, graph, i)
        between = part.inputs[0].name
        shared = {flag.name for flag in part.flags} & {flag.name for flag in entry.flags}
        for name in shared:  # `merge_models` wants every name once
            _rename(graph, name, f"{i}.{name}")
        model = compose.merge_models(model, graph, io_map=[(between, between)])
        for name in shared:
            again = next(port for port in model.graph.input if port.name == f"{i}.{name}")
            model.graph.input.remove(again)
            _rename(model, f"{i}.{name}", name)
        entry = replace(
            entry,
            outputs=part.outputs,
            states=(*entry.states, *part.states),
            flags=(*entry.flags, *(flag for flag in part.flags if flag.name not in shared)),
        )
    given = {port.name for port in entry.outputs} | {state.output for state in entry.states}
    for port in [port for port in model.graph.output if port.name not in given]:
        model.graph.output.remove(port)
    return entry, model


def _named_apart(entry: GraphEntry, model: onnx.ModelProto, number: int) -> tuple[GraphEntry, onnx.ModelProto]:
    """A part whose states and inner names no other part has."""
    model = compose.add_prefix(model, f"{number}.", rename_inputs=False, rename_outputs=False)
    del model.metadata_props[:]  # notes of the tools that made a part; `merge_models` refuses different ones
    states = []
    for state in entry.states:
        inner, outer = f"{number}.{state.input}", f"{number}.{state.output}"
        _rename(model, state.input, inner)
        _rename(model, state.output, outer)
        states.append(replace(state, input=inner, output=outer))
    return replace(entry, states=tuple(states)), model


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Give an input or output and all that uses it another name, in place."""
    graph = model.graph
    for port in (*graph.input, *graph.output):
        port.name = new if port.name == old else port.name
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
