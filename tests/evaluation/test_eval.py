"""`vidtok-run eval`: what is measured, of which frames, and what is left out."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from commands import run

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.bundle.stream_spec import Length
from vidtok_runtime.errors import VideoError
from vidtok_runtime.evaluation.codecs import CODECS
from vidtok_runtime.evaluation.methods import Model
from vidtok_runtime.evaluation.plot import _style
from vidtok_runtime.evaluation.protocol import Excerpt, Protocol, published_frames
from vidtok_runtime.evaluation.scores import Evaluation
from vidtok_runtime.quality.metrics import psnr
from vidtok_runtime.tools.demo import make_clip
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Frame


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
    frames = (Frame(np.full((1, 1, 3), p, np.uint8), p) for p in pts)
    shown = list(Selection(fps=Fraction(rate)).shown(frames, Fraction(1, 60), pts[0] if pts else 0, "clip"))
    assert [int(frame.pixels[0, 0, 0]) for frame in shown] == wanted
    assert [frame.pts for frame in shown] == list(range(len(wanted)))


@pytest.mark.parametrize("bundle", ["tiny-kl-16chn", "tiny-fsq-32768"])
def test_figures_are_those_of_the_round_trip(clip: Path, bundle: str) -> None:
    tok = Tokenizer(bundle, provider="cpu", threads=1)
    model, protocol = Model(tok, "m"), Protocol(frames=6, size=32, fps=None)
    row = Evaluation(model, protocol).add(Excerpt(clip, protocol))
    with VideoReader(clip, Selection(size="32", resampling="rgb")) as reader:
        frames = np.stack([frame.pixels for frame in reader])[:6]
    left = (frames.shape[2] - 32) // 2
    frames = frames[:, :, left : left + 32]
    tokens = tok.encode(frames)
    expected = np.mean([psnr(a, b) for a, b in zip(frames, tok.decode(tokens), strict=True)])
    assert row.psnr == pytest.approx(expected, abs=1e-3)  # calls of another length may round a byte the other way
    numbers = tokens.data.size * (15 if tok.stream.codebook_size else 16)
    assert row.bits_per_pixel == pytest.approx(numbers / (6 * 32 * 32))
    if tok.stream.codebook_size:
        assert model.codes_used == len(np.unique(tokens.data)) / 32768
        with pytest.raises(VideoError, match="11 of the 12 frames"):
            Evaluation(model, protocol).add(Excerpt(clip, replace(protocol, frames=12)))
        assert (model.codes_used, model.tokens) == (len(np.unique(tokens.data)) / 32768, tokens.data.size)
    else:
        assert model.codes_used is None


def eval_command(*args: object) -> Result:
    return run("eval", *args, "--provider", "cpu", "--threads", "1", "--quiet")


def test_a_folder(clip: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "clips", tmp_path / "r.json"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "broken.mp4").write_text("no video")
    result = eval_command(folder, "--frames", 0, "--size", 0, "--fps", 0, "--json", out)
    assert result.exit_code == 0, result.output
    assert "left out" in result.stdout
    assert "whole pictures" in result.stdout
    figures = json.loads(out.read_text())
    (model,) = figures["results"]
    assert (model["name"], model["model"]) == ("tiny-kl-16chn", "kl-16chn")
    assert [row["frames"] for row in model["clips"]] == [11]
    assert model["mean"]["psnr"] == pytest.approx(model["clips"][0]["psnr"])
    assert model["protocol"].startswith("all frames at own frame rate, whole pictures")
    assert eval_command(folder, "--json", out).exit_code == 1  # exists already
    short = eval_command(folder, "--frames", 50, "--fps", 0)
    assert short.exit_code == 1
    assert "11 of the 50 frames" in short.stdout
    assert "no clip could be measured" in short.stderr


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name, first in (("a", 0), ("b", 70)):
        make_clip(folder / f"{name}.mp4", 17, 72, 96, first=first, fps=Fraction(30))
    return folder


def test_a_clip_that_does_not_fit_into_the_memory_is_left_out(tmp_path: Path) -> None:
    """And names that no encoding knows, that are formulas to others or that come twice, cost nothing either."""
    names = [b"caf\xe9.mp4", b"a$\\foo$.mp4", b"one/clip.mp4", b"two/clip.mp4"]
    for name in names:
        path = Path(os.fsdecode(os.fsencode(tmp_path / "clips") + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        make_clip(path, 5, 32, 32)
    make_clip(tmp_path / "clips/large.mp4", 5, 360, 640)
    command = ["eval", tmp_path / "clips", "--size", 0, "--fps", 0, "--frames", 5, "--max-memory", "230MB", "--json"]
    pictures = ["--plot-clips", tmp_path / "clips.png", "--provider", "cpu", "--threads", 1, "--quiet"]
    result = run(*command, tmp_path / "r.json", *pictures)
    assert result.exit_code == 0, result.output
    assert "left out: large: " in result.output
    [figures] = json.loads((tmp_path / "r.json").read_text())["results"]
    assert [row["clip"] for row in figures["clips"]] == ["a$\\foo$", "caf%E9", "one/clip.mp4", "two/clip.mp4"]
    assert cv2.imread(str(tmp_path / "clips.png")) is not None


def test_bundles_and_baselines_in_one_table_and_picture(clips: Path, tmp_path: Path) -> None:
    absent = [name for name, codec in CODECS.items() if codec.missing()]
    if absent:
        pytest.skip(f"this build of PyAV lacks {absent}")
    names = ["tiny-kl-16chn", "tiny-fsq-32768"]
    wanted = [*names, "pca-16 of 4x8x8+3", "pca-5 of 4x8x8+3", "pca-4 of 4x8x8+3", *(f"h264 at {n}" for n in names)]
    bundles = [x for name in names for x in ("--bundle", name)]
    common = [clips, *bundles, "--size", 64, "--baseline", "pca", "--baseline", "pca:4", "--baseline", "h264"]
    outputs = {kind: tmp_path / kind for kind in ("figures.json", "rd.svg", "clips.png", "pca.npz")}
    result = eval_command(
        *(*common, "--pca", outputs["pca.npz"], "--pca-clips", clips, "--json", outputs["figures.json"]),
        *("--plot", outputs["rd.svg"], "--plot-clips", outputs["clips.png"]),
    )
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(outputs)
    figures = json.loads(outputs["figures.json"].read_text())
    assert {r["name"] for r in figures["results"]} == set(wanted)
    assert len(figures["results"]) == len(wanted)  # pca-4 of both bundles is one
    by_name = {r["name"]: r for r in figures["results"]}
    for name in names:
        rates = [by_name[n]["mean"]["bits_per_pixel"] for n in (name, f"h264 at {name}")]
        assert rates[1] == pytest.approx(rates[0], rel=0.1)
        assert [row["clip"] for row in by_name[name]["clips"]] == ["a", "b"]
    assert by_name["tiny-kl-16chn"]["mean"]["bits_per_pixel"] == by_name[wanted[2]]["mean"]["bits_per_pixel"]
    fsq = by_name["tiny-fsq-32768"]
    assert f"codes in use: {fsq['codes_used']:.1%} of 32,768 ({fsq['tokens']:,} tokens seen" in result.stdout
    assert all(name in result.stdout for name in wanted)
    assert figures["bits"] in result.stdout
    (curve,) = figures["curves"]
    rates = [point["bits_per_pixel"] for point in curve["points"]]
    assert rates == sorted(rates, reverse=True)
    assert curve["points"][0]["psnr"] > curve["points"][-1]["psnr"]
    assert not {str(tmp_path), str(clips)} & set(outputs["figures.json"].read_text().split('"'))
    assert cv2.imread(str(outputs["clips.png"])).shape[1] > 1000
    picture = outputs["rd.svg"].read_text()
    assert picture.startswith("<?xml")


def test_no_two_of_many_models_look_alike() -> None:
    styles = _style({"results": [{"kind": "model", "name": str(i)} for i in range(16)]})
    assert len({(style["color"], style["marker"]) for style in styles.values()}) == 16


@pytest.mark.parametrize("bundle", ["tiny-kl-16chn", "tiny-fsq-32768"])
@pytest.mark.parametrize("half", [False, True])
def test_bits_per_pixel_are_those_of_info_and_view(clips: Path, tmp_path: Path, bundle: str, half: bool) -> None:
    clip, tokens, figures = clips / "a.mp4", tmp_path / "a.safetensors", tmp_path / "a.json"
    whole = ("--frames", 0, "--fps", 0, "--size", 0, "--bundle", bundle, "--json", figures)
    assert eval_command(clip, *whole).exit_code == 0
    mean = json.loads(figures.read_text())["results"][0]["mean"]["bits_per_pixel"]
    encode = ("encode", clip, "-o", tokens, "--bundle", bundle, "--provider", "cpu", *(["--half"] if half else []))
    assert run(*encode).exit_code == 0
    info = run("info", tokens).stdout
    (line,) = (line for line in info.splitlines() if line.startswith("tokens "))
    assert line.split()[1:5] == [f"{mean:.4f}", "bits", "per", "pixel:"]
    (line,) = (line for line in info.splitlines() if line.startswith("size "))
    stored = 8 * tokens.stat().st_size / (17 * 72 * 96)
    assert f"{tokens.stat().st_size:,} bytes, {stored:.4f} bits per pixel as stored" in line
    view = ("view", tokens, "-o", tmp_path / "a.html", "--provider", "cpu")
    assert f"bits per pixel {mean:.4f}" in run(*view).stdout


def test_the_same_figures_make_the_same_bytes(clips: Path, tmp_path: Path) -> None:
    # Without codecs: on pictures as small as these x264 and x265 do not always find the same.
    outputs = {kind: tmp_path / kind for kind in ("figures.json", "rd.svg", "clips.png")}
    common = [clips, "--size", 32, "--frames", 5, "--baseline", "pca", "--pca", tmp_path / "pca.npz"]
    for kind, option in (("figures.json", "--json"), ("rd.svg", "--plot"), ("clips.png", "--plot-clips")):
        common += [option, outputs[kind]]
    fitted = eval_command(*common, "--pca-clips", clips)
    assert fitted.exit_code == 0, fitted.output
    first = {name: path.read_bytes() for name, path in outputs.items()}
    read = eval_command(*common, "--force")
    assert read.stdout == fitted.stdout
    assert {name: path.read_bytes() for name, path in outputs.items()} == first
    other = eval_command(*common, "--force", "--bundle", "tiny-fsq-32768", "--pca", clips / "a.mp4")
    assert other.exit_code == 1
    assert "no block transform" in other.stderr
    assert {name: path.read_bytes() for name, path in outputs.items()} == first


def test_published_protocol_by_default(clips: Path) -> None:
    result = eval_command(clips / "a.mp4", "--size", 32)
    assert result.exit_code == 0, result.output
    assert "17 frames at 30 frames a second, centre 32x32" in result.stdout


@pytest.mark.parametrize("rate", ["0.0001", "nan", "-1", "1e9", "fast", "30/0"])
def test_rates_that_mean_nothing(clips: Path, rate: str) -> None:
    result = eval_command(clips, "--fps", rate)
    assert result.exit_code == 2
    assert "frame rate" in result.stderr
    assert not result.stdout


def test_rates_may_be_fractions(clips: Path) -> None:
    for rate in ("29.97", "30000/1001"):
        result = eval_command(clips / "a.mp4", "--size", 32, "--frames", 2, "--fps", rate)
        assert "2 frames at 29.97 frames a second" in result.stdout


def test_bad_outputs_stop_before_the_work(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "rd.png"
    there.write_text("mine")
    for arguments, text in (
        (["--plot", there], "exists already"),
        (["--plot", tmp_path / "rd.gif"], ".png or .svg"),
        (["--baseline", "pca"], "--pca-clips FOLDER"),
    ):
        result = eval_command(clips, *arguments)
        assert result.exit_code == 1
        assert text in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not result.stdout
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, find=importlib.util.find_spec: None if name == "matplotlib" else find(name),
    )
    result = eval_command(clips, "--plot", tmp_path / "new.png")
    assert result.exit_code == 1
    assert "vidtok-onnx[eval]" in result.stderr
    assert there.read_text() == "mine"
    assert eval_command(clips, "--baseline", "divx").exit_code == 2


def test_groups_that_are_always_filled_up() -> None:
    """Where no clip of up to 17 frames is whole, the published number is taken all the same."""
    manifest = read_manifest(Path(__file__).parents[1] / "conformance/kit/omnitokenizer-squares")
    assert manifest.stream.groups is not None
    groups = replace(manifest.stream.groups, frames=33)
    longer = replace(manifest, stream=replace(manifest.stream, groups=groups, length=Length(33, 1)))
    assert published_frames(longer) == 17
