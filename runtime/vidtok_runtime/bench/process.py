"""One side of a benchmark without PyTorch: `python -m vidtok_runtime.bench.process SPEC`, SPEC a JSON object.

`{"matmul": 2048}`, or a graph of a bundle: bundle, role, provider, precision, frames, height, width, threads,
device_id; with `"straight": FILE`, that graph from the initial state in place of the bundle's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np

from vidtok_runtime.bench.interleaved import serve
from vidtok_runtime.bench.plan import taken_frames
from vidtok_runtime.bundle.manifest import Manifest, read_manifest
from vidtok_runtime.engines.base import Array, Options
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.engines.registry import PROVIDERS


def example(manifest: Manifest, role: str, frames: int, height: int, width: int) -> Array:
    """Seeded noise for one call: video `1 3 T H W` in the range of pixels, latents `1 C t h w` or indices `1 t h w`."""
    rng, stream = np.random.default_rng(0), manifest.stream
    frames = taken_frames(stream, frames)
    if role == "encoder":
        return rng.uniform(*stream.pixel_range, (1, 3, frames, height, width)).astype(np.float32)
    s = stream.spatial_multiple
    grid = -(-frames // stream.time_factor), height // s, width // s
    if stream.codebook_size:
        return rng.integers(0, stream.codebook_size, (1, *grid), np.int32)
    return rng.standard_normal((1, stream.latent_channels, *grid), np.float32)


def first_and_later(manifest: Manifest, role: str, frames: int, height: int, width: int) -> tuple[Array, Array]:
    """As `example`, for the first call of a stream, which may have a size of its own, and for every later one."""
    first, later = manifest.stream.calls(role).first, example(manifest, role, frames, height, width)
    if first is None:
        return later, later
    own = first if role == "encoder" else first * manifest.stream.time_factor
    return example(manifest, role, own, height, width), later


def matmul(n: int) -> Callable[[], object]:
    """A product of two float32 matrices `n n` in numpy's own matrix library."""
    a, b = np.random.default_rng(0).standard_normal((2, n, n), np.float32)
    return lambda: a @ b


def graph_call(
    bundle: str,
    role: str,
    provider: str,
    precision: str | None,
    frames: int,
    height: int,
    width: int,
    threads: int,
    device_id: int,
    straight: str | None = None,
) -> Callable[[], object]:
    """Load the graphs of a role; every call takes the next chunk of one stream, or a whole group."""
    manifest = read_manifest(Path(bundle))
    first, x = first_and_later(manifest, role, frames, height, width)
    options = Options(threads, device_id)
    if straight:
        session = PROVIDERS[provider].open(Path(straight), options)
        return lambda: session.run({next(iter(session.inputs)): x})
    graphs, calls = load_chain(manifest, role, provider, precision, options), manifest.stream.calls(role)
    if calls.max is None:
        return lambda: graphs.fresh().step(x)
    chunks = chain([first], repeat(x))
    return lambda: graphs.step(next(chunks))


def _load(spec: dict[str, Any]) -> Callable[[], object]:
    return matmul(spec["matmul"]) if "matmul" in spec else graph_call(**spec)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    serve(lambda: _load(given))
