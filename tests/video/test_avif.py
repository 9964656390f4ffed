"""AVIF pictures: tiles, crops, turns and opacity."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from boxes import box, full
from commands import run
from video_files import CPU, PICTURES, TRANSPARENT, difference, make, numbered, read

from vidtok_ref.train.clips import FileClip, read_image
from vidtok_runtime.errors import VideoError
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.video.heif import Heif, read_heif


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
    assert reader.notes() == [TRANSPARENT]


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
    assert reader.notes() == [TRANSPARENT]
