"""Triton's and OpenVINO Model Server's handling of states, on ONNX Runtime and OpenVINO, and the clip of a client."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino as ov
from google.protobuf import text_format

from vidtok_export.quantization.clips import decoder_stream, encoder_stream
from vidtok_export.servers.joined import joined
from vidtok_runtime.bundle.graph_entry import GraphEntry
from vidtok_runtime.bundle.manifest import Manifest, read_manifest
from vidtok_runtime.bundle.stream_spec import FIRST_CALL, FLUSH_CALL, SECOND_CALL
from vidtok_runtime.engines.openvino import CORE
from vidtok_runtime.tokens.tokens import Tokens

KIT = Path(__file__).parents[1] / "conformance/kit"
TYPES = {"TYPE_FP32": np.float32, "TYPE_INT32": np.int32, "TYPE_BOOL": np.bool_}
ONNX_TYPES = {"TYPE_FP32": "tensor(float)", "TYPE_INT32": "tensor(int32)", "TYPE_BOOL": "tensor(bool)"}


def case_of(bundle: str) -> tuple[Manifest, np.ndarray, Tokens, np.ndarray, dict[str, Any]]:
    """Manifest, clip, tokens and frames of the conformance case that is named as its bundle."""
    (case,) = (c for c in json.loads((KIT / "cases.json").read_text())["cases"] if c["name"] == bundle)
    shape = (case["frames"], case["height"], case["width"], 3)
    clip = np.fromfile(KIT / case["input"], np.uint8).reshape(shape)
    video = np.fromfile(KIT / case["video"], "<f4").reshape(shape)
    return read_manifest(KIT / bundle), clip, Tokens.load(KIT / case["tokens"]), video, case


class Triton:
    """A model of a repository, served as Triton's sequence batcher and ONNX Runtime backend do it."""

    def __init__(self, schema: ModuleType, folder: Path) -> None:
        self.config = text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())
        self.types = schema.DataType
        self.session = onnxruntime.InferenceSession(folder / "1" / self.config.default_model_filename)
        self.states: dict[int, dict[str, np.ndarray]] = {}

    def dtype(self, value: int) -> str:
        return str(self.types.Name(value))

    def infer(self, requests: dict[int, dict[str, np.ndarray]], *, start: bool) -> dict[int, dict[str, np.ndarray]]:
        """Requests of several sequences in one batch; start: they are the first of theirs."""
        config, batcher = self.config, self.config.sequence_batching
        batched = config.max_batch_size > 0
        assert len(requests) <= max(1, config.max_batch_size)
        for inputs in requests.values():
            assert inputs.keys() == {i.name for i in config.input}
            for wanted in config.input:
                array = inputs[wanted.name]
                assert array.dtype == TYPES[self.dtype(wanted.data_type)]
                dims = array.shape[1:] if batched else array.shape
                assert len(dims) == len(wanted.dims)
                assert all(w in (-1, d) for w, d in zip(wanted.dims, dims, strict=True)), (wanted.name, dims)
        if start:
            for sequence in requests:
                self.states[sequence] = {s.input_name: self.initial(s, batched) for s in batcher.state}
        else:
            assert self.states.keys() >= requests.keys() or not batcher.state
        every = [inputs | self.states.get(sequence, {}) for sequence, inputs in requests.items()]
        feed = {name: np.concatenate([one[name] for one in every]) if batched else every[0][name] for name in every[0]}
        for control in batcher.control_input:
            (kind,) = control.control
            assert kind.kind == kind.CONTROL_SEQUENCE_START
            assert not batched  # one value would do for a whole batch, and Triton wants one for each
            feed[control.name] = np.array([kind.bool_false_true[start]])
        names = [o.name for o in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(names, feed), strict=True))
        answers = {}
        for i, sequence in enumerate(requests):
            own = {name: value[i : i + 1] if batched else value for name, value in found.items()}
            if batcher.state:
                self.states[sequence] = {s.input_name: own[s.output_name] for s in batcher.state}
            answers[sequence] = {o.name: own[o.name] for o in config.output}
        return answers

    def initial(self, state: Any, batched: bool) -> np.ndarray:
        (initial,) = state.initial_state
        assert initial.zero_data
        assert initial.name
        assert initial.data_type == state.data_type
        dims = ([1] if batched else []) + list(initial.dims)
        return np.zeros(dims, TYPES[self.dtype(initial.data_type)])


class Ovms:
    """A model of a folder, served as OpenVINO Model Server does: states saved and restored around each request."""

    def __init__(self, folder: Path, entry: dict[str, Any]) -> None:
        model = CORE.read_model(folder / entry["base_path"] / "1/model.xml")
        compiled = CORE.compile_model(model, entry["target_device"], entry["plugin_config"])
        self.inputs = {i.any_name for i in compiled.inputs}
        self.names = [o.any_name for o in compiled.outputs]
        self.request = compiled.create_infer_request()
        self.saved: dict[int, dict[str, np.ndarray]] = {}

    def infer(self, sequence: int, inputs: dict[str, np.ndarray], *, start: bool) -> dict[str, np.ndarray]:
        assert inputs.keys() == self.inputs
        for state in self.request.query_state():
            if start:
                state.reset()
            else:
                state.state = ov.Tensor(self.saved[sequence][state.name])
        found = self.request.infer(inputs)
        self.saved[sequence] = {s.name: np.array(s.state.data) for s in self.request.query_state()}
        return {name: np.array(found[i]) for i, name in enumerate(self.names)}


class Client:
    """What the runtime takes for a chain, but every call is a request; the flags are those that are in `sends`."""

    def __init__(
        self, manifest: Manifest, entry: GraphEntry, infer: Callable[..., dict[str, np.ndarray]], sends: set[str]
    ) -> None:
        self.role, self.takes, self.gives = entry.role, entry.inputs[0], entry.outputs[0]
        self._when = manifest.stream.calls(entry.role).flags
        self._infer = infer
        self._sends = sends
        self._calls = 0

    def fresh(self) -> Client:
        """A window stands on its own; the calls of a stream go on."""
        return self

    def step(self, x: np.ndarray, *, flush: bool = False) -> dict[str, np.ndarray]:
        self._calls += 1
        now = {FIRST_CALL: self._calls == 1, SECOND_CALL: self._calls == 2, FLUSH_CALL: flush}
        flags = {name: np.array([any(now[o] for o in self._when[name])]) for name in self._sends & self._when.keys()}
        return self._infer({self.takes.name: x, **flags}, start=self._calls == 1)


def graph_of(manifest: Manifest, role: str, provider: str) -> tuple[GraphEntry, onnx.ModelProto]:
    """The one graph of a role that a server has."""
    chain = manifest.chain(role, provider, None)
    return joined(chain, [onnx.load(manifest.folder / part.file) for part in chain])


def start_flags(manifest: Manifest, role: str) -> list[str]:
    """Flags that are true in the first call and no other."""
    return [name for name, when in manifest.stream.calls(role).flags.items() if when == (FIRST_CALL,)]


def encode(manifest: Manifest, client: Any, clip: np.ndarray, sizes: list[int]) -> np.ndarray:
    stream = encoder_stream(manifest.stream, client)
    out, at = [], 0
    for size in sizes:
        out.append(stream.push(clip[at : at + size]))
        at += size
    return np.concatenate([*out, stream.finish()])


def decode(manifest: Manifest, client: Any, tokens: Tokens, sizes: list[int]) -> np.ndarray:
    info = tokens.info
    stream = decoder_stream(manifest.stream, client, info.num_frames, info.height, info.width)
    out, at = [], 0
    for size in sizes:
        out.append(stream.push(tokens.data[at : at + size]))
        at += size
    return np.concatenate([*out, stream.finish()])


def agrees(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found.astype(np.float64) - wanted).max() <= tolerance
