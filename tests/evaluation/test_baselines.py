"""Block PCA and codecs: the numbers they bring back, the bits they are given, and what is left out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vidtok_runtime.errors import InputError, VideoError
from vidtok_runtime.evaluation.baselines import Baselines
from vidtok_runtime.evaluation.block_pca import BlockTransform, Grid, fit_blocks
from vidtok_runtime.evaluation.codecs import CODECS, encode, encode_to
from vidtok_runtime.evaluation.methods import BlockPca, CodecMethod
from vidtok_runtime.evaluation.protocol import Excerpt, Protocol
from vidtok_runtime.evaluation.scores import Evaluation
from vidtok_runtime.tools.demo import make_clip
from vidtok_runtime.video.source import Frame

GRID = Grid(4, 8, 3)
PROTOCOL = Protocol(frames=9, size=64, fps=None)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name, first in (("a", 0), ("b", 70)):
        make_clip(folder / f"{name}.mp4", 12, 72, 96, first=first, fps=Fraction(30))
    return folder


@pytest.fixture(scope="module")
def excerpt(clips: Path) -> Excerpt:
    return Excerpt(clips / "a.mp4", PROTOCOL)


@pytest.fixture(scope="module")
def transform(clips: Path) -> BlockTransform:
    return fit_blocks([clips / "b.mp4"], GRID, PROTOCOL)


@pytest.mark.parametrize("front", [3, 0])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_blocks_cut_and_joined_are_the_frames(front: int, count: int) -> None:
    frames = [Frame(np.full((11, 13, 3), 10 * i, np.uint8), i) for i in range(1, count + 1)]
    frames[0].pixels[:] = np.random.default_rng(0).integers(0, 256, (11, 13, 3))
    grid, out, firsts = Grid(4, 8, front), [], []
    for group, start, blocks in grid.cut(frames):
        assert blocks.shape == (4, 3 * 4 * 8 * 8)
        joined = grid.join(blocks, 11, 13)
        firsts.append(joined)
        out += list(joined[start : start + len(group)])
    assert np.array_equal(np.stack(out), np.stack([f.pixels for f in frames]))
    if front:  # the first block is made of the first frame alone, as the model's first latent
        assert all(np.array_equal(picture, frames[0].pixels) for picture in firsts[0])
    assert len(firsts) == -(-(count + front) // 4)


def test_pca_is_the_best_linear_transform(clips: Path, transform: BlockTransform, excerpt: Excerpt) -> None:
    used = transform.components[:40].astype(np.float64)
    assert np.allclose(used @ used.T, np.eye(len(used)), atol=1e-5)
    # On the clips that it is fitted on, what is lost is the variance of the components left out.
    blocks = np.concatenate([b for _, _, b in GRID.cut(Excerpt(clips / "b.mp4", PROTOCOL))]).astype(np.float64)
    lost = np.mean(np.sum((blocks - transform.apply(blocks, 16)) ** 2, axis=1))
    singular = np.linalg.svd(blocks - blocks.mean(0), compute_uv=False)
    assert lost == pytest.approx(np.sum(singular[16:] ** 2) / len(blocks), rel=1e-3)
    rows = [Evaluation(BlockPca(transform, n), PROTOCOL).add(excerpt) for n in (1, 4, 16)]
    assert rows[0].psnr < rows[1].psnr < rows[2].psnr
    # 9 frames and 3 in front are 3 blocks of time, 8 x 8 of space.
    assert rows[1].bits_per_pixel == 16 * 4 * 3 * 64 / (9 * 64 * 64)


def test_a_transform_comes_back_from_its_file(transform: BlockTransform, tmp_path: Path) -> None:
    path = tmp_path / "pca.npz"
    transform.save(path)
    again = BlockTransform.load(path)
    assert (again.grid, again.source) == (transform.grid, transform.source)
    assert np.array_equal(again.components, transform.components)
    assert [p.name for p in tmp_path.iterdir()] == ["pca.npz"]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="no block transform"):
        BlockTransform.load(path)
    with pytest.raises(InputError, match="65 were asked for"):
        transform.check(65)
    with pytest.raises(InputError, match="no clip"):
        fit_blocks([tmp_path / "pca.npz"], GRID, PROTOCOL)


@pytest.mark.parametrize("name", sorted(CODECS))
def test_codecs_meet_the_rate(name: str, excerpt: Excerpt) -> None:
    codec = CODECS[name]
    if reason := codec.missing():
        pytest.skip(reason)
    pixels = 9 * 64 * 64
    rows = []
    for wanted in (0.15, 0.6):
        method = CodecMethod(name, codec, lambda clip, bits=wanted * pixels: encode_to(codec, clip, bits))
        row = Evaluation(method, PROTOCOL).add(excerpt)
        assert row.bits_per_pixel == pytest.approx(wanted, rel=0.15)
        assert method.bits == row.bits_per_pixel * pixels
        rows.append(row)
    assert 20 < rows[0].psnr < rows[1].psnr
    # Out of reach: the nearest there is. Pictures as small as these x265 codes a little differently every time.
    least = encode_to(codec, excerpt, 1)
    assert 1 < least.bits == pytest.approx(encode(codec, excerpt, codec.crf[1]).bits, rel=0.1)


def test_coded_pictures_say_nothing_about_their_encoder(excerpt: Excerpt) -> None:
    """Text of some hundred bytes in the first picture would be a third of the bits of a short clip."""
    for name in ("h264", "h265"):
        if CODECS[name].missing() is None:
            assert encode(CODECS[name], excerpt, 51).bits < 8 * 600


def test_a_codec_that_is_missing_has_a_reason(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = CODECS["av1"].__class__("av1", "libnothing", {}, (0, 63))
    monkeypatch.setitem(CODECS, "av1", gone)
    baselines = Baselines(("av1",))
    assert baselines.missing() == ["av1, this build of PyAV has no libnothing"]
    assert baselines.curves() == {}


def test_a_size_that_a_codec_refuses_is_said(clips: Path) -> None:
    if reason := CODECS["av1"].missing():
        pytest.skip(reason)
    odd = Excerpt(clips / "a.mp4", Protocol(frames=9, size=35, fps=None))
    with pytest.raises(VideoError, match="libsvtav1 does not take"):
        encode(CODECS["av1"], odd, 40)


def test_baselines_that_do_not_fit_are_refused(clips: Path) -> None:
    for names, text in ((("mpeg2",), "one of h264"), (("pca:0",), "pca:NUMBERS"), (("pca",), "--pca-clips FOLDER")):
        with pytest.raises(InputError, match=text):
            Baselines(names)
    with pytest.raises(InputError, match="give that, too"):
        Baselines(("h264",), pca_clips=clips)
