"""A long stream as a folder of token files: which they are, in which order, and whether they belong together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TypeGuard, overload

from vidtok_runtime.errors import OutputError, TokenFileError
from vidtok_runtime.files import is_folder
from vidtok_runtime.locks import lock
from vidtok_runtime.remote import Place, RemotePath, place_of
from vidtok_runtime.tokens.tokens import TokenInfo, TokenReader

_DIGITS = 8


def segment_path(folder: Path, number: int) -> Path:
    """Name of a segment; names sort as the segments follow each other."""
    return folder / f"segment-{number:0{_DIGITS}d}.safetensors"


def segment_number(path: Place) -> int:
    """Inverse of `segment_path`."""
    return int(path.stem.removeprefix("segment-"))


@overload
def segments_in(place: Path) -> list[Path]: ...
@overload
def segments_in(place: str | PathLike[str] | RemotePath) -> Sequence[Place]: ...
def segments_in(place: str | PathLike[str] | RemotePath) -> Sequence[Place]:
    """The complete segments of a folder in order, or the one token file; raises TokenFileError when there are none."""
    path = place_of(place)
    if isinstance(path, RemotePath) or not is_folder(path):
        return [path]
    found = sorted(path.glob(f"segment-{'[0-9]' * _DIGITS}.safetensors"))
    if not found:
        raise TokenFileError(f"{path} holds no segments; make some with vidtok-run stream")
    return found


def has_segments(folder: Place) -> TypeGuard[Path]:
    """Whether it is a folder with segments in it."""
    return isinstance(folder, Path) and is_folder(folder) and any(folder.glob("segment-*.safetensors"))


def holds_tokens(place: str) -> bool:
    """Whether a name is that of a token file or of a folder of segments, not of a clip."""
    path = place_of(place)
    return path.suffix == ".safetensors" or has_segments(path)


def joined(readers: Sequence[TokenReader]) -> TokenInfo:
    """What the segments are together; raises TokenFileError unless they can be one video."""
    first = readers[0].info
    for reader in readers[1:]:
        check_follows(first, reader.info, str(reader.path))
    return replace(first, num_frames=sum(reader.info.num_frames for reader in readers))


def check_follows(first: TokenInfo, info: TokenInfo, name: str) -> None:
    """Raise TokenFileError unless pictures, time base and weights are those of the first segment."""
    for what in ("weights_sha256", "family", "name", "height", "width", "time_base", "groups", "sampled", "normalized"):
        ours, theirs = getattr(first, what), getattr(info, what)
        if ours != theirs:
            raise TokenFileError(
                f"{name} does not follow the segments before it: its {what} is {theirs}, theirs is {ours}; keep "
                "segments of one source, size and bundle in a folder"
            )


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder and keep other writers of segments out; raises OutputError. Removes what a killed one left."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror}") from error
    with contextlib.ExitStack() as stack:
        if os.name == "posix":  # elsewhere no folder can be opened, and nothing keeps a second writer out
            try:
                handle = os.open(folder, os.O_RDONLY)
            except OSError as error:
                raise OutputError(f"the folder {folder} cannot be read: {error.strerror}") from error
            stack.callback(os.close, handle)
            if not lock(handle, folder):
                raise OutputError(f"another vidtok-run stream writes into {folder}; name another folder")
            for part in folder.glob("segment-*.part"):
                part.unlink(missing_ok=True)
        yield
