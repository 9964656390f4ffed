"""Token files that can be cut: groups, parts, joining, other formats; a part decodes to what the whole has there."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from commands import run
from conftest import SHALLOW

from vidtok_ref import VideoTokenizer, build
from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.bundle.stream_spec import Groups
from vidtok_runtime.errors import InputError, MismatchError, OutputError, TokenFileError
from vidtok_runtime.pipeline.files import decode_file
from vidtok_runtime.tokens.convert import convert_file
from vidtok_runtime.tokens.edit import cut_file, frame_range, join_files
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.tokens.writer import TokenWriter
from vidtok_runtime.tools.demo import synthetic_frame
from vidtok_runtime.video.reader import VideoReader

SHIPPED = ["tiny-kl-16chn", "tiny-fsq-32768"]


def clip_of(count: int, height: int = 24, width: int = 33) -> np.ndarray:
    return np.stack([synthetic_frame(5 * i, height, width) for i in range(count)])


@pytest.fixture(scope="module", params=SHIPPED)
def tok(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer(request.param, provider="cpu", threads=1)


@pytest.fixture(scope="module", params=["fsq-32768-v1.1", "kl-4chn-noncausal"])
def other(request: pytest.FixtureRequest, exported: Callable[[VideoTokenizer], Path]) -> Tokenizer:
    return Tokenizer(exported(build(request.param, **SHALLOW)), provider="cpu", threads=1)


@pytest.mark.parametrize("gop", [1, 2, 3])
def test_groups_are_clips_of_their_own(tok: Tokenizer, gop: int) -> None:
    length = 4 * gop - 3
    clip = clip_of(2 * length + 1)
    tokens = tok.encode(clip, gop=gop)
    assert tokens.info.groups == Groups(4 * gop - 3, gop, whole=False)
    for i in range(3):
        alone = tok.encode(clip[i * length : (i + 1) * length])
        np.testing.assert_array_equal(tokens.data[i * gop : (i + 1) * gop], alone.data)
    wanted = [tok.decode(tok.encode(clip[i * length : (i + 1) * length])) for i in range(3)]
    np.testing.assert_array_equal(tok.decode(tokens), np.concatenate(wanted))


@pytest.mark.parametrize("push", [1, 3, 100])
def test_streams_of_groups(tok: Tokenizer, push: int) -> None:
    clip = clip_of(13)
    wanted = tok.encode(clip, gop=2)
    encoder = tok.encoder(gop=2)
    data = np.concatenate([*(encoder.push(clip[i : i + push]) for i in range(0, 13, push)), encoder.finish()])
    assert encoder.num_frames == 13
    np.testing.assert_allclose(data, wanted.data, atol=1e-4)
    assert len(encoder.finish()) == 0
    with pytest.raises(InputError, match="finished"):
        encoder.push(clip)
    decoder = tok.decoder(13, 24, 33, gop=2)
    out = np.concatenate([*(decoder.push(data[i : i + push]) for i in range(0, len(data), push)), decoder.finish()])
    assert np.abs(out.astype(int) - tok.decode(wanted)).max() <= 1
    whole = tok.decoder(gop=2)
    assert len(whole.push(data)) + len(whole.finish()) == 15  # groups of 5; the tail of the last one stays


def test_groups_of_one_size(tok: Tokenizer) -> None:
    encoder = tok.encoder(gop=1)
    assert encoder.push(clip_of(1)[:0]).shape[0] == 0
    encoder.push(clip_of(1))
    with pytest.raises(InputError, match="one stream"):
        encoder.push(clip_of(1, 32, 32))


@pytest.mark.parametrize("gop", [None, 1, 3])
def test_slices_decode_to_the_same_frames(tok: Tokenizer, tmp_path: Path, gop: int | None) -> None:
    tokens = tok.encode(clip_of(22), gop=gop)
    whole = tok.decode(tokens, "float32")
    length = 22 if gop is None else 4 * gop - 3
    for start, end in ((0, 22), (0, 1), (7, 8), (8, 19), (9, 18), (21, 22)):
        part = tokens.slice(start, end)
        np.testing.assert_allclose(tok.decode(part, "float32"), whole[start:end], atol=1e-5)
        assert part.info.skip == start % length
        assert len(part.data) <= len(tokens.data) * (end - start // length * length) / 22 + 2
        np.testing.assert_array_equal(part.pts, np.arange(start, end))
        part.save(tmp_path / "p.safetensors", force=True)
        again = Tokens.load(tmp_path / "p.safetensors").slice(0, end - start)  # a part of a part
        np.testing.assert_array_equal(again.data, part.data)
        assert again.info == part.info
    for start, end in ((3, 3), (-1, 4), (0, 23)):
        with pytest.raises(InputError, match="not a part"):
            tokens.slice(start, end)


def test_look_ahead_and_windows(other: Tokenizer) -> None:
    gop = None if other.stream.groups else 2
    tokens = other.encode(clip_of(37, 8, 10), gop=gop)
    whole = other.decode(tokens, "float32")
    assert len(whole) == 37
    for start, end in ((0, 37), (4, 6), (5, 10), (16, 32), (17, 20), (33, 37), (36, 37)):
        part = tokens.slice(start, end)
        np.testing.assert_allclose(other.decode(part, "float32"), whole[start:end], atol=1e-4)
        assert tokens.info.groups is not None
        assert part.info.skip == start % tokens.info.groups.frames
        assert len(part.data) < len(tokens.data) or (start, end) == (0, 37)


def test_a_gop_of_nothing(tok: Tokenizer) -> None:
    with pytest.raises(InputError, match="at least 1"):
        tok.encoder(gop=0)
    with pytest.raises(InputError, match="a group has at most 65,536 frames, a gop of 20000 79,997; give 16384"):
        tok.encoder(gop=20000)


def test_windows_refuse_a_gop(other: Tokenizer) -> None:
    if other.stream.groups is None:
        assert len(other.encode(clip_of(6, 8, 8), gop=1).data) == 6
        return
    with pytest.raises(InputError, match="leave gop out"):
        other.encode(clip_of(5, 8, 8), gop=2)


def test_cut_and_cat(tok: Tokenizer, tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    tok.encode(clip_of(23), gop=2).save(whole)  # groups of 5 frames
    parts = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path, (start, end) in zip(parts, ((None, "10f"), ("10f", "15f"), ("15f", None)), strict=True):
        cut_file(whole, path, start, end)
    assert [TokenReader(p).shape[0] for p in parts] == [4, 2, 4]
    join_files(parts, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == whole.read_bytes()
    with pytest.raises(MismatchError, match="whole groups"):
        join_files([parts[2], parts[0]], tmp_path / "x.safetensors")
    cut_file(whole, tmp_path / "inside.safetensors", "12f", None)
    with pytest.raises(MismatchError, match="whole groups"):
        join_files([parts[0], tmp_path / "inside.safetensors"], tmp_path / "x.safetensors")
    with pytest.raises(OutputError, match="exists already"):
        cut_file(whole, parts[0], None, "5f")
    assert not list(tmp_path.glob("*.part"))


def test_cat_of_clips_without_gop(tok: Tokenizer, tmp_path: Path) -> None:
    clip = clip_of(13)
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for i, path in enumerate(paths):
        tok.encode(clip[5 * i : 5 * i + 5], fps=Fraction(25)).save(path)
    join_files(paths, tmp_path / "all.safetensors")
    joined = Tokens.load(tmp_path / "all.safetensors")
    np.testing.assert_array_equal(joined.pts, np.arange(13))  # each began at 0
    assert joined.info.groups == Groups(5, 2, whole=False)
    np.testing.assert_array_equal(joined.data, tok.encode(clip, gop=2).data)
    tok.encode(clip_of(5, 32, 32)).save(tmp_path / "other.safetensors")
    with pytest.raises(MismatchError, match="cannot follow"):
        join_files([paths[0], tmp_path / "other.safetensors"], tmp_path / "x.safetensors")


def test_moments(tok: Tokenizer) -> None:
    tokens = tok.encode(clip_of(10), fps=Fraction(4))
    pts = tokens.pts + 100
    assert frame_range(tokens.info, pts, "0.5", "1.5") == slice(2, 6)
    assert frame_range(tokens.info, pts, "0.51", "9") == slice(3, 10)
    assert frame_range(tokens.info, pts, "3f", None) == slice(3, 10)
    for wrong in ("x", "1.5f", "-1", "1e9", "", "\uff11"):
        with pytest.raises(InputError, match="no moment"):
            frame_range(tokens.info, pts, wrong, None)
    with pytest.raises(InputError, match="no frame"):
        frame_range(tokens.info, pts, "10f", None)
    with pytest.raises(InputError, match="75f"):
        frame_range(tok.encode(clip_of(1)).info, pts[:1], "1", None)


@pytest.mark.parametrize("suffix", [".npz", ".tar", ".bin"])
@pytest.mark.parametrize("half", [False, True])
def test_other_formats(tok: Tokenizer, tmp_path: Path, suffix: str, half: bool) -> None:
    source, middle, back = tmp_path / "a.b.safetensors", tmp_path / f"m.x{suffix}", tmp_path / "back.safetensors"
    tokens = tok.encode(clip_of(9), gop=2)
    tokens.save(source)
    if half:
        with TokenWriter(source, tokens.info.codebook_size, half=True, force=True) as writer:
            writer.append(tokens.data)
            writer.close(tokens.info, tokens.pts)
    convert_file(source, middle)
    convert_file(middle, back)
    assert back.read_bytes() == source.read_bytes()
    first = middle.read_bytes()
    convert_file(source, middle, force=True)
    assert middle.read_bytes() == first
    with pytest.raises(OutputError, match="exists already"):
        convert_file(source, middle)


def test_a_long_name_in_a_tar(tok: Tokenizer, tmp_path: Path) -> None:
    tokens = tok.encode(np.zeros((3, 16, 16, 3), np.uint8))
    keys = set()
    for name in ("视频" * 30, "视频" * 31, "a" * 200):
        tokens.save(tmp_path / "a.safetensors", force=True)
        convert_file(tmp_path / "a.safetensors", tmp_path / f"{name}.tar")
        convert_file(tmp_path / f"{name}.tar", tmp_path / "b.safetensors", force=True)
        assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()
        with tarfile.open(tmp_path / f"{name}.tar") as tar:
            keys |= {member.name.partition(".")[0] for member in tar}
    assert len(keys) == 3


def test_timestamps_that_do_not_rise_are_not_written(tok: Tokenizer, tmp_path: Path) -> None:
    tokens = tok.encode(clip_of(5))
    with TokenWriter(tmp_path / "a.safetensors", tokens.info.codebook_size) as writer:
        writer.append(tokens.data)
        with pytest.raises(InputError, match="do not rise"):
            writer.close(tokens.info, np.array([0, 1, 1, 2, 3]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pts", [np.arange(5) / 25, np.zeros((5, 1), np.int64), np.arange(5, dtype=np.uint64) + 2**63])
def test_timestamps_that_no_file_holds(tok: Tokenizer, tmp_path: Path, pts: np.ndarray) -> None:
    with pytest.raises(InputError, match="timestamps are whole numbers"):
        replace(tok.encode(clip_of(5)), pts=pts).save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    replace(tok.encode(clip_of(5)), pts=[0, 2, 4, 6, 9]).save(tmp_path / "a.safetensors")
    assert Tokens.load(tmp_path / "a.safetensors").pts.tolist() == [0, 2, 4, 6, 9]


def test_numbers_that_no_file_holds(tok: Tokenizer, tmp_path: Path) -> None:
    tokens = tok.encode(clip_of(5))
    wrong = [(1e300, "too large for float32; store smaller"), (np.nan, "NaN"), (-1, "must be floats")]
    if tokens.info.codebook_size is not None:
        wrong = [(0.5, "must be integers"), (-1, "must lie in")]
    for value, said in wrong:
        with pytest.raises(InputError, match=said):
            replace(tokens, data=np.full(tokens.data.shape, value)).save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_cut_before_a_long_gap(tok: Tokenizer, tmp_path: Path) -> None:
    tokens = tok.encode(clip_of(9), gop=1)
    info = replace(tokens.info, time_base=Fraction(1, 10**9))
    part = replace(tokens, info=info, pts=np.arange(9) + (np.arange(9) > 4) * 5000 * 10**9).slice(0, 5)
    part.save(tmp_path / "a.safetensors")
    assert Tokens.load(tmp_path / "a.safetensors").info.last_duration is None


def test_what_other_tools_read(tok: Tokenizer, tmp_path: Path) -> None:
    source = tmp_path / "clip.safetensors"
    tokens = tok.encode(clip_of(9))
    tokens.save(source)
    kind = TokenReader(source).kind
    for suffix in (".npz", ".tar", ".bin"):
        convert_file(source, tmp_path / f"clip{suffix}")
    with np.load(tmp_path / "clip.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays[kind], tokens.data)
        np.testing.assert_array_equal(arrays["pts"], tokens.pts)
    with tarfile.open(tmp_path / "clip.tar") as archive:
        assert archive.getnames() == [f"clip.{kind}.npy", "clip.pts.npy", "clip.info.json"]
        assert json.load(archive.extractfile("clip.info.json"))["num_frames"] == "9"
    about = json.loads((tmp_path / "clip.json").read_text())
    numbers = np.fromfile(tmp_path / "clip.bin", about[kind]["dtype"], tokens.data.size)
    np.testing.assert_array_equal(numbers.reshape(about[kind]["shape"]), tokens.data)


def test_the_command_line(clip: Path, tmp_path: Path) -> None:
    tokens, video = tmp_path / "t.safetensors", tmp_path / "v.mp4"
    assert run("encode", clip, "-o", tokens, "--gop", 2, "--quiet", "--provider", "cpu").exit_code == 0
    info = run("info", tokens, "--verify")
    assert "groups of 5 frames, 2 latents" in info.stdout
    assert "verified" in info.stdout
    assert "verified" in run("info", "tiny-kl-16chn", "--verify").stdout
    done = run("decode", tokens, "-o", video, "--start", "6f", "--end", "9f", "--quiet", "--provider", "cpu")
    assert done.exit_code == 0, done.output
    with VideoReader(video) as reader:
        assert sum(1 for _ in reader) == 3
    assert run("cut", tokens, "-o", tmp_path / "c.safetensors", "--start", "5f").exit_code == 0
    assert run("cut", tokens, "-o", tmp_path / "d.safetensors", "--end", "0.2").exit_code == 0
    joined = run("cat", tmp_path / "d.safetensors", tmp_path / "c.safetensors", "-o", tmp_path / "e.safetensors")
    assert joined.exit_code == 0, joined.output
    assert (tmp_path / "e.safetensors").read_bytes() == tokens.read_bytes()
    assert run("convert", tokens, "-o", tmp_path / "t.npz").exit_code == 0
    assert run("decode", tokens, "--start", "soon").exit_code == 2
    wrong = run("convert", tokens, "-o", tmp_path / "t.txt")
    assert wrong.exit_code == 1
    assert ".npz" in wrong.stderr
    content = bytearray(tokens.read_bytes())
    content[2100] ^= 1
    tokens.write_bytes(content)
    damaged = run("info", tokens, "--verify")
    assert damaged.exit_code == 1
    assert "checksum" in damaged.stderr


def test_a_part_does_not_read_the_rest(tok: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    tok.encode(clip_of(11), gop=2).save(path)
    content = bytearray(path.read_bytes())
    content[2048:2100] = b"\xff" * 52  # the first group
    path.write_bytes(content)
    decode_file(tok, path, tmp_path / "v.mp4", start="5f", quiet=True)
    with pytest.raises(TokenFileError, match="checksum"):
        decode_file(tok, path, tmp_path / "w.mp4", quiet=True)
