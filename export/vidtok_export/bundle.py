"""Writing a bundle: graphs, manifest, and the parity measured on what was written."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vidtok_export.compact import store_half
from vidtok_export.errors import ExportError, TargetError
from vidtok_export.graph import Graph, make_graph
from vidtok_export.operations import operation_counts
from vidtok_export.targets import check_bundle, named, put_in_place
from vidtok_export.trace import OPSET
from vidtok_export.verify import PROVIDERS, Parity, require, table, verify
from vidtok_ref.families.vidtok.model import VidTok
from vidtok_ref.weights import weights_sha256
from vidtok_runtime.bundle.graph_entry import ROLES
from vidtok_runtime.bundle.manifest import FORMAT, FORMAT_VERSION, read_manifest, sha256_of

_TWO_GB = 2**31 - 2**20  # protobuf's limit, with room for the rest of the graph
_TOOLS = ("vidtok-onnx", "torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "openvino")


def _write_graph(graph: Graph, folder: Path) -> dict[str, Any]:
    path = folder / f"{graph.role}.onnx"
    if graph.model.ByteSize() > _TWO_GB:
        raise ExportError(f"the {graph.role} needs more than 2 GB, which one ONNX file cannot hold; lower --ch")
    path.write_bytes(graph.model.SerializeToString())
    return {
        "role": graph.role,
        "file": path.name,
        "sha256": sha256_of(path),
        "precision": "fp32",
        "providers": ["cpu", "cuda", "openvino"],
        "inputs": [asdict(p) for p in graph.inputs],
        "outputs": [asdict(p) for p in graph.outputs],
        "flags": [asdict(f) for f in graph.flags],
        "states": [asdict(s) for s in graph.states],
    }


def _manifest(model: VidTok, graphs: list[dict[str, Any]], chunk: int, licence: str) -> dict[str, Any]:
    v = model.variant
    lag = model.decoder.lag
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "variant": v.to_dict(),
        "weights": {
            "sha256": weights_sha256(model),
            "source": model.source,
            "trained": model.seed is None,
            "seed": model.seed,
        },
        "licence": licence,
        "time_factor": v.time_factor,
        "spatial_multiple": v.spatial_factor,
        "pixels": {"channels": "RGB", "range": [-1.0, 1.0]},
        "codebook_size": v.codebook_size,
        "front_padding": {"rule": "repeat first frame", "frames": v.front_frames},
        "back_padding": {"rule": "repeat last frame", "multiple": v.time_factor},
        "window": None if v.causal else {"frames": chunk * v.time_factor, "multiple": v.time_factor},
        "look_ahead": lag,
        "drop_decoded_frames": v.front_frames + lag,
        "flush": {"decoder_latents": 1, "keep_frames": lag} if lag else None,
        "chunk": {
            "encoder_frames": chunk * v.time_factor,
            "decoder_latents": chunk,
            "first_decoder_latents": 1 if lag else None,
        },
        "operations": operation_counts(model),
        "graphs": graphs,
        "opset": OPSET,
        "tools": {tool: version(tool) for tool in _TOOLS},
        "parity": {"compared_with": "the reference in PyTorch, float64", "rows": []},
    }


def save_manifest(manifest: dict[str, Any], folder: Path) -> None:
    """Write `manifest.json`."""
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def export(
    model: VidTok,
    out: str | os.PathLike[str],
    *,
    chunk: int = 4,
    simplify: bool = True,
    force: bool = False,
    licence: str = "MIT",
    quiet: bool = True,
) -> Path:
    """Write the bundle of a reference model into the new folder `out` and verify it; returns its path.

    chunk: most latents a graph call, a hint for runtimes; of a non-causal model the window (as published: 16
    frames, which are 4 latents), which users may change. The folder appears only when its graphs have passed.
    Raises TargetError, ExportError, ParityError.
    """
    out = named(Path(out))
    check_bundle(out, force=force)
    part = out.with_name(f"{out.name}.{os.getpid()}.part")

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    try:
        part.mkdir(parents=True)
        entries = []
        for role in ROLES:
            say(f"tracing the {role} of {model.variant.name}")
            graph = make_graph(model, role, simplify=simplify)
            store_half(graph.model)
            entries.append(_write_graph(graph, part))
        manifest = _manifest(model, entries, chunk, licence)
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
