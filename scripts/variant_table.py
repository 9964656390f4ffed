"""Write docs/variants.md: what every variant costs, derived from the code, and what was published about it.

python scripts/variant_table.py
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

import torch

from vidtok_export.graph import Network, state_ports
from vidtok_export.operations import multiply_adds
from vidtok_ref import VideoTokenizer, find_variant
from vidtok_ref.families import make_model
from vidtok_ref.families.vidtok.variant import VARIANTS, Variant
from vidtok_runtime.bundle.graph_entry import shape_of

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs/variants.md"
SIDE = 256
HEAD = f"""# Variants

Made by `python scripts/variant_table.py`; a test compares. Clips are 17x{SIDE}x{SIDE} (non-causal: 16x{SIDE}x{SIDE}).
Operations are multiply-accumulates of the published model, encode and decode together. Bits per pixel: tokens as they
are, KL latents at 16 bits a number. State: float32 memory that the exported graphs carry from call to call at
{SIDE}x{SIDE}, encoder / decoder. PSNR, SSIM, LPIPS and FVD are the paper's (Table 5, MCL-JCV, 30 frames a second);
version 1.1 and the two later non-causal variants were released without such a table.

Version 1.1 pads every temporal convolution with copies of its own first frame and doubles time by linear interpolation.
Its bundles compute the released one-shot result (`recon_full` of the golden vectors) for any chunking, with a delay of
f-1 frames. The released chunked script (`recon_tiled`) differs from its own one-shot result in the first frames of a
clip (up to 0.14 in -1..1), because the interpolation sees a different neighbour at the first boundary; bundles do not
repeat that.

A non-causal bundle encodes windows of 16 frames (`--window` changes it) on their own: no window sees another, so a
slight jump may show at a seam. One window of the whole clip is the released one-shot result.

"""

ARCHITECTURES = """
## Architectures

The paper's Table 2 compares architectures of `kl-4chn`; `architecture` of a variant chooses one. In brackets are the
paper's counts, which decided between readings. `3d`: each pair of a 2D and a 1D block is one 3x3x3 block, and one 3x3x3
convolution resamples all axes of a level (separate resamplers would have 263.7M parameters and 18.94 T operations; with
2D ones in space 246.9M and 17.44 T). `separated`: kernel-3 convolutions along T alone, strided down, behind nearest
neighbour up, in place of the AlphaBlenders (pooling and repetition alone: 139.8M and 6.76 T). `2d`: 3x3 and then kernel
3 along T in place of each 3x3x3 convolution of the two middle blocks (3x3 alone: 119.7M and 10.15 T; the ends
factorized, too: 126.7M and 10.23 T).

"""

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
    with torch.device("meta"):
        ports = state_ports(Network(model, role), model)
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
    return ARCHITECTURES + "".join(lines)


def table() -> str:
    """The whole page."""
    with (ROOT / "scripts/published_table5.csv").open(newline="") as file:
        published = {entry["variant"]: entry for entry in csv.DictReader(file)}
    head = HEAD + line(COLUMNS) + line("-" for _ in COLUMNS)
    return head + "".join(row(v, published.get(v.name, {})) for v in VARIANTS.values()) + architectures()


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(table())
