"""Training data: which files, which frames, cut how."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidtok_ref import ModelError
from vidtok_ref.errors import DataError
from vidtok_ref.train.clips import FileClip, HeldClip
from vidtok_ref.train.cut import choose_frames, cut_video, vary
from vidtok_ref.train.loader import Numbers, Samples, make_loader
from vidtok_ref.train.material import list_files, load_material
from vidtok_ref.train.recipe import DataPart

PART = DataPart(batch=4, frames=5, size=32, short_side=40, held_out=("held",), held_out_frames=5, held_out_size=32)


def test_material_is_cut_as_told(clips: Path) -> None:
    material = load_material(clips, PART)
    assert [len(x) for x in (material.videos, material.images, material.held_out)] == [2, 1, 1]
    assert material.held_out[0].shape == (5, 32, 32, 3)
    assert len(material.skipped) == 1
    assert "broken.mp4" in material.skipped[0]
    (clips / "SOURCES.csv").write_text("file,note\ntrain/a.mp4,footage of doubtful licence\nb.mp4,doubtful licence\n")
    try:
        with pytest.raises(ModelError, match="0 clips to train on"):
            load_material(clips, replace(PART, skip_notes=("doubtful licence",)))
    finally:
        (clips / "SOURCES.csv").unlink()


@pytest.mark.parametrize("names", [(), ("street",)])
def test_every_tenth_video_is_held_out_where_none_is_named(
    clips: Path, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    part = replace(PART, held_out=names)
    assert [e.path.name for e in list_files(clips, part) if e.split == "held_out"] == ["a.mp4"]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("every 10th video is: a.mp4")
    assert [len(x) for x in (load_material(clips, part).videos, load_material(clips, part).held_out)] == [2, 1]


def test_how_many_are_held_out(tmp_path: Path) -> None:
    def held(count: int, marked: str = "train") -> list[str]:
        rows = [f"{i:02}.mp4,{marked if i == 5 else 'train'}" for i in range(count)]
        (tmp_path / "list.csv").write_text("\n".join(["file,split", "photo.png,", *rows]))
        entries = list_files(tmp_path / "list.csv", replace(PART, held_out=()), quiet=True)
        return [e.path.stem for e in entries if e.split == "held_out"]

    assert [held(1), held(2), held(10), held(11)] == [[], ["00"], ["00"], ["00", "10"]]
    assert held(11, "held_out") == ["05"]
    assert len(held(999)) == 31


def test_a_folder_heeds_the_splits_and_notes_of_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train/a.mp4", "train/b.mp4", "train/c.mp4", "eval/a.mp4", "more/b.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    (tmp_path / "SOURCES.csv").write_text(
        "file,split,note\nvideos/train/a.mp4,train,\nvideos/eval/a.mp4,eval,\nvideos/train/b.mp4,held_out,\n"
        "moved/c.mp4,train,doubt\n"
    )
    part = replace(PART, held_out=(), skip_notes=("doubt",))
    entries = list_files(tmp_path / "videos", part)
    assert [(str(e.path.relative_to(tmp_path / "videos")), e.split) for e in entries] == [
        ("more/b.mp4", "train"),
        ("train/a.mp4", "train"),
        ("train/b.mp4", "held_out"),
    ]
    assert not capsys.readouterr().out
    (tmp_path / "SOURCES.csv").unlink()
    list_files(tmp_path / "videos", replace(part, held_out=("c",)))
    (line,) = capsys.readouterr().out.splitlines()
    assert "has no notes" in line


def test_a_list_names_files_notes_and_splits(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "list.csv"
    rows = [("a.mp4", "", "train"), ("b.mp4", "doubt", ""), ("held.mp4", "", "held_out"), ("photo.png", "", "test")]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "note", "split"), *((str(clips / n), *rest) for n, *rest in rows)])
    plain = replace(PART, held_out=())
    assert [(e.path.name, e.split) for e in list_files(table, plain)] == [
        ("a.mp4", "train"),
        ("b.mp4", "train"),
        ("held.mp4", "held_out"),
    ]
    assert [e.path.name for e in list_files(table, replace(plain, skip_notes=("doubt",)))] == ["a.mp4", "held.mp4"]
    assert len(load_material(table, plain).videos) == 2
    table.write_text("name\na.mp4\n")
    with pytest.raises(DataError, match="no column `file`"):
        list_files(table, plain)
    table.write_text("note,file\n,a.mp4\nno path\n")
    assert [e.path.name for e in list_files(table, plain)] == ["a.mp4"]
    assert "line 3 is left out: it names no file" in capsys.readouterr().out
    with pytest.raises(DataError, match="neither a folder nor"):
        list_files(clips / "a.mp4", plain)


def test_files_give_the_frames_that_memory_holds(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldClip(clips / "a.mp4", 40, 100)
    monkeypatch.chdir(tmp_path)
    shutil.copy(clips / "a.mp4", "12:30.mp4")  # no protocol
    file = FileClip(Path("12:30.mp4"), 40)
    np.testing.assert_allclose(file.times, held.times, atol=1e-3)
    for index in ([0, 1, 2], [7, 9, 11], [3, 3, 4], [11, 11, 11]):
        np.testing.assert_array_equal(file.take(np.array(index)), held.take(np.array(index)))


def test_frames_are_chosen_by_their_time() -> None:
    rng = np.random.default_rng(0)
    times = 0.5 + np.arange(300) / 30
    for _ in range(20):
        index = choose_frames(times, replace(PART, fps=(3.0,)), rng)
        assert (np.diff(index) == 10).all()
        assert index[-1] <= 299
    # An uneven clock: the frame that is on the screen at each moment.
    uneven = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 2.0])
    moments = uneven[choose_frames(uneven, replace(PART, frames=3, fps=(1.0,)), rng)]
    assert moments.tolist() == [0.0, 1.0, 2.0]
    # Too short for three a second: the whole clip. Its own rate: every or every second frame.
    assert choose_frames(np.arange(9) / 30, replace(PART, fps=(3.0,)), rng).tolist() == [0, 2, 4, 6, 8]
    steps = {int(s) for _ in range(20) for s in np.diff(choose_frames(times, PART, rng))}
    assert steps == {1, 2}
    assert choose_frames(np.zeros(1), PART, rng).tolist() == [0] * 5
    mixed = {int(np.diff(choose_frames(times, replace(PART, fps=(3.0, 10.0)), rng))[0]) for _ in range(20)}
    assert mixed == {10, 3}


def test_samples_are_cut_flipped_and_reversed(clips: Path) -> None:
    clip = HeldClip(clips / "a.mp4", 40, 100)
    seen = {cut_video(clip, PART, np.random.default_rng(i)).tobytes() for i in range(30)}
    assert len(seen) > 25
    still = replace(PART, flip=False, reverse=False, image_share=0, short_side=32)
    samples = Samples(load_material(clips, still), still, 0)
    times = [samples[i][0].astype(int) for i in range(8)]
    assert all(clip.shape == (5, 32, 32, 3) for clip in times)


def test_zoom_shrinks_a_larger_crop(clips: Path) -> None:
    clip = HeldClip(clips / "a.mp4", 40, 100)
    part = replace(PART, size=20, zoom=(2.0, 2.0), reverse=False, frames=1)
    cut = cut_video(clip, part, np.random.default_rng(0)).astype(int)
    assert cut.shape == (1, 20, 20, 3)
    # A crop of twice the size, each pixel the mean of four, of some frame and place.
    frames = clip.pixels[: len(clip.pixels) // 2 * 2].astype(float)
    places = range(frames.shape[2] - 39)
    shrunk = [frames[:, :40, x : x + 40].reshape(-1, 20, 2, 20, 2, 3).mean((2, 4)) for x in places]
    assert min(np.abs(s - cut).max((1, 2, 3)).min() for s in shrunk) <= 1


def test_a_sample_is_varied_as_a_whole() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    plain = replace(PART, flip=False)
    assert (vary(pixels, plain, np.random.default_rng(0)) == pixels).all()
    views = [vary(pixels, replace(PART, turn=True), np.random.default_rng(i)) for i in range(30)]
    same = [pixels, pixels[:, :, ::-1], pixels.swapaxes(1, 2), pixels[:, :, ::-1].swapaxes(1, 2)]
    assert {view.tobytes() for view in views} == {np.ascontiguousarray(one).tobytes() for one in same}
    for seed in range(30):
        recoloured = vary(pixels, replace(plain, colour=0.2), np.random.default_rng(seed))
        for channel in range(3):  # one rising curve a channel, the same in all frames
            before, after = pixels[..., channel].ravel(), recoloured[..., channel].ravel().astype(int)
            assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()
    recoloured = [vary(pixels, replace(plain, colour=0.2), np.random.default_rng(i)) for i in range(30)]
    assert 5 < sum((one == pixels).all() for one in recoloured) < 25


def test_vivid_samples_reach_pure_colours_of_every_kind() -> None:
    dull = np.full((2, 4, 4, 3), (150, 110, 130), np.uint8)
    dull[1] = 90  # grey stays grey
    plain = replace(PART, flip=False)
    views = [vary(dull, replace(plain, vivid=1.0), np.random.default_rng(i)) for i in range(60)]
    assert all((view[1] == 90).all() for view in views)
    strongest = {tuple(int(c) for c in np.argsort(view[0, 0, 0])) for view in views}
    assert len(strongest) == 6  # orders of the channels
    assert max(int(np.ptp(view[0, 0, 0])) for view in views) > 200
    some = [vary(dull, replace(plain, vivid=0.5), np.random.default_rng(i)) for i in range(60)]
    assert 15 < sum((view == dull).all() for view in some) < 45


@pytest.mark.parametrize("cache", [True, False])
def test_batches_are_the_same_whatever_cuts_them(clips: Path, cache: bool) -> None:
    part = replace(PART, cache=cache)
    material = load_material(clips, part)

    def batches(workers: int, first: int = 0, rank: int = 0, world: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
        samples = Samples(material, replace(part, workers=workers), 3)
        return [(b.video, b.number) for b in make_loader(samples, Numbers(4, first, 3, rank, world))]

    alone = batches(0)
    assert [number.tolist() for _, number in alone] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    halves = [batches(0, rank=rank, world=2) for rank in (0, 1)]
    joined = [tuple(torch.cat(pair) for pair in zip(*both, strict=True)) for both in zip(*halves, strict=True)]
    for other in (batches(2), joined, [*alone[:1], *batches(0, first=1)]):
        assert len(other) == len(alone)
        assert all(torch.equal(a, b) for x, y in zip(alone, other, strict=True) for a, b in zip(x, y, strict=True))


def test_unreadable_files_are_counted_and_given_up_on(clips: Path) -> None:
    part = replace(PART, cache=False, image_share=0)
    material = load_material(clips, part)
    assert len(material.videos) == 3
    seen = {line for number in range(20) for line in Samples(material, part, 0)[number][2]}
    assert len(seen) == 1
    material.videos = [clips / "broken.mp4"]
    with pytest.raises(DataError, match="100 files drawn in a row cannot be read"):
        Samples(material, part, 0)[0]
