"""Speed and memory of encoding and decoding on this machine, every engine and precision in the same run."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from vidtok_runtime.bench.interleaved import Times, interleave
from vidtok_runtime.bench.plan import Case, Peer, side_command, taken_frames
from vidtok_runtime.bundle.information import multiply_adds
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.errors import ProviderError
from vidtok_runtime.versions import version_of

HOW = (
    "graph calls of one stream that carries its state, arrays in and out (no video files); every side is a process of "
    "its own, and they take turns. first s: loading and the first call; call s: median of the later ones, one left "
    "out. limit: the fastest float32 matrix product measured in the same turns; operations are those of the model as "
    "published, so folds and integers may pass 100%. peak: of the whole process"
)
MATRIX = 2048
_MATMUL = "numpy matmul"
_TOOLS = ("vidtok-onnx", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch")


@dataclass(frozen=True)
class Row:
    """Figures of one side in one case.

    call_s: median seconds a call, first call excluded; first_s: loading and the first call. ratio: how many times as
    fast as the first side. matmul_rate: multiply-adds a second of the fastest matrix product measured in the same
    turns; limit_share: the model's part of it. peak_mib: of the side's process. None: not known.
    """

    peer: str
    provider: str
    precision: str
    case: Case
    first_s: float
    call_s: float
    calls_s: list[float]
    frames_per_second: float
    ratio: float
    matmul_rate: float | None
    limit_share: float | None
    peak_mib: float | None

    def __str__(self) -> str:
        return f"{self.peer}, {self.provider} {self.precision}"


@dataclass
class Bench:
    """All figures of a run and how they came about."""

    bundle: str
    family: str
    name: str
    weights_sha256: str
    how: str = HOW
    machine: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The figures as text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def by_case(self) -> dict[Case, list[Row]]:
        """The rows of each case."""
        return {
            case: [row for row in self.rows if row.case == case] for case in dict.fromkeys(r.case for r in self.rows)
        }


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, system, versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    found = {tool: known for tool in _TOOLS if (known := version_of(tool))}
    processor = names[0] if names else platform.processor() or platform.machine()
    about = {"processor": processor, "cores": os.cpu_count(), "system": platform.system()}
    return about | {"python": platform.python_version()} | found


def run_bench(
    manifest: Manifest,
    plan: Mapping[Case, Sequence[Peer]],
    repeats: int,
    limits: Mapping[str, tuple[str, ...]] | None = None,
    *,
    say: Callable[[str], object] = print,
    quiet: bool = False,
) -> Bench:
    """Measure every case with its sides in turns. The first side that works is what the others are compared with.

    limits: further matrix products besides numpy's; the fastest is the limit. say: is given the lines of each case as
    soon as it is measured. Raises ProviderError when nothing works.
    """
    bench = Bench(
        manifest.folder.resolve().name, manifest.family, manifest.name, manifest.weights_sha256, machine=machine()
    )
    products = {_MATMUL: side_command(matmul=MATRIX), **(limits or {})}
    total = sum((len(products) + len(peers)) * (repeats + 2) for peers in plan.values())
    with tqdm(total=total, desc="bench", unit="call", disable=quiet) as bar:
        for case, peers in plan.items():
            named = {str(peer): peer for peer in peers}
            commands = products | {name: peer.command for name, peer in named.items()}
            times, failed = interleave(commands, case.threads, repeats, bar.update)
            bench.left_out |= {f"{name}, {case.title}": reason for name, reason in failed.items()}
            rate = max((MATRIX**3 / median(times[name].calls_s) for name in products if name in times), default=None)
            measured = {name: times[name] for name in named if name in times}
            taken = taken_frames(manifest.stream, case.frames)
            work = multiply_adds(manifest, case.role, taken, case.height, case.width)
            rows = [
                _row(named[name], case, own, next(iter(measured.values())), rate, work)
                for name, own in measured.items()
            ]
            bench.rows += rows
            bar.clear()
            for line in table(f"{bench.bundle} ({bench.name}): {case}", rows, rate):
                say(line)
    if not bench.rows:
        raise ProviderError(f"nothing could be measured: {'; '.join(bench.left_out.values())}")
    for name, reason in bench.left_out.items():
        say(f"left out: {name}: {reason}")
    say(bench.how)
    return bench


def table(title: str, rows: Sequence[Row], rate: float | None) -> Iterator[str]:
    """Lines about one case."""
    yield title + (f"; limit {rate / 1e9:.1f} G multiply-adds/s" if rate else "")
    yield f"{'':<34}{'first s':>9}{'call s':>9}{'frames/s':>10}{'of limit':>10}{'peak MiB':>10}{'ratio':>8}"
    for row in rows:
        share = "-" if row.limit_share is None else f"{row.limit_share:.1%}"
        peak = "-" if row.peak_mib is None else f"{row.peak_mib:.0f}"
        yield (
            f"{row!s:<34}{row.first_s:>9.3f}{row.call_s:>9.3f}{row.frames_per_second:>10.1f}"
            f"{share:>10}{peak:>10}{row.ratio:>7.2f}x"
        )
    yield ""


def _row(peer: Peer, case: Case, times: Times, base: Times, rate: float | None, work: float | None) -> Row:
    call_s = median(times.calls_s)
    return Row(
        peer.name,
        peer.provider,
        peer.precision,
        case,
        first_s=times.first_s,
        call_s=call_s,
        calls_s=times.calls_s,
        frames_per_second=case.frames / call_s,
        ratio=median(base.calls_s) / call_s,
        matmul_rate=rate,
        limit_share=work / call_s / rate if work and rate else None,
        peak_mib=times.peak / 2**20 if times.peak else None,
    )
