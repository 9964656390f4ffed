"""LPIPS and the features of FVD as ONNX graphs, so that the runtime measures them without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from vidtok_export.errors import ExportError, ParityError
from vidtok_export.trace import trace
from vidtok_ref.perceptual.i3d import MIN_FRAMES, SIZE, load_i3d
from vidtok_ref.perceptual.lpips import Net, find_backbone, load_lpips
from vidtok_runtime.bundle.manifest import sha256_of
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.registry import PROVIDERS
from vidtok_runtime.files import PartFile
from vidtok_runtime.quality.graph_metrics import METRIC

_TOLERANCE = 1e-3  # of the largest output; float32 through some twenty convolutions stays a hundred times below


def export_lpips(out: Path, net: Net = "vgg", weights: Path | None = None, *, force: bool = False) -> None:
    """Write LPIPS as a graph: `a`, `b` float32 `N 3 H W` in -1..1 to `distance` `N`.

    weights: as for `load_lpips`. Raises OutputError before any work, ModelError, ExportError, ParityError.
    """
    target = PartFile(out, force=force)
    path = find_backbone(net, weights)
    model = load_lpips(net, path).eval()
    n, h, w = Dim("n"), Dim("h", min=32), Dim("w", min=32)
    dims = {0: n, 2: h, 3: w}
    generator = torch.Generator().manual_seed(0)
    # Two different pictures: of equal ones every graph says 0.
    examples = {name: torch.rand(2, 3, 64, 72, generator=generator) * 2 - 1 for name in ("a", "b")}
    _write(model, examples, (dims, dims), "distance", target, {METRIC: "lpips", "net": net, "weights": sha256_of(path)})


def export_fvd(out: Path, weights: Path, frames: int = 17, *, force: bool = False) -> None:
    """Write I3D as a graph: `video` float32 `N 3 frames 224 224` in -1..1 to `features` `N 400`.

    weights: a state dict of pytorch-i3d. Raises OutputError before any work, ModelError, ExportError, ParityError.
    """
    target = PartFile(out, force=force)
    if frames < MIN_FRAMES:
        raise ExportError(f"I3D needs at least {MIN_FRAMES} frames, got {frames}")
    model = load_i3d(weights)
    generator = torch.Generator().manual_seed(0)
    # The length is fixed, for the padding in time depends on it.
    example = torch.rand(2, 3, frames, SIZE, SIZE, generator=generator) * 2 - 1
    about = {METRIC: "fvd", "frames": str(frames), "size": str(SIZE), "weights": sha256_of(weights)}
    _write(model, {"video": example}, ({0: Dim("n")},), "features", target, about)


def _write(
    model: nn.Module,
    examples: Mapping[str, Tensor],
    dims: tuple[dict[int, Any], ...],
    output: str,
    target: PartFile,
    metadata: dict[str, str],
) -> None:
    """Trace, compare on ONNX Runtime, and give the graph its name."""
    proto = trace(model, tuple(examples.values()), dims, (list(examples), [output]), metadata[METRIC])
    onnx.helper.set_model_props(proto, metadata)

    def fill(file: BinaryIO) -> None:
        file.write(proto.SerializeToString())
        file.flush()
        _compare(model, examples, output, target.part)

    target.write_through(fill)


def _compare(model: nn.Module, examples: Mapping[str, Tensor], output: str, graph: Path) -> None:
    """Raise ParityError unless ONNX Runtime gives what PyTorch gives."""
    with torch.no_grad():
        wanted = model(*examples.values()).numpy()
    session = PROVIDERS["cpu"].open(graph, Options())
    found = session.run({name: x.numpy() for name, x in examples.items()})[output]
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not difference < _TOLERANCE:
        raise ParityError(f"the graph differs from PyTorch by {difference:.1e} of its largest output; update onnx")
