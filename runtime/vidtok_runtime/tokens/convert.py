"""Token files to and from other formats, piece by piece and without loss; nothing that is read is ever unpickled."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from os import PathLike
from pathlib import Path
from zipfile import BadZipFile

from vidtok_runtime.bundle.manifest import VARIANCE
from vidtok_runtime.errors import InputError, TokenFileError, VidtokError
from vidtok_runtime.files import is_file
from vidtok_runtime.tokens.archive import read_tar, read_zip, write_tar, write_zip
from vidtok_runtime.tokens.raw import read_raw, write_raw
from vidtok_runtime.tokens.reader import TokenReader
from vidtok_runtime.tokens.sample import TokenSample
from vidtok_runtime.tokens.writer import TokenWriter


def write_tokens(sample: TokenSample, out: Path, *, force: bool) -> None:
    """Write a token file; raises OutputError."""
    with TokenWriter(out, sample.info.codebook_size, half=sample.dtype == "F16", force=force) as writer:
        variances = repeat(None) if sample.variances is None else sample.variances()
        for piece, beside in zip(sample.pieces(), variances, strict=False):
            writer.append(piece, beside)
        writer.close(sample.info, sample.pts())


# Suffix -> how to read and how to write.
_FORMATS: dict[str, tuple[Callable[[Path], Iterator[TokenSample]], Callable[..., None]]] = {
    ".npz": (read_zip, write_zip),
    ".tar": (read_tar, write_tar),
    ".bin": (read_raw, write_raw),
}

# What comes out of the readers, and of zipfile, for files that are not what they seem.
_DAMAGE = (ValueError, KeyError, EOFError, OSError, RuntimeError, OverflowError, BadZipFile, zlib.error, struct.error)


@contextmanager
def open_sample(path: Path) -> Iterator[TokenSample]:
    """The tokens of a file of any format; raises TokenFileError."""
    if path.suffix not in _FORMATS:
        reader = TokenReader(path)
        reader.verify()
        variances = functools.partial(reader.pieces, name=VARIANCE) if reader.has_variance else None
        yield TokenSample(reader.info, reader.kind, reader.dtype, reader.shape, reader.pieces, reader.pts, variances)
        return
    if not is_file(path):
        raise TokenFileError(f"{path} is no file")
    try:
        yield from _FORMATS[path.suffix][0](path)
    except VidtokError:
        raise
    except _DAMAGE as error:
        raise TokenFileError(f"{path} holds no sound tokens: {error}; convert them again") from error


def convert_file(source: str | PathLike[str], out: str | PathLike[str], *, force: bool = False) -> None:
    """Write the tokens of `source` to `out`; the suffixes say the formats. Raises TokenFileError, OutputError."""
    source, out = Path(source), Path(out)
    if out.suffix not in {".safetensors", *_FORMATS}:
        raise InputError(f"{out}: tokens are written as .safetensors, {', '.join(_FORMATS)}")
    write = _FORMATS[out.suffix][1] if out.suffix in _FORMATS else write_tokens
    with open_sample(source) as sample:
        write(sample, out, force=force)
