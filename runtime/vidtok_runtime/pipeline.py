"""File to file: encode, decode, reconstruct, one chunk at a time."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from os import PathLike
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vidtok_runtime.errors import TokenFileError
from vidtok_runtime.metrics import Quality
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens import TokenInfo, TokenReader, TokenWriter
from vidtok_runtime.video_in import Frame, VideoReader
from vidtok_runtime.video_out import VideoWriter

Path = str | PathLike[str]
Array = NDArray[Any]
_T = TypeVar("_T")


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _bar(total: int | None, text: str, quiet: bool) -> Any:
    return tqdm(total=total, desc=text, unit="frame", disable=quiet)


def round_trip(
    tok: Tokenizer,
    frames: Iterable[Frame],
    height: int,
    width: int,
    look: Callable[[Array], None] | None = None,
) -> Iterator[tuple[Frame, Array]]:
    """Every frame of one stream with what comes back of it, uint8 `H W 3`; `look` is shown the latents or tokens."""
    encoder, decoder = tok.encoder(), tok.decoder(height=height, width=width)
    waiting: deque[Frame] = deque()

    def decoded(data: Array) -> Iterator[Array]:
        if look is not None:
            look(data)
        yield from decoder.push(data) if len(data) else ()

    def outcomes() -> Iterator[Array]:
        step = tok.plan("encoder", height, width).chunk * tok.manifest.time_factor
        for chunk in _chunks(frames, step):
            waiting.extend(chunk)
            yield from decoded(encoder.push(np.stack([frame.pixels for frame in chunk])))
        yield from decoded(encoder.finish())
        yield from decoder.finish()

    for pixels in outcomes():
        if not waiting:
            return  # the tail repeats the last frame: what has no original is padding
        yield waiting.popleft(), pixels


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
        step = tok.plan("encoder", reader.height, reader.width).chunk * tok.manifest.time_factor
        for chunk in _chunks(reader, step):
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
    needed = -(-(info.num_frames + tok.manifest.front_frames) // tok.manifest.time_factor)
    if reader.shape[0] != needed:
        raise TokenFileError(
            f"{tokens} promises {info.num_frames} frames, which need {needed} latents, not {reader.shape[0]}"
        )
    with (
        VideoWriter(out, info.fps, info.time_base, force=force) as writer,
        _bar(info.num_frames, "decode", quiet) as bar,
    ):
        stream = tok.decoder_of(info)
        pts = iter(reader.pts().tolist())

        def deliver(frames: Array) -> None:
            for pixels in frames:
                writer.write(pixels, next(pts))
                bar.update()

        step = tok.plan("decoder", info.height, info.width, info.window).chunk
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
        for frame, pixels in round_trip(tok, reader, reader.height, reader.width):
            quality.add(frame.pixels, pixels)
            writer.write(np.concatenate([frame.pixels, pixels], axis=1) if side_by_side else pixels, frame.pts)
            bar.update()
        writer.close()
    return quality
