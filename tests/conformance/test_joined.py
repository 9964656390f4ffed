"""The graphs of a chain as one: what servers are given of a bundle in parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from made_kit import make_bundle
from made_streams import FIRST, Made, calls

from vidtok_export.servers.joined import joined
from vidtok_runtime.bundle.graph_entry import shape_of, sizes_of
from vidtok_runtime.bundle.manifest import Manifest, check_file, read_manifest
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.streaming.graph_calls import Calls

MADE = Made(
    "parts",
    {
        "time_factor": 4,
        "front_frames": 3,
        "length": {"first": 0, "multiple": 4},
        "encoder": calls(4, 8, flags=FIRST),
        "decoder": calls(1, 2, drop=3, flags={**FIRST, "later": ["second call"]}),
    },
    in_parts=True,
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("made") / "parts"
    make_bundle(folder, MADE)
    return read_manifest(folder)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_one_graph_computes_what_the_chain_does(manifest: Manifest, role: str) -> None:
    chain = manifest.chain(role, "cpu", None)
    assert len(chain) == 2
    entry, model = joined(chain, [onnx.load(check_file(manifest, part)[0]) for part in chain])
    assert (entry.inputs, entry.outputs) == (chain[0].inputs, chain[1].outputs)
    assert len(entry.states) == len(chain[0].states) + len(chain[1].states)
    assert len({state.input for state in entry.states}) == len(entry.states)
    flags = {flag.name for part in chain for flag in part.flags}
    assert sorted(flag.name for flag in entry.flags) == sorted(flags)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert {port.name for port in session.get_inputs()} == set(entry.ports["inputs"])
    assert {port.name for port in session.get_outputs()} == set(entry.ports["outputs"])

    spec, rng = manifest.stream.calls(role), np.random.default_rng(0)
    channels = 3 if role == "encoder" else manifest.stream.latent_channels
    size = (8, 12) if role == "encoder" else (2, 3)
    x = rng.normal(size=(1, channels, 3 * (4 if role == "encoder" else 1), *size)).astype(np.float32)
    chained = load_chain(manifest, role, "cpu", None, Options(threads=1))
    whole = Calls(chained, replace(spec, max=x.shape[2] // 3))
    wanted = np.concatenate([*whole.push(x), *whole.finish()], axis=2)
    found, state = [], None
    names = [port.name for port in session.get_outputs()]
    for number, piece in enumerate(np.split(x, 3, axis=2), 1):
        now = {1: "first call", 2: "second call"}.get(number)
        sizes = sizes_of(entry.inputs[0].axes, piece.shape)
        state = state or {s.input: np.zeros(shape_of(s.axes, sizes), s.dtype) for s in entry.states}
        told = {flag.name: np.array([now in spec.flags[flag.name]]) for flag in entry.flags}
        given = dict(zip(names, session.run(names, {entry.inputs[0].name: piece, **told, **state}), strict=True))
        state = {s.input: given[s.output] for s in entry.states}
        found.append(given[entry.outputs[0].name])
    streamed = np.concatenate(found, axis=2)[:, :, spec.drop if isinstance(spec.drop, int) else 0 :]
    np.testing.assert_allclose(streamed, wanted, atol=1e-6)


def test_a_graph_that_is_alone_stays_as_it_is(manifest: Manifest) -> None:
    (entry, _) = manifest.chain("encoder", "cpu", None)
    model = onnx.load(check_file(manifest, entry)[0])
    assert joined([entry], [model]) == (entry, model)
