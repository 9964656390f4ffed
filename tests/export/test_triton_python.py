"""Repositories for Triton's Python backend, and their model.py in this process, with stand-ins for Triton's objects.

test_triton_live.py runs them in Triton itself.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import run_export
from google.protobuf import json_format, text_format

from vidtok_runtime import Tokens
from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.errors import ProviderError

KIT = Path(__file__).parents[1] / "conformance/kit"
CASES = {case["name"]: case for case in json.loads((KIT / "cases.json").read_text())["cases"]}


@dataclass
class Tensor:
    """As `pb_utils.Tensor`."""

    named: str
    data: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.data


@dataclass
class Request:
    """As `pb_utils.InferenceRequest`: what the model asks it for."""

    tensor: Tensor
    key: int | str
    bits: int
    options: dict[str, Any] = field(default_factory=dict)

    def correlation_id(self) -> int | str:
        return self.key

    def flags(self) -> int:
        return self.bits

    def parameters(self) -> str:
        return json.dumps(self.options)


class Error(SimpleNamespace):
    """As `pb_utils.TritonError`."""

    INVALID_ARG, INTERNAL = "invalid", "internal"

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text=text, code=code)


@pytest.fixture(scope="module")
def triton() -> ModuleType:
    """What a model imports as `triton_python_backend_utils`."""
    utils: Any = ModuleType("triton_python_backend_utils")
    utils.Tensor, utils.TritonError = Tensor, Error
    utils.InferenceResponse = lambda outputs=(), error=None: SimpleNamespace(outputs=outputs, error=error)
    utils.get_input_tensor_by_name = lambda request, name: request.tensor if request.tensor.named == name else None
    utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 1, 2
    utils.said = []
    utils.Logger = SimpleNamespace(log_info=utils.said.append, log_error=utils.said.append)
    return utils


def configuration(folder: Path) -> Any:
    """The parsed `config.pbtxt`."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", exc_type=ImportError)
    return text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())


class Model:
    """A model of a repository as Triton runs it; `send` is one request."""

    def __init__(self, folder: Path, triton: ModuleType, **limits: int) -> None:
        raw = json_format.MessageToDict(configuration(folder), preserving_proto_field_name=True)
        raw["sequence_batching"] |= limits
        self.takes, self.gives = raw["input"][0]["name"], raw["output"][0]["name"]
        spec = importlib.util.spec_from_file_location("model", folder / "1/model.py")
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "triton_python_backend_utils", triton)
            spec.loader.exec_module(self.module)
        self.model = self.module.TritonPythonModel()
        place = {"model_repository": str(folder), "model_version": "1"}
        device = {"model_instance_kind": "CPU", "model_instance_device_id": "0"}
        self.model.initialize({"model_config": json.dumps(raw), **place, **device})

    def send(self, key: int | str, data: np.ndarray, *, start: bool = False, end: bool = False, **options: Any) -> Any:
        """What comes back, or the error."""
        memory = data.copy()
        (answer,) = self.model.execute([Request(Tensor(self.takes, memory), key, start + 2 * end, options)])
        memory.fill(0)  # it is Triton's again
        if answer.error is not None:
            assert "\n" not in answer.error.text
            return answer.error
        (tensor,) = answer.outputs
        assert tensor.named == self.gives
        return tensor.data


@pytest.fixture
def load(triton: ModuleType, tmp_path: Path) -> Iterator[Callable[..., Model]]:
    """Gives the model of a role of a bundle of the kit."""
    loaded: list[Model] = []

    def model(name: str, role: str, **limits: int) -> Model:
        if not (tmp_path / name).exists():
            assert run_export("triton", KIT / name, tmp_path / name, "--backend", "python").exit_code == 0
        (folder,) = (tmp_path / name).glob(f"*_{role}")
        loaded.append(Model(folder, triton, **limits))
        return loaded[-1]

    yield model
    for one in loaded:
        one.model.finalize()


@pytest.mark.parametrize("bundle", ["fsq-causal", "kl-causal-v1.1"])
def test_repository(bundle: str, tmp_path: Path) -> None:
    result = run_export("triton", KIT / bundle, tmp_path / "models", "--backend", "python")
    assert result.exit_code == 0, result.output
    manifest = read_manifest(KIT / bundle)
    names = [f"{manifest.name}_{role}" for role in ("encoder", "decoder")]
    assert {path.name for path in (tmp_path / "models").iterdir()} == {*names, f"{manifest.name}.md"}
    tokens = ("TYPE_INT32", [-1, -1, -1]) if bundle == "fsq-causal" else ("TYPE_FP32", [-1, 4, -1, -1])
    ends = [("frames", "TYPE_UINT8", [-1, -1, -1, 3]), ("tokens", *tokens)]
    for name, (given, got) in zip(names, (ends, ends[::-1]), strict=True):
        config = configuration(tmp_path / "models" / name)
        raw = json_format.MessageToDict(config, preserving_proto_field_name=True)
        assert (config.name, config.backend, config.max_batch_size) == (name, "python", 0)
        for (port,), (wanted, dtype, dims) in ((raw["input"], given), (raw["output"], got)):
            assert (port["name"], port["data_type"], [int(n) for n in port["dims"]]) == (wanted, dtype, dims)
        assert raw["instance_group"] == [{"kind": "KIND_CPU", "count": 1}]
        assert raw["sequence_batching"] == {
            "max_sequence_idle_microseconds": "60000000",
            "oldest": {"max_candidate_sequences": 32},
        }
        assert {key: value.string_value for key, value in config.parameters.items()} == {
            "role": name.rpartition("_")[2],
            "provider": "cpu",
            "precision": "fp32",
        }
        copy = read_manifest(tmp_path / "models" / name / "1/bundle")
        assert copy.raw == manifest.raw
        for file in manifest.files:
            assert (copy.folder / file).read_bytes() == (manifest.folder / file).read_bytes()
    page = (tmp_path / f"models/{manifest.name}.md").read_text()
    assert manifest.weights_sha256[:12] in page
    assert "60 seconds without a request" in page


def test_files_are_there_once_where_the_system_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_both(folder: Path) -> set[int]:
        return {path.stat().st_ino for path in folder.glob("*/1/bundle/decoder.local.onnx")}

    assert run_export("triton", KIT / "fsq-causal", tmp_path / "a", "--backend", "python").exit_code == 0
    assert len(of_both(tmp_path / "a")) == 1

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    assert run_export("triton", KIT / "fsq-causal", tmp_path / "b", "--backend", "python").exit_code == 0
    assert len(of_both(tmp_path / "b")) == 2


def test_options(tmp_path: Path) -> None:
    command = ("triton", SHIPPED / "tiny-fsq-32768", tmp_path / "m")
    python = (*command, "--backend", "python")
    for args, text in [
        ((*python, "--size", "256"), "--size is no option of --backend python"),
        ((*python, "--batch", 2), "--batch is no option of --backend python"),
        ((*command, "--provider", "cpu"), "--provider is no option of --backend onnxruntime"),
    ]:
        result = run_export(*args)
        assert result.exit_code == 2
        assert text in result.output
    for precision, provider in (("int4", "cpu"), ("int8", "cuda")):
        result = run_export(*python, "--precision", precision, "--provider", provider)
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert f"no {precision} encoder graph for {provider}" in result.output
    assert not list(tmp_path.iterdir())

    def settings() -> list[Any]:
        config = configuration(tmp_path / "m/fsq-32768_decoder")
        (group,) = config.instance_group
        return [
            *(config.parameters[key].string_value for key in ("provider", "precision")),
            group.kind == group.KIND_GPU,
        ]

    assert run_export(*python, "--kind", "gpu").exit_code == 0
    assert settings() == ["cuda", "fp32", True]
    assert "provider cuda, fp32" in (tmp_path / "m/fsq-32768.md").read_text()
    refused = run_export(*python)
    assert refused.exit_code == 1
    assert "give --force" in refused.output
    assert run_export(*python, "--force", "--provider", "openvino", "--precision", "int8").exit_code == 0
    assert settings() == ["openvino", "int8", False]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_an_altered_bundle_is_no_model(tmp_path: Path) -> None:
    bundle = Path(tmp_path / "bundle")
    bundle.mkdir()
    for path in (KIT / "fsq-causal").iterdir():
        (bundle / path.name).write_bytes(path.read_bytes() + b"\0" * (path.name == "decoder.local.onnx"))
    result = run_export("triton", bundle, tmp_path / "m", "--backend", "python")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "decoder.local.onnx is altered" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", ["fsq-causal", "kl-causal-v1.1", "omnitokenizer-squares"])
def test_models_give_the_tokens_and_frames_of_the_kit(name: str, load: Callable[..., Model]) -> None:
    case = CASES[name]
    shape = (case["frames"], case["height"], case["width"], 3)
    clip = np.fromfile(KIT / case["input"], np.uint8).reshape(shape)
    tokens = Tokens.load(KIT / case["tokens"]).data
    video = np.rint((np.fromfile(KIT / case["video"], "<f4").reshape(shape).clip(-1, 1) + 1) * 127.5)
    size = dict(zip(("num_frames", "height", "width"), shape, strict=False))
    for role, data, cuts, options in (("encoder", clip, "pushes", {}), ("decoder", tokens, "pulls", size)):
        model = load(name, role)
        out: dict[int, list[np.ndarray]] = {}
        pieces = {i: np.split(data, list(itertools.accumulate(sizes[:-1]))) for i, sizes in enumerate(case[cuts], 1)}
        for turn in range(max(map(len, pieces.values()))):  # the sequences take turns
            for key, parts in pieces.items():
                if turn < len(parts):
                    first = {"start": True, **options} if turn == 0 else {}
                    answer = model.send(key, parts[turn], end=turn == len(parts) - 1, **first)
                    out.setdefault(key, []).append(answer)
        for answers in out.values():
            found = np.concatenate(answers)
            if role == "encoder":
                assert (found.dtype, found.shape) == (tokens.dtype, tokens.shape)
                assert np.abs(found.astype(np.float64) - tokens).max() <= case["latent_tolerance"]
            else:
                assert found.dtype == np.uint8
                assert np.abs(found - video).max() <= 1
        assert not model.model._sequences


def test_an_error_ends_its_sequence_alone(load: Callable[..., Model]) -> None:
    model = load("kl-causal-v1.1", "encoder")
    clip = np.zeros((5, 8, 8, 3), np.uint8)
    assert len(model.send("other", clip, start=True)) == 2
    assert "sequence 1 is not known here" in model.send(1, clip).text
    for options, text in [
        ({"gob": 1}, "there is no parameter 'gob'; the encoder takes gop, sample, normalize"),
        ({"gop": 2.0}, "the parameter gop is a whole number, got 2.0"),
        ({"gop": True}, "the parameter gop is a whole number, got True"),
        ({"gop": 0}, "gop must be a whole number of at least 1"),
        ({"normalize": 1}, "the parameter normalize is true or false, got 1"),
    ]:
        error = model.send(1, clip, start=True, **options)
        assert text in error.text
        assert error.code == "invalid"
    model.send(1, clip, start=True)
    assert "parameters belong to the request with sequence_start" in model.send(1, clip, gop=2).text
    assert "sequence 1 is not known here: an error ended it" in model.send(1, clip).text
    model.send(1, clip, start=True)
    assert "frames of one stream are all [8, 8, 3], got [16, 8, 3]" in model.send(1, np.zeros((1, 16, 8, 3), "u1")).text
    again = [model.send(1, clip, start=True) for _ in range(2)]  # begins anew, whatever was
    assert np.array_equal(*again)
    assert len(model.send("other", clip[:4], end=True)) == 1
    assert list(model.model._sequences) == [1]


def test_a_fault_of_the_engine_ends_its_sequence_alone(
    load: Callable[..., Model], triton: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("fsq-causal", "encoder")
    clip = np.zeros((5, 8, 8, 3), np.uint8)
    model.send(2, clip, start=True)
    for failure in (RuntimeError("no memory\nfor this"), ProviderError("no memory")):  # the second: of our engines

        def step(*_: object, failure: Exception = failure, **_options: object) -> None:
            raise failure

        model.send(1, clip, start=True)
        with monkeypatch.context() as patch:
            patch.setattr(GraphChain, "step", step)
            error = model.send(1, clip)
        assert (error.code, error.text) == ("internal", f"{type(failure).__name__}: no memory")
        assert "Traceback" in triton.said[-1]
        assert list(model.model._sequences) == [2]


def test_streams_may_keep_what_they_are_given(load: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    model, kept = load("fsq-causal", "decoder"), []

    def push(tokens: np.ndarray) -> np.ndarray:
        kept.append(tokens)
        return np.zeros((0, 8, 8, 3), np.uint8)

    def finish() -> np.ndarray:
        return np.concatenate(kept)[..., None].repeat(3, -1).astype(np.uint8)

    monkeypatch.setattr(model.model, "_stream", lambda: SimpleNamespace(push=push, finish=finish))
    tokens = np.arange(128, dtype=np.int32).reshape(2, 8, 8)
    model.send(1, tokens[:1], start=True)
    assert np.array_equal(model.send(1, tokens[1:], end=True)[..., 0], tokens)


def test_sequences_without_requests_are_forgotten(load: Callable[..., Model], triton: Any) -> None:
    model = load("fsq-causal", "decoder", max_sequence_idle_microseconds=1000)
    tokens = np.zeros((1, 2, 2), np.int32)
    model.send("abandoned", tokens, start=True)
    while model.model._sequences:
        time.sleep(0.001)
    while not any("abandoned" in text for text in triton.said):
        time.sleep(0.001)
    assert (
        "sequence abandoned is not known here: an error ended it, it was idle" in model.send("abandoned", tokens).text
    )
    slow = load("fsq-causal", "decoder", max_sequence_idle_microseconds=600_000_000)
    slow.send("abandoned", tokens, start=True)
    time.sleep(0.05)
    assert len(slow.send("abandoned", tokens, end=True))


def test_the_page_names_all_parameters(load: Callable[..., Model], tmp_path: Path) -> None:
    options = load("fsq-causal", "encoder").module.OPTIONS
    page = (tmp_path / "fsq-causal/fsq-4096.md").read_text()
    for role, names in options.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| fsq-4096_{role}"))
        assert row.endswith(f"| {', '.join(f'`{name}`' for name in names)} |")
