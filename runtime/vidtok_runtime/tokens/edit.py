"""Cutting and joining token files without decoding them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import repeat
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.manifest import VARIANCE
from vidtok_runtime.bundle.stream_spec import Groups
from vidtok_runtime.errors import InputError, MismatchError
from vidtok_runtime.tokens.info import TokenInfo
from vidtok_runtime.tokens.reader import TokenReader
from vidtok_runtime.tokens.writer import TokenWriter

Array = NDArray[Any]
Path = str | PathLike[str]


def frame_range(info: TokenInfo, pts: Array, start: str | None, end: str | None) -> slice:
    """Frames from `start` to before `end`: text like `2.5` (seconds from the first frame) or `75f` (frames).

    None is the start or the end of the clip. Raises InputError.
    """
    first = 0 if start is None else _frame(info, pts, start)
    last = info.num_frames if end is None else min(info.num_frames, _frame(info, pts, end))
    if first >= last:
        raise InputError(f"from {start or 0} to {end or 'the end'} there is no frame; the clip has {info.num_frames}")
    return slice(first, last)


def parse_moment(text: str) -> tuple[Fraction, bool]:
    """Number and whether it counts frames (`75f`) instead of seconds (`2.5`); raises InputError."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(f?)", text, re.ASCII)
    if not match or (match[2] and "." in match[1]):
        raise InputError(f"{text!r} is no moment; give seconds like 2.5, or frames like 75f")
    return Fraction(match[1]), bool(match[2])


def _frame(info: TokenInfo, pts: Array, text: str) -> int:
    """The first frame at or after a moment."""
    number, counts_frames = parse_moment(text)
    if counts_frames:
        return int(number)
    unit = info.time_base or (info.fps and 1 / info.fps)
    if not unit:
        raise InputError("the tokens do not say how many frames a second the clip has; give frames like 75f")
    ticks = -(-number // unit)
    return int(np.searchsorted(pts - pts[0], min(ticks, 2**62)))


def cut_file(path: Path, out: Path, start: str | None, end: str | None, *, force: bool = False) -> TokenInfo:
    """Write the tokens of the frames `start..end` (see `frame_range`), and what decoding these needs, to a new file.

    Raises TokenFileError, OutputError, InputError, also for an end at which the last frames would decode otherwise than
    in the whole.
    """
    reader = TokenReader(path)
    reader.verify()
    pts = reader.pts()
    frames = frame_range(reader.info, pts, start, end)
    info, latents = reader.info.part(frames.start, frames.stop, reader.shape[0])
    info = info.lasting(reader.info.durations(pts)[frames.stop - 1])
    with TokenWriter(out, info.codebook_size, half=reader.dtype == "F16", force=force) as writer:
        _copy(reader, writer, latents)
        writer.close(info, pts[frames])
    return info


def join_files(paths: Sequence[Path], out: Path, *, force: bool = False) -> TokenInfo:
    """Write several token files as one whose video is theirs one after another.

    The state starts anew at every file, so all but the last are made of whole groups: files with the same groups or,
    without, of one length, which only the last may fall short of. Timestamps that do not go on from file to file are
    moved. Raises MismatchError, TokenFileError, OutputError, InputError.
    """
    readers = [TokenReader(path) for path in paths]
    info = _joined(readers)
    pts, lasted = np.zeros(0, np.int64), None
    with TokenWriter(out, info.codebook_size, half=readers[0].dtype == "F16", force=force) as writer:
        for reader in readers:
            reader.verify()
            _copy(reader, writer)
            pts = np.concatenate([pts, _moved(pts, lasted, reader)])
            lasted = reader.info.last_duration
        writer.close(info, pts)
    return info


def _copy(reader: TokenReader, writer: TokenWriter, part: slice = slice(None)) -> None:
    variances = reader.pieces(part, VARIANCE) if reader.has_variance else repeat(None)
    for piece, beside in zip(reader.pieces(part), variances, strict=False):
        writer.append(piece, beside)


def _joined(readers: Sequence[TokenReader]) -> TokenInfo:
    """What the joined file says about itself; raises MismatchError where one cannot follow another."""
    first = readers[0]
    groups = first.info.groups
    if groups is None and len(readers) > 1:  # a file without groups is one group
        held = first.info.skip + first.info.num_frames
        groups = Groups(held, first.info.timing.latents(held), whole=False)
    frames = sum(reader.info.num_frames for reader in readers)
    lasts = readers[-1].info.last_duration
    joined = replace(first.info, groups=groups, num_frames=frames, last_duration=lasts)
    for number, reader in enumerate(readers):
        info = reader.info
        own = replace(info, num_frames=frames, groups=groups, skip=joined.skip, last_duration=lasts)
        kind = (reader.dtype, reader.shape[1:], reader.has_variance)
        if own != joined or kind != (first.dtype, first.shape[1:], first.has_variance):
            raise MismatchError(f"{reader.path} cannot follow {first.path}: {_difference(own, joined)}")
        if groups is None:  # a single file
            break
        held = info.skip + info.num_frames
        whole = held % groups.frames == 0 or number == len(readers) - 1
        same = info.groups == groups
        if info.groups is None:
            same = held <= groups.frames and reader.shape[0] <= groups.latents
        elif groups.shared_frames or groups.shared_latents:
            same = len(readers) == 1  # what two files would share is in neither
        if not (whole and same) or (number > 0 and info.skip):
            raise MismatchError(
                f"{reader.path} cannot be joined here: it is not made of whole groups of {groups.latents} latents "
                f"({groups.frames} frames); encode with one --gop, and cut where groups begin"
            )
    return joined


def _difference(a: TokenInfo, b: TokenInfo) -> str:
    for name, value in vars(a).items():
        if value != getattr(b, name):
            return f"{name} is {value}, not {getattr(b, name)}"
    return "its numbers have another type or size"


def _moved(before: Array, lasted: int | None, reader: TokenReader) -> Array:
    """Timestamps of a file, moved behind `before`, whose last frame `lasted` so long, unless they are."""
    pts, info = reader.pts(), reader.info
    if not len(before) or pts[0] > before[-1]:
        return pts
    step = max(1, round(1 / (info.fps * info.time_base))) if info.fps and info.time_base else 1
    return np.asarray(pts - pts[0] + before[-1] + (lasted or step), np.int64)
