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
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.chain import GraphChain, GraphStream
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.engines.registry import PROVIDERS
from vidtok_runtime.engines.stateful import StatefulGraph
from vidtok_runtime.quality.metrics import psnr

Chosen = dict[str, set[str]]  # names of convolutions by the file of their graph

PROBE = np.s_[:, 32:96, 32:96]  # of the first two clips: one convolution at a time is slow enough


class Int8Choice:
    """The graphs of a bundle by their files, calibrated, with what each convolution costs alone in integers."""

    def __init__(self, manifest: Manifest, clips: list[Pixels], folder: Path, *, quiet: bool) -> None:
        self.manifest = in_short_calls(manifest)
        self._folder = folder
        self._float = {role: load_chain(manifest, role, "cpu", "fp32", Options()) for role in ROLES}
        self._entries = {graph.entry.file: graph.entry for chain in self._float.values() for graph in chain.graphs}
        recorders: dict[str, Recorder] = {}

        def recording(graph: GraphStream) -> StatefulGraph:
            recorders[graph.entry.file] = Recorder(graph.session)
            return StatefulGraph(graph.entry, recorders[graph.entry.file])

        encoder, decoder = (self._with_sessions(role, recording) for role in ROLES)
        for clip in tqdm(clips, desc="calibrate", unit="clip", disable=quiet):
            decode(self.manifest, decoder, encode(self.manifest, encoder, clip), clip)
        self.graphs = {
            file: Quantizable(onnx.load(check_file(manifest, entry)[0]), recorders[file].feeds)
            for file, entry in self._entries.items()
        }
        self._measure([np.ascontiguousarray(clip[PROBE]) for clip in clips[:2]], quiet)

    def _with_sessions(self, role: str, change: Callable[[GraphStream], GraphStream]) -> GraphChain:
        """The chain of a role with its graphs changed."""
        return GraphChain([change(graph) for graph in self._float[role].graphs], self.manifest.stream.calls(role).flags)

    def entry(self, file: str) -> GraphEntry:
        """A graph's row of the manifest with the states of its quantized form."""
        return self.graphs[file].doublings.entry(self._entries[file])

    def load(self, role: str, integers: Chosen) -> GraphChain:
        """The chain of a role on ONNX Runtime with these convolutions quantized."""

        def changed(graph: GraphStream) -> StatefulGraph:
            file = graph.entry.file
            path = self._folder / f"try.{file}"
            path.write_bytes(self.graphs[file].model(integers.get(file, set())).SerializeToString())
            entry = self.entry(file)
            options = Options(resident=frozenset(s.output for s in entry.states))
            return StatefulGraph(entry, PROVIDERS["cpu"].open(path, options))

        return self._with_sessions(role, changed)

    def _measure(self, clips: list[Pixels], quiet: bool) -> None:
        """Squared error that each convolution adds to the reconstruction when it alone takes integers."""
        run = self.manifest, self._float["decoder"]
        data = [encode(self.manifest, self._float["encoder"], clip) for clip in clips]
        videos = [decode(*run, d, clip) for d, clip in zip(data, clips, strict=True)]
        self.error = float(np.mean([np.square(v - c).mean() for v, c in zip(videos, clips, strict=True)]))
        self.cost: dict[tuple[str, str], float] = {}
        names = [(file, name) for file, graph in self.graphs.items() for name in graph.convolutions]
        for file, name in tqdm(names, desc="sensitivity", unit="layer", disable=quiet):
            role = self._entries[file].role
            chain = self.load(role, {file: {name}})
            added = []
            for clip, latent, video in zip(clips, data, videos, strict=True):
                if role == "encoder":
                    changed = decode(*run, encode(self.manifest, chain, clip), clip)
                else:
                    changed = decode(self.manifest, chain, latent, clip)
                added.append(np.square(changed - video).mean())
            self.cost[file, name] = float(np.mean(added))

    def by_price(self) -> list[tuple[str, str]]:
        """All convolutions, those first that cost least for the work that they save."""
        return sorted(self.cost, key=lambda item: self.cost[item] / self.graphs[item[0]].products[item[1]])

    def within(self, loss: float) -> Chosen:
        """Convolutions that together cost at most `loss` dB, if errors add up: the cheapest for their work first."""
        budget, chosen = self.error * (10 ** (loss / 10) - 1), {file: set[str]() for file in self.graphs}
        for file, name in self.by_price():
            if self.cost[file, name] <= budget:
                budget -= self.cost[file, name]
                chosen[file].add(name)
        return chosen


def mean_psnr(manifest: Manifest, encoder: GraphChain, decoder: GraphChain, clips: list[Pixels]) -> float:
    """Mean PSNR of the clips, dB, as `vidtok-run eval` counts it."""
    manifest = in_short_calls(manifest)
    values = []
    for clip in clips:
        video = np.rint(decode(manifest, decoder, encode(manifest, encoder, clip), clip)).astype(np.uint8)
        values.append(np.mean([psnr(a, b) for a, b in zip(clip, video, strict=True)]))
    return float(np.mean(values))


def choose(choice: Int8Choice, max_lost: float, lost: Callable[[Chosen], float], *, quiet: bool) -> Chosen:
    """Convolutions to quantize: as many as lose at most `max_lost` dB, as measured by `lost`."""
    allowance = max_lost
    chosen = choice.within(allowance)
    while any(chosen.values()) and lost(chosen) > max_lost:
        allowance *= 0.7
        chosen = choice.within(allowance)
    # Together they may lose less than one by one, so that more fit.
    left = [(file, name) for file, name in choice.by_price() if name not in chosen[file]]
    for file, name in tqdm(left, desc="fill up", unit="layer", disable=quiet):
        more = {**chosen, file: chosen[file] | {name}}
        if lost(more) <= max_lost:
            chosen = more
    return chosen
