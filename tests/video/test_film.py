"""Which stream is the film, how much of its pictures is shown, and what is said where something cannot be read."""

from __future__ import annotations

import functools
import http.server
import io
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from commands import run
from video_files import CPU, PICTURES, difference, make, numbered, read

from vidtok_ref.train.clips import FileClip, read_image
from vidtok_runtime.errors import VideoError
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.video.heif import Heif, read_heif
from vidtok_runtime.video.source import Damage, Opening

LINE = "it has transparency, which is dropped: the colours below it count"


def box(kind: str, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind.encode()) + body


def full(kind: str, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def streams(path: Path, shapes: list[tuple[int, int]], counts: list[int] | None = None) -> Path:
    """A file with a video stream of each height and width."""
    with av.open(str(path), "w") as file:
        made: list[Any] = []
        for height, width in shapes:
            stream = file.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            made.append(stream)
        for i in range(12):
            for stream, count in zip(made, counts or [12] * len(made), strict=True):
                if i < count:
                    pixels = np.full((stream.height, stream.width, 3), 20 * i, np.uint8)
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    frame.pts = i
                    file.mux(stream.encode(frame))
        for stream in made:
            file.mux(stream.encode(None))
    return path


def with_cover(path: Path) -> Path:
    """An MP4 with cover art before its film, as players of music write it."""
    make(path)
    cover = io.BytesIO()
    with av.open(cover, "w", format="mjpeg") as file:
        stream: Any = file.add_stream("mjpeg", rate=25)
        stream.height = stream.width = 96
        stream.pix_fmt = "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.full((96, 96, 3), 200, np.uint8), format="rgb24")
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    picture = box("covr", box("data", struct.pack(">II", 13, 0), cover.getvalue()))
    handler = full("hdlr", bytes(4), b"mdirappl", bytes(9))
    whole = path.read_bytes()
    at = whole.index(b"moov") - 4
    size = int.from_bytes(whole[at : at + 4], "big")
    end = at + size
    header = 8 + int.from_bytes(whole[at + 8 : at + 12], "big")
    added = box("udta", full("meta", handler, box("ilst", picture)))
    # Before the tracks, so that the cover becomes the first stream; the index is behind the frames.
    assert end == len(whole)
    moov = whole[at + 8 : at + header] + added + whole[at + header : end].replace(b"udta", b"free")
    path.write_bytes(whole[:at] + box("moov", moov))
    return path


def test_cover_art_is_not_the_film(tmp_path: Path) -> None:
    clip = with_cover(tmp_path / "a.mp4")
    with av.open(str(clip)) as file:
        assert [stream.width for stream in file.streams.video] == [96, 64]
    pictures, times, _ = read(clip)
    assert len(pictures) == 12
    assert times[1] == pytest.approx(0.04)
    assert difference(pictures[5], PICTURES[5]) < 11
    film = FileClip(clip, 48)
    assert difference(film.take(np.arange(5, 6))[0], PICTURES[5]) < 11
    [cover], _, _ = read(clip, None, Opening(stream=0))
    assert cover.shape == (96, 96, 3)


def test_threads_choose_the_same_film(tmp_path: Path) -> None:
    """What FFmpeg says of a file goes through a log that all threads share; none of it goes astray."""
    clip = str(with_cover(tmp_path / "a.mp4"))
    script = f"""
import threading
from vidtok_runtime.video.reader import VideoReader

def look():
    for _ in range(40):
        with VideoReader({clip!r}) as reader:
            widths.append(reader.width)

widths = []
threads = [threading.Thread(target=look) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(set(widths), len(widths))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("{64} 160\n", "")


def test_a_preview_is_not_the_film(tmp_path: Path) -> None:
    clip = streams(tmp_path / "a.mkv", [(24, 32), (48, 64), (24, 32)])
    assert [picture.shape for picture in read(clip)[0]] == [(48, 64, 3)] * 12
    film = FileClip(clip, 48)
    assert film.take(np.arange(5, 6)).shape == (1, 48, 64, 3)
    assert abs(float(film.take(np.arange(5, 6)).mean()) - 100) < 5


def test_one_picture_is_not_the_film_beside_one_that_moves(tmp_path: Path) -> None:
    clip = streams(tmp_path / "a.mp4", [(96, 128), (48, 64)], [1, 12])
    assert [picture.shape for picture in read(clip)[0]] == [(48, 64, 3)] * 12


def test_the_stream_that_was_asked_for(tmp_path: Path) -> None:
    clip = streams(tmp_path / "a.mkv", [(24, 32), (48, 64)])
    for command in (("encode", clip, "-o", tmp_path / "t.safetensors"), ("dataset", tmp_path, tmp_path / "set")):
        result = run(*command, "--stream", "0", *CPU)
        assert result.exit_code == 0, result.output
    for tokens in (tmp_path / "t.safetensors", *(tmp_path / "set").rglob("*.safetensors")):
        info = TokenReader(tokens).info
        assert (info.height, info.width) == (24, 32)
    result = run("reconstruct", clip, "-o", tmp_path / "b.mkv", "--stream", "0", *CPU)
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "b.mkv")[0][0].shape == (24, 32, 3)
    result = run("eval", clip, "--stream", "0", "--size", "0", "--frames", "9", "--quiet")
    assert result.exit_code == 0, result.output
    assert "9 frames of stream 0" in result.output
    result = run("encode", clip, "-o", tmp_path / "u.safetensors", "--stream", "2", *CPU)
    assert result.exit_code == 1
    assert "has no video stream 2; its video streams are 0 (32x24), 1 (64x48)" in result.stderr
    assert result.stderr.count("\n") == 1


class Avif:
    """Writes AVIF files box by box: their boxes say things that no encoder at hand would write."""

    def __init__(self, tiles: list[np.ndarray]) -> None:
        self.tiles = [self._coded(tile) for tile in tiles]
        self.shape = tiles[0].shape[:2]

    def _coded(self, pixels: np.ndarray) -> tuple[bytes, bytes]:
        """The coded picture and the box that configures a decoder for it."""
        content = io.BytesIO()
        with av.open(content, "w", format="avif") as file:
            stream: Any = file.add_stream("libsvtav1", rate=1, options={"crf": "5"})
            stream.height, stream.width = pixels.shape[:2]
            stream.pix_fmt = "yuv420p"
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")))
            file.mux(stream.encode(None))
        whole = content.getvalue()
        at = whole.index(b"av1C") - 4
        with av.open(io.BytesIO(whole)) as file:
            coded = bytes(next(packet for packet in file.demux(video=0) if packet.size))
        return coded, whole[at : at + int.from_bytes(whole[at : at + 4], "big")]

    def write(
        self,
        path: Path,
        columns: int,
        size: tuple[int, int],
        *steps: bytes,
        grid: bool = True,
        alpha: bool = False,
        film: bytes = b"",
    ) -> Path:
        """The tiles as one picture of height and width `size`; item 1 is the whole, the tiles are 2, 3 ...

        film: an MP4 with its index at the end, of which they are then a picture.
        """
        count = len(self.tiles)
        items = [(1, b"grid")] * grid + [(2 + i, b"av01") for i in range(count)]
        iinf = full(
            "iinf",
            struct.pack(">H", len(items)),
            *(full("infe", struct.pack(">HH4sx", item, 0, kind), version=2) for item, kind in items),
        )
        rows = count // columns
        layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, size[1], size[0])
        links = b""
        if grid:
            links += box("dimg", struct.pack(f">HH{count}H", 1, count, *range(2, 2 + count)))
        if alpha:
            links += box("auxl", struct.pack(">HHH", 1 + count, 1, 1 if grid else 2))
        ispe = full("ispe", struct.pack(">II", self.shape[1], self.shape[0]))
        whole = full("ispe", struct.pack(">II", size[1], size[0]))
        opacity = full("auxC", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
        properties = [whole, ispe, self.tiles[0][1], opacity, *steps]
        turned = bytes(0x80 | 5 + i for i in range(len(steps)))
        entries = [struct.pack(">HB", 1, 1 + len(steps)) + b"\1" + turned] * grid
        for i in range(count):
            own = b"\2\x83" + (b"\4" if alpha and i == count - 1 else b"") + (b"" if grid or i else turned)
            entries.append(struct.pack(">HB", 2 + i, len(own)) + own)
        ipma = full("ipma", struct.pack(">I", len(entries)), *entries)

        def meta(first: int) -> bytes:
            places = [struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(layout))] * grid
            for i, (coded, _) in enumerate(self.tiles):
                places.append(struct.pack(">HHHHII", 2 + i, 0, 0, 1, first, len(coded)))
                first += len(coded)
            return full(
                "meta",
                full("hdlr", bytes(4), b"pict", bytes(13)),
                full("pitm", struct.pack(">H", 1 if grid else 2)),
                full("iloc", struct.pack(">HH", 0x4400, len(places)), *places, version=1),
                iinf,
                *([full("iref", links)] if links else []),
                box("iprp", box("ipco", *properties), ipma),
                box("idat", layout),
            )

        index = film.index(b"moov") - 4 if film else 0
        first = film[:index] or box("ftyp", b"avif", bytes(4), b"avifmif1miaf")
        start = len(first) + len(meta(0)) + len(film[index:]) + 8
        path.write_bytes(first + meta(start) + film[index:] + box("mdat", *(coded for coded, _ in self.tiles)))
        return path


@pytest.fixture(scope="module")
def tiles() -> tuple[Avif, np.ndarray]:
    """Six tiles of 64x64, two rows of three, and the picture that they make."""
    whole = np.concatenate(
        [np.concatenate([numbered(37 * (3 * row + column) + 5) for column in range(3)], 1) for row in range(2)]
    )
    whole[:, :, 1] = np.linspace(0, 120, whole.shape[0], dtype=np.uint8)[:, None]
    return Avif([whole[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64, 128)]), whole


TURN, MIRROR, FLIP = box("irot", b"\1"), box("imir", b"\1"), box("imir", b"\0")
CROP = box("clap", struct.pack(">IIIIiIiI", 150, 1, 101, 1, -15, 1, 1, 2))  # of 180x120: 0..150, 10..111


@pytest.mark.parametrize("steps", ["", "turn", "mirror", "flip", "crop", "crop turn mirror", "mirror turn"])
def test_tiles_become_one_picture(tmp_path: Path, tiles: tuple[Avif, np.ndarray], steps: str) -> None:
    boxes = {"turn": TURN, "mirror": MIRROR, "flip": FLIP, "crop": CROP}
    clip = tiles[0].write(tmp_path / "a.avif", 3, (120, 180), *(boxes[step] for step in steps.split()))
    wanted = tiles[1][:120, :180]
    does = {
        "turn": np.rot90,
        "mirror": np.fliplr,
        "flip": np.flipud,
        "crop": lambda pixels: pixels[10:111, :150],
    }
    for step in steps.split():
        wanted = does[step](wanted)
    [picture], _, reader = read(clip)
    assert difference(picture, wanted) < 8
    assert not reader.notes()
    folder = read(tmp_path)[0]  # as one of the images of a folder
    assert np.array_equal(folder[0], picture)
    assert np.array_equal(read_image(clip, min(picture.shape[:2])), picture)  # as training reads it


@pytest.mark.parametrize("steps", ["", "mirror turn", "crop"])
def test_a_picture_without_tiles(tmp_path: Path, tiles: tuple[Avif, np.ndarray], steps: str) -> None:
    one = Avif([tiles[1][:64, :64]])
    crop = box("clap", struct.pack(">IIIIiIiI", 51, 1, 37, 1, 1, 2, -1, 2))  # 7..58, 13..50
    boxes = {"turn": TURN, "mirror": MIRROR, "crop": crop}
    clip = one.write(tmp_path / "a.avif", 1, (64, 64), *(boxes[step] for step in steps.split()), grid=False)
    wanted = tiles[1][:64, :64]
    wanted = np.rot90(np.fliplr(wanted)) if "turn" in steps else wanted[13:50, 7:58] if steps else wanted
    [picture], _, _ = read(clip)
    assert difference(picture, wanted) < 8


def test_a_size_that_leads_out_of_every_file_is_one_line(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    clip.write_bytes(box("ftyp", b"isom") + struct.pack(">I4sQ", 1, b"mdat", 2**63 + 16))
    result = run("encode", clip, "-o", tmp_path / "t.safetensors", *CPU)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith(f"vidtok-run: error: {clip} cannot be opened")


def test_never_one_tile_of_a_picture(tmp_path: Path, tiles: tuple[Avif, np.ndarray]) -> None:
    """Where the picture cannot be put together, that is said, and not a part of it given."""
    clip = tiles[0].write(tmp_path / "a.mp4", 3, (128, 192))  # training takes the suffix for a film's
    assert FileClip(clip, 64).take(np.arange(1)).shape == (1, 64, 96, 3)
    whole = clip.read_bytes()
    for broken in (whole.replace(b"dimg", b"cdsc"), whole[:-2000], whole.replace(b"grid", b"iovl")):
        clip.write_bytes(broken)
        with pytest.raises(VideoError):
            read(clip)
    clip.write_bytes(whole)
    result = subprocess.run(
        [sys.executable, "-m", "vidtok_runtime.cli", "encode", "-", "-o", str(tmp_path / "t.safetensors"), *CPU],
        input=whole,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 1
    assert b"give it as a file" in result.stderr
    assert result.stderr.count(b"\n") == 1
    assert not (tmp_path / "t.safetensors").exists()


def test_boxes_that_mean_nothing(tmp_path: Path, tiles: tuple[Avif, np.ndarray]) -> None:
    """Whatever bytes are changed: a description or one line."""
    whole = tiles[0].write(tmp_path / "a.avif", 3, (120, 180), CROP, TURN, alpha=True).read_bytes()
    rng = np.random.default_rng(0)
    head = whole.index(b"mdat")
    seen = set()
    for _ in range(1500):
        changed = bytearray(whole[: rng.integers(head) if rng.random() < 0.1 else len(whole)])
        for at in rng.integers(0, min(head, len(changed)), rng.integers(1, 4)) if changed else ():
            changed[at] = rng.choice([0, 1, 255, rng.integers(256)])
        (tmp_path / "b.avif").write_bytes(changed)
        try:
            seen.add(type(read_heif(str(tmp_path / "b.avif"))))
        except VideoError:
            seen.add(VideoError)
    assert seen == {Heif, type(None), VideoError}


def test_the_opacity_of_a_picture_is_another_picture(tmp_path: Path, tiles: tuple[Avif, np.ndarray]) -> None:
    avif = Avif([tiles[1][:64, :64], tiles[1][64:, :64]])
    clip = avif.write(tmp_path / "a.avif", 1, (64, 64), grid=False, alpha=True)
    [picture], _, reader = read(clip)
    assert difference(picture, tiles[1][:64, :64]) < 8
    assert reader.notes() == [LINE]


def test_tiles_in_a_data_set(tmp_path: Path, tiles: tuple[Avif, np.ndarray]) -> None:
    (tmp_path / "clips").mkdir()
    tiles[0].write(tmp_path / "clips/a.avif", 3, (120, 180))
    result = run("dataset", tmp_path / "clips", tmp_path / "set", *CPU)
    assert result.exit_code == 0, result.output
    [tokens] = (tmp_path / "set").rglob("*.safetensors")
    info = TokenReader(tokens).info
    assert (info.num_frames, info.height, info.width) == (1, 120, 180)


def test_the_opacity_of_an_animation_is_another_film(tmp_path: Path, tiles: tuple[Avif, np.ndarray]) -> None:
    film = make(tmp_path / "a.mp4", codec="libsvtav1", options={"crf": "5"}).read_bytes()
    avif = Avif([tiles[1][:64, :64], tiles[1][64:, :64]])
    clip = avif.write(tmp_path / "a.avif", 1, (64, 64), grid=False, alpha=True, film=film)
    pictures, _, reader = read(clip)
    assert len(pictures) == 12
    assert difference(pictures[7], PICTURES[7]) < 11
    assert reader.notes() == [LINE]


def test_animated_avif_is_a_film(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.avif", codec="libsvtav1", options={"crf": "5"})
    with av.open(str(clip)) as file:
        assert [stream.frames for stream in file.streams.video] == [1, 12]
    pictures, times, _ = read(clip)
    assert len(pictures) == 12
    assert times == pytest.approx([i / 25 for i in range(12)], abs=0.001)
    assert difference(pictures[7], PICTURES[7]) < 11


def test_animated_webp_is_named(tmp_path: Path) -> None:
    still = make(tmp_path / "s.webp", PICTURES[:1], codec="libwebp").read_bytes()
    picture = still[still.index(b"VP8 ") :]
    size = (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    frame = b"ANMF" + struct.pack("<I", 16 + len(picture)) + bytes(6) + size + b"\x64\0\0\0" + picture
    chunks = b"VP8X" + struct.pack("<IB3x", 10, 2) + size + b"ANIM" + struct.pack("<IIH", 6, 0, 0) + frame * 8
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)
    with pytest.raises(VideoError, match="animated WebP, which this FFmpeg cannot decode; convert it"):
        read(tmp_path / "a.webp", None, Opening(Damage.ACCEPTED))
    assert read(tmp_path / "s.webp")[0][0].shape == (48, 64, 3)


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
    assert reader.notes() == [LINE]


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
