"""The manifest of a bundle: how its graphs are called, and what they take, give and remember."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from vidtok_runtime.bundle.graph_entry import ROLES, GraphEntry, Port, file_name, graph_entry
from vidtok_runtime.bundle.onnx_file import check_onnx_file
from vidtok_runtime.bundle.stream_spec import StreamSpec, stream_spec
from vidtok_runtime.checked_json import Fields, parse_json
from vidtok_runtime.errors import BundleError
from vidtok_runtime.files import is_file
from vidtok_runtime.remote import Place

FORMAT = "vidtok-bundle"
FORMAT_VERSION = 2
_MAX_BYTES = 2**24  # of manifest.json
_MAX_FILE = 2**53 - 1  # bytes of a file of weights
_ENDS = ("video", "latent", "indices")  # what chains take and give
VARIANCE = "log_variance"


@dataclass(frozen=True)
class WeightsFile:
    """A file that graphs may keep tensors in; size in bytes."""

    file: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """A bundle's description, read from `manifest.json` in `folder`; `raw` is all of it, also what is for people."""

    folder: Path
    raw: dict[str, Any]
    family: str
    name: str
    weights_sha256: str
    licence: str
    stream: StreamSpec
    weights_files: tuple[WeightsFile, ...]
    graphs: tuple[GraphEntry, ...]

    @property
    def files(self) -> list[str]:
        """Names of all files besides the manifest."""
        return [*(graph.file for graph in self.graphs), *(weights.file for weights in self.weights_files)]

    def chain(self, role: str, provider: str, precision: str | None) -> tuple[GraphEntry, ...]:
        """The graphs that compute a role, in the order of the data; raises BundleError.

        precision: None for that of the first encoder for the provider.
        """
        if precision is None:
            fits = (g.precision for g in self.graphs if g.role == "encoder" and provider in g.providers)
            precision = next(fits, None)
        found = tuple(g for g in self.graphs if g.role == role and provider in g.providers and g.precision == precision)
        if not found:
            offered = sorted({f"{g.precision} on {'/'.join(g.providers)}" for g in self.graphs if g.role == role})
            raise BundleError(
                f"{self.folder} has no {precision or ''} {role} graph for {provider}; it offers {', '.join(offered)}"
            )
        return found


def sha256_of(path: Place) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json` and that every file it names is there; raises BundleError."""
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
    for name in (path.name, *manifest.files):
        _place(folder, name)
    return manifest


def _manifest(folder: Path, raw: Fields) -> Manifest:
    raw.mapping("config")
    manifest = Manifest(
        folder=folder,
        raw=raw.raw,
        family=raw.text("family"),
        name=raw.text("name"),
        weights_sha256=raw.fields("weights").sha256("sha256"),
        licence=raw.text("licence"),
        stream=stream_spec(raw.fields("stream")),
        weights_files=tuple(
            WeightsFile(file_name(row, ".weights"), row.sha256("sha256"), row.integer("size", 1, _MAX_FILE))
            for row in raw.rows("weights_files")
        ),
        graphs=tuple(graph_entry(row) for row in raw.rows("graphs")),
    )
    names = [weights.file for weights in manifest.weights_files]
    if len(set(names)) != len(names):
        raise ValueError("two of its files of weights have one name")
    chains: dict[tuple[str, str, str], list[GraphEntry]] = {}
    for graph in manifest.graphs:
        if unknown := {flag.name for flag in graph.flags} - manifest.stream.calls(graph.role).flags.keys():
            raise ValueError(f"nothing says when to set the {graph.role}'s flags {', '.join(sorted(unknown))}")
        for provider in set(graph.providers):
            chains.setdefault((graph.role, provider, graph.precision), []).append(graph)
    for role in ROLES:
        if role not in {key[0] for key in chains}:
            raise ValueError(f"it has no {role}")
    for (role, *_), chain in chains.items():
        _check_chain(manifest.stream, role, chain)
    return manifest


def _check_chain(stream: StreamSpec, role: str, chain: Sequence[GraphEntry]) -> None:
    """Raise ValueError unless each graph takes what the one before it gives, and the ends are those of the role."""
    video, tokens = _data_ports(stream)
    first, last = (video, tokens) if role == "encoder" else (tokens, video)
    for port, right in ((chain[0].inputs[0], first), (chain[-1].outputs[0], last)):
        if port != right:
            raise ValueError(f"the {role} has {_text(port)} where {_text(right)} belongs")
    for before, after in pairwise(chain):
        given, taken = before.outputs[0], after.inputs[0]
        if given != taken or given.name in _ENDS:
            raise ValueError(
                f"the {role}'s graphs are no chain: one gives {_text(given)}, the next takes {_text(taken)}"
            )
    if role == "encoder" and tokens.name == "latent":
        for port in chain[-1].outputs:
            if port.name == VARIANCE and (port.dtype, port.axes) != (tokens.dtype, tokens.axes):
                raise ValueError(f"the encoder gives {_text(port)}, but {_text(tokens)}")


def _data_ports(stream: StreamSpec) -> tuple[Port, Port]:
    """Video, and latents or indices, with the axes that follow from the factors."""
    f, s = ("" if n == 1 else f"/{n}" for n in (stream.time_factor, stream.spatial_multiple))
    tokens = Port("latent", "float32", f"N {stream.latent_channels} T{f} H{s} W{s}")
    if stream.codebook_size is not None:
        tokens = Port("indices", "int32", f"N T{f} H{s} W{s}")
    return Port("video", "float32", "N 3 T H W"), tokens


def _text(port: Port) -> str:
    return f"{port.name} ({port.dtype} {port.axes})"


def _place(folder: Path, name: str) -> Path:
    """Where a file of the bundle is; raises BundleError when it is missing or a link that leads out of the bundle."""
    path = folder / name
    if not is_file(path):
        raise BundleError(f"{folder} is incomplete: {name} is missing; export the bundle again")
    if path.resolve().parent != folder.resolve():
        raise BundleError(f"{path} is a link out of the bundle; copy the file into its place")
    return path


def check_file(manifest: Manifest, graph: GraphEntry, known: set[Path] | None = None) -> tuple[Path, list[Path]]:
    """Path of a graph file, and those of the files of weights that it needs, whose bytes are those of the manifest.

    known: files that need no second look; what is found sound is added. Raises BundleError.
    """
    known = set() if known is None else known
    path = _checked(manifest, graph.file, graph.sha256, known)
    weights = {w.file: w for w in manifest.weights_files}
    named = check_onnx_file(path, {name: w.size for name, w in weights.items()})
    files = [_checked(manifest, name, weights[name].sha256, known, weights[name].size) for name in sorted(named)]
    return path, files


def _checked(manifest: Manifest, name: str, sha256: str, known: set[Path], size: int | None = None) -> Path:
    path = _place(manifest.folder, name)
    if path in known:
        return path
    try:
        same = size in (None, path.stat().st_size) and sha256_of(path) == sha256
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    if not same:
        raise BundleError(
            f"{path} is altered: its size or SHA-256 is not the manifest's; copy or export the bundle again"
        )
    known.add(path)
    return path


def sizes_of_graphs(manifest: Manifest, chain: Sequence[GraphEntry]) -> tuple[int, ...]:
    """Bytes of each graph of a chain, with the files of weights that it is the first to need."""
    left = {weights.file: weights.size for weights in manifest.weights_files}
    sizes, found = dict(left), []
    for graph in chain:
        path = manifest.folder / graph.file
        beside = check_onnx_file(path, sizes) if sizes else set()
        found.append(path.stat().st_size + sum(left.pop(file, 0) for file in beside))
    return tuple(found)
