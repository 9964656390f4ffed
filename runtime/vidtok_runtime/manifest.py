"""The manifest of a bundle: what its graphs take, give and remember. Runtimes loop over it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidtok_runtime.errors import BundleError

FORMAT = "vidtok-bundle"
FORMAT_VERSION = 1
FIRST_CALL, SECOND_CALL, FLUSH_CALL = "first call", "second call", "flush call"


def shape_of(axes: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Numbers for axes as text: `N 512 2 H/8 W/8` with `{"N": 1, "H": 64, "W": 64}` is (1, 512, 2, 8, 8)."""
    shape = []
    for axis in axes.split():
        symbol, _, divisor = axis.partition("/")
        size = sizes[symbol] if symbol in sizes else int(symbol)
        shape.append(size // int(divisor or 1))
    return tuple(shape)


@dataclass(frozen=True)
class Port:
    """Input or output of a graph."""

    name: str
    dtype: str
    axes: str


@dataclass(frozen=True)
class State:
    """Memory of a graph: feed `output` of one call to `input` of the next; `initial` at the start of a stream."""

    input: str
    output: str
    dtype: str
    axes: str
    initial: str


@dataclass(frozen=True)
class Flag:
    """Input that is true in some calls of a stream and false in all others; `set` lists these calls."""

    name: str
    dtype: str
    axes: str
    set: tuple[str, ...]


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
class GraphEntry:
    """One graph of a bundle."""

    role: str
    file: str
    sha256: str
    precision: str
    providers: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...]
    flags: tuple[Flag, ...]


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
    operations: dict[str, dict[str, float]] | None

    def multiply_adds(self, role: str, frames: int, height: int, width: int) -> float | None:
        """Arithmetic of so many frames in the model as published; None when the bundle does not say."""
        if self.operations is None:
            return None
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


def _graph(entry: dict[str, Any]) -> GraphEntry:
    return GraphEntry(
        role=entry["role"],
        file=entry["file"],
        sha256=entry["sha256"],
        precision=entry["precision"],
        providers=tuple(entry["providers"]),
        inputs=tuple(Port(**p) for p in entry["inputs"]),
        outputs=tuple(Port(**p) for p in entry["outputs"]),
        states=tuple(State(**s) for s in entry["states"]),
        flags=tuple(_flag(f) for f in entry.get("flags", ())),
    )


def _flag(entry: dict[str, Any]) -> Flag:
    unknown = set(entry["set"]) - {FIRST_CALL, SECOND_CALL, FLUSH_CALL}
    if unknown:
        raise BundleError(f"this runtime does not know when to set {entry['name']}: {unknown}; update vidtok-onnx")
    return Flag(entry["name"], entry["dtype"], entry["axes"], tuple(entry["set"]))


def _operations(entry: dict[str, Any]) -> dict[str, dict[str, float]]:
    # The sum is a TypeError for all that is no number.
    return {
        role: {key: entry[role][key] + 0.0 for key in ("pixel", "pixel_squared")} for role in ("encoder", "decoder")
    }


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json` and that every graph file is there; raises BundleError."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle: it has no manifest.json; make one with vidtok-export")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise BundleError(f"{path} is not a bundle manifest: its format is {raw['format']!r}, not {FORMAT!r}")
        if raw["format_version"] != FORMAT_VERSION:
            raise BundleError(
                f"{path} has format version {raw['format_version']}, this runtime reads {FORMAT_VERSION}; "
                "export again or update vidtok-onnx"
            )
        # Bundles of causal version 1.0 may lack the fields about first calls, look-ahead and windows, older ones those
        # about operations.
        front_frames = raw["front_padding"]["frames"]
        flush, window = raw.get("flush"), raw.get("window")
        manifest = Manifest(
            folder=folder,
            raw=raw,
            variant=raw["variant"]["name"],
            regularizer=raw["variant"]["regularizer"],
            weights_sha256=raw["weights"]["sha256"],
            time_factor=raw["time_factor"],
            spatial_multiple=raw["spatial_multiple"],
            front_frames=front_frames,
            encoder_chunk=raw["chunk"]["encoder_frames"],
            decoder_chunk=raw["chunk"]["decoder_latents"],
            decoder_first=raw["chunk"].get("first_decoder_latents"),
            decoder_drop=raw.get("drop_decoded_frames", front_frames),
            decoder_flush=flush["decoder_latents"] if flush else 0,
            look_ahead=raw["look_ahead"],
            window=window["frames"] if window else None,
            codebook_size=raw["codebook_size"],
            latent_channels=raw["variant"]["z_channels"],
            graphs=tuple(_graph(entry) for entry in raw["graphs"]),
            operations=_operations(raw["operations"]) if "operations" in raw else None,
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged ({type(error).__name__}: {error}); export the bundle again") from error
    for graph in manifest.graphs:
        if not (folder / graph.file).is_file():
            raise BundleError(f"{folder} is incomplete: {graph.file} is missing; export the bundle again")
    return manifest


def check_file(manifest: Manifest, graph: GraphEntry) -> Path:
    """Path of a graph file whose bytes are those of the manifest; raises BundleError."""
    path = manifest.folder / graph.file
    if sha256_of(path) != graph.sha256:
        raise BundleError(f"{path} is altered: its SHA-256 is not the manifest's; copy or export the bundle again")
    return path
