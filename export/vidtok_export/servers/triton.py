"""A bundle as models of Triton's ONNX Runtime backend; the server keeps the states itself (implicit state)."""

from __future__ import annotations

from pathlib import Path

import onnx

from vidtok_export.servers.client_rules import client_rules
from vidtok_export.servers.repository import added_to, rules_name
from vidtok_export.servers.served import Served, served
from vidtok_export.servers.triton_config import SEQUENCES, TYPES, block, dims, instances, oldest_first, port
from vidtok_runtime.bundle.graph_entry import Port
from vidtok_runtime.bundle.manifest import Manifest

_SEQUENCES = (
    "The requests of a clip are one sequence: a `sequence_id` other than 0 that no other clip has at that time, "
    "`sequence_start` on the first request, `sequence_end` on the last. Send the next request after the answer to "
    "the one before."
)


def write_triton(
    manifest: Manifest,
    out: Path,
    size: tuple[int, int],
    *,
    kind: str = "cpu",
    precision: str | None = None,
    batch: int = 1,
    force: bool = False,
) -> list[str]:
    """Add the models of a bundle, for frames of a size (width, height), to a model repository; returns their names.

    kind: cpu or gpu. batch: sequences (windows, of a non-causal bundle) that one call may put together. Raises
    TargetError, BundleError, ExportError.
    """
    models = served(manifest, size, "cuda" if kind == "gpu" else "cpu", precision)
    with added_to(out, manifest.name, force=force) as folder:
        for model in models:
            version = folder / model.name / "1"
            version.mkdir(parents=True)
            onnx.save_model(model.graph, version / "model.onnx")
            config = folder / model.name / "config.pbtxt"
            config.write_text(triton_config(model, kind, batch), encoding="utf-8")
        (folder / rules_name(manifest.name)).write_text(_readme(models, size, kind), encoding="utf-8")
    return [model.name for model in models]


def triton_config(model: Served, kind: str, batch: int) -> str:
    """The `config.pbtxt` of a model, text of the protobuf message `inference.ModelConfig`.

    Flags have one value a call, not one a clip, so that a model that has them takes one clip a call: then there is no
    batch dimension for Triton, and N is an ordinary 1.
    """
    max_batch = 0 if model.entry.flags else batch
    data = [*model.entry.inputs, *model.other_flags]
    blocks = [
        f'name: "{model.name}"',
        'backend: "onnxruntime"',
        'platform: "onnxruntime_onnx"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {max_batch}",
        *(block("input", port(p.name, p.dtype, _unbatched(model.dims(p.axes), max_batch))) for p in data),
        *(block("output", port(p.name, p.dtype, _unbatched(sizes, max_batch))) for p, sizes in _outputs(model)),
        instances(kind),
    ]
    if model.entry.states:
        blocks.append(oldest_first(*_carried(model, max_batch), candidates=max(SEQUENCES, max_batch)))
    elif max_batch > 1:
        blocks.append("dynamic_batching { }")
    return "\n".join(blocks) + "\n"


def _carried(model: Served, max_batch: int) -> list[str]:
    """What Triton gives the graph beside the data: the start of a sequence, and the states."""
    lines = []
    if model.start_flag is not None:
        control = block("control", ["kind: CONTROL_SEQUENCE_START", "bool_false_true: [ false, true ]"])
        lines.append(block("control_input", [f'name: "{model.start_flag.name}"', control]))
    for state in model.entry.states:
        shape = [f"data_type: {TYPES[state.dtype]}", dims(_unbatched(model.dims(state.axes), max_batch))]
        names = [f'input_name: "{state.input}"', f'output_name: "{state.output}"']
        initial = block("initial_state", ['name: "zeros"', *shape, "zero_data: true"])
        lines.append(block("state", [*names, *shape, initial]))
    return lines


def _outputs(model: Served) -> list[tuple[Port, list[int]]]:
    """Outputs with the sizes that the graph itself declares: Triton wants exactly these, unlike those of inputs."""
    declared = {
        value.name: [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.graph.output
    }
    return [(port, declared[port.name]) for port in model.entry.outputs]


def _unbatched(sizes: list[int], max_batch: int) -> list[int]:
    """Sizes without N where it is Triton's batch dimension."""
    return sizes[1:] if max_batch else sizes


def _readme(models: list[Served], size: tuple[int, int], kind: str) -> str:
    manifest = models[0].manifest
    exact = "NVIDIA_TF32_OVERRIDE=0 " if kind == "gpu" else ""  # TensorFloat-32 changes tokens
    return (
        f"# {manifest.name} on Triton Inference Server\n\n"
        f"    {exact}tritonserver --model-repository=FOLDER\n\n"
        f"Weights `{manifest.weights_sha256[:12]}`, frames of {size[0]}x{size[1]}. Triton keeps the states of a "
        "sequence and starts them at zero; clients never see them. Arrays have all dims of the tables; where "
        "`max_batch_size` is not 0, the first is Triton's batch dimension, which is 1 in a request of a sequence.\n\n"
        + client_rules(models, sequences=_SEQUENCES, start_is_set=True)
    )
