"""What a benchmark measures: cases, and the sides that take turns in each."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.bundle.stream_spec import StreamSpec
from vidtok_runtime.engines.registry import PROVIDERS, choose_provider, usable_providers
from vidtok_runtime.errors import BundleError, InputError, ProviderError
from vidtok_runtime.machine import cores

ROLES = {"encoder": "encode", "decoder": "decode"}


@dataclass(frozen=True)
class Case:
    """What every side does in a call: so many frames of a size, through a role."""

    role: str
    frames: int
    height: int
    width: int
    threads: int
    device_id: int = 0

    @property
    def title(self) -> str:
        """What is done, and at what size."""
        return f"{ROLES[self.role]} {self.width}x{self.height}"

    def __str__(self) -> str:
        return f"{self.title}, {self.frames} frames a call, {self.threads} threads"


@dataclass(frozen=True)
class Peer:
    """A side of the benchmark: who, on what, in which precision, and the command that starts its process."""

    name: str
    provider: str
    precision: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}, {self.provider} {self.precision}"


def taken_frames(stream: StreamSpec, frames: int) -> int:
    """Frames that the graphs take in a call of so many: more where a call is a whole group, with its padding."""
    return stream.length.padded(stream.front_frames + frames) if stream.encoder.max is None else frames


def side_command(**spec: Any) -> tuple[str, ...]:
    """What starts a side that needs no PyTorch."""
    return (sys.executable, "-m", "vidtok_runtime.bench.process", json.dumps(spec))


def bundle_peers(
    manifest: Manifest, case: Case, providers: Sequence[str] = (), precisions: Sequence[str] = ()
) -> list[Peer]:
    """The graphs of a bundle for a case, on the providers and in the precisions named, or all that can be used.

    Raises ProviderError, and BundleError when nothing fits.
    """
    names = [choose_provider(name) for name in providers] or list(usable_providers())
    if not names:
        raise ProviderError("no inference engine is installed; pip install 'vidtok-onnx[cpu]'")
    offered = [g for g in manifest.graphs if g.role == case.role]
    unknown = set(precisions) - {g.precision for g in offered}
    if unknown:
        has = ", ".join(dict.fromkeys(g.precision for g in offered))
        raise BundleError(f"{manifest.folder} has no {', '.join(sorted(unknown))} {case.role}; it offers {has}")
    pairs = dict.fromkeys(
        (name, g.precision)
        for g in offered
        for name in names
        if PROVIDERS[name].listed_as in g.providers and g.precision in (precisions or (g.precision,))
    )
    if not pairs:
        raise BundleError(f"{manifest.folder} has no {case.role} graph for {', '.join(names)}")
    about = asdict(case) | {"bundle": str(manifest.folder.resolve())}
    return [Peer("vidtok-onnx", p, kind, side_command(**about, provider=p, precision=kind)) for p, kind in pairs]


def cases(
    manifest: Manifest, sizes: Sequence[int], frames: int | None, threads: int | None, device_id: int = 0
) -> list[Case]:
    """Encoding and decoding at each size; frames None: a call as the bundle likes them. Raises InputError."""
    stream, s = manifest.stream, manifest.stream.side_multiple
    # Where there is no longest call, one takes a whole group.
    usual = stream.encoder.max or (stream.groups.frames if stream.groups else stream.time_factor)
    frames, f = usual if frames is None else frames, stream.time_factor
    if stream.encoder.exact and frames != usual:
        raise InputError(f"a call of {manifest.name} takes exactly {usual} frames, got {frames}; leave out --frames")
    if frames != usual and (frames < f or frames % f):
        raise InputError(f"a call of {manifest.name} takes a multiple of {f} frames, got {frames}")
    for size in sizes:
        if size < s or size % s:
            raise InputError(f"a side of {manifest.name} is a multiple of {s} pixels, got {size}")
    count = threads or cores()
    return [Case(role, frames, size, size, count, device_id) for size in sizes for role in ROLES]
