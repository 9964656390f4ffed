"""`stream`: segments that are complete under their name, decodable while they grow, resumed, and stopped by signals."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import run

from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.errors import OutputError, TokenFileError, VideoError
from vidtok_runtime.pipeline.files import decode_file
from vidtok_runtime.pipeline.frame_queue import Arrivals
from vidtok_runtime.pipeline.live import _placed, stream_into
from vidtok_runtime.pipeline.segment_writer import Segmentation, SegmentFolder
from vidtok_runtime.tokens.segments import segments_in
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.tools.demo import make_clip
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Frame

CPU = ("--provider", "cpu", "--threads", "1", "--quiet")
COMMAND = [sys.executable, "-m", "vidtok_runtime.cli"]


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer("tiny-fsq-32768", provider="cpu", threads=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames, 25 a second, of an odd size."""
    path = tmp_path_factory.mktemp("stream") / "clip.mp4"
    make_clip(path, 50, 33, 49)
    return path


def timestamps(folder: Path) -> list[int]:
    return [int(t) for path in segments_in(folder) for t in TokenReader(path).pts()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_segments_decode_alone_and_together(tok: Tokenizer, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    result = run("stream", clip, folder, "--segment", "0.8", *CPU, "--bundle", "tiny-fsq-32768")
    assert result.exit_code == 0, result.output
    assert names(folder) == [f"segment-0000000{i}.safetensors" for i in range(3)]
    tokens = [Tokens.load(path) for path in segments_in(folder)]
    assert [t.num_frames for t in tokens] == [20, 20, 10]
    with VideoReader(clip) as reader:
        frames = list(reader)
    assert timestamps(folder) == [frame.pts for frame in frames]
    pixels = np.stack([frame.pixels for frame in frames])
    for t, start in zip(tokens, (0, 20, 40), strict=True):  # each as if it were a clip of its own
        assert np.array_equal(t.data, tok.encode(pixels[start : start + 20]).data)
    told = run("info", folder, "--verify").output
    for line in ("3 in ", "50 frames of 49x33 at 25.000 a second", "U16 [16, 5, 7]", "0.000 to 1.960 seconds"):
        assert line in told
    assert "every segment" in told
    out = tmp_path / "back.mp4"
    assert run("decode", folder, "-o", out, *CPU).exit_code == 0
    with VideoReader(out) as back:
        found = list(back)
    assert (back.height, back.width, len(found)) == (33, 49, 50)
    assert [f.pts * back.time_base for f in found] == [f.pts * reader.time_base for f in frames]


@pytest.mark.parametrize("cut", [1, 7, 20, 33])
def test_resuming_a_file_loses_nothing(tok: Tokenizer, clip: Path, tmp_path: Path, cut: int) -> None:
    plan = Segmentation(frames=10)
    end = Selection(end=Fraction(cut, 25))
    done = stream_into(tok, clip, tmp_path / "out", selection=end, plan=plan, quiet=True)
    assert done.frames == cut
    with pytest.raises(OutputError, match="--resume"):
        stream_into(tok, clip, tmp_path / "out", plan=plan, quiet=True)
    done = stream_into(tok, clip, tmp_path / "out", plan=plan, resume=True, quiet=True)
    assert done.frames == 50 - cut
    with VideoReader(clip) as reader:
        assert timestamps(tmp_path / "out") == [frame.pts for frame in reader]
    again = stream_into(tok, clip, tmp_path / "out", plan=plan, resume=True, quiet=True)
    assert again.frames == again.segments == 0


def test_resuming_what_cannot_be_reopened_one_step_behind(tok: Tokenizer, clip: Path, tmp_path: Path) -> None:
    """The first frame that arrives has the timestamp that it would be given: no shift at all."""
    stream_into(tok, clip, tmp_path / "out", selection=Selection(end=Fraction(20, 25)), quiet=True)
    last = TokenReader(segments_in(tmp_path / "out")[-1])
    with VideoReader(clip) as reader:
        frames = list(reader)[20:]
        placed = _placed(SimpleNamespace(replays=False, fps=reader.fps, time_base=reader.time_base), last)
        assert [placed(frame).pts for frame in frames] == [frame.pts for frame in frames]


def test_a_folder_of_segments_is_decoded_from_inside(
    tok: Tokenizer, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream_into(tok, clip, tmp_path / "out", selection=Selection(end=Fraction(1, 5)), quiet=True)
    monkeypatch.chdir(tmp_path / "out")
    refused = run("decode", ".", *CPU)
    assert refused.exit_code == 2
    assert "give one with --out" in refused.stderr
    assert run("decode", ".", "-o", "video.mp4", *CPU).exit_code == 0


def test_segments_that_do_not_belong_together(tok: Tokenizer, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    stream_into(tok, clip, folder, selection=Selection(end=Fraction(1, 5)), quiet=True)
    with pytest.raises(TokenFileError, match="does not follow"):
        stream_into(tok, clip, folder, selection=Selection(size="32x32"), resume=True, quiet=True)
    stream_into(tok, clip, tmp_path / "b", selection=Selection(end=Fraction(1, 5), size="32x32"), quiet=True)
    shutil.copy(segments_in(tmp_path / "b")[0], folder / "segment-00000007.safetensors")
    with pytest.raises(TokenFileError, match="its height is 32, theirs is 33"):
        decode_file(tok, folder, tmp_path / "v.mp4", quiet=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TokenFileError, match="holds no segments"):
        decode_file(tok, tmp_path / "empty", tmp_path / "v.mp4", quiet=True)
    result = run("stream", clip, folder, "--resume", *CPU, "--bundle", "tiny-kl-16chn")
    assert result.exit_code == 1
    assert "made by fsq" in result.stderr
    result = run("stream", "none.mp4", tmp_path / "c", *CPU)
    assert result.exit_code == 1
    assert "none.mp4 cannot be opened" in result.stderr


def test_an_unexpected_failure_is_heard() -> None:
    def fails() -> VideoReader:
        raise RuntimeError("a fault of ours")

    arrivals = Arrivals(fails, room=1)
    with pytest.raises(RuntimeError, match="ours"):
        arrivals.get(5)
    arrivals.close()


class Live:
    """A live source: frames come at their own pace, whether or not anybody takes them."""

    path, fps, time_base, height, width = "live", Fraction(25), Fraction(1, 1000), 16, 16
    live, replays, frame_count, display, resampling = True, False, None, None, None

    def __init__(self, count: int, pace: float, failure: Exception | None = None) -> None:
        self.count, self.pace, self.failure = count, pace, failure

    def __iter__(self) -> Iterator[Frame]:
        for i in range(self.count):
            time.sleep(self.pace)
            yield Frame(np.full((16, 16, 3), i, np.uint8), 500 + 40 * i)
        if self.failure:
            raise self.failure

    def notes(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


def test_a_live_source_drops_what_a_file_makes_wait() -> None:
    for live in (True, False):
        source: Any = Live(100, 0)
        source.live = live
        arrivals = Arrivals(lambda: source, room=4)  # noqa: B023
        assert arrivals.get(5) is source
        taken = []
        while (frame := arrivals.get(5)) is not None:
            assert isinstance(frame, Frame)
            taken.append(frame.pts)
            time.sleep(0.002)
        arrivals.close()
        assert len(taken) + arrivals.dropped == 100
        assert taken == sorted(taken)
        assert (arrivals.dropped > 0) == live


def test_a_live_source_that_fails_leaves_what_came(
    tok: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidtok_runtime.pipeline.live.VideoReader", Live)
    monkeypatch.setattr("vidtok_runtime.pipeline.live._opened", lambda arrivals, _: arrivals.get(5))
    for number in range(2):
        source = Live(23, 0.001, VideoError("the camera is gone"))
        monkeypatch.setattr("vidtok_runtime.pipeline.live.VideoReader", lambda *_, source=source: source)
        with pytest.raises(VideoError, match="gone"):
            stream_into(
                tok, "0", tmp_path / "out", plan=Segmentation(frames=10, room=99), resume=number > 0, quiet=True
            )
    # the second run's clock goes on behind the first's
    assert timestamps(tmp_path / "out") == [500 + 40 * i for i in range(46)]
    assert [TokenReader(p).info.num_frames for p in segments_in(tmp_path / "out")] == [10, 10, 3] * 2


def test_what_was_dropped_is_said_though_the_source_fails(
    tok: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vidtok_runtime.pipeline.live._opened", lambda arrivals, _: arrivals.get(5))
    source = Live(200, 0, VideoError("the camera is gone"))
    monkeypatch.setattr("vidtok_runtime.pipeline.live.VideoReader", lambda *_: source)
    with pytest.raises(VideoError, match="gone"):
        stream_into(tok, "0", tmp_path / "out", plan=Segmentation(room=2), quiet=True)
    assert "frames were dropped: encoding was too slow for them" in caplog.text


def test_a_slow_source_fills_its_segments(tok: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("vidtok_runtime.pipeline.segment_writer.time", clock)
    source: Any = Live(0, 0)
    few = SegmentFolder(tok, tmp_path, source, Segmentation(frames=2), 0, half=False)
    few.add(Frame(np.zeros((16, 16, 3), np.uint8), 0))
    clock.now += 3.9
    assert not few.overdue
    few.discard()
    segments = SegmentFolder(tok, tmp_path, source, Segmentation(frames=75), 0, half=False)
    for i in range(20):
        segments.add(Frame(np.zeros((16, 16, 3), np.uint8), i))
        clock.now += 1
        assert not segments.overdue
    clock.now += 5  # twice the three seconds that 75 frames last
    assert not segments.overdue
    clock.now += 0.1
    assert segments.overdue
    segments.discard()


def test_a_full_segment_waits_for_no_other_frame(tok: Tokenizer, tmp_path: Path) -> None:
    source: Any = Live(0, 0)
    segments = SegmentFolder(tok, tmp_path, source, Segmentation(frames=3), 0, half=False)
    for i in range(6):
        segments.add(Frame(np.zeros((16, 16, 3), np.uint8), i))
        assert len(segments_in(tmp_path) if i > 1 else []) == segments.segments == (i + 1) // 3


def test_silence_ends_a_segment(tok: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has arrived becomes readable even when nothing follows."""
    source, stop = Live(5, 0.001), threading.Event()
    waits = threading.Event()
    frames = source.__iter__
    source.__class__ = type("Silent", (Live,), {"__iter__": lambda self: _then_wait(frames(), waits)})
    monkeypatch.setattr("vidtok_runtime.pipeline.live.VideoReader", lambda *_: source)
    monkeypatch.setattr("vidtok_runtime.pipeline.live._opened", lambda arrivals, _: arrivals.get(5))
    plan = Segmentation(seconds=Fraction(1, 5))
    done: list[Any] = []
    thread = threading.Thread(
        target=lambda: done.append(stream_into(tok, "0", tmp_path / "out", plan=plan, stop=stop, quiet=True))
    )
    thread.start()
    while not (tmp_path / "out/segment-00000000.safetensors").exists():
        time.sleep(0.02)
    assert TokenReader(tmp_path / "out/segment-00000000.safetensors").info.num_frames == 5
    stop.set()
    thread.join()
    waits.set()
    assert done[0].frames == 5


def _then_wait(frames: Iterator[Frame], event: threading.Event) -> Iterator[Frame]:
    yield from frames
    event.wait()


class Feed:
    """`vidtok-run stream -` fed with y4m frames; frames go in when they are asked to."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "stream", "-", folder, "--segment-frames", "5", *CPU, *options],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        self.pipe = self.process.stdin
        self.pipe.write(b"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 C444\n")
        self.folder = folder

    def frames(self, count: int) -> None:
        for i in range(count):
            self.pipe.write(b"FRAME\n" + bytes([16 + i]) * 256 + b"\x80" * 512)
        self.pipe.flush()

    def wait_for(self, segment: int) -> None:
        while not (self.folder / f"segment-{segment:08d}.safetensors").exists():
            assert self.process.poll() is None, self.process.stderr
            time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "out"
    feed = Feed(folder)
    feed.frames(12)
    feed.wait_for(1)
    before = tmp_path / "so-far.mp4"  # while the folder grows
    assert run("decode", folder, "-o", before, *CPU).exit_code == 0
    with VideoReader(before) as reader:
        assert len(list(reader)) == 10
    feed.process.send_signal(number)
    assert feed.process.wait() == 0
    assert feed.process.stderr is not None
    assert feed.process.stderr.read() == b""
    count = sum(TokenReader(path).info.num_frames for path in segments_in(folder))
    assert 10 <= count <= 12  # FFmpeg may hold out a frame that has come only in part
    assert all(name.endswith(".safetensors") for name in names(folder))
    feed.pipe.close()


def test_a_signal_before_the_first_frame(tmp_path: Path) -> None:
    feed = Feed(tmp_path / "out")
    while not (tmp_path / "out").exists():
        time.sleep(0.02)
    time.sleep(0.3)
    feed.process.send_signal(signal.SIGINT)
    assert feed.process.wait() == 0
    assert names(tmp_path / "out") == []


def test_killed_and_resumed(tok: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    feed = Feed(folder)
    feed.frames(12)
    feed.wait_for(1)
    with pytest.raises(OutputError, match="another vidtok-run stream"):
        stream_into(tok, "none", folder, resume=True, quiet=True)
    feed.process.kill()
    feed.process.wait()
    for path in segments_in(folder):
        TokenReader(path).verify()
    feed = Feed(folder, "--resume")
    feed.frames(7)
    feed.pipe.close()
    assert feed.process.wait() == 0
    assert names(folder) == [f"segment-0000000{i}.safetensors" for i in range(4)]
    assert timestamps(folder) == list(range(17))


SENDER = """
import sys, time, av
from vidtok_runtime.tools.demo import make_clip, synthetic_frame
for _ in range(200):  # until the other side listens
    try:
        file = av.open(sys.argv[1], "w", format="rtsp", options={"rtsp_transport": "tcp"})
        stream = file.add_stream("libx264", rate=25, options={"tune": "zerolatency", "g": "5"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        file.start_encoding()
        break
    except (OSError, av.FFmpegError):
        time.sleep(0.05)
for i in range(40):
    file.mux(stream.encode(av.VideoFrame.from_ndarray(synthetic_frame(i, 48, 64), format="rgb24")))
    time.sleep(0.02)
file.mux(stream.encode(None))
file.close()
"""


def test_rtsp(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"rtsp://127.0.0.1:{probe.getsockname()[1]}/live"
    options = [f"--input-option={o}" for o in ("rtsp_flags=listen", "listen_timeout=30", "rtsp_transport=tcp")]
    command = [*COMMAND, "stream", address, tmp_path / "out", "--segment-frames", "10", *options, *CPU]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as receiver:
        sent = subprocess.run([sys.executable, "-c", SENDER, address], capture_output=True, timeout=120, check=False)
        assert sent.returncode == 0, sent.stderr
        _, errors = receiver.communicate(timeout=120)
    assert receiver.returncode == 0, errors
    times = timestamps(tmp_path / "out")
    assert len(times) >= 30  # FFmpeg takes some to find out what is sent
    assert times == sorted(set(times))
    assert len(segments_in(tmp_path / "out")) >= 3
