"""Which convolutions may take 8-bit integers: measured, one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from tqdm import tqdm

from vidtok_export.quantization.clips import Recorder, decode, encode, in_short_calls
from vidtok_export.quantization.int8 import Quantizable
from vidtok_ref.train.clips import Pixels
from vidtok_runtime.bundle.graph_entry import ROLES, GraphEntry
from vidtok_runtime.bundle.manifest import Manifest, check_file
from vidtok_runtime.engines.base import Options, Session
from vidtok_runtime.engines.load import load_graph
from vidtok_runtime.engines.stateful import StatefulGraph
from vidtok_runtime.quality.metrics import psnr

PROBE = np.s_[:, 32:96, 32:96]  # of the first two clips: one convolution at a time is slow enough


class Int8Choice:
    """The graphs of a bundle, calibrated, with what each convolution costs when it alone takes integers."""

    def __init__(self, manifest: Manifest, clips: list[Pixels], folder: Path, *, quiet: bool) -> None:
        self.manifest = in_short_calls(manifest)
        self._folder = folder
        self._float = {role: load_graph(manifest, role, "cpu", "fp32", Options()) for role in ROLES}
        recorders = {role: Recorder(graph.session) for role, graph in self._float.items()}
        recording = {role: StatefulGraph(self._float[role].entry, recorders[role]) for role in ROLES}
        for clip in tqdm(clips, desc="calibrate", unit="clip", disable=quiet):
            data = encode(self.manifest, recording["encoder"], clip)
            decode(self.manifest, recording["decoder"], data, clip)
        self.graphs = {
            role: Quantizable(onnx.load(check_file(manifest, self._float[role].entry)), recorders[role].feeds)
            for role in ROLES
        }
        self._measure([np.ascontiguousarray(clip[PROBE]) for clip in clips[:2]], quiet)

    def entry(self, role: str) -> GraphEntry:
        """A role's row of the manifest with the states of its quantized graph."""
        return self.graphs[role].doublings.entry(self._float[role].entry)

    def load(self, role: str, integers: set[str]) -> StatefulGraph:
        """The graph of a role on ONNX Runtime with these convolutions quantized."""
        from vidtok_runtime.engines.ort import OrtSession

        path = self._folder / f"{role}.try.onnx"
        path.write_bytes(self.graphs[role].model(integers).SerializeToString())
        entry = self.entry(role)
        options = Options(resident=frozenset(s.output for s in entry.states))
        session: Session = OrtSession(path, options, "CPUExecutionProvider")
        return StatefulGraph(entry, session)

    def _measure(self, clips: list[Pixels], quiet: bool) -> None:
        """Squared error that each convolution adds to the reconstruction when it alone takes integers."""
        run = self.manifest, self._float["decoder"]
        data = [encode(self.manifest, self._float["encoder"], clip) for clip in clips]
        videos = [decode(*run, d, clip) for d, clip in zip(data, clips, strict=True)]
        self.error = float(np.mean([np.square(v - c).mean() for v, c in zip(videos, clips, strict=True)]))
        self.cost: dict[tuple[str, str], float] = {}
        names = [(role, name) for role in ROLES for name in self.graphs[role].convolutions]
        for role, name in tqdm(names, desc="sensitivity", unit="layer", disable=quiet):
            graph = self.load(role, {name})
            added = []
            for clip, latent, video in zip(clips, data, videos, strict=True):
                if role == "encoder":
                    changed = decode(*run, encode(self.manifest, graph, clip), clip)
                else:
                    changed = decode(self.manifest, graph, latent, clip)
                added.append(np.square(changed - video).mean())
            self.cost[role, name] = float(np.mean(added))

    def within(self, loss: float) -> dict[str, set[str]]:
        """Convolutions that together cost at most `loss` dB, if errors add up: the cheapest for their work first."""
        budget, chosen = self.error * (10 ** (loss / 10) - 1), {role: set[str]() for role in ROLES}

        def price(item: tuple[tuple[str, str], float]) -> float:
            (role, name), cost = item
            return cost / self.graphs[role].products[name]

        for (role, name), cost in sorted(self.cost.items(), key=price):
            if cost <= budget:
                budget -= cost
                chosen[role].add(name)
        return chosen


def mean_psnr(manifest: Manifest, encoder: StatefulGraph, decoder: StatefulGraph, clips: list[Pixels]) -> float:
    """Mean PSNR of the clips, dB, as `vidtok-run eval` counts it."""
    manifest = in_short_calls(manifest)
    values = []
    for clip in clips:
        video = np.rint(decode(manifest, decoder, encode(manifest, encoder, clip), clip)).astype(np.uint8)
        values.append(np.mean([psnr(a, b) for a, b in zip(clip, video, strict=True)]))
    return float(np.mean(values))


def choose(choice: Int8Choice, max_lost: float, lost: Callable[[dict[str, set[str]]], float]) -> dict[str, set[str]]:
    """Convolutions to quantize, so that at most `max_lost` dB are lost as measured by `lost`."""
    allowance = max_lost
    while True:
        chosen = choice.within(allowance)
        if not any(chosen.values()) or lost(chosen) <= max_lost:
            return chosen
        allowance *= 0.7
