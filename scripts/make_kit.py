"""Write the conformance kit: small bundles, clips, and the tokens and frames that every runtime must get from them.

python scripts/make_kit.py                 # writes tests/conformance/kit anew; tests/conformance/README.md explains it
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from make_vectors import margin, random_weights
from numpy.typing import NDArray
from torch import Tensor

from vidtok_export import export
from vidtok_export.bundle import in_chunks, save_manifest
from vidtok_export.verify import LATENT_TOLERANCE, VIDEO_TOLERANCE, smooth_video
from vidtok_ref import VideoTokenizer, build
from vidtok_ref.families import family_of
from vidtok_ref.regularizers.base import Quantizer
from vidtok_ref.weights import weights_sha256
from vidtok_runtime.bundle.stream_spec import SURPLUS
from vidtok_runtime.streaming.geometry import from_network, to_network
from vidtok_runtime.streaming.tiles import cuts
from vidtok_runtime.tokens.tokens import TokenInfo, Tokens

KIT = Path(__file__).parent.parent / "tests/conformance/kit"
# Of what is quantized from every rounding threshold, so that tokens are the same on every engine.
MARGIN = 1e-3
CHUNK = 2  # latents a call; of the non-causal bundle the window
FPS = Fraction(25)
# Three levels: H and W are divided by 4, T by 4.
NARROW: dict[str, Any] = {
    "ch": 4,
    "ch_mult": (1, 1, 2),
    "num_res_blocks": 1,
    "spatial_down": (0, 1),
    "spatial_up": (1, 2),
    "temporal_down": (0, 1),
    "temporal_up": (1, 2),
}


@dataclass(frozen=True)
class KitClip:
    """A case: frames, height, width; how the frames, and the latents, are pushed."""

    size: tuple[int, int, int]
    pushes: list[list[int]]
    pulls: list[list[int]]


@dataclass(frozen=True)
class Spec:
    """A bundle and its cases.

    seed: the first that is tried. gains: of the last layers, by their names, so that latents spread over many codes and
    frames stay within their range.
    """

    variant: str
    clips: dict[str, KitClip]
    seed: int = 0
    gains: Mapping[str, float] = field(default_factory=lambda: {"encoder.conv_out": 3.0})
    overrides: dict[str, Any] = field(default_factory=lambda: NARROW)


BUNDLES = {
    "fsq-causal": Spec(
        "fsq-4096",
        {
            "fsq-causal": KitClip((18, 14, 22), [[18], [1, 4, 7, 6], [3, 3, 12]], [[6], [1, 2, 3], [1, 1, 1, 1, 1, 1]]),
            "fsq-causal-one-frame": KitClip((1, 5, 6), [[1]], [[1]]),
        },
    ),
    "kl-causal-v1.1": Spec(
        "kl-4chn-v1.1",
        {
            "kl-causal-v1.1": KitClip((14, 10, 13), [[14], [1, 4, 9], [2, 5, 7]], [[5], [1, 1, 3], [2, 2, 1]]),
            # All frames of the last latent count, so that those of the flush call do.
            "kl-causal-v1.1-whole": KitClip((13, 9, 14), [[13], [1, 4, 8]], [[4], [1, 1, 2], [3, 1]]),
            "kl-causal-v1.1-one-frame": KitClip((1, 4, 7), [[1]], [[1]]),
        },
        seed=3,  # a video that changes with its latents
    ),
    "fsq-noncausal": Spec(
        "fsq-262144-noncausal",
        {"fsq-noncausal": KitClip((19, 13, 18), [[19], [1, 8, 10], [7, 1, 11]], [[5], [1, 3, 1], [2, 2, 1]])},
    ),
    "wan-causal": Spec(
        "wan-2.1",
        {
            "wan-causal": KitClip((14, 10, 13), [[14], [1, 4, 9], [2, 5, 7]], [[5], [1, 1, 3], [2, 2, 1]]),
            "wan-causal-one-frame": KitClip((1, 4, 7), [[1]], [[1]]),
        },
        overrides={
            "ch": 4,
            "z_channels": 4,
            "ch_mult": (1, 1, 2),
            "num_res_blocks": 1,
            "temporal_down": (True, True),
            "latent_mean": (0.5, -0.25, 0.0, 1.0),
            "latent_std": (2.0, 0.5, 1.0, 1.5),
        },
    ),
    # Calls of 9, 8, 8 ... frames and 3, 2, 2 ... latents.
    "cogvideox-exact": Spec(
        "cogvideox",
        {
            "cogvideox-exact": KitClip((18, 10, 13), [[18], [1, 8, 9], [7, 3, 8]], [[7], [1, 2, 4], [3, 1, 3]]),
            # No frame is added behind.
            "cogvideox-exact-whole": KitClip((9, 9, 14), [[9], [4, 5]], [[3], [2, 1]]),
            "cogvideox-exact-one-frame": KitClip((1, 4, 7), [[1]], [[1]]),
        },
        overrides={"channels": (4, 4, 8), "z_channels": 4, "num_res_blocks": 1, "groups": 2},
        gains={"encoder.conv_out": 2.0, "decoder.conv_out": 0.4},
    ),
    # Windows of 17 frames; one of three frames is left.
    "cosmos-windows": Spec(
        "cosmos-dv-4x8x8",
        {
            "cosmos-windows": KitClip((20, 13, 18), [[20], [1, 16, 3], [9, 9, 2]], [[7], [1, 4, 2], [3, 3, 1]]),
            "cosmos-windows-one-frame": KitClip((1, 8, 9), [[1]], [[1]]),
        },
        overrides={"ch": 2, "ch_mult": (1, 2), "decoder_mult": (1, 2), "num_res_blocks": 1, "z_channels": 4},
        seed=3,  # windows of many codes
        gains={"encoder.conv_out": 1.5, "decoder.conv_out": 0.2},
    ),
    # Windows of 17 frames, always whole; squares whose sides are multiples of 4.
    "omnitokenizer-squares": Spec(
        "omnitokenizer",
        {
            "omnitokenizer-squares": KitClip((20, 13, 10), [[20], [1, 16, 3], [9, 9, 2]], [[10], [1, 4, 5], [3, 3, 4]]),
            "omnitokenizer-squares-one-frame": KitClip((1, 7, 9), [[1]], [[5]]),
        },
        overrides={
            "ch": 8,
            "heads": 2,
            "head_channels": 8,
            "patch": 2,
            "encoder_layers": "tw",
            "decoder_layers": "t",
            "temporal_layers": 1,
            "window": 2,
            "codes": 16,
            "code_channels": 3,
        },
        seed=15,
        gains={"decoder.pixels": 0.15},
    ),
    # Windows of 9 frames and 3 latents that share one with the window before; one of three frames is left.
    "open-sora-plan-shared": Spec(
        "open-sora-plan-1.2",
        {
            "open-sora-plan-shared": KitClip((20, 10, 13), [[20], [1, 8, 11], [9, 9, 2]], [[6], [1, 2, 3], [3, 2, 1]]),
            # No frame is added behind.
            "open-sora-plan-shared-whole": KitClip((17, 9, 14), [[17], [8, 9]], [[5], [2, 3]]),
            "open-sora-plan-shared-one-frame": KitClip((1, 4, 7), [[1]], [[1]]),
        },
        overrides={"ch": 4, "ch_mult": (1, 1, 1, 2), "num_res_blocks": 1, "groups": 2, "window": 9},
        gains={"encoder.conv_out": 2.0, "decoder.conv_out": 0.3},
    ),
}


def clip_of(name: str, clip: KitClip) -> NDArray[np.uint8]:
    """Fast moving waves, uint8 `[T, H, W, 3]`."""
    num_frames, height, width = clip.size
    waves = smooth_video(1, 3 * num_frames, height, width, seed=sum(name.encode()))
    waves = waves[0, :, ::3].permute(1, 2, 3, 0).numpy()
    return np.rint((waves + 1) * 127.5).astype(np.uint8)


def network_input(model: VideoTokenizer, frames: NDArray[np.uint8]) -> Tensor:
    """What the reference takes, in its own precision: `1 3 T H' W'`."""
    spec = model.stream
    pixels = to_network(frames, spec.side_multiple, square=spec.square, pixel_range=spec.pixel_range)
    return torch.from_numpy(pixels).to(next(model.parameters()).dtype)


def chunk_of(model: VideoTokenizer) -> int | None:
    """Latents a step of the reference: all at once, or one window."""
    return None if model.stream.groups is None else CHUNK


@torch.no_grad()
def find_model(spec: Spec) -> VideoTokenizer:
    """The reference in float64 with the first seed for which all tokens of the cases keep the margin."""
    for seed in itertools.count(spec.seed):
        variant = build(spec.variant, **spec.overrides).config
        weights = random_weights(variant, seed)
        for name, tensor in weights.items():
            for layer, gain in spec.gains.items():
                if name.startswith(f"{layer}."):
                    tensor *= gain
        model = build(variant, weights).double()
        model.source = f"scripts/make_kit.py, seed {seed}"
        outputs = (
            model.features(network_input(model, clip_of(name, clip)), chunk_of(model))
            for name, clip in spec.clips.items()
        )
        if all(margin(model, out) > MARGIN for out in outputs):
            break
    return model


@torch.no_grad()
def encode(model: VideoTokenizer, frames: NDArray[np.uint8]) -> Tokens:
    """What a token file of the clip holds, by the reference."""
    spec, (num_frames, height, width) = in_chunks(model.stream, CHUNK), frames.shape[:3]
    encoded = model.encode(network_input(model, frames), chunk_of(model))
    data = encoded.latent[0].transpose(0, 1).float() if encoded.indices is None else encoded.indices[0]
    info = TokenInfo(
        family=family_of(model.config).name,
        name=model.config.name,
        weights_sha256=weights_sha256(model),
        num_frames=num_frames,
        height=height,
        width=width,
        time_factor=spec.time_factor,
        front_frames=spec.front_frames,
        look_ahead=spec.look_ahead,
        length=spec.length,
        codebook_size=spec.codebook_size,
        groups=spec.groups and replace(spec.groups, multiple=None),
        exact=spec.decoder.exact_sizes,
        surplus=spec.decoder.drop == SURPLUS,
        fps=FPS,
        provider="reference",
    )
    return Tokens(data.numpy(), info, np.arange(num_frames))


@torch.no_grad()
def decode(model: VideoTokenizer, tokens: Tokens) -> NDArray[np.float32]:
    """The frames that tokens become, `[T, H, W, 3]` in -1..1, by the reference."""
    data = torch.from_numpy(tokens.data)[None]
    regularizer = model.regularization
    latent = regularizer.from_indices(data) if isinstance(regularizer, Quantizer) else data.transpose(1, 2)
    video = model.decode(latent.to(next(model.parameters()).dtype), tokens.num_frames, chunk_of(model))
    frames: NDArray[np.float32] = from_network(
        video.float().numpy(), tokens.height, tokens.width, "float32", model.stream.pixel_range
    )
    return frames


def write_case(
    kit: Path,
    bundle: str,
    name: str,
    model: VideoTokenizer,
    frames: NDArray[np.uint8],
    pushes: list[list[int]],
    pulls: list[list[int]],
) -> dict[str, Any]:
    """Write the files of a case; returns its row of `cases.json`."""
    tokens = encode(model, frames)
    files = {"input": f"{name}.input.rgb", "tokens": f"{name}.tokens.safetensors", "video": f"{name}.video.f32"}
    (kit / files["input"]).write_bytes(frames.tobytes())
    tokens.save(kit / files["tokens"], force=True)
    (kit / files["video"]).write_bytes(decode(model, tokens).astype("<f4").tobytes())
    exact = tokens.info.codebook_size is not None
    return {
        "name": name,
        "bundle": bundle,
        "frames": tokens.num_frames,
        "height": tokens.height,
        "width": tokens.width,
        "fps": f"{FPS.numerator}/{FPS.denominator}",
        **files,
        "pushes": pushes,
        "pulls": pulls,
        "latent_tolerance": 0 if exact else LATENT_TOLERANCE * max(1, float(np.abs(tokens.data).max())),
        "video_tolerance": VIDEO_TOLERANCE,
        "tokens_exact": exact,
    }


def write_cases(kit: Path, cases: list[dict[str, Any]]) -> None:
    """Write `cases.json`."""
    content = {"format": "vidtok-conformance", "version": 1, "cases": cases}
    (kit / "cases.json").write_text(json.dumps(content, indent=1) + "\n")


def write_tiles(kit: Path) -> None:
    """Write `tiles.json`: every way to cut axes of some lengths."""
    axes = []
    for length, beyond in itertools.product((1, 19, 23, 45, 90, 135), (1, 7, 10, 14)):
        for axis in cuts(length, beyond):
            tiles = [[*extent, *kept] for extent, kept in axis.tiles]
            axes.append({"length": length, "margin": beyond, "size": axis.size, "tiles": tiles})
    lines = ",\n".join(json.dumps(axis) for axis in axes)
    (kit / "tiles.json").write_text(f'{{"format": "vidtok-tiles", "version": 1, "axes": [\n{lines}\n]}}\n')


def make(kit: Path) -> None:
    """Write bundles, cases, `cases.json` and `tiles.json`."""
    kit.mkdir(parents=True, exist_ok=True)
    write_tiles(kit)
    cases = []
    for bundle, spec in BUNDLES.items():
        model = find_model(spec)
        for name, clip in spec.clips.items():
            cases.append(write_case(kit, bundle, name, model, clip_of(name, clip), clip.pushes, clip.pulls))
        folder = export(model.float(), kit / bundle, chunk=CHUNK, force=True, quiet=False)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["weights"]["trained"] = False
        save_manifest(manifest, folder)
    write_cases(kit, cases)


@click.command()
@click.argument("kit", type=click.Path(path_type=Path, file_okay=False), default=KIT)
def main(kit: Path) -> None:
    """Write the kit anew, into the folder KIT if one is named."""
    make(kit)


if __name__ == "__main__":
    main()
