"""What a container says of its pictures is followed, and what cannot be read is named."""

from __future__ import annotations

import functools
import http.server
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from boxes import box
from commands import run
from video_files import CPU, PICTURES, TRANSPARENT, difference, make, read

from vidtok_ref.train.clips import FileClip
from vidtok_runtime.errors import VideoError
from vidtok_runtime.tokens.tokens import TokenReader


def test_a_size_that_leads_out_of_every_file_is_one_line(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    clip.write_bytes(box("ftyp", b"isom") + struct.pack(">I4sQ", 1, b"mdat", 2**63 + 16))
    result = run("encode", clip, "-o", tmp_path / "t.safetensors", *CPU)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith(f"vidtok-run: error: {clip} cannot be opened")


def inside(data: bytes, path: list[str], added: bytes) -> bytes:
    """Elements of Matroska, of which the one that is found down this path of ids has more at its end."""
    if not path:
        return data + added
    out, at = b"", 0
    while at < len(data):
        number = at + 9 - data[at].bit_length()
        start = number + 9 - data[number].bit_length()
        most = (1 << 7 * (start - number)) - 1
        size = int.from_bytes(data[number:start], "big") & most
        end = len(data) if size == most else start + size  # most: unknown
        length, content = data[number:start], data[start:end]
        if data[at:number].hex() == path[0]:
            content = inside(content, path[1:], added)
            length = length if size == most else (1 << 56 | len(content)).to_bytes(8, "big")
        out += data[at:number] + length + content
        at = end
    return out


def cropped_mkv(path: Path, left: int = 2) -> Path:
    """Matroska whose track cuts 2 pixels off the left, 6 the right, 8 the top and 4 the bottom."""
    make(path, codec="ffv1", pixels="bgr0", container={"options": {"live": "1"}})  # without positions of elements
    elements = bytes.fromhex(f"54cc81{left:02x} 54dd8106 54bb8108 54aa8104")
    path.write_bytes(inside(path.read_bytes(), ["18538067", "1654ae6b", "ae", "e0"], elements))
    return path


def cropped_mp4(path: Path) -> Path:
    """MP4 whose aperture leaves 56x36 of 64x48: 2 pixels cut off the left, 6 the right, 8 the top and 4 the bottom."""
    make(path, options={"crf": "1"})
    whole = path.read_bytes()
    clap = box("clap", struct.pack(">IIIIiIiI", 56, 1, 36, 1, -2, 1, 2, 1))
    entry = whole.rindex(b"avc1") - 4
    end = entry + int.from_bytes(whole[entry : entry + 4], "big")
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = whole.rindex(kind) - 4
        size = int.from_bytes(whole[at : at + 4], "big") + len(clap)
        whole = whole[:at] + size.to_bytes(4, "big") + whole[at + 4 :]
    path.write_bytes(whole[:end] + clap + whole[end:])
    return path


@pytest.mark.parametrize("maker", [cropped_mkv, cropped_mp4])
def test_the_crop_of_the_container_is_followed(tmp_path: Path, maker: Any) -> None:
    clip = maker(tmp_path / f"a.{maker.__name__[-3:]}")
    wanted = [picture[8:44, 2:58] for picture in PICTURES]
    pictures = read(clip)[0]
    assert len(pictures) == 12
    assert all(difference(a, b) < 8 for a, b in zip(pictures, wanted, strict=True))
    film = FileClip(clip, 36)
    assert np.array_equal(film.take(np.arange(1))[0], pictures[0])
    result = run("encode", clip, "-o", tmp_path / "t.safetensors", "--start", "0.2", *CPU)
    assert result.exit_code == 0, result.output
    info = TokenReader(tmp_path / "t.safetensors").info
    assert (info.height, info.width) == (36, 56)


def test_a_crop_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="cannot be opened"):
        read(cropped_mkv(tmp_path / "a.mkv", 58))


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_opacity_that_the_decoder_leaves_out_is_said(tmp_path: Path, codec: str) -> None:
    opaque = make(tmp_path / "a.webm", codec=codec)
    assert read(opaque)[2].notes() == []
    clip = make(tmp_path / "b.webm", codec=codec, pixels="yuva420p", options={"auto-alt-ref": "0"})
    pictures, _, reader = read(clip)
    assert len(pictures) == 12
    assert reader.notes() == [TRANSPARENT]


def test_black_is_no_opacity(tmp_path: Path) -> None:
    """The four channels of a CMYK JPEG, of flat colour and written by hand: no encoder at hand makes one."""
    bits = ""
    for level in (200, 56, 200, 200):  # cyan, magenta, yellow, black, inverted as Adobe does
        coefficient = 8 * (level - 128)
        bits += "10" + format(coefficient if coefficient > 0 else coefficient + 1023, "010b") + "0"
    bits += "1" * (-len(bits) % 8)

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content

    codes = bytes([1, 1]) + bytes(14) + bytes([0, 10]), bytes([1]) + bytes(15) + bytes([0])
    (tmp_path / "a.jpg").write_bytes(
        b"\xff\xd8"
        + segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0))
        + segment(0xDB, b"\0" + b"\1" * 64)
        + segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 4) + b"".join(bytes([i, 0x11, 0]) for i in range(1, 5)))
        + segment(0xC4, b"\0" + codes[0] + b"\x10" + codes[1])
        + segment(0xDA, b"\4" + b"".join(bytes([i, 0]) for i in range(1, 5)) + b"\0\x3f\0")
        + int(bits, 2).to_bytes(len(bits) // 8, "big")
        + b"\xff\xd9"
    )
    [picture], _, reader = read(tmp_path / "a.jpg")
    assert np.allclose(picture, np.array([200, 56, 200]) * 200 // 255, atol=2)
    assert reader.notes() == []


@pytest.mark.parametrize(("name", "known", "unknown"), [("a.mp4", b"avc1", b"zzz1"), ("a.mkv", b"ISO/AVC", b"ISO/ZZZ")])
def test_a_codec_without_decoder_is_named(tmp_path: Path, name: str, known: bytes, unknown: bytes) -> None:
    clip = make(tmp_path / name)
    clip.write_bytes(clip.read_bytes().replace(known, unknown))
    result = run("encode", clip, "-o", tmp_path / "t.safetensors", "--keep-going", *CPU)
    assert result.exit_code == 1
    assert f"{unknown.decode()}, for which this FFmpeg has no decoder" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "t.safetensors").exists()


def test_sound_without_decoder_is_left_out(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", sound="aac")
    clip.write_bytes(clip.read_bytes().replace(b"mp4a", b"apac").replace(b"esds", b"free"))
    result = run("reconstruct", clip, "-o", tmp_path / "b.mp4", *CPU)
    assert result.exit_code == 0, result.output
    assert "sound of the codec apac is left out" in result.stderr
    assert len(read(tmp_path / "b.mp4")[0]) == 12
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert not file.streams.audio


def late_index(path: Path) -> Path:
    rng = np.random.default_rng(0)
    return make(path, [rng.integers(0, 256, (128, 128, 3), np.uint8) for _ in range(30)], options={"bf": "0"})


def test_an_mp4_with_its_index_at_the_end_on_a_pipe(tmp_path: Path) -> None:
    clip = late_index(tmp_path / "a.mp4")
    target = str(tmp_path / "t.safetensors")
    command = [sys.executable, "-m", "vidtok_runtime.cli", "encode"]
    by_name = f"{sys.executable} -m vidtok_runtime.cli encode <(cat {clip}) -o {target} {' '.join(CPU)}"
    for call in ([*command, "-", "-o", target, *CPU], ["bash", "-c", by_name]):
        result = subprocess.run(call, input=clip.read_bytes(), capture_output=True, check=False)
        assert result.returncode == 1
        assert b"this MP4 has its index at the end and cannot be read from a pipe" in result.stderr
        assert b"faststart" in result.stderr
        assert result.stderr.count(b"\n") == 1
    first = make(tmp_path / "b.mp4", container={"options": {"movflags": "faststart"}})
    result = subprocess.run(
        [*command, "-", "-o", target, *CPU], input=first.read_bytes(), capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_an_mp4_with_its_index_at_the_end_from_a_server(tmp_path: Path) -> None:
    """Python's server gives whole files only."""
    late_index(tmp_path / "a.mp4")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(VideoError, match="index at the end and cannot be read from a server"):
            read(f"http://127.0.0.1:{server.server_port}/a.mp4")
        server.shutdown()
