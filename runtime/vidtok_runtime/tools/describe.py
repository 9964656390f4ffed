"""Text about a bundle, a token file or a folder of segments."""

from __future__ import annotations

import math
from pathlib import Path

from vidtok_runtime.bundle.graph_entry import GraphEntry
from vidtok_runtime.bundle.information import ParityRow, parity, source
from vidtok_runtime.bundle.lookup import find_bundle, shipped_names
from vidtok_runtime.bundle.manifest import Manifest, check_file
from vidtok_runtime.bundle.stream_spec import Groups
from vidtok_runtime.errors import TokenFileError
from vidtok_runtime.files import is_file, is_folder
from vidtok_runtime.places import size_of
from vidtok_runtime.quality.bits_per_pixel import BITS_COUNTED, bits_per_number, bits_per_pixel
from vidtok_runtime.remote import place_of
from vidtok_runtime.tokens.segments import has_segments, joined, segment_number, segments_in
from vidtok_runtime.tokens.tokens import TokenInfo, TokenReader

EXACT = "fp32"  # the precision of the reference


def describe(file: str, *, verify: bool = False) -> str:
    """Lines about a bundle (folder or shipped name), a token file or a folder of segments; `verify` compares checksums.

    Raises BundleError, TokenFileError.
    """
    place = place_of(file)
    if file not in shipped_names() and has_segments(place):
        return _segments(segments_in(place), verify)
    if file in shipped_names() or is_folder(Path(file)):
        return _bundle(find_bundle(file), verify)
    if not is_file(place):
        raise TokenFileError(f"{file} does not exist; shipped bundles are {', '.join(shipped_names())}")
    return _tokens(TokenReader(file), verify)


def _lines(rows: dict[str, object]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _bundle(manifest: Manifest, verify: bool) -> str:
    stream = manifest.stream
    rows: dict[str, object] = {
        "bundle": manifest.folder,
        "family": manifest.family,
        "name": manifest.name,
        "weights": " ".join([manifest.weights_sha256[:16], *(f"({text})" for text in [source(manifest)] if text)]),
        "compression": f"{stream.time_factor} frames x {stream.spatial_multiple} x {stream.spatial_multiple}",
        "latent": f"{stream.latent_channels} channels"
        + (f", {stream.codebook_size:,} codes" if stream.codebook_size else ""),
        **({} if stream.groups is None else {"groups": _groups(stream.groups)}),
        "licence": manifest.licence,
    }
    known: set[Path] = set()
    for graph in manifest.graphs:
        path = check_file(manifest, graph, known)[0] if verify else manifest.folder / graph.file
        size = path.stat().st_size / 1e6
        rows[_name(graph, list(rows))] = (
            f"{graph.file}, {'/'.join(graph.providers)}, {size:.1f} MB, {len(graph.states)} states"
        )
    for weights in manifest.weights_files:
        rows[f"weights file {weights.file}"] = f"{weights.size / 1e6:.1f} MB"
    for row in parity(manifest):
        rows[" ".join(["parity", row.provider, *filter(None, [row.precision])])] = _parity(row)
    if verify:
        rows["verified"] = "the graphs have the SHA-256 that the manifest gives"
    return _lines(rows)


def _name(graph: GraphEntry, taken: list[str]) -> str:
    """What to call a graph: its role, precision if that is not the usual, and number if it is not the first part."""
    words = [graph.role] + ([] if graph.precision == EXACT else [graph.precision])
    name, number = " ".join(words), 1
    while " ".join([name, *([str(number)] if number > 1 else [])]) in taken:
        number += 1
    return name if number == 1 else f"{name} {number}"


def _groups(groups: Groups) -> str:
    shared = f", {groups.shared_frames} and {groups.shared_latents} shared" if groups.shared_frames else ""
    return f"{groups.frames} frames, {groups.latents} latents{shared}"


def _parity(row: ParityRow) -> str:
    """Largest differences at export, or the share of equal tokens; of other precisions than fp32 the dB lost, too."""
    encoder = f"latent {row.latent_max_diff or 0:.1e}"
    if row.tokens is not None and row.tokens_differing is not None:
        encoder = f"{row.tokens - row.tokens_differing} of {row.tokens} tokens equal"
    lost = "" if row.psnr_lost is None else f", {row.psnr_lost:.2f} dB lost"
    return f"{encoder}, video {row.video_max_diff:.1e}{lost}{_others(row.precision or EXACT)}"


def _others(precision: str) -> str:
    """What must be known of tokens of another precision than that of the reference."""
    return "" if precision == EXACT else f"; {precision} tokens are not those of {EXACT}"


def _about(readers: list[TokenReader], info: TokenInfo) -> dict[str, object]:
    """What one file and many segments have in common."""
    size = sum(size_of(reader.path) for reader in readers)
    pixels = info.num_frames, info.height, info.width
    bits = bits_per_number(info.codebook_size) * sum(math.prod(reader.shape) for reader in readers)
    made = sorted({f"{reader.info.provider}, {reader.info.precision}" for reader in readers})
    return {
        "family": info.family,
        "name": info.name,
        "weights": info.weights_sha256[:16],
        "clip": f"{info.num_frames} frames of {info.width}x{info.height}"
        + (f" at {float(info.fps):.3f} a second" if info.fps else ""),
        "tokens": f"{bits_per_pixel(bits, *pixels):.4f} bits per pixel: {BITS_COUNTED}",
        "size": f"{size:,} bytes, {bits_per_pixel(8 * size, *pixels):.4f} bits per pixel as stored",
        "made with": "; ".join(made) + "".join(sorted({_others(reader.info.precision) for reader in readers})),
    }


def _segments(paths: list[Path], verify: bool) -> str:
    readers = [TokenReader(path) for path in paths]
    first, last, info = readers[0], readers[-1], joined(readers)
    absent = segment_number(paths[-1]) - segment_number(paths[0]) + 1 - len(paths)
    rows: dict[str, object] = {
        "segments": f"{len(paths)} in {paths[0].parent}" + (f"; {absent} between them are missing" if absent else ""),
        **_about(readers, info),
        first.kind: f"{'/'.join(sorted({r.dtype for r in readers}))} "
        f"{[sum(r.shape[0] for r in readers), *first.shape[1:]]}",
    }
    if info.time_base:
        began, ended = (float(int(pts) * info.time_base) for pts in (first.pts()[0], last.pts()[-1]))
        rows["times"] = f"{began:.3f} to {ended:.3f} seconds"
    if verify:
        for reader in readers:
            reader.verify()
        rows["verified"] = "the numbers of every segment have its checksum"
    return _lines(rows)


def _tokens(reader: TokenReader, verify: bool) -> str:
    info = reader.info
    rows: dict[str, object] = {
        "token file": reader.path,
        **_about([reader], info),
        reader.kind: f"{reader.dtype} {list(reader.shape)}",
        "checksum": reader.checksum,
    }
    if info.resampling is not None:
        rows["resampling"] = f"of {info.resampling}"
    if reader.has_variance:
        rows["log variance"] = "of each latent"
    if info.sampled is not None:
        rows["sampled"] = f"from the posterior, with seed {info.sampled}"
    if info.normalized:
        rows["normalized"] = "with the release's mean and scale"
    if info.groups is not None:
        rows["seekable"] = f"groups of {_groups(info.groups)}"
    if info.skip:
        rows["cut"] = f"{info.skip} frames decode before the first"
    if verify:
        reader.verify()
        rows["verified"] = "the numbers have this checksum"
    return _lines(rows)
