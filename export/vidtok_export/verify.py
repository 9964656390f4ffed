"""Does a written bundle compute what the reference computes? Measured, on every installed engine."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidtok_export.errors import ExportError, ParityError
from vidtok_ref.families import all_families
from vidtok_ref.families.build import build
from vidtok_ref.regularizers.base import Quantizer, Regularizer
from vidtok_ref.tokenizer import VideoTokenizer
from vidtok_ref.weights import weights_sha256
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.bundle.stream_spec import SURPLUS, StreamSpec
from vidtok_runtime.engines.base import Array, Options
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.streaming.geometry import padded_size
from vidtok_runtime.streaming.graph_calls import Calls

# Two float32 orders of the same sums differ by up to 3e-6 in the latent and 2.3e-5 in the video;
# the limits hold per unit of the largest value.
LATENT_TOLERANCE = 2e-5
VIDEO_TOLERANCE = 1e-4
# A token may differ only where what was quantized lies this close to the other token's cell.
THRESHOLD_MARGIN = 1e-4
PROVIDERS = ("cpu", "openvino")
# Latents a call (of a stream, compared with one shot) or a group (where it may have any length; else in one shot only).
CHUNKINGS = {"one shot": None, "1 latent": 1, "2 latents": 2}


@dataclass
class Parity:
    """Largest differences from the reference over all shapes and chunkings of one provider; video before clipping."""

    provider: str
    shapes: list[list[int]]
    chunkings: list[str]
    latent_max_diff: float = 0.0
    video_max_diff: float = 0.0
    tokens: int = 0
    tokens_differing: int = 0
    passed: bool = True

    @property
    def token_agreement(self) -> float:
        """Share of equal tokens, 1.0 for KL."""
        return 1 - self.tokens_differing / self.tokens if self.tokens else 1.0

    def to_row(self) -> dict[str, Any]:
        """For the manifest."""
        row = asdict(self)
        if self.tokens:
            row["token_agreement"] = round(self.token_agreement, 6)
        else:
            del row["tokens"], row["tokens_differing"]
        return row


def reference_of(manifest: Manifest, checkpoint: Path | None = None) -> VideoTokenizer:
    """The reference model of a bundle: from a checkpoint, the weights beside its graphs, its seed, or a release.

    Raises ExportError unless the weights are the bundle's own.
    """
    family = all_families().get(manifest.family)
    if family is None:
        raise ExportError(f"{manifest.folder} is of the family {manifest.family}, which this version does not know")
    config = family.config.from_dict(manifest.raw["config"])
    seed = manifest.raw["weights"].get("seed")
    beside = sorted(manifest.folder.glob("*.safetensors"))
    if checkpoint is None and seed is None:
        checkpoint = beside[0] if beside else family.find_checkpoint(config)
    model = build(config, checkpoint, seed=seed or 0)
    found = weights_sha256(model)
    if found != manifest.weights_sha256:
        raise ExportError(
            f"{manifest.folder} was made from weights {manifest.weights_sha256[:12]}, {model.source} has "
            f"{found[:12]}; give --checkpoint the file that the bundle was made from"
        )
    return model


def smooth_video(n: int, t: int, h: int, w: int, seed: int) -> torch.Tensor:
    """Seeded moving waves, float32 `N 3 T H W` in -1..1."""
    rng = np.random.default_rng(seed)
    time, y, x = np.meshgrid(np.arange(t), np.arange(h), np.arange(w), indexing="ij")
    video = np.zeros((n, 3, t, h, w))
    for wave in rng.normal(0, 0.25, (6, n, 3, 4)):
        a, b, c, phase = (part[..., None, None, None] for part in np.moveaxis(wave, -1, 0))
        video += np.sin(a * x + b * y + c * time + 8 * phase)
    return torch.from_numpy(np.clip(video / 4, -1, 1).astype(np.float32))


def run_in_calls(manifest: Manifest, graphs: GraphChain, x: Array, latents: int) -> Array:
    """Everything that fresh streams through a chain give for `x`, in calls (or groups) of so many latents."""
    role, stream = graphs.role, manifest.stream
    f, spec = stream.time_factor, stream.calls(role)
    unit = f if role == "encoder" else 1
    length = latents * unit
    pieces = [x] if stream.groups is None else np.split(x, range(length, x.shape[-3], length), axis=-3)
    out = []
    for piece in pieces:
        if spec.drop == SURPLUS:
            assert stream.groups is not None
            spec = replace(spec, drop=stream.dropped(min(stream.frames(piece.shape[-3]), stream.groups.frames)))
        calls = Calls(graphs.fresh(), spec if spec.exact else replace(spec, max=length))
        out += [*calls.push(piece), *calls.finish()]
    return np.concatenate(out, axis=-3)


def _fixed_window(stream: StreamSpec) -> int | None:
    """Frames of a group, where it has this length only."""
    return stream.groups.frames if stream.groups is not None and stream.groups.multiple is None else None


def _shapes(stream: StreamSpec) -> list[tuple[int, int, int, int]]:
    """Clips `N T H W` of three lengths and sizes."""
    f, s, side = stream.time_factor, stream.spatial_multiple, stream.side_multiple
    # Calls of a window of one length see the window; tests of the runtime see several.
    long, short = (min(frames, _fixed_window(stream) or frames) for frames in (3 * f + 1, f + 1))
    sizes = [(1, long, 4 * s, 4 * s), (2, short, 2 * s, 3 * s), (1, 1, 3 * side, 2 * side)]
    return [(n, t, *padded_size(h, w, side, square=stream.square)) for n, t, h, w in sizes]


def _chunkings(stream: StreamSpec) -> dict[str, int | None]:
    """Those of CHUNKINGS that a stream allows."""
    return {name: chunk for name, chunk in CHUNKINGS.items() if chunk is None or _fixed_window(stream) is None}


@dataclass(frozen=True)
class Expected:
    """What the reference gives for a clip in calls (or groups) of `latents`; before: what it quantizes, float64."""

    latents: int
    before: torch.Tensor
    latent: Array
    tokens: Array
    video: Array


@torch.no_grad()
def _expected(model: VideoTokenizer, video: torch.Tensor) -> Iterator[Expected]:
    """For every chunking, by a model in float64."""
    for chunk in _chunkings(model.stream).values():
        # Streams do not depend on the chunk, so there the reference is one shot.
        if chunk is None or model.stream.groups is not None:
            before = model.features(video.double(), chunk)
            encoded = model.regularization(before)
            recon = model.decode(encoded.latent.double(), chunk=chunk).numpy()
            latent = encoded.latent.numpy()
            tokens = latent.astype(np.float32) if encoded.indices is None else encoded.indices.numpy()
        yield Expected(chunk or latent.shape[2], before, latent, tokens, recon)


def _check(parity: Parity, regularization: Regularizer, wanted: Expected, got: Array, video: Array) -> None:
    """Count in what a provider gave: tokens or latents for the clip, and frames for the reference's tokens."""
    if isinstance(regularization, Quantizer):
        wrong = torch.from_numpy(got != wanted.tokens)
        parity.tokens += wrong.numel()
        parity.tokens_differing += int(wrong.sum())
        distance = regularization.distance_to_cell(wanted.before, torch.from_numpy(got))
        parity.passed &= bool((distance <= THRESHOLD_MARGIN).all())
    else:
        diff = float(np.abs(got - wanted.latent).max())
        parity.latent_max_diff = max(parity.latent_max_diff, diff)
        parity.passed &= diff <= LATENT_TOLERANCE * max(1.0, float(np.abs(wanted.latent).max()))
    diff = float(np.abs(video - wanted.video).max())
    parity.video_max_diff = max(parity.video_max_diff, diff)
    parity.passed &= diff <= VIDEO_TOLERANCE * max(1.0, float(np.abs(wanted.video).max()))


def verify(manifest: Manifest, model: VideoTokenizer, providers: tuple[str, ...] = PROVIDERS) -> list[Parity]:
    """Compare a bundle with its reference: three sizes, batches of one and two, one shot, streamed or in windows."""
    shapes = _shapes(model.stream)
    low, high = model.stream.pixel_range
    clips = [smooth_video(*shape, seed=i) * ((high - low) / 2) + (high + low) / 2 for i, shape in enumerate(shapes)]
    # In float64, so that the reference adds no rounding of its own to the differences.
    exact = copy.deepcopy(model).double()
    regularization = exact.regularization
    expected = [(model.pad(clip).numpy(), wanted) for clip in clips for wanted in _expected(exact, clip)]
    del exact  # twice as large as the model, and engines need room for its weights
    rows = []
    for provider in providers:
        encoder, decoder = (load_chain(manifest, role, provider, None, Options()) for role in ("encoder", "decoder"))
        parity = Parity(provider, [list(shape) for shape in shapes], list(_chunkings(model.stream)))
        for padded, wanted in expected:
            got = run_in_calls(manifest, encoder, padded, wanted.latents)
            _check(parity, regularization, wanted, got, run_in_calls(manifest, decoder, wanted.tokens, wanted.latents))
        # A handful of tokens may sit on a threshold; a share of them may not.
        parity.passed &= parity.tokens_differing <= max(1, 1e-4 * parity.tokens)
        rows.append(parity)
    return rows


def table(rows: list[Parity]) -> str:
    """The parity table as text."""
    lines = [f"{'provider':<10}{'latent max diff':>17}{'video max diff':>17}{'tokens equal':>17}  result"]
    for row in rows:
        tokens = f"{row.tokens - row.tokens_differing}/{row.tokens}" if row.tokens else "-"
        latent = "-" if row.tokens else f"{row.latent_max_diff:.1e}"
        result = "passed" if row.passed else "FAILED"
        lines.append(f"{row.provider:<10}{latent:>17}{row.video_max_diff:>17.1e}{tokens:>17}  {result}")
    return "\n".join(lines)


def require(rows: list[Parity]) -> None:
    """Raise ParityError unless every row passed."""
    failed = [f"{row.provider} (video max diff {row.video_max_diff:.1e})" for row in rows if not row.passed]
    if failed:
        raise ParityError(
            f"the bundle does not compute what the reference does on {', '.join(failed)}; models of very few channels "
            "may differ by rounding alone"
        )
