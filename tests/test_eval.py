"""`vidtok-run eval`: what is measured, of which frames, and what is left out."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from vidtok_runtime import Tokenizer
from vidtok_runtime.cli import main
from vidtok_runtime.evaluate import Evaluation, Protocol, at_rate
from vidtok_runtime.metrics import psnr
from vidtok_runtime.video_in import Frame, VideoReader

PIXELS = np.zeros((1, 1, 3), np.uint8)


@pytest.mark.parametrize(
    ("pts", "rate", "wanted"),
    [
        ([0, 2, 4, 6], 30, [0, 2, 4, 6]),
        ([0, 2, 4, 6], 60, [0, 0, 2, 2, 4, 4, 6]),
        ([0, 1, 2, 3], 30, [0, 2]),
        ([10, 14, 15, 18], 30, [10, 10, 14, 15, 18]),  # uneven: the one on show at 10, 12, 14, 16, 18
        ([5], 30, [5]),
        ([], 30, []),
    ],
)
def test_frames_on_show_at_a_rate(pts: list[int], rate: int, wanted: list[int]) -> None:
    frames = (Frame(PIXELS, p) for p in pts)
    assert [frame.pts for frame in at_rate(frames, Fraction(rate), Fraction(1, 60))] == wanted


@pytest.mark.parametrize("bundle", ["tiny-kl-16chn", "tiny-fsq-32768"])
def test_figures_are_those_of_the_round_trip(clip: Path, bundle: str) -> None:
    tok = Tokenizer(bundle, provider="cpu", threads=1)
    evaluation = Evaluation(tok, Protocol(frames=6, size=32, fps=None))
    row = evaluation.add(clip)
    with VideoReader(clip, size="32") as reader:
        frames = np.stack([frame.pixels for frame in reader])[:6]
    left = (frames.shape[2] - 32) // 2
    frames = frames[:, :, left : left + 32]
    tokens = tok.encode(frames)
    assert row.psnr == pytest.approx(np.mean([psnr(a, b) for a, b in zip(frames, tok.decode(tokens), strict=True)]))
    numbers = tokens.data.size * (15 if tok.manifest.codebook_size else 16)
    assert row.bits_per_pixel == pytest.approx(numbers / (6 * 32 * 32))
    if tok.manifest.codebook_size:
        assert evaluation.codes_used == len(np.unique(tokens.data)) / 32768
    else:
        assert evaluation.codes_used is None


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["eval", *map(str, args), "--provider", "cpu", "--threads", "1", "--quiet"])


def test_a_folder(clip: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "clips", tmp_path / "r.json"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "broken.mp4").write_text("no video")
    result = run(folder, "--frames", 0, "--size", 0, "--fps", 0, "--json", out)
    assert result.exit_code == 0, result.output
    assert "left out" in result.stdout
    assert "whole pictures" in result.stdout
    figures = json.loads(out.read_text())
    assert [row["frames"] for row in figures["clips"]] == [11]
    assert figures["mean"]["psnr"] == pytest.approx(figures["clips"][0]["psnr"])
    assert run(folder, "--json", out).exit_code == 1  # exists already
    short = run(folder, "--frames", 50, "--fps", 0)
    assert short.exit_code == 1
    assert "11 of the 50 frames" in short.stdout
    assert "no clip could be measured" in short.stderr
