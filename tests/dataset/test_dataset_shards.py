"""`vidtok-run dataset` in parts, from shards and into them."""

from __future__ import annotations

import io
import json
import tarfile
from fractions import Fraction
from pathlib import Path

import pytest
from dataset_runs import content, dataset, records
from video_files import make, numbered, read

from vidtok_runtime.dataset.clips import list_clips
from vidtok_runtime.dataset.job import Job
from vidtok_runtime.errors import InputError, VideoError
from vidtok_runtime.files import is_below
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection


def test_parts_of_a_data_set(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for i in range(3):
        assert dataset(source, out, "--shard", f"{i}/3", "--workers", 1).exit_code == 0
    files = content(out)
    whole = {k: v for k, v in content(undisturbed).items() if k != "index.parquet"}
    assert {k: v for k, v in files.items() if not k.startswith("index")} == whole
    ledgers = {p.name: p.read_bytes() for p in out.glob("ledger-*")}
    assert dataset(source, out).exit_code == 0  # in one piece now: all of it is known to be done
    assert {p.name: p.read_bytes() for p in out.glob("ledger-*")} == ledgers
    assert not records(out, "failed")
    assert len(records(out, "done")) == 7


def shard_of(source: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, member in (("b.mp4", "000.mp4"), ("b.txt", "000.txt"), ("b.json", "000.json"), ("c.mkv", "001.mkv")):
            tar.add(source / name, f"x/{member}")
    return path


def test_shards_in(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shard_of(source, folder / "s-0.tar")
    (folder / "also.mp4").write_bytes((source / "a.mp4").read_bytes())
    clips = list_clips(folder)
    assert [clip.name for clip in clips] == ["also.mp4", "s-0/x/000.mp4", "s-0/x/001.mkv"]
    assert clips[1].metadata() == list_clips(source)[2].metadata()
    out = tmp_path / "out"
    assert dataset(folder, out, "--workers", 1).exit_code == 0
    assert (out / "s-0/x/000.safetensors").read_bytes() == (undisturbed / "b.safetensors").read_bytes()
    assert (out / "s-0/x/001.safetensors").read_bytes() == (undisturbed / "c.safetensors").read_bytes()


def test_names_with_dots_in_a_shard(source: Path, tmp_path: Path) -> None:
    """By webdataset's rule they are one sample; every video of it is a clip."""
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, member in (
            ("b.mp4", "talk.part1.mp4"),
            ("c.mkv", "talk.part2.mkv"),
            ("b.txt", "talk.part1.txt"),
            ("b.json", "talk.json"),
        ):
            tar.add(source / name, member)
        tar.add(source / "b.mp4", "one.mp4")
        for name in ("one.webm", "one.jpg", "two.depth.png", "two.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    clips = list_clips(tmp_path / "s.tar")
    assert [clip.name for clip in clips] == ["s/talk.part1.mp4", "s/talk.part2.mkv", "s/one.mp4", "s/two.jpg"]
    assert [sorted(clip.notes) for clip in clips] == [[".json", ".txt"], [".json"], [], []]


def test_a_member_is_read_as_the_file_is(tmp_path: Path) -> None:
    """It may be read twice and from the middle, and a cut picture is no whole one."""
    held = make(tmp_path / "held.mkv", [numbered(i) for i in range(5)], times=[0, 1, 2, 3, 40], options={"bf": "0"})
    cut = make(tmp_path / "cut.gif", codec="gif", pixels="rgb8", base=Fraction(1, 100))
    cut.write_bytes(cut.read_bytes()[:-200])
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for path in (held, cut):
            tar.add(path, path.name)
    sources = {clip.name: Job(clip.name, clip.piece.url(), tmp_path).source for clip in list_clips(tmp_path / "s.tar")}
    for selection in (Selection(), Selection(start=Fraction(3, 25)), Selection(fps=Fraction(10))):
        with VideoReader(held, selection) as file, VideoReader(sources["s/held.mkv"], selection) as member:
            assert [(f.pts, f.duration, f.pixels.tobytes()) for f in member] == [
                (f.pts, f.duration, f.pixels.tobytes()) for f in file
            ]
    for place in (cut, sources["s/cut.gif"]):
        with pytest.raises(VideoError, match="truncated"):
            read(place)


def test_tars_out(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    clips = tmp_path / "in"
    clips.mkdir()
    for path in source.glob("*.*"):
        (clips / path.name).write_bytes(path.read_bytes())
    good = (clips / "c.mkv").read_bytes()
    (clips / "c.mkv").write_bytes(good[:100])
    out = tmp_path / "out"
    assert dataset(clips, out, "--tar", 3, "--workers", 2).exit_code == 1
    tars = ["tokens-000000.tar", "tokens-000001.tar"]
    assert sorted(n for n in content(out) if "index" not in n) == ["quarantine.csv", tars[0]]
    (clips / "c.mkv").write_bytes(good)
    assert dataset(clips, out, "--tar", 3, "--again").exit_code == 0
    packed = content(out)
    assert sorted(n for n in packed if "index" not in n) == tars
    with tarfile.open(out / tars[0]) as tar:
        names = tar.getnames()
        assert names == [f"{i:09d}.{s}" for i in range(3) for s in ("json", "safetensors")]
        facts = json.load(tar.extractfile(names[4]) or io.BytesIO())
        tokens = (tar.extractfile(names[5]) or io.BytesIO()).read()
    assert (facts["clip"], facts["caption"], facts["frames"]) == ("b.mp4", "a caption, with a comma", 7)
    assert tokens == (undisturbed / "b.safetensors").read_bytes()
    # Killed when a tar was there, but neither recorded nor its clips' own files removed; another tar was lost.
    ledger = out / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(line for line in lines if tars[0] not in line))
    for name, original in (("a.mov", "a.mov"), ("a.mp4", "a.mp4"), ("b", "b")):
        (out / "waiting").mkdir(exist_ok=True)
        (out / f"waiting/{name}.safetensors").write_bytes((undisturbed / f"{original}.safetensors").read_bytes())
    (out / tars[1]).unlink()
    assert dataset(clips, out, "--tar", 3).exit_code == 0
    assert content(out) == packed
    assert not (out / "waiting").exists()
    other = dataset(clips, out, "--tar", 2)
    assert other.exit_code == 1
    assert "was begun with clips a tar 3, not 2" in other.stderr


def test_links_in_a_shard(source: Path, tmp_path: Path) -> None:
    """A hard link is a further name of a member in front of it."""
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(source / "b.mp4", "b.mp4")
        for name, target in (("again.mp4", "b.mp4"), ("lost.mp4", "absent.mp4"), ("b.txt", "absent.txt")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, target
            tar.addfile(link)
    b, again, lost = list_clips(tmp_path / "s.tar")
    assert (b.name, again.name, again.piece, again.fault) == ("s/b.mp4", "s/again.mp4", b.piece, "")
    assert not b.notes
    assert (lost.name, lost.fault) == ("s/lost.mp4", "it is a link to no plain file in front of it in the tar")


def test_a_shard_that_leads_out(tmp_path: Path) -> None:
    for name in ("../x.mp4", "/x.mp4"):
        with tarfile.open(tmp_path / "s.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        with pytest.raises(InputError, match="leads out of its folder"):
            list_clips(tmp_path / "s.tar")


def test_names_below_a_folder() -> None:
    for name in ("clip.mp4", "a/b.c/d e.mp4", "...mp4", "auxiliary.mp4", "com10.mp4", "con-1.mp4", "kitchen é.mp4"):
        assert is_below(name, windows=True)
    for name in ("", ".", "../x", "a/../x", "/x", "a\0b"):
        assert not is_below(name, windows=False)
        assert not is_below(name, windows=True)
    for name in (
        "..\\x",
        "a\\x",
        "C:/x",
        "C:x",
        "a:b.mp4",
        "aux.mp4",
        "a/NUL",
        "com1 .mp4",
        "lpt².x",
        "a ",
        "a./x",
        "?",
    ):
        assert is_below(name, windows=False)
        assert not is_below(name, windows=True), name
