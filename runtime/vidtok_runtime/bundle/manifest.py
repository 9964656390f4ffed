"""The manifest of a bundle: what its graphs take, give and remember. Runtimes loop over it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidtok_runtime.bundle.graph_entry import GraphEntry, graph_entry
from vidtok_runtime.bundle.onnx_file import check_onnx_file
from vidtok_runtime.checked_json import Fields, parse_json
from vidtok_runtime.errors import BundleError
from vidtok_runtime.files import is_file

FORMAT = "vidtok-bundle"
FORMAT_VERSION = 1
_MAX_BYTES = 2**24  # of manifest.json
_MAX_CHUNK = 2**16


@dataclass(frozen=True)
class CallRule:
    """How a stream is cut into graph calls, counted in frames (encoder) or latents (decoder).

    multiple: every call takes a multiple of it, but for the last; most: at most so many; first: exactly so
    many in the first call. Of what comes out (latents or frames), `drop` are thrown away at the start.
    flush: at the end, one more call with so many dummies, of whose output only the first `keep` count.
    """

    multiple: int
    most: int
    first: int | None = None
    drop: int = 0
    flush: int = 0
    keep: int = 0


@dataclass(frozen=True)
class ParityRow:
    """Largest differences from the reference that were measured at export; of latents or of `tokens`."""

    provider: str
    latent_max_diff: float | None
    video_max_diff: float
    tokens: int | None
    tokens_differing: int | None
    precision: str | None  # None: fp32
    psnr_lost: float | None  # dB, against fp32


@dataclass(frozen=True)
class Manifest:
    """A bundle's description, read from `manifest.json` in `folder`."""

    folder: Path
    raw: dict[str, Any]
    variant: str
    regularizer: str
    weights_sha256: str
    time_factor: int
    spatial_multiple: int
    front_frames: int
    encoder_chunk: int
    decoder_chunk: int
    decoder_first: int | None
    decoder_drop: int
    decoder_flush: int
    look_ahead: int
    window: int | None
    codebook_size: int | None
    latent_channels: int
    graphs: tuple[GraphEntry, ...]
    source: str
    licence: str
    parity: tuple[ParityRow, ...]
    operations: dict[str, dict[str, float]]

    def multiply_adds(self, role: str, frames: int, height: int, width: int) -> float:
        """Arithmetic of so many frames in the model as published."""
        counts, pixels = self.operations[role], height * width
        return frames * pixels * (counts["pixel"] + counts["pixel_squared"] * pixels)

    def rule(self, role: str, window: int | None = None) -> CallRule:
        """How to call the graph of a role; `window` (frames) replaces that of a non-causal bundle."""
        if self.window is not None:
            length = window or self.window
            length = length if role == "encoder" else length // self.time_factor
            return CallRule(length, length)
        if role == "encoder":
            return CallRule(self.time_factor, self.encoder_chunk)
        return CallRule(
            1, self.decoder_chunk, self.decoder_first, self.decoder_drop, self.decoder_flush, self.look_ahead
        )

    def graph(self, role: str, provider: str, precision: str | None) -> GraphEntry:
        """The graph of a role for a provider and a precision (None: the first listed); raises BundleError."""
        fits = [g for g in self.graphs if g.role == role and provider in g.providers]
        for graph in fits:
            if precision in (None, graph.precision):
                return graph
        offered = sorted({f"{g.precision} on {'/'.join(g.providers)}" for g in self.graphs if g.role == role})
        raise BundleError(
            f"{self.folder} has no {precision or ''} {role} graph for {provider}; it offers {', '.join(offered)}"
        )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json` and that every graph file is there; raises BundleError."""
    path = folder / "manifest.json"
    if not is_file(path):
        raise BundleError(f"{folder} is not a bundle: it has no manifest.json; make one with vidtok-export")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
        raw = Fields(parse_json(path.read_bytes()), "the manifest")
        if (found := raw.text("format")) != FORMAT:
            raise BundleError(f"{path} is not a bundle manifest: its format is {found!r}, not {FORMAT!r}")
        if (version := raw.integer("format_version", 0, 10**6)) != FORMAT_VERSION:
            raise BundleError(
                f"{path} has format version {version}, this runtime reads {FORMAT_VERSION}; "
                "export again or update vidtok-onnx"
            )
        manifest = _manifest(folder, raw)
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise BundleError(f"{path} is damaged: {error}; export the bundle again") from error
    for graph in manifest.graphs:
        _place(manifest, graph)
    return manifest


def _manifest(folder: Path, raw: Fields) -> Manifest:
    variant, weights, chunk = raw.fields("variant"), raw.fields("weights"), raw.fields("chunk")
    f = raw.integer("time_factor", 1, 64)
    flush, window = raw.fields_or_none("flush"), raw.fields_or_none("window")
    manifest = Manifest(
        folder=folder,
        raw=raw.raw,
        variant=variant.text("name"),
        regularizer=variant.text("regularizer"),
        weights_sha256=weights.sha256("sha256"),
        time_factor=f,
        spatial_multiple=raw.integer("spatial_multiple", 1, 256),
        front_frames=raw.fields("front_padding").integer("frames", 0, f - 1),
        encoder_chunk=chunk.integer("encoder_frames", f, _MAX_CHUNK),
        decoder_chunk=chunk.integer("decoder_latents", 1, _MAX_CHUNK),
        decoder_first=chunk.integer_or_none("first_decoder_latents", 1, _MAX_CHUNK),
        decoder_drop=raw.integer("drop_decoded_frames", 0, 2 * f),
        decoder_flush=flush.integer("decoder_latents", 1, 64) if flush else 0,
        look_ahead=raw.integer("look_ahead", 0, f - 1),
        window=window.integer("frames", f, _MAX_CHUNK) if window else None,
        codebook_size=raw.integer_or_none("codebook_size", 1, 2**31 - 1),
        latent_channels=variant.integer("z_channels", 1, 1024),
        graphs=tuple(graph_entry(entry) for entry in raw.rows("graphs")),
        source=weights.text("source"),
        licence=raw.text("licence"),
        parity=tuple(_parity(row) for row in raw.fields("parity").rows("rows")),
        operations=_operations(raw.fields("operations")),
    )
    if flush and flush.integer("keep_frames", 0, f - 1) != manifest.look_ahead:
        raise ValueError("flush does not keep as many frames as the decoder looks ahead")
    if manifest.encoder_chunk % f or (manifest.window or 0) % f:
        raise ValueError(f"a chunk or window of frames is no multiple of {f}")
    names = {port.name for graph in manifest.graphs for port in (graph.inputs[0], graph.outputs[0])} - {"video"}
    if not names <= {"latent" if manifest.codebook_size is None else "indices"}:
        raise ValueError(f"its graphs use {', '.join(sorted(names))}, its codebook size is {manifest.codebook_size}")
    _check_axes(manifest)
    return manifest


def _check_axes(manifest: Manifest) -> None:
    """Raise ValueError unless data have the axes that follow from the factors."""
    f, m = ("" if n == 1 else f"/{n}" for n in (manifest.time_factor, manifest.spatial_multiple))
    tokens = f"T{f} H{m} W{m}"
    right = {"video": "N 3 T H W", "latent": f"N {manifest.latent_channels} {tokens}", "indices": f"N {tokens}"}
    for graph in manifest.graphs:
        for port in (graph.inputs[0], graph.outputs[0]):
            if port.axes != right[port.name]:
                raise ValueError(f"the axes of {port.name} are {port.axes!r}, not {right[port.name]!r}")


def _operations(entry: Fields) -> dict[str, dict[str, float]]:
    return {
        role: {key: entry.fields(role).number(key) for key in ("pixel", "pixel_squared")}
        for role in ("encoder", "decoder")
    }


def _parity(row: Fields) -> ParityRow:
    has = row.names()
    return ParityRow(
        provider=row.text("provider"),
        latent_max_diff=row.number("latent_max_diff") if "latent_max_diff" in has else None,
        video_max_diff=row.number("video_max_diff"),
        tokens=row.count("tokens") if "tokens" in has else None,
        tokens_differing=row.count("tokens_differing") if "tokens_differing" in has else None,
        precision=row.text("precision") if "precision" in has else None,
        psnr_lost=row.number("psnr_lost") if "psnr_lost" in has else None,
    )


def _place(manifest: Manifest, graph: GraphEntry) -> Path:
    """Where a graph's file is; raises BundleError when it is missing or a link that leads out of the bundle."""
    path = manifest.folder / graph.file
    if not is_file(path):
        raise BundleError(f"{manifest.folder} is incomplete: {graph.file} is missing; export the bundle again")
    if path.resolve().parent != manifest.folder.resolve():
        raise BundleError(f"{path} is a link out of the bundle; copy the file into its place")
    return path


def check_file(manifest: Manifest, graph: GraphEntry) -> Path:
    """Path of a graph file whose bytes are those of the manifest and that names no other file; raises BundleError."""
    path = _place(manifest, graph)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    if found != graph.sha256:
        raise BundleError(f"{path} is altered: its SHA-256 is not the manifest's; copy or export the bundle again")
    check_onnx_file(path)
    return path
