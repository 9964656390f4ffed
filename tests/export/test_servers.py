"""Repositories for model servers: what they say is true of the graphs, and serving them as the servers do keeps tokens.

No server runs here. Triton's and OpenVINO Model Server's handling of states is simulated on ONNX Runtime and OpenVINO.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
from commands import run_export
from google.protobuf import text_format

from vidtok_export.quantization.clips import decoder_stream, encoder_stream
from vidtok_export.servers.joined import joined
from vidtok_export.servers.ovms import write_ovms
from vidtok_export.servers.triton import write_triton
from vidtok_runtime.bundle.graph_entry import GraphEntry
from vidtok_runtime.bundle.manifest import Manifest, read_manifest
from vidtok_runtime.bundle.stream_spec import FIRST_CALL, FLUSH_CALL, SECOND_CALL
from vidtok_runtime.engines.openvino import CORE
from vidtok_runtime.streaming.geometry import to_network
from vidtok_runtime.tokens.tokens import Tokens

KIT = Path(__file__).parents[1] / "conformance/kit"
BUNDLES = ["fsq-causal", "kl-causal-v1.1", "fsq-noncausal", "wan-causal"]
TYPES = {"TYPE_FP32": np.float32, "TYPE_INT32": np.int32, "TYPE_BOOL": np.bool_}
ONNX_TYPES = {"TYPE_FP32": "tensor(float)", "TYPE_INT32": "tensor(int32)", "TYPE_BOOL": "tensor(bool)"}


@pytest.fixture(scope="module")
def schema() -> ModuleType:
    """Triton's model_config.proto as Python; from its file, since the package around it wants gRPC."""
    try:
        files = importlib.metadata.files("tritonclient") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tritonclient, which carries Triton's protobuf schema, is not installed")
    (path,) = (f.locate() for f in files if str(f).endswith("tritonclient/grpc/model_config_pb2.py"))
    spec = importlib.util.spec_from_file_location("triton_model_config", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def triton(bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "models"
    tokens = case_of(bundle)[2]
    write_triton(read_manifest(KIT / bundle), folder, (tokens.info.width, tokens.info.height))
    return folder


def test_triton_config_is_true_of_the_graphs(schema: ModuleType, bundle: str, triton: Path) -> None:
    manifest = read_manifest(KIT / bundle)
    for role in ("encoder", "decoder"):
        folder = triton / f"{manifest.name}_{role}"
        served = Triton(schema, folder)
        config, (entry, graph) = served.config, graph_of(manifest, role, "cpu")
        assert config.name == folder.name
        assert (config.backend, config.platform) == ("onnxruntime", "onnxruntime_onnx")
        assert onnx.load(folder / "1/model.onnx") == graph
        # What the graph takes is what Triton gives: data and flags of the client, flags of Triton, states.
        given = {i.name: (i.data_type, i.dims) for i in config.input}
        for state in config.sequence_batching.state:
            given[state.input_name] = (state.data_type, state.dims)
        (bool_type,) = (v for k, v in served.types.items() if k == "TYPE_BOOL")
        for control in config.sequence_batching.control_input:
            given[control.name] = (bool_type, [1])
        kept = {o.name: (o.data_type, o.dims) for o in config.output}
        for state in config.sequence_batching.state:
            kept[state.output_name] = (state.data_type, state.dims)
        batch = [-1] if config.max_batch_size else []
        for ports, declared in ((served.session.get_inputs(), given), (served.session.get_outputs(), kept)):
            assert declared.keys() == {port.name for port in ports}
            for port in ports:
                kind, dims = declared[port.name]
                assert ONNX_TYPES[served.dtype(kind)] == port.type
                shape = [d if isinstance(d, int) else -1 for d in port.shape]
                full = [*batch, *dims]
                assert len(full) == len(shape), port.name
                exact = port.name in {o.name for o in config.output}
                assert all(g == f if exact or g != -1 else True for g, f in zip(shape, full, strict=True)), port.name
        assert config.HasField("sequence_batching") == bool(entry.states)
        if entry.states:
            assert [s.input_name for s in config.sequence_batching.state] == [s.input for s in entry.states]
            assert config.sequence_batching.WhichOneof("strategy_choice") == "oldest"
        assert [c.name for c in config.sequence_batching.control_input] == [
            name for name in start_flags(manifest, role) if name in {f.name for f in entry.flags}
        ]
        assert config.instance_group[0].kind == config.instance_group[0].KIND_CPU


def test_triton_keeps_the_tokens(schema: ModuleType, bundle: str, triton: Path) -> None:
    manifest, clip, tokens, video, case = case_of(bundle)
    models = {role: Triton(schema, triton / f"{manifest.name}_{role}") for role in ("encoder", "decoder")}

    def client(role: str, sequence: int) -> Client:
        model = models[role]
        sends = {i.name for i in model.config.input}

        def infer(inputs: dict[str, np.ndarray], *, start: bool) -> dict[str, np.ndarray]:
            return model.infer({sequence: inputs}, start=start)[sequence]

        return Client(manifest, graph_of(manifest, role, "cpu")[0], infer, sends)

    for number, sizes in enumerate(case["pushes"], 1):  # each a sequence of its own on one model
        agrees(encode(manifest, client("encoder", number), clip, sizes), tokens.data, case["latent_tolerance"])
    for number, sizes in enumerate(case["pulls"], 1):
        agrees(decode(manifest, client("decoder", number), tokens, sizes), video, case["video_tolerance"])


def test_triton_joins_sequences_in_a_batch(schema: ModuleType, tmp_path: Path) -> None:
    manifest, clip, tokens, _, _ = case_of("fsq-causal")
    write_triton(manifest, tmp_path / "m", (tokens.info.width, tokens.info.height), batch=2)
    model = Triton(schema, tmp_path / "m" / f"{manifest.name}_encoder")
    assert model.config.max_batch_size == 2
    front = np.concatenate([clip[:1].repeat(manifest.stream.front_frames, 0), clip])
    x = to_network(front[: len(front) // 4 * 4], manifest.stream.spatial_multiple)
    alone = [model.infer({1: {"video": x[:, :, i : i + 4]}}, start=i == 0)[1]["indices"] for i in range(0, 16, 4)]
    mirrored = np.ascontiguousarray(x[..., ::-1])
    for i in range(0, 16, 4):
        both = {2: {"video": mirrored[:, :, i : i + 4]}, 3: {"video": x[:, :, i : i + 4]}}
        assert np.array_equal(model.infer(both, start=i == 0)[3]["indices"], alone[i // 4])


@pytest.mark.parametrize("name", BUNDLES)
def test_ovms_keeps_the_tokens(name: str, tmp_path: Path) -> None:
    manifest, clip, tokens, video, case = case_of(name)
    names = write_ovms(manifest, tmp_path / "m", (tokens.info.width, tokens.info.height))
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert config.keys() == {"model_config_list"}
    entries = [item.pop("config") for item in config["model_config_list"]]
    assert config["model_config_list"] == [{}, {}]
    assert [e["name"] for e in entries] == names
    for entry in entries:  # the keys and types that the server documents
        documented = {"name": str, "base_path": str, "target_device": str, "plugin_config": dict, "stateful": bool}
        assert all(isinstance(value, documented[key]) for key, value in entry.items())
        assert entry.get("stateful", False) == (manifest.stream.groups is None)
        assert entry["plugin_config"] == {"INFERENCE_PRECISION_HINT": "f32"}
    models = {role: Ovms(tmp_path / "m", entry) for role, entry in zip(("encoder", "decoder"), entries, strict=True)}
    for role, model in models.items():
        entry, _ = graph_of(manifest, role, "openvino")
        assert model.inputs == {entry.inputs[0].name, *(f.name for f in entry.flags)}
        assert set(model.names) == {p.name for p in entry.outputs}
        assert len(model.request.query_state()) == len(entry.states)

    def client(role: str, sequence: int, between: bool) -> Client:
        entry, _ = graph_of(manifest, role, "openvino")

        def infer(inputs: dict[str, np.ndarray], *, start: bool) -> dict[str, np.ndarray]:
            found = models[role].infer(sequence, inputs, start=start)
            if between:  # another clip's request on the same model
                noise = {n: v + v if v.dtype == np.float32 else v for n, v in inputs.items()}
                models[role].infer(99, noise, start=start)
            return found

        return Client(manifest, entry, infer, {f.name for f in entry.flags})

    for number, sizes in enumerate(case["pushes"], 1):
        found = encode(manifest, client("encoder", number, number > 1), clip, sizes)
        agrees(found, tokens.data, case["latent_tolerance"])
    for number, sizes in enumerate(case["pulls"], 1):
        agrees(decode(manifest, client("decoder", number, number > 1), tokens, sizes), video, case["video_tolerance"])


@pytest.mark.parametrize("server", ["triton", "ovms"])
def test_commands(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "models"
    result = run_export(server, KIT / "kl-causal-v1.1", out, "--size", "22x14")
    assert result.exit_code == 0, result.output
    assert "kl-4chn-v1.1_encoder, kl-4chn-v1.1_decoder" in result.output
    rules = (out / "kl-4chn-v1.1.md").read_text()
    for text in ("24x16", "3 copies of the first frame", "first request has 1 latent", "first 6 frames", "`boundary`"):
        assert text in rules
    assert ("Send the input `first`" in rules) == (server == "ovms")
    assert not list(tmp_path.glob("*.part"))

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    refused = run_export(server, KIT / "kl-causal-v1.1", out)
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "--force" in refused.output
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert run_export(server, KIT / "kl-causal-v1.1", out, "--size", "8", "--force").exit_code == 0
    assert "8x8" in (out / "kl-4chn-v1.1.md").read_text()
    monkeypatch.chdir(out)
    assert run_export(server, KIT / "kl-causal-v1.1", ".", "--size", "16x8", "--force").exit_code == 0
    assert "16x8" in (out / "kl-4chn-v1.1.md").read_text()

    for args, code in [
        ((KIT, tmp_path / "b"), 1),
        ((KIT / "fsq-causal", tmp_path / "none" / "b"), 1),
        ((KIT / "fsq-causal", tmp_path / "b", "--size", "0x8"), 2),
        ((KIT / "fsq-causal", tmp_path / "b", "--precision", "int8"), 1 if server == "triton" else 2),
    ]:
        wrong = run_export(server, *args)
        assert wrong.exit_code == code, wrong.output
        assert code == 2 or wrong.output.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@pytest.mark.parametrize("server", ["triton", "ovms"])
def test_models_join_a_repository(server: str, tmp_path: Path) -> None:
    out = tmp_path / "models"
    (out / "mine/1").mkdir(parents=True)
    (out / "mine/1/model.onnx").write_text("not ours")
    mine = {"config": {"name": "mine", "base_path": "mine", "nireq": 2}}
    if server == "ovms":
        (out / "config.json").write_text(json.dumps({"monitoring": {"metrics": {}}, "model_config_list": [mine]}))
    for bundle in ("fsq-causal", "kl-causal-v1.1"):
        result = run_export(server, KIT / bundle, out, "--size", 16)
        assert result.exit_code == 0, result.output
    names = {f"{name}_{role}" for name in ("fsq-4096", "kl-4chn-v1.1") for role in ("encoder", "decoder")}
    common = {"mine", "fsq-4096.md", "kl-4chn-v1.1.md", *names}

    def state() -> dict[Path, bytes]:
        return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def config() -> dict[str, Any]:
        return dict(json.loads((out / "config.json").read_text()))

    assert {path.name for path in out.iterdir()} == common | ({"config.json"} if server == "ovms" else set())
    if server == "ovms":
        assert config()["monitoring"] == {"metrics": {}}
        assert config()["model_config_list"][0] == mine
        assert {row["config"]["name"] for row in config()["model_config_list"]} == {"mine", *names}
    before = state()
    refused = run_export(server, KIT / "fsq-causal", out, "--size", 8)
    assert refused.exit_code == 1
    assert "fsq-4096_encoder exists already; give --force" in refused.output
    assert state() == before
    assert run_export(server, KIT / "fsq-causal", out, "--size", 8, "--force").exit_code == 0
    changed = {path.parts[0] for path, content in state().items() if before[path] != content}
    assert "fsq-4096.md" in changed
    assert changed <= {"fsq-4096.md", "fsq-4096_encoder", "fsq-4096_decoder", "config.json"}
    if server == "ovms":
        assert len(config()["model_config_list"]) == 5
        shutil.rmtree(out / "fsq-4096_encoder")
        shutil.rmtree(out / "fsq-4096_decoder")
        (out / "fsq-4096.md").unlink()
        assert "config.json has fsq-4096_encoder already" in run_export(server, KIT / "fsq-causal", out).output
        (out / "config.json").write_text("{}")
        assert "no configuration of OpenVINO Model Server" in run_export(server, KIT / "fsq-causal", out).output
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_model_comes_back_where_its_successor_cannot_be_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "models"
    assert run_export("triton", KIT / "fsq-causal", out).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.parent.name == "new":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    refused = run_export("triton", KIT / "fsq-causal", out, "--size", 8, "--force")
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "No space left on device" in refused.output
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_export_writes_a_triton_repository_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(_: object, out: Path, **__: object) -> None:
        shutil.copytree(KIT / "fsq-causal", out)

    monkeypatch.setattr("vidtok_export.bundle.export", export)  # exporting itself is tested elsewhere
    model = ("--variant", "fsq-4096", "--ch", 4, "--seed", 1, "--out", tmp_path / "b")
    result = run_export(*model, "--triton", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert "fsq-4096_encoder" in result.output
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"fsq-4096.md", "fsq-4096_encoder", "fsq-4096_decoder"}
    shutil.rmtree(tmp_path / "b")
    assert run_export(*model, "--triton", tmp_path / "m").exit_code == 1  # before the long work
    assert not (tmp_path / "b").exists()


def test_triton_on_a_gpu_and_windows(schema: ModuleType, tmp_path: Path) -> None:
    manifest = read_manifest(KIT / "fsq-noncausal")
    write_triton(manifest, tmp_path / "m", (16, 16), kind="gpu", batch=4)
    assert "NVIDIA_TF32_OVERRIDE=0 tritonserver" in (tmp_path / f"m/{manifest.name}.md").read_text()
    for role in ("encoder", "decoder"):
        config = Triton(schema, tmp_path / "m" / f"{manifest.name}_{role}").config
        assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU
        assert config.max_batch_size == 4
        assert config.HasField("dynamic_batching")
        assert config.input[0].dims[-3] == -1  # the last window may be shorter


def test_a_name_that_is_no_folder_name(schema: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    raw = json.loads((KIT / "fsq-causal/manifest.json").read_text())
    raw["name"] = '../../e/../vil "x'
    (folder / "manifest.json").write_text(json.dumps(raw))
    for graph in raw["graphs"]:
        (folder / graph["file"]).write_bytes((KIT / "fsq-causal" / graph["file"]).read_bytes())
    names = write_triton(read_manifest(folder), tmp_path / "m", (8, 8))
    assert names == ["_.._e_.._vil__x_encoder", "_.._e_.._vil__x_decoder"]
    assert Triton(schema, tmp_path / "m" / names[0]).config.name == names[0]
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "m"}
