"""A bundle for OpenVINO Model Server: models in OpenVINO's format that hold their states, and the server's config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vidtok_export.errors import ExportError
from vidtok_export.servers.client_rules import client_rules
from vidtok_export.servers.repository import CONFIG, added_to, joined_config, rules_name
from vidtok_export.servers.served import Served, served
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.engines.openvino import CORE
from vidtok_runtime.engines.openvino_means import reduce_means
from vidtok_runtime.engines.telemetry import without_telemetry

with without_telemetry():
    import openvino as ov
    from openvino.passes import MakeStateful, Manager

_SEQUENCES = (
    "The requests of a clip are one sequence: add the inputs `sequence_id` (uint64 `[1]`, not 0, no other clip's at "
    "that time) and `sequence_control_input` (uint32 `[1]`: 1 with the first request, 2 with the last, else 0). Send "
    "the next request after the answer to the one before."
)


def write_ovms(manifest: Manifest, out: Path, size: tuple[int, int], *, force: bool = False) -> list[str]:
    """Add models for frames of a size (width, height) to a folder and its `config.json`; returns their names.

    They are the float32 graphs: OpenVINO cannot compile 8-bit ones whose states are variables. Raises TargetError,
    BundleError, ExportError.
    """
    models = served(manifest, size, "openvino", "fp32")
    with added_to(out, manifest.name, force=force) as folder:
        config = joined_config(out, [_entry(model) for model in models], force=force)
        for model in models:
            version = folder / model.name / "1"
            version.mkdir(parents=True)
            ov.save_model(stateful(model), str(version / "model.xml"), compress_to_fp16=False)
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        (folder / rules_name(manifest.name)).write_text(_readme(models, size), encoding="utf-8")
    return [model.name for model in models]


def stateful(model: Served) -> Any:
    """The graph as an OpenVINO model of fixed picture size whose states are variables that are zero after a reset."""
    try:
        graph = CORE.read_model(model.graph.SerializeToString())
        reduce_means(graph)
        shapes = {port.name: ov.PartialShape(model.dims(port.axes)) for port in model.entry.ports["inputs"].values()}
        graph.reshape(shapes)
        manager = Manager()
        manager.register_pass(MakeStateful({state.input: state.output for state in model.entry.states}))
        manager.run_passes(graph)
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[-1]
        raise ExportError(f"OpenVINO cannot make {model.name} stateful: {cause}; update openvino") from error
    return graph


def _entry(model: Served) -> dict[str, Any]:
    """A model's settings; OpenVINO would else take bfloat16 where the processor has it, and tokens would differ."""
    entry = {
        "name": model.name,
        "base_path": model.name,
        "target_device": "CPU",
        "plugin_config": {"INFERENCE_PRECISION_HINT": "f32"},
    }
    return entry | ({"stateful": True} if model.entry.states else {})


def _readme(models: list[Served], size: tuple[int, int]) -> str:
    manifest = models[0].manifest
    return (
        f"# {manifest.name} on OpenVINO Model Server\n\n"
        f"    docker run --rm -p 9000:9000 -v FOLDER:/models openvino/model_server --port 9000 --config_path "
        f"/models/{CONFIG}\n\n"
        f"Weights `{manifest.weights_sha256[:12]}`, frames of {size[0]}x{size[1]}. The models hold the states of a "
        "sequence, the server saves and restores them between requests; clients never see them. Stateful models "
        "answer the TensorFlow Serving API. Put the bytes of every input into `tensor_content`, flags too: one byte, 1 "
        "or 0, of type `DT_BOOL`. `base_path` is relative to the configuration; older servers want it absolute "
        "(`/models/NAME`).\n\n" + client_rules(models, sequences=_SEQUENCES, start_is_set=False)
    )
