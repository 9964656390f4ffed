"""Commands end when they are told to, even while a call of an engine never returns, and leave nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from commands import run
from strange_bundles import endless_bundle
from video_files import CPU, lossless

from vidtok_runtime.tools.demo import synthetic_frame


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return endless_bundle(tmp_path_factory.mktemp("endless") / "bundle")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lossless(tmp_path_factory.mktemp("clips") / "clip.mkv", [synthetic_frame(i, 16, 16) for i in range(5)])


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "vidtok_runtime.cli", *map(str, words), "--threads", "1", "--quiet"]


@pytest.mark.parametrize("provider", ["cpu", pytest.param("openvino", marks=pytest.mark.slow)])
def test_time_is_over(provider: str, endless: Path, still: Path, tmp_path: Path) -> None:
    target = tmp_path / "t.safetensors"
    target.write_text("mine")
    words = ("encode", still, "-o", target, "--bundle", endless, "--provider", provider, "--force")
    done = subprocess.run(command(*words, "--time-limit", "4"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "vidtok-run: error: it took longer than the 4 s of --time-limit and was ended\n"
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]
    assert target.read_text() == "mine"


def test_time_that_suffices_changes_nothing(still: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "t.safetensors"
    for words in (
        ("encode", still, "-o", tokens, "--bundle", "tiny-fsq-32768"),
        ("decode", tokens, "-o", tmp_path / "back.mkv", "--codec", "ffv1"),
        ("reconstruct", still, "-o", tmp_path / "r.mkv"),
        ("view", tokens, "-o", tmp_path / "v.html"),
        ("eval", still.parent, "--frames", "5", "--size", "0", "--fps", "0", "--json", tmp_path / "e.json"),
    ):
        result = run(*words, "--time-limit", "500", *CPU)
        assert result.exit_code == 0, result.output
    assert len(list(tmp_path.iterdir())) == 5
    for wrong in ("0", "-1", "nan", "x", "1e99"):
        assert run("encode", still, "-o", tmp_path / "x.safetensors", "--time-limit", wrong).exit_code == 2


def compute(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait until a process has spent so much time of a core, however loaded the machine is."""

    def spent() -> float:
        assert process.poll() is None
        times = psutil.Process(process.pid).cpu_times()
        return float(times.user + times.system)

    enough = spent() + seconds
    while spent() < enough:
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "provider"),
    [
        (signal.SIGINT, "openvino"),
        pytest.param(signal.SIGINT, "cpu", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "cpu", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "openvino", marks=pytest.mark.slow),
    ],
)
def test_the_second_signal_ends_it(
    number: signal.Signals, provider: str, endless: Path, still: Path, tmp_path: Path
) -> None:
    words = ("encode", still, "-o", tmp_path / "t.safetensors", "--bundle", endless, "--provider", provider)
    process = subprocess.Popen(
        command(*words),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    while not list(tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.05)
    compute(process, 3)  # more than loading takes: it is in the call
    process.send_signal(number)
    compute(process, 0.5)  # the first one waits for the call
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, f"vidtok-run: ended by a second {number.name}\n")
    assert list(tmp_path.iterdir()) == []


def test_an_end_at_once_leaves_no_video_half_written(tmp_path: Path) -> None:
    program = (
        "import os, sys, numpy as np\n"
        "from vidtok_runtime.files import discard_parts\n"
        "from vidtok_runtime.video.writer import VideoWriter\n"
        "writer = VideoWriter(sys.argv[1])\n"
        "for i in range(3): writer.write(np.zeros((16, 16, 3), np.uint8), i)\n"
        "print(os.listdir(os.path.dirname(sys.argv[1])), flush=True)\n"
        "discard_parts(); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.mp4"], capture_output=True, text=True, timeout=60
    )
    assert ".part" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []
