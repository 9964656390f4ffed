"""File to file: encode, decode, reconstruct, one chunk at a time."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from os import PathLike
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from vidtok_runtime.errors import VideoError
from vidtok_runtime.metrics import Quality
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens import TokenInfo, TokenReader, TokenWriter
from vidtok_runtime.video_in import Frame, VideoReader
from vidtok_runtime.video_out import VideoWriter

Path = str | PathLike[str]
_T = TypeVar("_T")


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _bar(total: int | None, text: str, quiet: bool) -> Any:
    return tqdm(total=total, desc=text, unit="frame", disable=quiet)


def _read_chunks(tok: Tokenizer, reader: VideoReader) -> Iterator[list[Frame]]:
    shape = (reader.height, reader.width, 3)
    for chunk in _chunks(reader, tok.manifest.encoder_chunk):
        if any(frame.pixels.shape != shape for frame in chunk):
            raise VideoError(f"{reader.path} changes its frame size in the middle; cut it there first")
        yield chunk


def encode_file(
    tok: Tokenizer,
    clip: Path,
    out: Path,
    *,
    size: str | None = None,
    half: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> TokenInfo:
    """Tokenize a video or image file into a token file; memory does not grow with the clip."""
    with (
        VideoReader(clip, size) as reader,
        TokenWriter(out, tok.manifest.codebook_size, half=half, force=force) as writer,
        _bar(reader.frame_count, "encode", quiet) as bar,
    ):
        stream = tok.encoder()
        pts = array("q")  # the one thing that grows: eight bytes a frame
        for chunk in _read_chunks(tok, reader):
            writer.append(stream.push(np.stack([frame.pixels for frame in chunk])))
            pts.extend(frame.pts for frame in chunk)
            bar.update(len(chunk))
        writer.append(stream.finish())
        info = tok.describe(len(pts), reader.height, reader.width, reader.fps, reader.time_base)
        writer.close(info, np.frombuffer(pts, np.int64))
    return info


def decode_file(tok: Tokenizer, tokens: Path, out: Path, *, force: bool = False, quiet: bool = False) -> TokenInfo:
    """Decode a token file into a video of the clip's own size, length and timestamps."""
    reader = TokenReader(tokens)
    reader.verify()
    info = reader.info
    stream = tok.decoder_of(info)
    with (
        VideoWriter(out, info.fps, info.time_base, force=force) as writer,
        _bar(info.num_frames, "decode", quiet) as bar,
    ):
        pts = iter(reader.pts().tolist())

        def deliver(frames: np.ndarray[Any, Any]) -> None:
            for pixels in frames:
                writer.write(pixels, next(pts))
                bar.update()

        step = tok.manifest.decoder_chunk
        for start in range(0, reader.shape[0], step):
            deliver(stream.push(reader.read(start, start + step)))
        deliver(stream.finish())
        writer.close()
    return info


def reconstruct_file(
    tok: Tokenizer,
    clip: Path,
    out: Path,
    *,
    size: str | None = None,
    side_by_side: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Quality:
    """Encode and decode in one pass; `side_by_side` puts the original on the left. Returns the quality measured."""
    quality = Quality()
    with (
        VideoReader(clip, size) as reader,
        VideoWriter(out, reader.fps, reader.time_base, force=force) as writer,
        _bar(reader.frame_count, "reconstruct", quiet) as bar,
    ):
        encoder, decoder = tok.encoder(), tok.decoder(height=reader.height, width=reader.width)
        waiting: deque[Frame] = deque()

        def deliver(decoded: np.ndarray[Any, Any]) -> None:
            # The tail repeats the last frame: frames without an original are padding.
            for pixels in decoded[: len(waiting)]:
                frame = waiting.popleft()
                quality.add(frame.pixels, pixels)
                writer.write(np.concatenate([frame.pixels, pixels], axis=1) if side_by_side else pixels, frame.pts)
                bar.update()

        for chunk in _read_chunks(tok, reader):
            waiting.extend(chunk)
            latents = encoder.push(np.stack([frame.pixels for frame in chunk]))
            if len(latents):
                deliver(decoder.push(latents))
        rest = encoder.finish()
        if len(rest):
            deliver(decoder.push(rest))
        deliver(decoder.finish())
        writer.close()
    return quality
