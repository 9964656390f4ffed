"""Write the table of docs/parity.md: every variant on every engine beside the released implementation's golden vectors.

python scripts/parity_table.py VECTORS          # the folder of the golden vectors, `<release name>.safetensors`
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from pages import put
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from vidtok_export import export
from vidtok_export.verify import run_in_calls
from vidtok_ref import VideoTokenizer, build
from vidtok_ref.families.vidtok.checkpoints import release_name
from vidtok_ref.families.vidtok.variant import VARIANTS, Variant
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.load import load_chain

TARGET = Path(__file__).parent.parent / "docs/parity.md"
ENGINES = {"reference": None, "ONNX Runtime": "cpu", "OpenVINO": "openvino"}
OVER = "(over the limit)"
COLUMNS = [f"{engine}, {mode}" for engine in ENGINES for mode in ("one shot", "streamed")]
Array = NDArray[np.float32]
Coder = Callable[[str, Array, int], Array]


def _reference(model: VideoTokenizer) -> Coder:
    @torch.no_grad()
    def run(role: str, x: Array, latents: int) -> Array:
        if role == "encoder":
            encoded = model.encode(torch.from_numpy(x), latents)
            return (encoded.latent if encoded.indices is None else encoded.indices).numpy()
        return model.decode(torch.from_numpy(x), chunk=latents).numpy()

    return run


def _bundle(folder: Path, provider: str, model: VideoTokenizer) -> Coder:
    manifest = read_manifest(folder)
    graphs = {role: load_chain(manifest, role, provider, None, Options()) for role in ("encoder", "decoder")}

    def run(role: str, x: Array, latents: int) -> Array:
        padded = model.pad(torch.from_numpy(x)).numpy() if role == "encoder" else x
        return run_in_calls(manifest, graphs[role], padded, latents)

    return run


def _cell(run: Coder, tensors: dict[str, Tensor], chunkings: list[int]) -> str:
    """Differences of one engine over some chunkings."""
    fsq = "indices" in tensors
    tokens = tensors["indices" if fsq else "latent"].numpy()
    recon = tensors["recon_full" if "recon_full" in tensors else "recon"].numpy()
    # As at export: per unit of the largest value; tokens of the vectors keep a margin and are exact.
    limits = 0 if fsq else 2e-5 * max(1, np.abs(tokens).max()), 1e-4 * max(1, np.abs(recon).max())
    latent_diff, video_diff = 0, 0.0
    for latents in chunkings:
        got = run("encoder", tensors["input"].numpy(), latents)
        diff = int((got != tokens).sum()) if fsq else float(np.abs(got - tokens).max())
        latent_diff = np.maximum(latent_diff, diff)  # unlike max, it keeps what is not a number
        video = run("decoder", tokens, latents)[:, :, : recon.shape[2]]
        video_diff = np.maximum(video_diff, np.abs(video - recon).max())
    mark = "" if latent_diff <= limits[0] and video_diff <= limits[1] else f" {OVER}"
    return (f"{latent_diff} of {tokens.size}" if fsq else f"{latent_diff:.1e}") + f"; {video_diff:.1e}{mark}"


def row(v: Variant, vectors: Path) -> str:
    """One line of the table."""
    tensors = load_file(vectors / f"{release_name(v)}.safetensors")
    weights = {k: t for k, t in tensors.items() if "." in k}
    first = "encoder.conv_in.conv.weight" if v.causal else "encoder.conv_in.weight"
    model = build(v, weights, ch=weights[first].shape[0])
    whole = tensors["latent"].shape[2]
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = export(model, Path(folder) / v.name)
        for provider in ENGINES.values():
            run = _bundle(bundle, provider, model) if provider else _reference(model)
            cells += [_cell(run, tensors, [whole]), _cell(run, tensors, [1, 2]) if v.causal else "-"]
    return f"| `{v.name}` | " + " | ".join(cells) + " |\n"


@click.command()
@click.argument("vectors", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(vectors: Path) -> None:
    """Measure all variants on the folder VECTORS, write the table, and fail when one is over the limit."""
    lines = ["| variant | " + " | ".join(COLUMNS) + " |\n", "|" + "---|" * (1 + len(COLUMNS)) + "\n"]
    for v in tqdm(VARIANTS.values(), unit="variant"):
        lines.append(row(v, vectors))
        tqdm.write(lines[-1].rstrip())
    put(TARGET, "".join(lines))
    if any(OVER in line for line in lines):
        raise SystemExit("some engine is too far from the golden vectors")


if __name__ == "__main__":
    main()
