"""Write the tables of docs/variants.md and docs/table1.md: what every variant costs, and what was published.

python scripts/variant_table.py
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import click
import torch
from pages import put
from table1 import published
from table1_report import calls, line

from vidtok_export.footprint import smallest_input
from vidtok_export.graph import state_ports
from vidtok_export.lowering.lower import lower
from vidtok_export.operations import clip_multiply_adds
from vidtok_ref import VARIANTS, VideoTokenizer, find_variant
from vidtok_ref.families import make_model
from vidtok_ref.families.vidtok.variant import VARIANTS as RELEASED
from vidtok_ref.families.vidtok.variant import Variant
from vidtok_runtime.bundle.graph_entry import shape_of

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs/variants.md"
TABLE1 = ROOT / "docs/table1.md"
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


def state_bytes(model: VideoTokenizer, role: str) -> int:
    """Bytes of the exported graph's states."""
    spec = model.stream
    with torch.device("meta"):
        _, state = lower(getattr(model, role)).step(smallest_input(spec, role))
    ports = state_ports(state, spec.spatial_multiple)
    return sum(4 * math.prod(shape_of(p.axes, {"N": 1, "H": SIDE, "W": SIDE})) for p in ports)


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
        f"{clip_multiply_adds(model, frames, SIDE, SIDE) / 1e12:.2f}",
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
        own = sum(p.numel() for p in model.parameters()) / 1e6, clip_multiply_adds(model, 17, SIDE, SIDE) / 1e12
        lines.append(
            line([f"`{architecture}`", name, f"{own[0]:.1f} ({parameters})", f"{own[1]:.2f} ({count})", *quality])
        )
    return "".join(lines)


def table() -> str:
    """Costs and published quality of all variants."""
    with (ROOT / "scripts/published_table5.csv").open(newline="") as file:
        published = {entry["variant"]: entry for entry in csv.DictReader(file)}
    head = line(COLUMNS) + line("-" for _ in COLUMNS)
    return head + "".join(row(v, published.get(v.name, {})) for v in RELEASED.values())


def system_row(system: dict[str, Any]) -> str:
    """One line of the table of docs/table1.md; a system without a family here has its published figures alone."""
    name = system["variant"]
    own = ["not here yet", "-", "-"]
    if name in VARIANTS:
        with torch.device("meta"):
            model = make_model(VARIANTS[name])
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        own = [calls(model.stream), f"{parameters:.1f}", f"{clip_multiply_adds(model, 17, SIDE, SIDE) / 1e12:.2f}"]
    kind, *counts = own
    quality = [[system[data][key] or "-" for key in ("psnr", "ssim", "lpips", "fvd")] for data in DATA]
    return line(
        [
            system["method"],
            system["regularizer"],
            f"`{name}`",
            kind,
            f"{counts[0]} ({system['parameters_millions'] or '-'})",
            counts[1],
            *(" / ".join(values) for values in quality),
        ]
    )


DATA = {"mcl_jcv": "MCL-JCV", "webvid_val": "WebVid-Val"}


def systems() -> str:
    """The table of docs/table1.md."""
    head = ("system", "regularizer", "variant", "calls", "parameters (M)", "operations (T)")
    head += tuple(f"PSNR / SSIM / LPIPS / FVD, {name}" for name in DATA.values())
    return line(head) + line("-" for _ in head) + "".join(map(system_row, published()))


@click.command()
def main() -> None:
    """Compute the tables and put them into the pages."""
    put(TABLE1, systems())
    put(TARGET, table())
    put(TARGET, architectures(), "measured: architectures")


if __name__ == "__main__":
    main()
