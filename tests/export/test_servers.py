"""Repositories for model servers: what they say is true of the graphs, and serving them as the servers do keeps tokens.

No server runs here: see simulated_servers.py.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from simulated_servers import (
    KIT,
    ONNX_TYPES,
    Client,
    Ovms,
    Triton,
    agrees,
    case_of,
    decode,
    encode,
    graph_of,
    start_flags,
)

from vidtok_export.servers.ovms import write_ovms
from vidtok_export.servers.triton import write_triton
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.streaming.geometry import to_network

BUNDLES = ["fsq-causal", "kl-causal-v1.1", "fsq-noncausal", "wan-causal"]


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
