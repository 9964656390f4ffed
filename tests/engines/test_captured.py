"""Calls in fixed memory, as CUDA graphs need them; run on the CPU, which ignores the graphs' numbers."""

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.engines import cuda_graph as session_captured
from vidtok_runtime.engines import pinned_memory as pinned_memory
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.cuda_graph import CapturedOrtSession
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.engines.pinned_memory import pinned_array
from vidtok_runtime.engines.registry import PROVIDERS
from vidtok_runtime.engines.stateful import StatefulGraph


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> StatefulGraph:
    monkeypatch.setitem(PROVIDERS, "cpu", replace(PROVIDERS["cpu"], load=CapturedOrtSession))
    return load_chain(find_bundle("tiny-kl-16chn"), "encoder", "cpu", None, Options(threads=1)).graphs[0]


@pytest.fixture
def numbers(graph: StatefulGraph, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Numbers of the graphs in the order of the calls, and no two uses of one with different addresses."""
    seen: list[str] = []
    places: dict[str, Any] = {}
    run, choose = graph.session._run_bound, graph.session._graph_of  # type: ignore[attr-defined]

    def noted(binding: Any, number: str) -> None:
        seen.append(number)
        run(binding, number)

    def chosen(values: Any) -> str:
        number = choose(values)
        where = [value.data_ptr() for value in values]
        assert number == "-1" or places.setdefault(number, where) == where
        return str(number)

    monkeypatch.setattr(graph.session, "_run_bound", noted)
    monkeypatch.setattr(graph.session, "_graph_of", chosen)
    return seen


def clip(length: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (1, 3, length, *size)).astype(np.float32)


def reference(video: np.ndarray) -> np.ndarray:
    chain = load_chain(find_bundle("tiny-kl-16chn"), "encoder", "openvino", None, Options(threads=1))
    return chain.graphs[0].step(video)["features"]


def chunks(video: np.ndarray) -> list[np.ndarray]:
    return np.split(video, range(4, video.shape[2], 4), axis=2)


def test_a_stream_is_captured_as_two_graphs(graph: StatefulGraph, numbers: list[str]) -> None:
    video = clip(40, (32, 32))
    features = [graph.step(chunk)["features"] for chunk in chunks(video)]
    np.testing.assert_allclose(np.concatenate(features, axis=2), reference(video), atol=1e-4)
    assert numbers[0] == "-1"
    assert numbers[-4:] in (["1", "2", "1", "2"], ["2", "1", "2", "1"])
    assert set(numbers) == {"-1", "1", "2"}


def test_streams_of_several_sizes_take_turns(graph: StatefulGraph, numbers: list[str]) -> None:
    clips = [clip(32, size, seed) for seed, size in enumerate([(32, 32), (32, 32), (16, 48)])]
    streams = [graph.fresh() for _ in clips]
    parts = [chunks(video) for video in clips]
    found = [[s.step(p[i])["features"] for s, p in zip(streams, parts, strict=True)] for i in range(8)]
    for n, video in enumerate(clips):
        np.testing.assert_allclose(np.concatenate([row[n] for row in found], axis=2), reference(video), atol=1e-4)
    assert len(set(numbers)) > 2


def test_new_sizes_push_out_old_buffers_and_no_number_comes_twice(
    graph: StatefulGraph, numbers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_captured, "MAX_SIZES", 2)
    monkeypatch.setattr(session_captured, "MAX_GRAPHS", 3)
    for turn in range(2):
        for width in (16, 24, 32):
            video = clip(24, (16, width), turn)
            features = [s["features"] for s in map(graph.fresh().step, chunks(video))]
            np.testing.assert_allclose(np.concatenate(features, axis=2), reference(video), atol=1e-4)
            assert len(graph.session._results) <= 2  # type: ignore[attr-defined]
    assert set(numbers) == {"-1", "1", "2", "3"}


class Cuda:
    """CUDA's two functions for pinned memory, on the heap."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.taken: dict[int, Any] = {}

    def cudaHostAlloc(self, address: Any, size: ctypes.c_size_t, flags: int) -> int:  # noqa: N802
        if self.fails:
            return 2
        memory = ctypes.create_string_buffer(size.value)
        self.taken[ctypes.addressof(memory)] = memory
        address._obj.value = ctypes.addressof(memory)
        return 0

    def cudaFreeHost(self, address: ctypes.c_void_p) -> None:  # noqa: N802
        del self.taken[address.value]


def test_pinned_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda()
    monkeypatch.setattr(pinned_memory, "_cuda", lambda: cuda)
    array = pinned_array((2, 3), "float32")
    array[:] = 7
    part = array[1]
    del array
    assert len(cuda.taken) == 1
    assert (part == 7).all()
    assert np.frombuffer(next(iter(cuda.taken.values())), np.float32).tolist() == [7] * 6
    del part
    assert not cuda.taken


@pytest.mark.parametrize("cuda", [None, Cuda(fails=True)])
def test_ordinary_memory_where_there_is_no_other(cuda: Cuda | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned_memory, "_cuda", lambda: cuda)
    assert pinned_array((4, 0, 2), np.int32).shape == (4, 0, 2)
    assert pinned_array((), bool).dtype == bool
