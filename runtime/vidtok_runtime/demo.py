"""A first run: a clip goes in, tokens come out, the clip comes back, and a picture shows both."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import OutputError
from vidtok_runtime.files import PartFile
from vidtok_runtime.pipeline import decode_file, encode_file
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.video_in import VideoReader
from vidtok_runtime.video_out import VideoWriter


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


def side_by_side(
    original: Path, decoded: Path, count: int, picture: Path, columns: int = 3, *, force: bool = False
) -> None:
    """PNG with frames of the original above the same frames of the reconstruction, evenly spread over `count`."""
    wanted = sorted({round(i * (count - 1) / max(1, columns - 1)) for i in range(columns)})
    rows = []
    for path in (original, decoded):
        with VideoReader(path) as reader:
            rows.append(np.concatenate([f.pixels for i, f in enumerate(reader) if i in wanted], axis=1))
    done, content = cv2.imencode(".png", np.concatenate(rows)[:, :, ::-1])
    assert done
    PartFile(picture, force=force).write_whole(content.tobytes())


def run_demo(
    tok: Tokenizer, folder: Path, clip: Path | None, *, force: bool = False, quiet: bool = False
) -> list[Path]:
    """Encode and decode `clip` (None: a made-up one) into `folder`; returns the files written.

    Raises OutputError before any work when one of them is there already, without `force`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror}") from error
    tokens, decoded, picture = (folder / name for name in ("tokens.safetensors", "decoded.mp4", "side-by-side.png"))
    made_up = folder / "clip.mp4"
    written = [*([] if clip else [made_up]), tokens, decoded, picture]
    for path in written:
        PartFile(path, force=force)
    if clip is None:
        clip = made_up
        make_clip(clip, force=force)
    info = encode_file(tok, clip, tokens, force=force, quiet=quiet)
    decode_file(tok, tokens, decoded, force=force, quiet=quiet)
    side_by_side(clip, decoded, info.num_frames, picture, force=force)
    return written
