"""Reports: what they show is what was measured, and they need nothing but themselves."""

from __future__ import annotations

import base64
import os
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import run
from video_files import lossless

from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.bundle.stream_spec import Groups
from vidtok_runtime.quality.metrics import psnr
from vidtok_runtime.tools.demo import synthetic_frame
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.view.charts import ticks
from vidtok_runtime.view.run import view_clip, view_tokens
from vidtok_runtime.view.spread import Curve, Spread
from vidtok_runtime.view.study import Study
from vidtok_runtime.view.usage import CodeHistogram, LatentUsage

CPU = ("--provider", "cpu", "--threads", "1", "--quiet")
FSQ = "tiny-fsq-32768"
KIT = Path(__file__).parents[1] / "conformance/kit"
COUNT, HEIGHT, WIDTH = 19, 36, 52


class Page(HTMLParser):
    """The elements of a page, and whether every one that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.found if name == tag]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [synthetic_frame(3 * i, HEIGHT, WIDTH) for i in range(COUNT)]
    return lossless(tmp_path_factory.mktemp("view") / "a & b.mkv", pictures)


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer(FSQ, provider="cpu", threads=1)


def test_page_is_complete_and_says_what_was_measured(clip: Path, tok: Tokenizer, tmp_path: Path) -> None:
    study = view_clip(tok, str(clip), tmp_path / "r.html", 3, quiet=True)
    with VideoReader(clip) as reader:
        video = np.stack([frame.pixels for frame in reader])
    tokens = tok.encode(video)
    wanted = [psnr(a, b) for a, b in zip(video, tok.decode(tokens), strict=True)]
    assert [v for _, v in study.psnr.points] == pytest.approx(wanted, abs=1e-3)
    assert study.usage.used == len(np.unique(tokens.data))
    assert study.bits_per_pixel == pytest.approx(15 * tokens.data.size / video[..., 0].size)

    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert "a &amp; b.mkv" in text
    assert f"{np.mean(wanted):.2f} dB" in text
    assert f"{study.usage.used} of 32,768 codes" in text
    assert not page.all("script")
    assert not page.all("link")
    assert "http" not in text
    assert "prefers-color-scheme:dark" in text
    assert page.all("html")[0]["lang"] == "en"
    images = page.all("img")
    assert len(images) == 3 * 4
    for image in images:
        assert image["alt"]
        kind, _, content = str(image["src"]).partition(";base64,")
        assert kind == "data:image/png"
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (HEIGHT, WIDTH, 3)
    first = cv2.imdecode(np.frombuffer(base64.b64decode(str(images[0]["src"]).split(",")[1]), np.uint8), 1)
    assert np.array_equal(first[:, :, ::-1], video[0])
    drawings = page.all("svg")
    assert len(drawings) == 2
    assert all(d["role"] == "img" and d["aria-label"] for d in drawings)
    assert len(page.all("polyline")[0]["points"].split()) == COUNT


def test_tokens_beside_their_original(clip: Path, tok: Tokenizer, tmp_path: Path) -> None:
    tokens = tmp_path / "t.safetensors"
    assert run("encode", clip, "-o", tokens, "--bundle", FSQ, *CPU).exit_code == 0
    whole = view_clip(tok, str(clip), tmp_path / "clip.html", 4, quiet=True)
    result = run("view", tokens, "--original", clip, "--frames", 4, *CPU)
    assert result.exit_code == 0, result.output
    report = (tmp_path / "t.view.html").read_text()
    name = "a &amp; b.mkv"
    assert report.replace("t.safetensors", name) == (tmp_path / "clip.html").read_text()
    alone = view_tokens(tok, tokens, tmp_path / "alone.html", 4, quiet=True)
    assert not alone.psnr.count
    assert alone.usage.used == whole.usage.used
    assert len(Page((tmp_path / "alone.html").read_text()).all("img")) == 4 * 2


@pytest.mark.parametrize("original", [True, False])
def test_sheet(clip: Path, tmp_path: Path, original: bool) -> None:
    tokens = tmp_path / "t.safetensors"
    assert run("encode", clip, "-o", tokens, *CPU).exit_code == 0
    beside = ["--original", clip] if original else []
    result = run("view", tokens, *beside, "-o", tmp_path / "s.png", "--frames", 2, *CPU)
    assert result.exit_code == 0, result.output
    picture = cv2.imread(str(tmp_path / "s.png"))
    assert picture.shape[1] == 124 + 3 * 328
    rows = 4 if original else 2
    assert picture.shape[0] == 3 * 26 + rows * (round(HEIGHT * 320 / WIDTH) + 8) + 250
    # Colours in the columns of the two frames, paper in the third.
    band = picture[3 * 26 : 3 * 26 + 100]
    assert (band[:, 780:] == 255).all()
    assert (band[:, 130:440] != 255).any()


def test_what_is_refused(clip: Path, tmp_path: Path) -> None:
    tokens, out = tmp_path / "t.safetensors", tmp_path / "out.html"
    assert run("encode", clip, "-o", tokens, *CPU).exit_code == 0
    other = lossless(tmp_path / "other.mkv", [synthetic_frame(i, HEIGHT, WIDTH) for i in range(COUNT - 4)])
    longer = lossless(tmp_path / "longer.mkv", [synthetic_frame(i, HEIGHT, WIDTH) for i in range(COUNT + 4)])
    small = lossless(tmp_path / "small.mkv", [synthetic_frame(i, 24, 24) for i in range(COUNT)])
    cases = {
        ("view", clip, "-o", tmp_path / "out.pdf"): (1, ".html or .png"),
        ("view", tokens, "--original", other, "-o", out): (1, "fewer frames"),
        ("view", tokens, "--original", longer, "-o", out): (1, "more frames"),
        ("view", tokens, "--original", small, "-o", out): (1, "24x24"),
        ("view", tokens, "--size", "16", "-o", out): (2, "--original"),
        ("view", tokens, "--keep-going", "-o", out): (2, "--original"),
        ("view", clip, "--original", clip, "-o", out): (2, "a clip itself"),
        ("view", tmp_path / "none.mp4", "-o", out): (1, "none.mp4"),
    }
    for args, (code, text) in cases.items():
        result = run(*args, *CPU)
        assert result.exit_code == code, args
        assert text in result.output, args
        assert code == 2 or result.output.count("\n") == 1, args
        assert not list(tmp_path.glob("out*"))
    out.write_text("mine")
    assert run("view", clip, "-o", out, *CPU).exit_code == 1
    assert out.read_text() == "mine"
    assert run("view", clip, "-o", out, "--force", *CPU).exit_code == 0
    assert out.read_text() != "mine"


def test_a_name_that_is_no_text(clip: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    odd.write_bytes(clip.read_bytes())
    result = run("view", odd, "-o", tmp_path / "v.html", "--end", "0.2", *CPU)
    assert result.exit_code == 0, result.output
    assert "<h1>caf%E9.mp4</h1>" in (tmp_path / "v.html").read_text()


@pytest.mark.parametrize("size", [(200, 1), (1, 200)])
def test_long_and_narrow(tmp_path: Path, size: tuple[int, int]) -> None:
    clip = tmp_path / "narrow.png"  # one frame; no video is that narrow
    cv2.imwrite(str(clip), synthetic_frame(0, *size))
    for suffix in ("html", "png"):
        result = run("view", clip, "-o", tmp_path / f"r.{suffix}", "--bundle", KIT / "fsq-causal", *CPU)
        assert result.exit_code == 0, result.output
    assert max(cv2.imread(str(tmp_path / "r.png")).shape) < 2000


def test_a_folder_of_segments(clip: Path, tok: Tokenizer, tmp_path: Path) -> None:
    result = run("stream", clip, tmp_path / "live", "--segment", "0.32", "--bundle", FSQ, *CPU)
    assert result.exit_code == 0, result.output
    segments = sorted((tmp_path / "live").glob("*.safetensors"))
    assert len(segments) > 1
    result = run("view", tmp_path / "live", "--original", clip, "--frames", 24, *CPU)
    assert result.exit_code == 0, result.output
    parts = [Tokens.load(path) for path in segments]
    study = view_tokens(tok, tmp_path / "live", tmp_path / "again.html", 24, str(clip), quiet=True)
    assert (tmp_path / "live.view.html").read_bytes() == (tmp_path / "again.html").read_bytes()
    wanted = [part.data[(3 + i) // 4] for part in parts for i in range(part.num_frames)]
    assert len(wanted) == COUNT
    assert all(np.array_equal(s.token, t) for s, t in zip(study.samples, wanted, strict=True))


@pytest.fixture(scope="module", params=["kl-causal-v1.1", "fsq-noncausal"])
def other(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer(KIT / request.param, provider="cpu", threads=1)


def test_frames_are_shown_with_their_own_latent(other: Tokenizer, clip: Path, tmp_path: Path) -> None:
    with VideoReader(clip) as reader:
        data = other.encode(np.stack([frame.pixels for frame in reader])).data
    study = view_clip(other, str(clip), tmp_path / "r.html", 24, quiet=True)
    front = other.stream.front_frames
    assert [s.frame for s in study.samples] == list(range(COUNT))
    for sample in study.samples:
        assert np.array_equal(sample.token, data[(front + sample.frame) // other.stream.time_factor])
        assert study.token_map(sample).shape == sample.decoded.shape


def test_groups_and_cut_tokens_are_shown_with_their_own_token(tok: Tokenizer, tmp_path: Path) -> None:
    tokens = tok.encode(np.stack([synthetic_frame(3 * i, 24, 33) for i in range(COUNT)]), gop=2)
    assert tokens.info.groups == Groups(5, 2, whole=False)
    tokens.slice(7, 17).save(tmp_path / "part.safetensors")
    study = view_tokens(tok, tmp_path / "part.safetensors", tmp_path / "r.html", 10, quiet=True)
    for sample in study.samples:
        group, rest = divmod(7 + sample.frame, 5)
        assert np.array_equal(sample.token, tokens.data[2 * group + (3 + rest) // 4])


def test_a_long_stream_costs_no_more(tok: Tokenizer) -> None:
    study = Study(tok, "long", 3)
    study.begin(tok.describe(1, 16, 16))
    rng = np.random.default_rng(0)
    values = []
    for i in range(3000):
        if i % 4 == 1 or i == 0:
            study.look(rng.integers(0, 32768, (1, 2, 2), np.int32))
        a, b = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
        values.append(psnr(a, b))
        study.add(a, b)
    assert len(study._latents) == 1
    assert len(study._samples._kept) <= 12
    assert len(study.psnr.points) <= 400
    assert study.psnr.mean == pytest.approx(np.mean(values))
    assert study.numbers == 4 * 751
    frames = [s.frame for s in study.samples]
    assert len(frames) == 3
    assert frames[0] == 0
    assert frames[-1] > 2500


@pytest.mark.parametrize("length", [1, 2, 7, 399, 400, 401, 1234])
def test_a_curve_keeps_the_mean(length: int) -> None:
    values = np.random.default_rng(length).random(length)
    curve = Curve()
    for value in values:
        curve.add(value)
    assert curve.mean == pytest.approx(values.mean())
    assert (curve.least, curve.most) == (values.min(), values.max())
    at, means = zip(*curve.points, strict=True)
    assert len(at) <= 400
    width = 1 if length <= 400 else 2 if length <= 800 else 4
    assert list(means) == pytest.approx([values[i : i + width].mean() for i in range(0, length, width)])
    assert at[0] == (min(width, length) - 1) / 2


@pytest.mark.parametrize("length", [1, 3, 10, 57, 1000])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_samples_are_evenly_spread(length: int, count: int) -> None:
    spread: Spread[int] = Spread(count)
    for i in range(length):
        if spread.wants(i):
            spread.keep(i)
    chosen = spread.chosen()
    assert len(chosen) == min(length, count)
    assert chosen[0] == 0
    gaps = [b - a for a, b in pairwise(chosen)]
    assert max(gaps, default=0) <= 1 + 1.5 * length / max(1, count - 1)
    assert min(gaps, default=length) >= (length / count - 2) / 4


def test_latents_are_measured_in_pieces() -> None:
    latents = np.random.default_rng(1).normal(2, [[[[1.0]], [[3.0]], [[0.5]], [[0.1]]]], (6, 4, 5, 7))
    usage = LatentUsage(4)
    for piece in np.split(latents, 3):
        usage.add(piece.astype(np.float32))
    rows = latents.transpose(0, 2, 3, 1).reshape(-1, 4)
    assert usage.mean == pytest.approx(rows.mean(0), abs=1e-5)
    assert usage.std == pytest.approx(rows.std(0), abs=1e-5)
    assert usage.most == pytest.approx(rows.max(0), abs=1e-5)
    colours = usage.colours(latents[0])
    assert colours.shape == (5, 7, 3)
    # Red is the direction of the largest spread, which is nearly the second channel.
    assert abs(np.corrcoef(colours[..., 0].ravel(), latents[0, 1].ravel())[0, 1]) > 0.97


def test_codes_are_counted_and_like_codes_look_alike() -> None:
    usage = CodeHistogram(32768, [8] * 5)
    usage.add(np.array([[0, 1], [1, 32767]]))
    assert (usage.used, usage.tokens) == (3, 4)
    assert usage.entropy == pytest.approx(1.5)
    histogram = usage.histogram()
    assert (histogram[0], histogram[-1], histogram.sum()) == (0.75, 0.25, 1)
    every = usage.colours(np.arange(32768).reshape(128, 256)).reshape(-1, 3).astype(int)
    assert len(np.unique(every, axis=0)) > 20000  # 8-bit colours: some of the 32,768 coincide, next to each other
    fourth = np.abs(every[8**3] - every[0]).sum()  # one step of the fourth digit
    first = np.abs(every[1] - every[0]).sum()  # one step of the first
    assert 0 < fourth < first < 40
    plain = CodeHistogram(100).colours(np.arange(100).reshape(10, 10)).reshape(-1, 3)
    assert len(np.unique(plain, axis=0)) == 100


@pytest.mark.parametrize("span", [(0, 1), (17.02, 20.9), (-9.3, 9.1), (0, 32768), (0, 1e-4), (0, 16)])
def test_ticks_are_round_and_inside(span: tuple[float, float]) -> None:
    marks = ticks(span)
    assert 2 <= len(marks) <= 6
    assert all(span[0] - 1e-9 <= m <= span[1] + 1e-9 for m in marks)
    assert len({round(b - a, 9) for a, b in pairwise(marks)}) == 1
