"""Compiled graphs kept on disk: the same results, and never in the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vidtok_runtime import Tokenizer
from vidtok_runtime.engines import compiled_cache

Encoded = Callable[[], np.ndarray]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, frames: np.ndarray) -> Encoded:
    """Tokens of a fresh tokenizer, with the cache in `tmp_path / "cache"`."""
    monkeypatch.setenv("VIDTOK_CACHE", str(tmp_path / "cache"))
    return lambda: Tokenizer("tiny-fsq-32768", provider="openvino", threads=1).encode(frames).data


def kept(tmp_path: Path) -> dict[Path, bytes]:
    """What is in the cache: a file for each of the encoder's graphs."""
    found = {path: path.read_bytes() for path in (tmp_path / "cache").glob("*")}
    assert len(found) == 2
    return found


def test_a_kept_graph_is_used_and_gives_the_same_tokens(
    encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encoded()
    stored = kept(tmp_path)
    monkeypatch.setattr(compiled_cache.PartFile, "write_whole", lambda *_: pytest.fail("compiled again"))
    np.testing.assert_array_equal(encoded(), first)
    assert kept(tmp_path) == stored


@pytest.mark.parametrize("content", [b"", b"no blob", b"\0" * 5000])
def test_a_damaged_one_is_made_again(encoded: Encoded, tmp_path: Path, content: bytes) -> None:
    first = encoded()
    for blob in kept(tmp_path):
        blob.write_bytes(content)
    np.testing.assert_array_equal(encoded(), first)
    for blob, made in kept(tmp_path).items():
        assert len(made) > len(content)
        assert compiled_cache.load(blob) is not None


def test_one_that_the_engine_refuses_is_passed_over(encoded: Encoded, tmp_path: Path) -> None:
    first = encoded()
    for blob in kept(tmp_path):
        compiled_cache.keep(blob, b"whole, but of another engine")
    np.testing.assert_array_equal(encoded(), first)


def test_what_cannot_be_written_is_left_out(encoded: Encoded, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert len(encoded())


def test_the_cache_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(b"graph")
    monkeypatch.setenv("VIDTOK_CACHE", "")
    assert compiled_cache.cache_file([graph], "1.0") is None
    monkeypatch.setenv("VIDTOK_CACHE", str(tmp_path))
    named = compiled_cache.cache_file([graph], "1.0")
    assert named is not None
    assert named.parent == tmp_path
    assert named != compiled_cache.cache_file([graph], "1.1")
