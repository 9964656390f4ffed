"""A graph's states between calls: one set of arrays, whatever the engine; and a process that outlives its graphs."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.engines.stateful import StatefulGraph


def encoder(provider: str) -> StatefulGraph:
    """The first graph of an encoder, which takes video."""
    return load_chain(find_bundle("tiny-kl-16chn"), "encoder", provider, None, Options(threads=1)).graphs[0]


class Watched:
    """A session that notes where its state outputs lie."""

    def __init__(self, session: Any, state: str) -> None:
        self.session, self.state = session, state
        self.addresses: list[int] = []

    def run(self, inputs: Any, into: Any = None, *, release: bool = False) -> dict[str, Any]:
        results = self.session.run(inputs, into, release=release)
        value = results[self.state]
        self.addresses.append(value.ctypes.data if isinstance(value, np.ndarray) else value.data_ptr())
        return results


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_state_stays_where_it_is(provider: str) -> None:
    graph = encoder(provider)
    watched = Watched(graph.session, graph.entry.states[0].output)
    rng = np.random.default_rng(0)
    chunks = [rng.uniform(-1, 1, (1, 3, 4, 32, 32)).astype(np.float32) for _ in range(7)]
    stream, whole = StatefulGraph(graph.entry, watched), graph.fresh()
    features = [stream.step(chunk)["features"] for chunk in chunks]
    assert len(set(watched.addresses)) == 1
    expected = whole.step(np.concatenate(chunks, axis=2))["features"]
    np.testing.assert_allclose(np.concatenate(features, axis=2), expected, atol=1e-4)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_streams_have_states_of_their_own(provider: str) -> None:
    graph = encoder(provider)
    watched = Watched(graph.session, graph.entry.states[0].output)
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (32, 32), (40, 24), (32, 32)]
    clips = [rng.uniform(-1, 1, (6, 1, 3, 4, *size)).astype(np.float32) for size in sizes]
    first = StatefulGraph(graph.entry, watched)
    streams = [first, *(first.fresh() for _ in clips[1:])]
    found = [[s.step(clip[i])["features"] for s, clip in zip(streams, clips, strict=True)] for i in range(6)]
    for n, clip in enumerate(clips):
        expected = graph.fresh().step(np.concatenate(list(clip), axis=2))["features"]
        np.testing.assert_allclose(np.concatenate([row[n] for row in found], axis=2), expected, atol=1e-4)
    assert len(set(watched.addresses)) == len(clips)


def test_signals_after_another_thread_has_dropped_the_tokenizer() -> None:
    script = """
import gc, os, signal, threading
import numpy as np
from vidtok_runtime import Tokenizer
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
kept = [Tokenizer("tiny-kl-16chn", provider="openvino", threads=1)]
kept[0].encode(np.zeros((1, 16, 16, 3), np.uint8))
thread = threading.Thread(target=lambda: (kept.clear(), gc.collect()))
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
