"""A first run: a clip goes in, tokens come out, the clip comes back, and a picture shows both."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.lookup import SHIPPED, find_bundle
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.errors import OutputError
from vidtok_runtime.files import PartFile
from vidtok_runtime.pipeline.files import decoded_frames, encode_file, progress
from vidtok_runtime.quality.metrics import Pixels, Quality
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.tokens import TokenInfo, TokenReader
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Opening
from vidtok_runtime.video.writer import VideoWriter
from vidtok_runtime.view.pictures import png
from vidtok_runtime.view.sheet import texts
from vidtok_runtime.view.study import shrunk

_FRAMES, _COLUMNS = 33, 3  # of the made-up clip; of the picture


def synthetic_frame(index: int, height: int = 180, width: int = 320) -> NDArray[np.uint8]:
    """Frame of a made-up clip, uint8 `H W 3`: drifting colours, two moving shapes and a counter."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin((x * a + y * b) / 40 + index / 12 + c) for a, b, c in ((1, 0.3, 0), (0.5, 1, 2), (0.8, -0.7, 4))]
    image = np.ascontiguousarray(np.stack(waves, axis=-1) * 55 + 128).astype(np.uint8)
    centre = (int(width / 2 + width / 3 * np.sin(index / 14)), int(height / 2 + height / 5 * np.cos(index / 9)))
    cv2.circle(image, centre, height // 7, (235, 196, 60), -1, cv2.LINE_AA)
    left = (index * 3) % (width + 60) - 60
    cv2.rectangle(image, (left, height * 2 // 3), (left + 60, height * 2 // 3 + 36), (40, 60, 150), -1)
    cv2.putText(image, f"{index:03d}", (10, 36), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2, cv2.LINE_AA)
    return image


def make_clip(
    path: Path,
    frames: int = 50,
    height: int = 180,
    width: int = 320,
    *,
    first: int = 0,
    fps: Fraction | None = None,
    force: bool = False,
) -> None:
    """Write so many frames of the made-up clip from the `first` on."""
    with VideoWriter(path, fps, force=force) as writer:
        for i in range(frames):
            writer.write(synthetic_frame(first + i, height, width), i)
        writer.close()


class _Model:
    """A bundle of the demo, the files that are made with it, and after `run` what came of it."""

    def __init__(self, bundle: str | None, folder: Path) -> None:
        self.manifest = find_bundle(bundle)
        self.name = self.manifest.folder.resolve().name
        self.tokens = folder / f"{self.name}.safetensors"
        self.decoded = folder / f"{self.name}.mp4"
        self.quality = Quality()
        self.shown: list[tuple[Pixels, Pixels]] = []  # original and decoded frames for the picture

    def run(
        self,
        tok: Tokenizer,
        clip: Path,
        selection: Selection | None,
        opening: Opening | None,
        *,
        force: bool,
        quiet: bool,
    ) -> TokenInfo:
        """Write the tokens and the video."""
        info = encode_file(tok, clip, self.tokens, selection=selection, opening=opening, force=force, quiet=quiet)
        wanted = {round(i * (info.num_frames - 1) / (_COLUMNS - 1)) for i in range(_COLUMNS)}
        frames = decoded_frames(tok, TokenReader(self.tokens), slice(0, info.num_frames))
        with (
            VideoReader(clip, selection, opening) as source,
            VideoWriter(self.decoded, info.fps, info.time_base, display=info.display, force=force) as writer,
            progress(info.num_frames, "decode", quiet) as bar,
        ):
            for i, (frame, decoded) in enumerate(zip(source, frames, strict=True)):
                self.quality.add(frame.pixels, decoded.pixels)
                writer.write(decoded.pixels, decoded.pts, decoded.duration)
                if i in wanted:
                    self.shown.append((shrunk(frame.pixels), shrunk(decoded.pixels)))
                bar.update()
            writer.close()
        return info

    def lines(self) -> Iterator[str]:
        """What came of it, and what the size of the tokens means."""
        m, size = self.manifest.stream, f"{self.tokens.stat().st_size:,} bytes"
        yield f"{self.name}: PSNR {self.quality.psnr:.2f} dB, SSIM {self.quality.ssim:.4f}"
        block = f"{m.time_factor} frames of {m.spatial_multiple}x{m.spatial_multiple} pixels"
        if m.codebook_size is None:
            yield f"  {self.tokens}: {size}, {m.latent_channels} numbers for {block}, 4 bytes each (2 with --half)"
            yield "  that is no compressed clip: the numbers are for models that generate video, uncompressed"
        else:
            yield f"  {self.tokens}: {size}, one of {m.codebook_size:,} codes for {block}"
        yield f"  {self.decoded}: what came back"


def run_demo(
    tokenizer: Callable[[Manifest], Tokenizer],
    bundles: Iterable[str | None],
    folder: Path,
    clip: Path | None = None,
    *,
    selection: Selection | None = None,
    opening: Opening | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Iterator[str]:
    """Encode and decode `clip` (None: a made-up one) with every bundle into `folder`; lines that say what came of it.

    Raises OutputError before any work when one of the files is there already, without `force`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror}") from error
    made_up, picture = folder / "clip.mp4", folder / "side-by-side.png"
    models = [_Model(bundle, folder) for bundle in bundles]
    for path in [*([] if clip else [made_up]), *(path for m in models for path in (m.tokens, m.decoded)), picture]:
        PartFile(path, force=force)
    if clip is None:
        clip = made_up
        make_clip(clip, _FRAMES, force=force)
    for model in models:
        info = model.run(tokenizer(model.manifest), clip, selection, opening, force=force, quiet=quiet)
        if model is models[0]:
            frames = f"{info.num_frames} frames of {info.width}x{info.height}"
            yield f"{clip}: {clip.stat().st_size:,} bytes; {frames} of it were encoded"
        yield ""
        yield from model.lines()
    rows = {"the clip": [original for original, _ in models[0].shown]}
    rows |= {f"{m.name}, {m.quality.psnr:.2f} dB": [decoded for _, decoded in m.shown] for m in models}
    strips = {name: np.concatenate(pictures, axis=1) for name, pictures in rows.items()}
    table = [part for name, strip in strips.items() for part in (texts(strip.shape[1], {8: name}), strip)]
    PartFile(picture, force=force).write_whole(png(np.concatenate(table)))
    yield ""
    yield f"{picture}: frames of the clip, and below what came back of them"
    yield ""
    yield "Try next:"
    yield from (f"  {shlex.join(['vidtok-run', *line])}" for line in _next_commands(models[-1], clip, folder))


def _next_commands(model: _Model, clip: Path, folder: Path) -> list[list[str]]:
    shipped = model.manifest.folder.parent == SHIPPED
    bundle = ["--bundle", model.name if shipped else str(model.manifest.folder)]
    return [
        ["info", str(model.tokens)],
        ["view", str(model.tokens), *([] if shipped else bundle)],
        ["reconstruct", str(clip), "-o", str(folder / "both.mp4"), "--size", "256", "--side-by-side", *bundle],
    ]
