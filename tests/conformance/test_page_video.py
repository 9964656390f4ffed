"""Video files in a real Chromium: every frame and its time as this package reads them, and the MP4 that comes out."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from video_files import FILES, damaged, make, numbered
from web_programs import check_tokens, convert, drive, needs_chromium

from vidtok_runtime import Tokenizer
from vidtok_runtime.quality.metrics import Quality
from vidtok_runtime.tools.demo import synthetic_frame
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection

pytestmark = needs_chromium
BUNDLE = "tiny-fsq-32768"
READ = (
    "variable frame rate",
    "variable frame rate, Matroska",
    "first timestamp not 0",
    "B-frames",
    "turned a quarter",
    "upside down",
    "odd size",
    "portrait",
    "pixels that are not square",
    "MPEG-TS",
    "WebM, VP9",
    "AV1",
    "no duration (Matroska on a pipe)",
    "interlaced",
    "cut off in front",
)
REFUSED = {
    "10 bits": r"this browser does not decode H\.265 \(hev1",
    "AVI, MPEG-4": r"\.avi cannot be read: Input has an unsupported",
    "grey": r"the codec of .+ \(V_FFV1\) is not known",
    "damaged": r"\.mp4 cannot be read: Decoding error",
}
OPTIONS: list[dict[str, float]] = [{}, {"height": 24, "width": 30}, {"start": 0.13, "fps": 10}]


def cut_in_front(path: Path) -> None:
    """Thirty frames in H.264, of which an edit list hides the first seven."""
    make(path, [numbered(i) for i in range(30)], options={"g": "10", "bf": "2"})
    whole = path.rename(path.with_name("whole.mp4"))
    with av.open(str(whole)) as file, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as cut:
        stream = cut.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(file.streams.video[0]):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - 7 * 512, packet.dts - 7 * 512, stream
                cut.mux(packet)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    paths = {}
    for number, name in enumerate((*READ, *REFUSED)):
        values: dict[str, Any] = {"name": "a.mp4", **FILES.get(name, {})}
        path = paths[name] = folder / f"{number}{Path(values.pop('name')).suffix}"
        if name == "cut off in front":
            cut_in_front(path)
        elif name == "damaged":
            damaged(path, "middle")
        else:
            make(path, **{key: value for key, value in values.items() if key != "interlaced"})
    return paths


@pytest.fixture(scope="module")
def found(
    address: str, clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    """What the page's module reads of each clip with each of OPTIONS."""
    folder = tmp_path_factory.mktemp("read")
    read = drive("read.mjs", address, folder, json.dumps(OPTIONS), *clips.values())
    for name, reads in read.items():
        for i, row in enumerate(reads):
            if "error" not in row:
                size = [OPTIONS[i].get(side, row[side]) for side in ("height", "width")]
                row["frames"] = np.fromfile(folder / f"{name}.{i}.rgb", np.uint8).reshape(-1, *size, 3)
    return {name: read[path.name] for name, path in clips.items()}


@pytest.mark.parametrize("name", READ)
def test_every_frame_and_its_time(name: str, clips: dict[str, Path], found: dict[str, list[dict[str, Any]]]) -> None:
    own, small, rated = found[name]
    with VideoReader(clips[name]) as reader:
        frames = list(reader)
    assert own["pts"] == [frame.pts for frame in frames]
    assert own["durations"] == [frame.duration for frame in frames]
    assert own["timeBase"] == str(reader.time_base)
    assert len(frames) == (23 if name == "cut off in front" else 12)
    square = reader.display.pixel_aspect == 1
    assert (own["height"], own["width"]) == (reader.height, reader.width if square else 68)
    compared = square and name != "interlaced"  # whose chroma FFmpeg takes field by field
    if compared:
        off = np.abs(own["frames"].astype(int) - np.stack([frame.pixels for frame in frames]))
        assert off.max() <= 3  # FFmpeg hurries where the size stays
        assert off.mean() < 1.5
    check(small, clips[name], Selection(size="30x24"), allowed=1 if compared else None)
    check(rated, clips[name], Selection(start=Fraction("0.13"), fps=Fraction(10)), None)


def check(read: dict[str, Any], clip: Path, selection: Selection, allowed: int | None) -> None:
    """The frames are those of a VideoReader, their times too; allowed: how far numbers may be apart, None: any."""
    with VideoReader(clip, selection) as reader:
        frames = list(reader)
    assert read["pts"] == [frame.pts for frame in frames]
    if allowed is not None:
        off = np.abs(read["frames"].astype(int) - np.stack([frame.pixels for frame in frames]))
        assert off.max() <= allowed


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_said(name: str, found: dict[str, list[dict[str, Any]]]) -> None:
    for row in found[name]:
        assert re.match(f"VideoError: .*{REFUSED[name]}", row["error"])


def test_a_video_becomes_tokens_and_an_mp4(address: str, tmp_path: Path) -> None:
    """With frames of all lengths, B-frames and a turn."""
    clip, times = tmp_path / "clip.mp4", [3, 4, 5, 8, 9, 33, 34, 35, 36, 63, 64, 70]
    pictures = [synthetic_frame(3 * i, 128, 192) for i in range(12)]
    make(clip, pictures, times=times, base=Fraction(1, 90), options={"bf": "2"}, turn=90)
    said, tokens = convert(address, tmp_path, {"bundle": BUNDLE, "short": 64}, clip)
    assert said["source"] == "Chosen: clip.mp4: 128 x 192, 0.8 s, H.264"
    used = np.fromfile(tmp_path / "frames.rgb", np.uint8).reshape(12, 96, 64, 3)
    with VideoReader(clip, Selection(size="64")) as reader:
        wanted = list(reader)
    assert np.abs(used.astype(int) - np.stack([frame.pixels for frame in wanted])).max() <= 1
    assert tokens.pts.tolist() == [frame.pts for frame in wanted]
    assert (tokens.info.time_base, tokens.info.last_duration) == (reader.time_base, wanted[-1].duration)
    tok = Tokenizer(BUNDLE, "cpu", threads=1)
    check_tokens(tokens, tok.encode(used, fps=tokens.info.fps))

    assert said["video"] == "The MP4 holds H.264."
    with VideoReader(tmp_path / "video.mp4") as reader:
        written = list(reader)
    assert [frame.pts * reader.time_base for frame in written] == [
        Fraction(int(time)) * tokens.info.time_base for time in tokens.pts
    ]
    assert written[-1].duration == wanted[-1].duration
    quality = Quality()
    for original, frame in zip(tok.decode(tokens), written, strict=True):
        quality.add(original, frame.pixels)
    assert quality.psnr > 33


@pytest.mark.slow
def test_without_webcodecs_pictures_come_by_seeking(address: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip.webm"
    make(clip, [synthetic_frame(3 * i, 128, 186) for i in range(21)], codec="libvpx", options={"crf": "10", "b": "4M"})
    fields = {"bundle": BUNDLE, "short": 64, "frames": 100, "fps": 25, "start": 0.16, "without": "VideoDecoder"}
    said, tokens = convert(address, tmp_path, fields, clip)
    assert (
        "186 x 128, 0.8 s; only pictures by seeking, 24 a second unless you say otherwise: there is no"
        in said["source"]
    )
    used = np.fromfile(tmp_path / "frames.rgb", np.uint8).reshape(17, 64, 93, 3)
    check_tokens(tokens, Tokenizer(BUNDLE, "cpu", threads=1).encode(used, fps=Fraction(25)))
    with VideoReader(clip) as reader:  # the right frames, but for how a browser resizes and converts colours
        decoded = [frame.pixels for frame in reader][4:]
    for ours, theirs in zip(used, decoded, strict=True):
        assert np.abs(ours.astype(float) - cv2.resize(theirs, (93, 64), interpolation=cv2.INTER_AREA)).mean() < 6
    assert said["video"].startswith(
        "The MP4 holds VP9, which some players lack: this browser writes no H.264 of 93 x 64"
    )
    with VideoReader(tmp_path / "video.mp4") as reader:
        assert (reader.height, reader.width, len(list(reader)), reader.fps) == (64, 93, 17, 25)


@pytest.mark.slow
def test_without_an_encoder_there_is_no_mp4(address: str, tmp_path: Path) -> None:
    said, tokens = convert(address, tmp_path, {"short": 64, "frames": 2, "without": "VideoEncoder"}, "test")
    assert tokens.info.num_frames == 2
    assert said["video"].startswith("There is no MP4 of the reconstruction: there is no VideoEncoder of WebCodecs here")
    assert not (tmp_path / "video.mp4").exists()
