"""Tokens as raw little-endian numbers (.bin), described by a .json file beside it."""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.manifest import VARIANCE, sha256_of
from vidtok_runtime.files import PartFile, is_file
from vidtok_runtime.tokens.info import DTYPES, KINDS, TokenInfo, rising
from vidtok_runtime.tokens.sample import Member, TokenSample, arrays, read_json

Array = NDArray[Any]


def write_raw(sample: TokenSample, out: Path, *, force: bool) -> None:
    """Write the numbers, log variances, and then the timestamps to `out`, and to `out` with .json where they are.

    Raises OutputError.
    """
    numbers, description = PartFile(out, force=force), PartFile(out.with_suffix(".json"), force=force)
    pts = sample.pts()
    sum256 = sha256()
    try:
        numbers.open()
        variances = sample.variances() if sample.variances is not None else ()
        for piece in chain(sample.pieces(), variances, [pts]):
            content = piece.tobytes()
            numbers.write(content)
            sum256.update(content)
        kinds = [sample.kind] if sample.variances is None else [sample.kind, VARIANCE]
        about = {
            "info": sample.info.to_metadata(),
            **{
                kind: {"dtype": DTYPES[sample.dtype], "shape": list(sample.shape), "offset": i * sample.size}
                for i, kind in enumerate(kinds)
            },
            "pts": {"dtype": DTYPES["I64"], "shape": list(pts.shape), "offset": len(kinds) * sample.size},
            "sha256": sum256.hexdigest(),
        }
        description.open()
        description.write(json.dumps(about, indent=1).encode() + b"\n")
        # Both are whole by now. What is killed between the two names leaves a pair that its hash gives away.
        numbers.commit()
        description.commit()
    finally:
        numbers.discard()
        description.discard()


def read_raw(path: Path) -> Iterator[TokenSample]:
    """The tokens of a .bin file with its .json, once; raises ValueError."""
    beside = path.with_suffix(".json")
    if not is_file(beside):
        raise ValueError(f"{beside.name} is not beside it")
    about = read_json(Member(beside.stat().st_size, functools.partial(io.FileIO, beside)))
    info = TokenInfo.from_metadata(about.mapping("info"))
    kind = "latent" if info.codebook_size is None else "indices"
    entry = about.fields(kind)
    dtypes = {DTYPES[code]: code for code in KINDS[kind]}
    dtype, shape = dtypes[entry.one_of("dtype", dtypes)], entry.integers("shape", 4)
    info.check_shape(kind, dtype, shape)
    total = path.stat().st_size
    size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    variance = kind == "latent" and VARIANCE in about.names()
    if variance and about.fields(VARIANCE).raw != {**entry.raw, "offset": size}:
        raise ValueError(f"{VARIANCE} is not of the type and shape of the latents, or not behind them")
    times = size * (2 if variance else 1)

    def numbers(start: int) -> Callable[[], Iterator[Array]]:
        def opened() -> io.FileIO:
            file = io.FileIO(path)
            file.seek(start)
            return file

        return lambda: arrays(Member(total, opened), dtype, shape, 0)

    sample = TokenSample(
        info,
        kind,
        dtype,
        shape,
        numbers(0),
        lambda: rising(np.fromfile(path, DTYPES["I64"], info.num_frames, offset=times)),
        numbers(size) if variance else None,
    )
    if total != times + 8 * info.num_frames:
        raise ValueError(f"it has {total:,} bytes, its description promises {times + 8 * info.num_frames:,}")
    if sha256_of(path) != about.sha256("sha256"):
        raise ValueError(f"{beside.name} describes another file: one of the two is older")
    yield sample
