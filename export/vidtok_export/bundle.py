"""Writing a bundle: graphs, manifest, and the parity measured on what was written."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import onnx
from onnx.external_data_helper import convert_model_to_external_data

from vidtok_export.compact import TWO_GB, graph_bytes, store_half
from vidtok_export.errors import ExportError, TargetError
from vidtok_export.graph import Graph, make_graphs
from vidtok_export.operations import operation_counts
from vidtok_export.targets import check_bundle, named, put_in_place
from vidtok_export.trace import OPSET
from vidtok_export.verify import PROVIDERS, Parity, require, table, verify
from vidtok_ref.families import family_of
from vidtok_ref.tokenizer import VideoTokenizer
from vidtok_ref.weights import weights_sha256
from vidtok_runtime.bundle.graph_entry import ROLES
from vidtok_runtime.bundle.manifest import FORMAT, FORMAT_VERSION, read_manifest, sha256_of
from vidtok_runtime.bundle.stream_spec import MAX_LENGTH, StreamSpec
from vidtok_runtime.versions import version_of

_SCHEMA = files("vidtok_runtime.bundle") / "manifest.schema.json"
_WORTH_A_FILE = 1024  # bytes of a tensor that goes to a file of weights; onnxsim and engines look into smaller ones
# As far as they are installed: ONNX Runtime has a package for each kind of device.
_TOOLS = ("vidtok-onnx", "torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "onnxruntime-gpu", "openvino")


def _write_graph(graph: Graph, folder: Path, *, weights_file: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A graph's row of the manifest, and the rows of the files that its weights are in, if not inside."""
    path, weights = (folder / f"{graph.role}.{graph.part.name}{suffix}" for suffix in (".onnx", ".weights"))
    if weights_file or graph_bytes(graph.model) > TWO_GB:
        convert_model_to_external_data(graph.model, location=weights.name, size_threshold=_WORTH_A_FILE)
    onnx.save_model(graph.model, path)
    row = {
        "role": graph.role,
        "part": graph.part.kind,
        "precision": "fp32",
        "providers": ["cpu", "cuda", "openvino"],
        "file": path.name,
        "sha256": sha256_of(path),
        "inputs": [asdict(p) for p in graph.inputs],
        "outputs": [asdict(p) for p in graph.outputs],
        "flags": [asdict(f) for f in graph.flags],
        "states": [asdict(s) for s in graph.states],
        "stages": graph.stages,
        "receptive_field": graph.part.receptive_field,
        "missing_kernels": missing_kernels(graph.model),
    }
    if not weights.exists():
        return row, []
    return row, [{"file": weights.name, "sha256": sha256_of(weights), "size": weights.stat().st_size}]


def missing_kernels(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Of each engine the names of nodes that it has no kernel for, or one with wrong results."""
    # For WebGPU ONNX Runtime 1.30 has neither transposed convolutions of video nor those of channels in groups, but
    # says so only when it is called. 1.27 computes attention that is off by as much as its values, on a software
    # device. Sines there may be off by 2^-11 in -pi..pi, and by any amount beyond.
    bad = tuple(
        node.name
        for node in model.graph.node
        if node.op_type in ("ConvTranspose", "MultiHeadAttention", "Sin", "Cos")
        or (node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute))
    )
    return {"webgpu": bad} if bad else {}


def in_chunks(spec: StreamSpec, chunk: int) -> StreamSpec:
    """The same streams in calls (or groups, if they may have any length) of so many latents, where they may be cut.

    Raises ExportError.
    """
    f = spec.time_factor
    if chunk * f > MAX_LENGTH:
        raise ExportError(
            f"calls have at most {MAX_LENGTH:,} frames; give a chunk of at most {MAX_LENGTH // f} latents"
        )
    if spec.groups is not None:
        return spec.regrouped(chunk * f) if spec.groups.multiple else spec
    return replace(
        spec,
        encoder=spec.encoder if spec.encoder.exact else replace(spec.encoder, max=chunk * f),
        decoder=spec.decoder if spec.decoder.exact else replace(spec.decoder, max=chunk),
    )


def _manifest(
    model: VideoTokenizer,
    graphs: list[dict[str, Any]],
    weights_files: list[dict[str, Any]],
    stream: StreamSpec,
    licence: str | None,
) -> dict[str, Any]:
    family = family_of(model.config)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "family": family.name,
        "name": model.config.name,
        "config": model.config.to_dict(),
        "weights": {
            "sha256": weights_sha256(model),
            "source": model.source,
            "trained": model.seed is None,
            "seed": model.seed,
        },
        "licence": licence or family.licence,
        "stream": asdict(stream),
        "weights_files": weights_files,
        "graphs": graphs,
        "operations": operation_counts(model),
        "opset": OPSET,
        "tools": {tool: known for tool in _TOOLS if (known := version_of(tool))},
        "parity": {"compared_with": "the reference in PyTorch, float64", "rows": []},
    }


def save_manifest(manifest: dict[str, Any], folder: Path) -> None:
    """Write `manifest.json`, which the schema allows."""
    plain = json.loads(json.dumps(manifest))
    jsonschema.validate(plain, json.loads(_SCHEMA.read_text("utf-8")))
    (folder / "manifest.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def export(
    model: VideoTokenizer,
    out: str | os.PathLike[str],
    *,
    chunk: int = 4,
    simplify: bool = True,
    force: bool = False,
    licence: str | None = None,
    weights_files: bool = False,
    quiet: bool = True,
) -> Path:
    """Write the bundle of a reference model into the new folder `out` and verify it; returns its path.

    chunk: most latents a graph call, a hint for runtimes; of a model of windows of any length that length, which users
    may change. licence: of the weights, None: that of the release. weights_files: keep weights beside the graphs, as is
    always done beyond 2 GB. The folder appears only when its graphs have passed.
    Raises TargetError, ExportError, ParityError.
    """
    out = named(Path(out))
    check_bundle(out, force=force)
    stream = in_chunks(model.stream, chunk)
    part = out.with_name(f"{out.name}.{os.getpid()}.part")

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    try:
        part.mkdir(parents=True)
        entries, weights_rows = [], []
        for role in ROLES:
            say(f"tracing the {role} of {model.config.name}")
            for graph in make_graphs(model, role, simplify=simplify):
                store_half(graph.model)
                row, weights = _write_graph(graph, part, weights_file=weights_files)
                entries.append(row)
                weights_rows += weights
        manifest = _manifest(model, entries, weights_rows, stream, licence)
        save_manifest(manifest, part)
        say(f"comparing with the reference on {', '.join(PROVIDERS)}")
        rows: list[Parity] = verify(read_manifest(part), model)
        say(table(rows))
        require(rows)
        manifest["parity"]["rows"] = [row.to_row() for row in rows]
        save_manifest(manifest, part)
        check_bundle(out, force=force)  # something may have come there meanwhile
        put_in_place(part, out)
    except OSError as error:
        raise TargetError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out
