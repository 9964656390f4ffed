"""Adding int8 or float16 graphs to a bundle, made from its float32 graphs, with what they cost measured."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx

from vidtok_export.bundle import missing_kernels, save_manifest
from vidtok_export.compact import store_half
from vidtok_export.errors import ExportError, TargetError
from vidtok_export.quantization.clips import read_clips
from vidtok_export.quantization.fp16 import to_half
from vidtok_export.quantization.loss import judge, require_judged
from vidtok_export.quantization.selection import Chosen, Int8Choice, choose, mean_psnr
from vidtok_export.targets import check_precision, named, put_in_place
from vidtok_runtime.bundle.graph_entry import ROLES, GraphEntry
from vidtok_runtime.bundle.manifest import Manifest, check_file, read_manifest, sha256_of
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.engines.registry import choose_provider, usable_providers

# ONNX Runtime is no faster in int8 than in float32 (docs/speed.md), and slower in transposed convolutions.
PROVIDERS_OF = {"int8": ["openvino"], "fp16": ["cuda", "cpu"]}


def _write(folder: Path, entry: GraphEntry, precision: str, model: onnx.ModelProto) -> dict[str, Any]:
    """Write a graph into the bundle's folder; returns its row of the manifest, made from that of the float32 graph."""
    path = folder / f"{Path(entry.file).stem}.{precision}.onnx"
    store_half(model)
    path.write_bytes(model.SerializeToString())
    made = replace(
        entry,
        file=path.name,
        sha256=sha256_of(path),
        precision=precision,
        providers=tuple(PROVIDERS_OF[precision]),
        missing_kernels=missing_kernels(model),
    )
    return asdict(made)


def _half(manifest: Manifest) -> list[dict[str, Any]]:
    rows = []
    for entry in (entry for role in ROLES for entry in manifest.chain(role, "cpu", "fp32")):
        model = onnx.load(check_file(manifest, entry)[0])
        to_half(model, {name for s in entry.states for name in (s.input, s.output)})
        halved = replace(entry, states=tuple(replace(state, dtype="float16") for state in entry.states))
        rows.append(_write(manifest.folder, halved, "fp16", model))
    return rows


def _int8(manifest: Manifest, clips: list[Any], held: list[Any], max_lost: float, quiet: bool) -> list[dict[str, Any]]:
    chains = [load_chain(manifest, role, "cpu", "fp32", Options()) for role in ROLES]
    whole = mean_psnr(manifest, chains[0], chains[1], held)
    with tempfile.TemporaryDirectory() as folder:
        choice = Int8Choice(manifest, clips, Path(folder), quiet=quiet)

        def lost(chosen: Chosen) -> float:
            encoder, decoder = (choice.load(role, chosen) for role in ROLES)
            return whole - mean_psnr(manifest, encoder, decoder, held)

        chosen = choose(choice, max_lost, lost, quiet=quiet)
    rows = []
    for file, graph in choice.graphs.items():
        row = _write(manifest.folder, choice.entry(file), "int8", graph.model(chosen[file]))
        kept = [name for name in graph.convolutions if name not in chosen[file]]
        rows.append(row | {"convolutions": len(graph.convolutions), "kept_float": kept})
    return rows


def add_precision(
    bundle: Path,
    precision: str,
    *,
    clips: Path,
    skip_notes: tuple[str, ...] = (),
    max_lost: float = 0.2,
    force: bool = False,
    quiet: bool = True,
) -> list[dict[str, Any]]:
    """Add graphs of a precision (int8, fp16) to a bundle; returns the rows that say what they cost, per provider.

    clips: folder or list, as for training; int8 is calibrated on its training clips, and both precisions are
    judged on the held-out ones. max_lost: PSNR that int8 may cost there, dB. The bundle is as it was until
    everything has passed. Raises TargetError, ExportError, BundleError, DataError.
    """
    bundle = named(bundle)
    manifest = read_manifest(bundle)
    check_precision(manifest, precision, force=force)
    usable = [p for p in PROVIDERS_OF[precision] if p in usable_providers()]
    if not usable:  # to judge it on
        choose_provider(PROVIDERS_OF[precision][0])
    training, held = read_clips(manifest.stream, clips, skip_notes)
    part = bundle.with_name(f"{bundle.name}.{os.getpid()}.part")
    try:
        shutil.copytree(bundle, part)
        raw = dict(manifest.raw)
        raw["graphs"] = [g for g in raw["graphs"] if g["precision"] != precision]
        inside = replace(manifest, folder=part)
        make: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "fp16": lambda: _half(inside),
            "int8": lambda: _int8(inside, training, held, max_lost, quiet),
        }
        raw["graphs"] = [*raw["graphs"], *make[precision]()]
        save_manifest(raw, part)
        written = read_manifest(part)
        rows = [judge(written, precision, provider, held) for provider in usable]
        limit = max_lost if precision == "int8" else None
        require_judged(rows, limit)
        parity = raw.get("parity") or {}
        old = [row for row in parity.get("rows", []) if row.get("precision") != precision]
        raw["parity"] = parity | {"rows": [*old, *rows]}
        save_manifest(raw, part)
        put_in_place(part, bundle)
    except OSError as error:
        if isinstance(error, ExportError):
            raise
        raise TargetError(f"{bundle} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return rows
