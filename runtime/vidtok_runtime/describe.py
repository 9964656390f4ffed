"""Text about a bundle or a token file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidtok_runtime.bundles import find_bundle, shipped_names
from vidtok_runtime.errors import TokenFileError
from vidtok_runtime.manifest import Manifest
from vidtok_runtime.tokens import TokenReader


def describe(file: str) -> str:
    """Lines about a bundle (folder or shipped name) or a token file; raises BundleError, TokenFileError."""
    if file in shipped_names() or Path(file).is_dir():
        return _bundle(find_bundle(file))
    if not Path(file).is_file():
        raise TokenFileError(f"{file} does not exist; shipped bundles are {', '.join(shipped_names())}")
    return _tokens(TokenReader(file))


def _lines(rows: dict[str, object]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _bundle(manifest: Manifest) -> str:
    weights = manifest.raw["weights"]
    rows: dict[str, object] = {
        "bundle": manifest.folder,
        "variant": manifest.variant,
        "weights": f"{weights['sha256'][:16]} ({weights['source']})",
        "compression": f"{manifest.time_factor} frames x {manifest.spatial_multiple} x {manifest.spatial_multiple}",
        "latent": f"{manifest.latent_channels} channels"
        + (f", {manifest.codebook_size:,} codes" if manifest.codebook_size else ""),
        "licence": manifest.raw["licence"],
    }
    for graph in manifest.graphs:
        size = (manifest.folder / graph.file).stat().st_size / 1e6
        name = graph.role if graph.precision == "fp32" else f"{graph.role} {graph.precision}"
        rows[name] = f"{graph.file}, {'/'.join(graph.providers)}, {size:.1f} MB, {len(graph.states)} states"
    for row in manifest.raw["parity"]["rows"]:
        rows[" ".join(["parity", row["provider"], *filter(None, [row.get("precision")])])] = _parity(row)
    return _lines(rows)


def _parity(row: dict[str, Any]) -> str:
    """Largest differences at export, or the share of equal tokens; of other precisions than fp32 the dB lost, too."""
    encoder = f"latent {row['latent_max_diff']:.1e}"
    if "tokens" in row:
        encoder = f"{row['tokens'] - row['tokens_differing']} of {row['tokens']} tokens equal"
    lost = f", {row['psnr_lost']:.2f} dB lost" if "psnr_lost" in row else ""
    return f"{encoder}, video {row['video_max_diff']:.1e}{lost}"


def _tokens(reader: TokenReader) -> str:
    info = reader.info
    size = reader.path.stat().st_size
    return _lines(
        {
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
    )
