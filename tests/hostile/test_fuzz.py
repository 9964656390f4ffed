"""Manifests, token files, archives and graphs changed at random: only our errors come out, memory stays bounded."""

from __future__ import annotations

import json
import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidtok_runtime import Tokenizer, VidtokError
from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.bundle.onnx_file import check_onnx_file
from vidtok_runtime.checked_json import is_printable
from vidtok_runtime.tokens.convert import convert_file
from vidtok_runtime.tokens.tokens import Tokens
from vidtok_runtime.tools.describe import describe

QUICK = 60
THOROUGH = int(os.environ.get("VIDTOK_FUZZ", "5000"))  # inputs a test
MAX_MEMORY = 2**24  # bytes beyond what the file itself has


def inputs(count: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=count, deadline=None, suppress_health_check=checks, derandomize=True, database=None)


NUMBERS = [0, -1, 1, 2, 3, 4, 5, 8, 9, 2**16, 2**31, 2**62, 2**64, 10**400, 0.5, 1e308, float("nan")]
TEXTS = ["N 3 T H W", "N 3 2 H W", "T", "../x", "/etc/passwd", "latent", "indices", "U16", "F32", "1/3", "\0", "", "0"]
TEXTS += ["\U000e0100", "\u202e"]  # text that hides, or turns what follows around
VALUES = st.recursive(
    st.sampled_from([*NUMBERS, *TEXTS, True, None]) | st.integers() | st.text(max_size=20) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.sampled_from(TEXTS), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def changed(draw: Callable[..., Any], original: Any) -> Any:
    """The JSON value with some of its parts replaced, removed or doubled."""
    value = json.loads(json.dumps(original))
    for _ in range(draw(st.integers(1, 4))):
        place = value
        while True:
            if not isinstance(place, dict | list) or not place:
                break
            key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
            if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 5)):
                place = place[key]
                continue
            action = draw(st.sampled_from(["replace", "remove", "double"]))
            if action == "remove":
                del place[key]
            elif action == "double" and isinstance(place, list):
                place.append(place[key])
            else:
                place[key] = draw(VALUES)
            break
    return value


@st.composite
def damaged(draw: Callable[..., Any], content: bytes) -> bytes:
    """Bytes with some replaced, inserted or cut off; the start, where headers are, more often."""
    out = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        end = min(len(out), draw(st.sampled_from([16, 256, 2048, len(content)])))
        at = draw(st.integers(0, max(0, end)))
        piece = draw(st.binary(max_size=9))
        action = draw(st.sampled_from(["replace", "insert", "cut", "swap"]))
        if action == "replace":
            out[at : at + len(piece)] = piece
        elif action == "insert":
            out[at:at] = piece
        elif action == "cut":
            del out[at : at + draw(st.integers(1, 64))]
        else:
            del out[at:]
    return bytes(out)


@contextmanager
def only_our_errors() -> Iterator[None]:
    """Whatever is wrong, it is said as one line; and what is allocated meanwhile is little."""
    said = "nothing"
    tracemalloc.start()
    try:
        yield
    except VidtokError as error:
        said = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MAX_MEMORY
    assert is_printable(said), said
    assert 0 < len(said) < 2000


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token file of each kind and the same in every format."""
    folder = tmp_path_factory.mktemp("originals")
    for name in ("kl-16chn", "fsq-32768"):
        tok = Tokenizer(f"tiny-{name}", provider="cpu", threads=1)
        path = folder / f"{name}.safetensors"
        tok.encode(np.zeros((11, 24, 33, 3), np.uint8), gop=2).slice(2, 10).save(path)
        for suffix in (".npz", ".tar", ".bin"):
            convert_file(path, path.with_suffix(suffix))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(SHIPPED / "tiny-fsq-32768", tmp_path_factory.mktemp("bundles") / "b"))


MANIFEST = json.loads((SHIPPED / "tiny-fsq-32768" / "manifest.json").read_text())


def manifests(count: int) -> Callable[[Path], None]:
    @inputs(count)
    @given(st.one_of(changed(MANIFEST).map(lambda v: json.dumps(v).encode()), damaged(json.dumps(MANIFEST).encode())))
    def check(bundle: Path, content: bytes) -> None:
        (bundle / "manifest.json").write_bytes(content)
        with only_our_errors():
            read_manifest(bundle)
            describe(str(bundle))

    return check


def token_files(count: int) -> Callable[[Path, Path], None]:
    @inputs(count)
    @given(st.data())
    def check(originals: Path, folder: Path, data: st.DataObject) -> None:
        content = (originals / f"{data.draw(st.sampled_from(['kl-16chn', 'fsq-32768']))}.safetensors").read_bytes()
        if data.draw(st.booleans()):
            (room,) = struct.unpack("<Q", content[:8])
            header = json.dumps(data.draw(changed(json.loads(content[8 : 8 + room])))).encode()
            content = struct.pack("<Q", len(header)) + header + content[8 + room :]
        else:
            content = data.draw(damaged(content))
        path = folder / "t.safetensors"
        path.write_bytes(content)
        with only_our_errors():
            describe(str(path))
            tokens = Tokens.load(path)
            tokens.slice(0, 1)

    return check


def archives(count: int) -> Callable[[Path, Path], None]:
    @inputs(count)
    @given(st.data())
    def check(originals: Path, folder: Path, data: st.DataObject) -> None:
        suffix = data.draw(st.sampled_from([".npz", ".tar", ".bin", ".json"]))
        name = data.draw(st.sampled_from(["kl-16chn", "fsq-32768"]))
        for other in (".bin", ".json"):
            shutil.copy(originals / f"{name}{other}", folder / f"t{other}")
        (folder / f"t{suffix}").write_bytes(data.draw(damaged((originals / f"{name}{suffix}").read_bytes())))
        with only_our_errors():
            convert_file(folder / f"t{suffix.replace('json', 'bin')}", folder / "out.safetensors", force=True)
        assert not list(folder.glob("*.part"))

    return check


def graphs(count: int) -> Callable[[Path], None]:
    content = (SHIPPED / "tiny-fsq-32768" / "encoder.local.onnx").read_bytes()[:4096]

    @inputs(count)
    @given(st.one_of(damaged(content), st.binary(max_size=300)))
    def check(folder: Path, content: bytes) -> None:
        (folder / "g.onnx").write_bytes(content)
        with only_our_errors():
            check_onnx_file(folder / "g.onnx")

    return check


@pytest.mark.parametrize("count", [QUICK, pytest.param(THOROUGH, marks=pytest.mark.slow)])
def test_manifests(bundle: Path, count: int) -> None:
    manifests(count)(bundle)


@pytest.mark.parametrize("count", [QUICK, pytest.param(THOROUGH, marks=pytest.mark.slow)])
def test_token_files(originals: Path, tmp_path: Path, count: int) -> None:
    token_files(count)(originals, tmp_path)


@pytest.mark.parametrize("count", [QUICK, pytest.param(THOROUGH, marks=pytest.mark.slow)])
def test_archives(originals: Path, tmp_path: Path, count: int) -> None:
    archives(count)(originals, tmp_path)


@pytest.mark.parametrize("count", [QUICK, pytest.param(THOROUGH, marks=pytest.mark.slow)])
def test_graphs(tmp_path: Path, count: int) -> None:
    graphs(count)(tmp_path)
