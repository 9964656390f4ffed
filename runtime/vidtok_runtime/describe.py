"""Text about a bundle or a token file."""

from __future__ import annotations

from pathlib import Path

from vidtok_runtime.bundles import find_bundle, shipped_names
from vidtok_runtime.errors import TokenFileError
from vidtok_runtime.files import is_file, is_folder
from vidtok_runtime.manifest import Manifest, ParityRow, check_file
from vidtok_runtime.tokens import TokenReader


def describe(file: str, *, verify: bool = False) -> str:
    """Lines about a bundle (folder or shipped name) or a token file; `verify` compares checksums.

    Raises BundleError, TokenFileError.
    """
    if file in shipped_names() or is_folder(Path(file)):
        return _bundle(find_bundle(file), verify)
    if not is_file(Path(file)):
        raise TokenFileError(f"{file} does not exist; shipped bundles are {', '.join(shipped_names())}")
    return _tokens(TokenReader(file), verify)


def _lines(rows: dict[str, object]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _bundle(manifest: Manifest, verify: bool) -> str:
    rows: dict[str, object] = {
        "bundle": manifest.folder,
        "variant": manifest.variant,
        "weights": f"{manifest.weights_sha256[:16]} ({manifest.source})",
        "compression": f"{manifest.time_factor} frames x {manifest.spatial_multiple} x {manifest.spatial_multiple}",
        "latent": f"{manifest.latent_channels} channels"
        + (f", {manifest.codebook_size:,} codes" if manifest.codebook_size else ""),
        "licence": manifest.licence,
    }
    for graph in manifest.graphs:
        path = check_file(manifest, graph) if verify else manifest.folder / graph.file
        size = path.stat().st_size / 1e6
        name = graph.role if graph.precision == "fp32" else f"{graph.role} {graph.precision}"
        rows[name] = f"{graph.file}, {'/'.join(graph.providers)}, {size:.1f} MB, {len(graph.states)} states"
    for row in manifest.parity:
        rows[" ".join(["parity", row.provider, *filter(None, [row.precision])])] = _parity(row)
    if verify:
        rows["verified"] = "the graphs have the SHA-256 that the manifest gives"
    return _lines(rows)


def _parity(row: ParityRow) -> str:
    """Largest differences at export, or the share of equal tokens; of other precisions than fp32 the dB lost, too."""
    encoder = f"latent {row.latent_max_diff or 0:.1e}"
    if row.tokens is not None and row.tokens_differing is not None:
        encoder = f"{row.tokens - row.tokens_differing} of {row.tokens} tokens equal"
    lost = "" if row.psnr_lost is None else f", {row.psnr_lost:.2f} dB lost"
    return f"{encoder}, video {row.video_max_diff:.1e}{lost}"


def _tokens(reader: TokenReader, verify: bool) -> str:
    info = reader.info
    size = reader.path.stat().st_size
    rows: dict[str, object] = {
        "token file": reader.path,
        "variant": info.variant,
        "weights": info.weights_sha256[:16],
        "clip": f"{info.num_frames} frames of {info.width}x{info.height}"
        + (f" at {float(info.fps):.3f} a second" if info.fps else ""),
        reader.kind: f"{reader.dtype} {list(reader.shape)}",
        "made with": f"{info.provider}, {info.precision}",
        "size": f"{size:,} bytes, {8 * size / (info.num_frames * info.width * info.height):.3f} bits a pixel",
        "checksum": reader.checksum,
    }
    if info.timing.group is not None:
        kind = "windows" if info.timing.windows else "groups"
        rows["seekable"] = f"{kind} of {info.timing.group} latents, {info.timing.group_frames} frames"
    if info.skip:
        rows["cut"] = f"{info.skip} frames decode before the first"
    if verify:
        reader.verify()
        rows["verified"] = "the numbers have this checksum"
    return _lines(rows)
