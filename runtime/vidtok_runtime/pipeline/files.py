"""File to file: encode, decode, reconstruct, one chunk at a time."""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from os import PathLike
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vidtok_runtime.errors import InputError
from vidtok_runtime.files import is_file
from vidtok_runtime.pipeline.clip_encoder import ClipEncoder, ClipFacts
from vidtok_runtime.quality.metrics import Quality
from vidtok_runtime.remote import RemotePath, place_of
from vidtok_runtime.streaming.posterior import LatentForm
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.edit import frame_range
from vidtok_runtime.tokens.info import TokenInfo
from vidtok_runtime.tokens.segments import joined, segments_in
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.video.audio import AudioCopy
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Frame, Opening
from vidtok_runtime.video.writer import Output, VideoWriter

Path = str | PathLike[str] | RemotePath
Array = NDArray[Any]
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def progress(total: int | None, text: str, quiet: bool) -> Any:
    """A bar that counts frames."""
    return tqdm(total=total, desc=text, unit="frame", disable=quiet)


def warn(path: str, notes: Iterable[str]) -> None:
    """Log what a user must know about a source."""
    for note in notes:
        _log.warning("%s: %s", path, note)


def round_trip(
    tok: Tokenizer,
    frames: Iterable[Frame],
    height: int,
    width: int,
    look: Callable[[Array], None] | None = None,
) -> Iterator[tuple[Frame, Array]]:
    """Every frame of one stream with what comes back of it, uint8 `H W 3`; `look` is shown the latents or tokens.

    Calls are those of `encode_file` and `decoded_frames`, so that pixels are theirs to the bit.
    """
    encoder, decoder = tok.encoder(), tok.decoder(height=height, width=width)
    waiting: deque[Frame] = deque()
    count = 0

    def encoded() -> Iterator[Array]:
        nonlocal count
        for chunk in _chunks(frames, tok.plan("encoder", height, width).chunk * tok.stream.time_factor):
            waiting.extend(chunk)
            count += len(chunk)
            yield from encoder.push(np.stack([frame.pixels for frame in chunk]))
        yield from encoder.finish()

    def outcomes() -> Iterator[Array]:
        for latents in _chunks(encoded(), tok.plan("decoder", height, width).chunk):
            data = np.stack(latents)
            if look is not None:
                look(data)
            yield from decoder.push(data)
        yield from decoder.finish(count)

    for pixels in outcomes():
        if not waiting:
            return  # the tail repeats the last frame: what has no original is padding
        yield waiting.popleft(), pixels


def _in_two_passes(
    tok: Tokenizer, clip: Path, selection: Selection | None, opening: Opening | None, reader: VideoReader, quiet: bool
) -> Iterator[tuple[Frame, Array]]:
    """As `round_trip`, for a file: all of it is encoded before the first frame is decoded."""
    with tempfile.TemporaryDirectory(prefix="vidtok-") as folder:
        tokens = f"{folder}/tokens.safetensors"
        encode_file(tok, clip, tokens, selection=selection, opening=opening, quiet=quiet)
        encoded = TokenReader(tokens)
        decoded = decoded_frames(tok, encoded, slice(0, encoded.info.num_frames))
        yield from ((frame, found.pixels) for frame, found in zip(reader, decoded, strict=True))


def encode_file(
    tok: Tokenizer,
    clip: Path,
    out: Path,
    *,
    selection: Selection | None = None,
    opening: Opening | None = None,
    half: bool = False,
    gop: int | None = None,
    form: LatentForm | None = None,
    force: bool = False,
    quiet: bool = False,
) -> TokenInfo:
    """Tokenize what a VideoReader reads into a token file; memory does not grow with the clip.

    gop, form: as `Tokenizer.encode` takes them.
    """
    with (
        VideoReader(clip, selection, opening) as reader,
        ClipEncoder(tok, out, reader.height, reader.width, half=half, gop=gop, form=form, force=force) as encoder,
        progress(reader.frame_count, "encode", quiet) as bar,
    ):
        for chunk in _chunks(reader, encoder.step):
            encoder.push(np.stack([frame.pixels for frame in chunk]), [frame.pts for frame in chunk])
            bar.update(len(chunk))
        info = encoder.finish(ClipFacts.of(reader, chunk[-1].duration))
    warn(reader.path, reader.notes())
    return info


def decode_file(
    tok: Tokenizer,
    tokens: Path,
    out: Path,
    *,
    start: str | None = None,
    end: str | None = None,
    output: Output | None = None,
    force: bool = False,
    quiet: bool = False,
) -> TokenInfo:
    """Decode a token file, the frames `start..end` of it (see `frame_range`), or a folder of segments, into a video.

    Size, length and timestamps are the clip's own. A part reads and decodes the latents that it needs, no others, so
    that the checksum is compared only for the whole. Raises TokenFileError, MismatchError, OutputError, InputError.
    """
    readers = [TokenReader(path) for path in segments_in(place_of(tokens))]
    info = joined(readers)
    if len(readers) > 1 and (start, end) != (None, None):
        raise InputError(f"{tokens} is a folder of segments; name the one segment to decode a part of")
    frames = frame_range(info, readers[0].pts(), start, end)
    with (
        VideoWriter(out, info.fps, info.time_base, display=info.display, output=output, force=force) as writer,
        progress(frames.stop - frames.start, "decode", quiet) as bar,
    ):
        for reader in readers:
            part = slice(0, reader.info.num_frames) if len(readers) > 1 else frames
            for frame in decoded_frames(tok, reader, part):
                writer.write(frame.pixels, frame.pts, frame.duration)
                bar.update()
        writer.close()
    return replace(info, num_frames=frames.stop - frames.start)


def decoded_frames(
    tok: Tokenizer, reader: TokenReader, frames: slice, look: Callable[[Array], None] | None = None
) -> Iterator[Frame]:
    """Frames of a token file, uint8 `H W 3`; `look` is shown latents or tokens before them."""
    end = reader.info.end_from(frames.stop, reader.shape[0])  # what is decoded beyond the frames is left out
    info, latents = reader.info.part(frames.start, end, reader.shape[0])
    if info == reader.info:
        reader.verify()
    stream = tok.decoder_of(info)
    pts = reader.pts()
    times = zip(pts[frames].tolist(), reader.info.durations(pts)[frames], strict=True)
    step = tok.plan("decoder", info.height, info.width, info.groups).chunk
    for first in range(latents.start, latents.stop, step):
        data = reader.read(first, min(first + step, latents.stop))
        decoded = stream.push(data)
        if look is not None:
            look(data)
        yield from (Frame(pixels, *time) for pixels, time in zip(decoded, times, strict=False))
    yield from (Frame(pixels, *time) for pixels, time in zip(stream.finish(), times, strict=False))


def reconstruct_file(
    tok: Tokenizer,
    clip: Path,
    out: Path,
    *,
    selection: Selection | None = None,
    opening: Opening | None = None,
    output: Output | None = None,
    side_by_side: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Quality:
    """Encode, decode and copy the sound; returns the quality measured.

    It is one pass, or two over a file where both directions at once do not fit into the memory. side_by_side: the
    original on the left.
    """
    quality = Quality()
    with (
        VideoReader(clip, selection, opening) as reader,
        AudioCopy(reader) as audio,
        VideoWriter(
            out, reader.fps, reader.time_base, display=reader.display, output=output, audio=audio, force=force
        ) as writer,
        progress(reader.frame_count, "reconstruct", quiet) as bar,
    ):
        size = reader.height, reader.width
        if tok.fits_both(*size) or not (reader.replays and is_file(place_of(clip))):
            pairs = round_trip(tok, reader, *size)
        else:
            pairs = _in_two_passes(tok, clip, selection, opening, reader, quiet)
        for frame, pixels in pairs:
            quality.add(frame.pixels, pixels)
            shown = np.concatenate([frame.pixels, pixels], axis=1) if side_by_side else pixels
            writer.write(shown, frame.pts, frame.duration)
            bar.update()
        writer.close()
    warn(reader.path, [*reader.notes(), *audio.notes()])
    return quality
