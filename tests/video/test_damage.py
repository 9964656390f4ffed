"""Damage that must not pass quietly: cut files, lying headers, folders in the way, shared engines."""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidtok_export import ExportError, export
from vidtok_ref import build
from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.errors import InputError, TokenFileError, VideoError
from vidtok_runtime.pipeline.files import decode_file
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.writer import VideoWriter


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer("tiny-fsq-32768", provider="cpu", threads=1)


def test_a_cut_matroska_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    rng = np.random.default_rng(0)
    with VideoWriter(path, Fraction(25)) as writer:
        for i in range(100):
            writer.write(rng.integers(0, 256, (64, 64, 3), np.uint8), i)
        writer.close()
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == 100
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="re-download"), VideoReader(path) as reader:
        sum(1 for _ in reader)


def test_a_size_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with VideoWriter(path) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8), 0)
        writer.close()
    with VideoReader(path) as reader:
        reader._size = (64, 64)  # as if an earlier frame had been larger
        with pytest.raises(VideoError, match="changes its frame size"):
            list(reader)


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"num_frames": "12"}},
        {"metadata": {"num_frames": "0"}},
        {"metadata": {"fps": "1/0"}},
        {"metadata": {"num_frames": "-1"}},
        {"indices": {"shape": [40, 2, 2]}},
        {"indices": {"dtype": "BF16"}},
        {"pts": {"shape": [4]}},
        {"pts": None},
        {"metadata": []},
    ],
)
def test_a_header_that_lies(tok: Tokenizer, tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "t.safetensors"
    tok.encode(np.zeros((5, 16, 16, 3), np.uint8)).save(path)
    content = path.read_bytes()
    (room,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + room])
    for name, values in change.items():
        key = "__metadata__" if name == "metadata" else name
        if isinstance(values, dict):
            header[key].update(values)
        elif values is None:
            del header[key]
        else:
            header[key] = values
    path.write_bytes(content[:8] + json.dumps(header).encode().ljust(room) + content[8 + room :])
    with pytest.raises(TokenFileError):
        Tokens.load(path)


def test_latents_that_do_not_fit_the_frames(tok: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    tokens = tok.encode(np.zeros((9, 16, 16, 3), np.uint8))
    with pytest.raises(InputError, match="need 3 latents"):
        Tokens(tokens.data[:-1], tokens.info, tokens.pts).save(path)
    assert list(tmp_path.iterdir()) == []
    tokens.save(path)
    path.write_bytes(path.read_bytes().replace(b'"num_frames":"9"', b'"num_frames":"5"'))
    with pytest.raises(TokenFileError, match="need 2 latents"):
        decode_file(tok, path, tmp_path / "v.mp4", quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["t.safetensors"]


def test_force_replaces_bundles_only(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="is no bundle"):
        export(build("kl-4chn", ch=4), precious, force=True)
    assert (precious / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_threads_share_a_tokenizer(provider: str) -> None:
    tok = Tokenizer("tiny-fsq-32768", provider=provider, threads=1)
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (5 + 4 * i, 48, 40 + 8 * i, 3), np.uint8) for i in range(3)]
    wanted = [tok.encode(clip).data for clip in clips]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda clip: tok.encode(clip).data, clips * 4))
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted * 4, strict=True))


def test_finishing_twice_gives_nothing_more(tok: Tokenizer) -> None:
    encoder = tok.encoder()
    encoder.push(np.zeros((6, 16, 16, 3), np.uint8))
    assert len(encoder.finish()) == 1
    assert len(encoder.finish()) == 0
    decoder = tok.decoder()
    assert len(decoder.push(tok.encoder().finish())) == 0  # nothing pushed, nothing back
    assert len(decoder.finish()) == len(decoder.finish()) == 0
