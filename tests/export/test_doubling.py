"""Doublings in time as transposed convolutions equal those of the float32 graphs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import SHALLOW, SHALLOWEST
from onnx import parser

from vidtok_export.graph import make_graphs
from vidtok_export.lowering import resample_time
from vidtok_export.lowering.doubling import Doublings, transpose_doublings
from vidtok_ref import VideoTokenizer, build
from vidtok_runtime.bundle.graph_entry import GraphEntry, shape_of
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.registry import PROVIDERS
from vidtok_runtime.engines.stateful import StatefulGraph


def count(model: onnx.ModelProto, kind: str) -> int:
    return [node.op_type for node in model.graph.node].count(kind)


def decoded(model: onnx.ModelProto, entry: GraphEntry, folder: Path) -> np.ndarray:
    path = folder / "graph.onnx"
    onnx.save(model, path)
    graph = StatefulGraph(entry, PROVIDERS["cpu"].open(path, Options(threads=1)))
    channels = shape_of(entry.inputs[0].axes, {"N": 1, "T": 8, "H": 8, "W": 8})[1]
    features = np.random.default_rng(0).standard_normal((1, channels, 5, 3, 2)).astype(np.float32)
    (result,) = entry.outputs
    return np.concatenate([graph.step(piece)[result.name] for piece in np.split(features, [1, 3], axis=2)], axis=2)


def transposed(model: onnx.ModelProto, entry: GraphEntry, folder: Path) -> tuple[int, Doublings]:
    """A graph of a decoder after the change, which is compared with the one before; how many doublings it has."""
    before, wanted = {kind: count(model, kind) for kind in ("Conv", "ConvTranspose")}, decoded(model, entry, folder)
    done = transpose_doublings(model)
    onnx.checker.check_model(model, full_check=True)
    found = count(model, "ConvTranspose") - before["ConvTranspose"]
    assert count(model, "Conv") == before["Conv"] - found
    changed = done.entry(entry)
    declared = {v.name: v.type.tensor_type.shape.dim[1].dim_value for v in model.graph.input}
    for state in changed.states:
        assert declared[state.input] == shape_of(state.axes, {"N": 1, "H": 8, "W": 8})[1]
    np.testing.assert_allclose(decoded(model, changed, folder), wanted, atol=2e-5)
    return found, done


@pytest.mark.parametrize("name", ["kl-4chn", "kl-4chn-noncausal"])
def test_a_decoder_of_a_bundle_computes_the_same(
    name: str, exported: Callable[[VideoTokenizer], Path], tmp_path: Path
) -> None:
    folder = exported(build(name, **SHALLOW))
    _, *local = read_manifest(folder).chain("decoder", "cpu", "fp32")
    done = [transposed(onnx.load(folder / entry.file), entry, tmp_path) for entry in local]
    assert sum(found for found, _ in done) == 2
    assert not any(doublings.channels for _, doublings in done)


# From `many` channels on the lowered network doubles tap by tap.
@pytest.mark.parametrize(
    ("name", "ch_mult", "many"),
    [
        ("kl-4chn", (2,), 8),
        pytest.param("kl-4chn", (2, 2), 8, marks=pytest.mark.slow),
        pytest.param("kl-4chn", (1, 1), 8, marks=pytest.mark.slow),
        pytest.param("kl-4chn-noncausal", (1, 1), 8, marks=pytest.mark.slow),
        pytest.param("kl-4chn-noncausal", (2, 2), 128, marks=pytest.mark.slow),
    ],
)
def test_a_decoder_of_another_width_computes_the_same(
    name: str, ch_mult: tuple[int, ...], many: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resample_time, "MANY_CHANNELS", many)
    levels = SHALLOW if len(ch_mult) == 2 else SHALLOWEST
    _, *local = make_graphs(build(name, **levels | {"ch_mult": ch_mult}, seed=1), "decoder")
    done = []
    for graph in local:
        ports = (tuple(graph.inputs), tuple(graph.outputs), tuple(graph.states), tuple(graph.flags))
        entry = GraphEntry("decoder", graph.part.kind, "fp32", ("cpu",), "", "", *ports)
        done.append(transposed(graph.model, entry, tmp_path))
    assert sum(found for found, _ in done) == len(ch_mult)
    tap_by_tap = many == 8 and name == "kl-4chn"
    assert sum(len(doublings.channels) for _, doublings in done) == (len(ch_mult) if tap_by_tap else 0)


def test_another_convolution_with_three_times_the_outputs_stays() -> None:
    model = parser.parse_model("""
      <ir_version: 10, opset_import: ["" : 20]>
      g (float[1, 2, T, H, W] x) => (float[1, 6, T, H, W] y)
      <float[6, 2, 1, 3, 3] w = {0}, float[6] b = {0, 0, 0, 0, 0, 0}> {
        a = Conv <pads = [0, 1, 1, 0, 1, 1]> (x, w, b)
        y = Add (a, a)
      }""")
    before = model.SerializeToString()
    assert not transpose_doublings(model).inputs
    assert model.SerializeToString() == before
