"""Write the tables of docs/variants.md: what every variant costs, derived from the code, and what was published.

python scripts/variant_table.py
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

import torch
from pages import put

from vidtok_export.footprint import smallest_input
from vidtok_export.graph import state_ports
from vidtok_export.lowering.lower import lower
from vidtok_export.operations import multiply_adds
from vidtok_ref import VideoTokenizer, find_variant
from vidtok_ref.families import make_model
from vidtok_ref.families.vidtok.variant import VARIANTS, Variant
from vidtok_runtime.bundle.graph_entry import shape_of

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs/variants.md"
SIDE = 256
# Table 2: millions of parameters, T operations, PSNR, SSIM, LPIPS, FVD.
PUBLISHED = {
    "mixed": (157, 10.35, "29.64", "0.852", "0.114", "194.2"),
    "3d": (245, 16.98, "29.39", "0.847", "0.117", "176.9"),
    "separated": (142, 7.17, "29.36", "0.846", "0.119", "185.7"),
    "2d": (126, 10.18, "29.26", "0.846", "0.120", "200.6"),
}

COLUMNS = (
    "variant",
    "compression T x H x W",
    "latent",
    "parameters (M)",
    "operations (T)",
    "bits per pixel",
    "state (MiB)",
    "PSNR",
    "SSIM",
    "LPIPS",
    "FVD",
)


def operations(model: VideoTokenizer, frames: int) -> int:
    """Multiply-accumulates of encoding and decoding one clip."""
    padded = frames + model.stream.front_frames
    return sum(multiply_adds(model, role, padded, SIDE, SIDE) for role in ("encoder", "decoder"))


def state_bytes(model: VideoTokenizer, role: str) -> int:
    """Bytes of the exported graph's states."""
    spec = model.stream
    with torch.device("meta"):
        _, state = lower(getattr(model, role)).step(smallest_input(spec, role))
    ports = state_ports(state, spec.spatial_multiple)
    return sum(4 * math.prod(shape_of(p.axes, {"N": 1, "H": SIDE, "W": SIDE})) for p in ports)


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |\n"


def row(v: Variant, published: dict[str, str]) -> str:
    """One line of the table."""
    with torch.device("meta"):
        model = make_model(v)
    frames = 17 if v.causal else 16
    t, side = (frames + v.front_frames) // v.time_factor, SIDE // v.spatial_factor
    bits = math.log2(v.codebook_size) if v.codebook_size else 16 * v.z_channels
    cells = [
        f"`{v.name}`",
        f"{v.time_factor}x{v.spatial_factor}x{v.spatial_factor}",
        f"{t}x{side}x{side} of " + (f"{v.codebook_size:,} codes" if v.codebook_size else f"{v.z_channels} numbers"),
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}",
        f"{operations(model, frames) / 1e12:.2f}",
        f"{bits * t * side**2 / (frames * SIDE**2):.3f}",
        " / ".join(f"{state_bytes(model, role) / 2**20:.1f}" for role in ("encoder", "decoder")) if v.causal else "-",
        *(published.get(key, "-") for key in ("psnr", "ssim", "lpips", "fvd")),
    ]
    return line(cells)


def architectures() -> str:
    """Counts of the architectures beside the published ones."""
    head = ("architecture", "in Table 2", "parameters (M)", "operations (T)", *COLUMNS[-4:])
    names = ("ours", "variant 1", "variant 2", "variant 3")
    lines = [line(head), line("-" for _ in head)]
    for name, (architecture, (parameters, count, *quality)) in zip(names, PUBLISHED.items(), strict=True):
        with torch.device("meta"):
            model = make_model(find_variant("kl-4chn", architecture=architecture))
        own = sum(p.numel() for p in model.parameters()) / 1e6, operations(model, 17) / 1e12
        lines.append(
            line([f"`{architecture}`", name, f"{own[0]:.1f} ({parameters})", f"{own[1]:.2f} ({count})", *quality])
        )
    return "".join(lines)


def table() -> str:
    """Costs and published quality of all variants."""
    with (ROOT / "scripts/published_table5.csv").open(newline="") as file:
        published = {entry["variant"]: entry for entry in csv.DictReader(file)}
    head = line(COLUMNS) + line("-" for _ in COLUMNS)
    return head + "".join(row(v, published.get(v.name, {})) for v in VARIANTS.values())


if __name__ == "__main__":
    put(TARGET, table())
    put(TARGET, architectures(), "measured: architectures")
