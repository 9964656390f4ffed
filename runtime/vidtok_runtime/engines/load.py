"""Loading the graphs of a role, checked against the manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vidtok_runtime.bundle.graph_entry import GraphEntry, Port
from vidtok_runtime.bundle.manifest import Manifest, check_file
from vidtok_runtime.engines.base import Options, Session
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.engines.registry import PROVIDERS
from vidtok_runtime.engines.stateful import StatefulGraph
from vidtok_runtime.errors import BundleError
from vidtok_runtime.machine import give_back


def load_chain(manifest: Manifest, role: str, provider: str, precision: str | None, options: Options) -> GraphChain:
    """Load the graphs of a role and check them against the manifest; raises BundleError, ProviderError."""
    row = PROVIDERS[provider]
    entries = manifest.chain(role, row.listed_as, precision)
    graphs, known = [], set[Path]()
    for entry in entries:
        path, weights = check_file(manifest, entry, known)
        own = replace(
            options,
            resident=frozenset(s.output for s in entry.states),
            handed_on=frozenset() if entry is entries[-1] else frozenset({entry.outputs[0].name}),
            weights=tuple(weights),
            left=entry.missing_kernels.get(provider, ()),
        )
        session = row.open(path, own)
        _check_ports(manifest, entry, session)
        graphs.append(StatefulGraph(entry, session))
    give_back()  # what engines took to read and to optimize graphs: as much as the graphs themselves, or more
    return GraphChain(graphs, manifest.stream.calls(role).flags)


def _check_ports(manifest: Manifest, entry: GraphEntry, session: Session) -> None:
    """Raise BundleError where names, types or sizes of a graph are not those of the manifest."""
    where = f"{manifest.folder / entry.file} does not fit its manifest"
    for kind, found in (("inputs", session.inputs), ("outputs", session.outputs)):
        expected = entry.ports[kind]
        if expected.keys() != found.keys():
            raise BundleError(
                f"{where}: {kind} that only the manifest has: {sorted(expected.keys() - found.keys())}, "
                f"that only the graph has: {sorted(found.keys() - expected.keys())}"
            )
        for name, port in expected.items():
            dtype, sizes = found[name]
            if dtype != port.dtype or not _fit(port, sizes):
                raise BundleError(
                    f"{where}: {name} is {port.dtype} [{port.axes}] in the manifest, {dtype} "
                    f"[{' '.join('?' if n is None else str(n) for n in sizes)}] in the graph"
                )


def _fit(port: Port, sizes: tuple[int | None, ...]) -> bool:
    """Whether the manifest's axes agree with a graph's sizes; only numbers can contradict each other."""
    axes = port.axes.split()
    fixed = [int(axis) if axis.isdigit() else None for axis in axes]
    return len(axes) == len(sizes) and all(a == b or a is None or b is None for a, b in zip(fixed, sizes, strict=True))
