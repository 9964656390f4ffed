"""The PyTorch sides of scripts/benchmark.py: a reference, or the release's own implementation, eager or compiled.

Also the reference straight to ONNX, without a fold.

python scripts/torch_side.py SPEC, SPEC a JSON object: `{"matmul": 2048, "threads": 2}`, or weights (a file that says
its variant), bundle, role, frames, height, width, threads, whose (reference or release) and mode (eager or compile).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidtok_ref import VideoTokenizer, build
from vidtok_ref.families import family_of, make_model
from vidtok_ref.families.weights_file import embedded_variant
from vidtok_ref.regularizers.base import Quantizer
from vidtok_ref.streaming.state import Call, flatten, unflatten
from vidtok_ref.tokenizer import make_call
from vidtok_runtime.bench.interleaved import serve
from vidtok_runtime.bench.process import first_and_later
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.bundle.stream_spec import FIRST_CALL, SECOND_CALL

OPSET = 20


class Reference(nn.Module):
    """One role of the reference with its states as a flat list, in the order of `paths`."""

    def __init__(self, model: VideoTokenizer, role: str) -> None:
        super().__init__()
        self.role = role
        self.coder: Any = getattr(model, role)
        self.regularization = model.regularization
        self.paths: list[str] = []

    def forward(self, x: Tensor, states: list[Tensor] | None = None, flags: list[Tensor] | None = None) -> list[Tensor]:
        """Tokens or video, then the new states; without states the initial ones."""
        state = unflatten(dict(zip(self.paths, states, strict=True)), self.paths) if states else None
        if self.role == "decoder" and isinstance(self.regularization, Quantizer):
            x = self.regularization.from_indices(x)
        y, new = self.coder.step(x, state, Call(*flags) if flags else None)
        if self.role == "encoder":
            encoded = self.regularization(y)
            y = encoded.latent if encoded.indices is None else encoded.indices
        # As dense copies: slices of activations would keep these alive, and other strides would compile once more.
        return [y, *(t.clone(memory_format=torch.contiguous_format) for _, t in flatten(new))]


def initial_states(model: VideoTokenizer, role: str, x: Tensor) -> dict[str, Tensor]:
    """Zeros by path, in the shapes that the layers themselves give in one step without storage."""
    with torch.device("meta"):
        bare = make_model(model.config)
        meta = torch.empty(x.shape, dtype=x.dtype)
        if role == "decoder" and isinstance(bare.regularization, Quantizer):
            meta = bare.regularization.from_indices(meta)
        _, state = getattr(bare, role).step(meta)
    return {path: torch.zeros(tensor.shape) for path, tensor in flatten(state)}


def stream(
    weights: str, bundle: str, role: str, frames: int, height: int, width: int, threads: int, mode: str, whose: str
) -> Callable[[], Callable[[], object]]:
    """What loads a role, eager or compiled; then every call takes the next chunk of one stream."""
    torch.set_num_threads(threads)
    manifest = read_manifest(Path(bundle))
    model = build(embedded_variant(weights) or "", weights).requires_grad_(False)
    first, x = map(torch.from_numpy, first_and_later(manifest, role, frames, height, width))
    if whose == "release":
        return released_stream(model, role, first, x, mode)
    reference = Reference(model, role)
    calls = manifest.stream.calls(role)
    initial = initial_states(model, role, first)
    reference.paths = list(initial)
    delattr(model, "decoder" if role == "encoder" else "encoder")
    marks = [make_call(calls, now, x) for now in ({FIRST_CALL}, {SECOND_CALL}, set[str | None]())]
    flags = [mark and [flag for flag in mark if flag is not None] for mark in marks]

    def load() -> Callable[[], object]:
        network: Callable[..., list[Tensor]] = reference
        if mode == "compile":
            import torch._inductor.config as inductor

            inductor.freezing = True
            network = torch.compile(reference, dynamic=False)
        chunks, occasions = chain([first], repeat(x)), chain(flags, repeat(flags[-1]))
        states = list(initial.values())

        def call() -> None:
            nonlocal states
            with torch.no_grad():  # freezing needs it; inference mode is no faster here
                _, *states = network(next(chunks), states, next(occasions))

        return call

    return load


def released_stream(
    model: VideoTokenizer, role: str, first: Tensor, x: Tensor, mode: str
) -> Callable[[], Callable[[], object]]:
    """As `stream`, of the release's own implementation."""
    release = family_of(model.config).release(model)

    def load() -> Callable[[], object]:
        if mode == "compile":
            release.compile()
        chunks = chain([first], repeat(x))

        def call() -> None:
            with torch.no_grad():
                release.step(role, next(chunks))

        return call

    return load


def export_straight(model: VideoTokenizer, role: str, x: Tensor, out: Path) -> None:
    """Write a role of the reference as PyTorch exports it: from the initial state, for one shape, nothing folded."""
    with torch.no_grad():
        program = torch.onnx.export(
            Straight(Reference(model, role)), (x,), dynamo=True, opset_version=OPSET, verbose=False
        )
    assert program is not None
    program.save(out)


class Straight(nn.Module):
    """The reference without its states: `x` to tokens or video."""

    def __init__(self, reference: Reference) -> None:
        super().__init__()
        self.reference = reference

    def forward(self, x: Tensor) -> Tensor:
        return self.reference(x)[0]


def matmul(n: int, threads: int) -> Callable[[], Callable[[], object]]:
    """A product of two float32 matrices `n n` in PyTorch's matrix library."""
    torch.set_num_threads(threads)
    a, b = torch.randn(2, n, n, generator=torch.Generator().manual_seed(0))
    return lambda: lambda: a @ b


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    serve(matmul(spec["matmul"], spec["threads"]) if "matmul" in spec else stream(**spec))
