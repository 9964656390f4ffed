"""The groups of frames that a gop or a window asks for."""

from __future__ import annotations

import itertools

from vidtok_runtime.arguments import whole
from vidtok_runtime.bundle.stream_spec import MAX_LENGTH, Groups, StreamSpec
from vidtok_runtime.errors import InputError


def groups_of(stream: StreamSpec, gop: int | None, name: str) -> Groups | None:
    """The groups of a clip of the model `name`: its own, or of so many latents; raises InputError."""
    if gop is None:
        return stream.groups
    if stream.groups is not None:
        raise InputError(f"{name} encodes windows that stand on their own already; leave gop out")
    gop = whole("gop", gop, 1)
    if not (frames := _whole_group(stream, gop)):
        near = itertools.chain(range(gop - 1, 0, -1), itertools.count(gop))
        works = next(n for n in near if _whole_group(stream, n))
        raise InputError(f"no number of frames of {name} makes {gop} latents; give a gop that works, as {works}")
    if frames > MAX_LENGTH:
        longest = next(n for n in range(MAX_LENGTH, 0, -1) if 0 < _whole_group(stream, n) <= MAX_LENGTH)
        raise InputError(f"a group has at most {MAX_LENGTH:,} frames, a gop of {gop} {frames:,}; give {longest}")
    return Groups(frames, gop, whole=False)


def _whole_group(stream: StreamSpec, latents: int) -> int:
    """Frames that make exactly so many latents, 0 if none do."""
    frames = stream.frames(latents)
    return frames if frames >= 1 and stream.latents(frames) == latents else 0


def in_windows(stream: StreamSpec, window: int | None, name: str) -> StreamSpec:
    """The stream of the model `name` in groups of so many frames, None for its own; raises InputError."""
    if window is None:
        return stream
    own = stream.groups
    if own is None:
        raise InputError(f"{name} is causal and has no windows; leave window out")
    window = whole("window", window, -(2**31))
    if own.multiple is None and window != own.frames:
        raise InputError(f"windows of {name} have {own.frames} frames, got {window}; leave window out")
    if own.multiple and (window < own.multiple or window % own.multiple):
        raise InputError(f"a window of {name} is a multiple of {own.multiple} frames, got {window}")
    if window > MAX_LENGTH:
        raise InputError(f"a window has at most {MAX_LENGTH:,} frames, got {window}")
    return stream if own.multiple is None else stream.regrouped(window)
