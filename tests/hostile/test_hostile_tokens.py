"""Token files and archives of them that mean harm: one clear error, nothing executed, nothing left behind."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run

from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.errors import BundleError, InputError, OutputError, TokenFileError
from vidtok_runtime.files import PartFile
from vidtok_runtime.tokens.convert import convert_file


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer("tiny-fsq-32768", provider="cpu", threads=1)


@pytest.fixture
def tokens(tok: Tokenizer, tmp_path: Path) -> Path:
    path = tmp_path / "clip.safetensors"
    tok.encode(np.zeros((9, 16, 24, 3), np.uint8)).save(path)
    return path


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (room,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + room]), content[8 + room :]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("__metadata__", {"fps": "1e999999999"}),
        ("__metadata__", {"fps": "-5"}),
        ("__metadata__", {"fps": "0"}),
        ("__metadata__", {"name": "\x1b]0;owned\x07"}),
        ("__metadata__", {"weights_sha256": "../../etc"}),
        ("__metadata__", {"num_frames": 9}),
        ("__metadata__", {"width": "99999999"}),
        ("__metadata__", {"height": "1"}),
        ("__metadata__", {"groups": "frames=0 latents=0 shared_frames=0 shared_latents=0 whole=0"}),
        ("__metadata__", {"groups": "frames=1 latents=1 shared_frames=0 shared_latents=0 whole=0"}),
        ("__metadata__", {"skip": "8"}),
        ("__metadata__", {"length": "first=0 multiple=0"}),
        ("__metadata__", {"time_factor": "0"}),
        ("__metadata__", {"front_frames": "4"}),
        ("__metadata__", {"codebook_size": "0"}),
        ("__metadata__", {"checksum": 5}),
        ("indices", {"shape": [2**62, 2**62, 2**62]}),
        ("indices", {"shape": [3, 2, 3.0]}),
        ("indices", {"shape": [-3, -2, 3]}),
        ("indices", {"shape": []}),
        ("indices", {"data_offsets": [0, "36"]}),
        ("indices", {"data_offsets": [-1, 35]}),
        ("pts", {"data_offsets": [0, 72]}),
        ("more", {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}),
    ],
)
def test_token_headers_that_lie(tokens: Path, name: str, values: dict[str, Any]) -> None:
    header, numbers = header_of(tokens)
    header.setdefault(name, {}).update(values)
    text = json.dumps(header).encode()
    tokens.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    with pytest.raises(TokenFileError):
        Tokens.load(tokens)
    result = run("info", tokens)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_files_that_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading would wait for ever
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(TokenFileError, match="no file"):
            Tokens.load(path)


def test_names_that_cannot_be(tok: Tokenizer, tokens: Path, tmp_path: Path) -> None:
    loaded = Tokens.load(tokens)
    for name in ("x" * 300, "a\0b", "\ud800"):
        with pytest.raises(OutputError, match="cannot be written"):
            loaded.save(tmp_path / name)
        with pytest.raises(BundleError, match="neither"):
            Tokenizer(tmp_path / name, provider="cpu")
    loaded.save(tmp_path / ("y" * 243 + ".safetensors"))  # as long as a name can be
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        loaded.save(tmp_path / "dangling")
    assert not (tmp_path / "nowhere").exists()
    assert not list(tmp_path.glob("*.part"))


def zip_of(path: Path, *members: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for entry, content in members:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def members_of(tokens: Path) -> dict[str, bytes]:
    convert_file(tokens, tokens.with_suffix(".npz"))
    with zipfile.ZipFile(tokens.with_suffix(".npz")) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refused(source: Path, match: str) -> None:
    target = source.parent / "out.safetensors"
    with pytest.raises(TokenFileError, match=match):
        convert_file(source, target)
    assert not target.exists()
    assert not list(source.parent.glob("*.part"))


def npy(array: np.ndarray, *, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickled)
    return file.getvalue()


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def test_zip_bombs(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    members, bad = members_of(tokens), tmp_path / "bad.npz"
    good = list(members.items())
    zip_of(bad, *good[1:], ("indices.npy", bytes(2**27)))
    refused(bad, "would grow to")
    zip_of(bad, *good[1:], ("indices.npy", npy(np.array([Bomb()], object), pickled=True)))
    refused(bad, "plain little-endian")
    assert not (tmp_path / "unpickled").exists()
    zip_of(bad, *good, ("../../escaped.npy", b"x"))
    refused(bad, "it does not hold")
    zip_of(bad, *good[1:], ("indices.npy", npy(np.zeros((3, 2, 99), np.uint16))))
    refused(bad, "more latents than pixels")
    zip_of(bad, *good[1:], ("indices.npy", members["indices.npy"][:-2]))
    refused(bad, "size of its shape")
    zip_of(bad, *good[:2], ("info.json", b"[" * 100_000))
    refused(bad, "nested too deeply")
    zip_of(bad, *((f"{i}", b"") for i in range(100)))
    refused(bad, "members")
    bad.write_bytes(tokens.with_suffix(".npz").read_bytes()[:-30])
    refused(bad, "no sound tokens")


def test_tar_bombs(tokens: Path, tmp_path: Path) -> None:
    members, bad = members_of(tokens), tmp_path / "bad.tar"
    good = [(tarfile.TarInfo(f"a.{name}"), content) for name, content in members.items()]
    tar_of(bad, *good)
    convert_file(bad, tmp_path / "fine.safetensors")
    assert (tmp_path / "fine.safetensors").read_bytes() == tokens.read_bytes()
    link = tarfile.TarInfo("a.indices.npy")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tar_of(bad, *good[1:], (link, b""))
    refused(bad, "no plain file")
    sparse = tarfile.TarInfo("a.indices.npy")
    sparse.type = tarfile.GNUTYPE_SPARSE
    tar_of(bad, *good[1:], (sparse, b""))
    refused(bad, "no plain file")
    tar_of(bad, *good, (tarfile.TarInfo("b.indices.npy"), b""))
    refused(bad, "twice|more than one")
    tar_of(bad, *good, *((tarfile.TarInfo(f"a.{i}"), b"") for i in range(100)))
    refused(bad, "more than one sample")
    header = tarfile.TarInfo("a.indices.npy")
    header.size = 2**60
    bad.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    refused(bad, "ends early")
    header.size = -512
    bad.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    refused(bad, "negative")
    bad.write_bytes(os.urandom(2048))
    refused(bad, "no sound tokens")


def test_raw_files_that_lie(tokens: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw.bin"
    convert_file(tokens, raw)
    about = json.loads((tmp_path / "raw.json").read_text())
    raw.write_bytes(raw.read_bytes() + b"x")
    refused(raw, "promises")
    about["indices"]["shape"] = [2**40, 2, 3]
    (tmp_path / "raw.json").write_text(json.dumps(about))
    refused(raw, "need 3 latents")
    (tmp_path / "raw.json").unlink()
    refused(raw, "not beside it")


def test_raw_pairs_that_do_not_belong_together(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, about, other = tmp_path / "raw.bin", tmp_path / "raw.json", tmp_path / "other.safetensors"
    convert_file(tokens, raw)
    first = {path: path.read_bytes() for path in (raw, about)}
    loaded = Tokens.load(tokens)
    Tokens(np.zeros_like(loaded.data), loaded.info, loaded.pts).save(other)
    commit, committed = PartFile.commit, []

    def killed(part: PartFile) -> None:
        if committed:
            raise KeyboardInterrupt
        committed.append(part)
        commit(part)

    with monkeypatch.context() as patch:
        patch.setattr(PartFile, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            convert_file(other, raw, force=True)
    assert (raw.read_bytes() == first[raw], about.read_bytes() == first[about]) == (False, True)
    refused(raw, "describes another file")
    convert_file(other, raw, force=True)
    convert_file(raw, tmp_path / "back.safetensors")
    assert (tmp_path / "back.safetensors").read_bytes() == other.read_bytes()


def test_clocks_do_not_matter(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suffixes = (".safetensors", ".npz", ".tar", ".bin")
    now, then = tmp_path / "now", tmp_path / "then"
    now.mkdir()
    then.mkdir()
    for suffix in suffixes:
        convert_file(tokens, now / f"t{suffix}")
    os.utime(tokens, (2**33, 2**33))  # a file from the future
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "localtime", lambda *_: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
    for suffix in suffixes:
        convert_file(tokens, then / f"t{suffix}")
    for path in now.iterdir():
        assert path.read_bytes() == (then / path.name).read_bytes()


def test_tokens_that_no_model_made(tok: Tokenizer, tokens: Path) -> None:
    loaded = Tokens.load(tokens)
    wrong = Tokens(np.full_like(loaded.data, 40_000), loaded.info)
    with pytest.raises(InputError, match="must lie in"):
        wrong.save(tokens, force=True)
    with pytest.raises(InputError, match="must lie in"):
        tok.decode(wrong)
