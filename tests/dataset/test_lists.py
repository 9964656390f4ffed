"""Lists, captions and names as people and programs write them, and folders as they find them."""

from __future__ import annotations

import codecs
import csv
import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import run
from dataset_runs import OPTIONS, content, dataset, records

from vidtok_ref.train.material import list_files
from vidtok_ref.train.recipe import DataPart
from vidtok_runtime.dataset.clips import list_clips
from vidtok_runtime.dataset.ledger import Ledger
from vidtok_runtime.dataset.part import ClipPart
from vidtok_runtime.errors import InputError, OutputError
from vidtok_runtime.files import PartFile, files_in
from vidtok_runtime.lists import read_list
from vidtok_runtime.remote import RemotePath
from vidtok_runtime.tokens.segments import alone_in
from vidtok_runtime.video.selection import Selection

PART = DataPart(batch=4, frames=5, size=32)


def rows_of(path: Path, content: bytes | str) -> list[tuple[int, str, dict[str, str]]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(row.line, row.file.name, row.columns) for row in read_list(path).rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_ends_of_lines(tmp_path: Path, encoding: str, end: str) -> None:
    (tmp_path / "café.mp4").touch()
    text = end.join(["file,caption", "café.mp4,déjà vu", "", 'b.mp4,"two', 'lines, é"', ""])
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    rows = rows_of(tmp_path / "list.csv", mark + text.encode(encoding))
    assert rows == [(2, "café.mp4", {"caption": "déjà vu"}), (4, "b.mp4", {"caption": f"two{end}lines, é"})]
    names = rows_of(tmp_path / "list.txt", mark + end.join(["café.mp4", "", " b.mp4 "]).encode(encoding))
    assert names == [(1, "café.mp4", {}), (3, "b.mp4", {})]


@pytest.mark.parametrize("odd", list("\v\f\x1c\x1d\x1e\x85\u2028\u2029"))
def test_a_line_ends_where_a_line_of_a_file_ends(tmp_path: Path, odd: str) -> None:
    rows = rows_of(tmp_path / "list.csv", f"file,caption\na.mp4,one{odd}b.mp4\nx{odd}y.mp4,two\n")
    assert rows == [(2, "a.mp4", {"caption": f"one{odd}b.mp4"}), (3, f"x{odd}y.mp4", {"caption": "two"})]


def test_odd_rows_cost_no_other_row(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    long = "x" * 200_000
    text = f'file,caption\na.mp4,"12"" tall\nb.mp4,"{long}"\nc.mp4,12" wide\nd.mp4,one, two\ne.mp4\nf.mp4,"He said\n'
    assert rows_of(path, text) == [
        (2, "a.mp4", {"caption": '"12"" tall'}),
        (3, "b.mp4", {"caption": long}),
        (4, "c.mp4", {"caption": '12" wide'}),
        (5, "d.mp4", {"caption": "one"}),
        (6, "e.mp4", {"caption": ""}),
        (7, "f.mp4", {"caption": '"He said'}),
    ]
    assert [oddity.split(" has ")[0] for oddity in read_list(path).oddities] == ["line 2", "line 5", "line 7"]
    path.write_bytes(b"file,caption\nrtsp://host/a,x\nb\0.mp4,x\n,x\nc.mp4,x\n")
    assert [(row.line, row.fault[:26]) for row in read_list(path).rows] == [
        (2, "rtsp://host/a is a stream,"),
        (3, "its name has a NUL in it, "),
        (4, "it names no file"),
        (5, ""),
    ]


def test_a_line_that_names_its_folder(source: Path, tmp_path: Path) -> None:
    """As the first line of what `find . > list.txt` writes."""
    (tmp_path / "b.mp4").write_bytes((source / "b.mp4").read_bytes())
    (tmp_path / "list.txt").write_text(".\n/\n./b.mp4\n")
    clips = list_clips(tmp_path / "list.txt")
    assert [(clip.name, clip.fault) for clip in clips] == [
        ("line 1", "it names a folder"),
        ("line 2", "it names a folder"),
        ("b.mp4", ""),
    ]


def names_of(table: Path | RemotePath, *rows: str) -> list[tuple[str, str]]:
    table.write_bytes("\n".join(rows).encode())
    return [(clip.name, clip.fault) for clip in list_clips(table)]


def test_addresses_that_lead_elsewhere(tmp_path: Path) -> None:
    """No row names a file outside of the data set; what needs no `..` has none."""
    out = "its name leads out of its folder; name it otherwise"
    assert names_of(
        tmp_path / "list.txt",
        "http://h/in/../in/./a.mp4?x=/../y",
        "http://h/a/../../../../in/b.mp4",
        "http://h/../g/c.mp4",
        "http://h/../../d.tar",
        "http:////etc/e.mp4",
    ) == [("h/in/a.mp4", ""), *((f"line {line}", out) for line in (2, 3, 4, 5))]
    assert [str(row.file) for row in read_list(tmp_path / "list.txt").rows][:3] == [
        "http://h/in/a.mp4?x=/../y",
        "http://h/a/../../../../in/b.mp4",
        "http://h/../g/c.mp4",
    ]


def test_a_store_whose_names_lead_elsewhere() -> None:
    pytest.importorskip("fsspec", reason="stores need the extra `remote`")
    folder = RemotePath("memory://leads/in")
    for name in ("a.mp4", "../../b.mp4", "c/../../d.tar"):
        (folder / name).write_bytes(b"")
    out = "its name leads out of its folder; name it otherwise"
    assert {clip.name: clip.fault for clip in list_clips(folder)} == {
        "a.mp4": "",
        "../../b.mp4": out,
        "c/../../d.tar": out,
    }
    found = names_of(RemotePath("memory://leads/lists/list.txt"), "../in/a.mp4", "./b.mp4", "../../in/c.mp4")
    assert found == [("leads/in/a.mp4", ""), ("b.mp4", ""), ("line 3", out)]


def test_names_of_addresses(tmp_path: Path) -> None:
    """What a name is made of holds no password, and tells apart what only the query does."""
    found = names_of(
        tmp_path / "list.txt",
        "HTTP://user:secret@h/x.mp4",
        "http://h/v.mp4?id=1",
        "http://h/v.mp4?id=2",
        "http://h/w.mp4?id=1",
        "abfs://container@account/y.mp4",
    )
    digests = [hashlib.sha256(query).hexdigest()[:8] for query in (b"id=1", b"id=2")]
    assert [name for name, _ in found] == [
        "h/x.mp4",
        *(f"h/v~{digest}.mp4" for digest in digests),
        "h/w.mp4",
        "container@account/y.mp4",
    ]
    with pytest.raises(InputError, match=r"names h/x.mp4 2 times"):
        names_of(tmp_path / "list.txt", "http://h/x.mp4?1", "http://h/x.mp4?1")


def test_a_scheme_in_capitals() -> None:
    pytest.importorskip("fsspec", reason="stores need the extra `remote`")
    RemotePath("memory://capitals/a.mp4").write_bytes(b"1")
    assert RemotePath("MEMORY://capitals/a.mp4").read_bytes() == b"1"


def test_where_a_row_says_nothing_the_options_count() -> None:
    options = Selection(start=Fraction(1), end=Fraction(3), size="64")
    for row, times in (({"start": "2"}, (2, 3)), ({"end": "2"}, (1, 2)), ({"start": "0", "end": "9"}, (0, 9))):
        selection = ClipPart.of(row).selection(options)
        assert (selection.start, selection.end, selection.size) == (*times, "64")
    assert ClipPart.of({}).selection(options) == options


def test_a_tar_that_cannot_be_read_costs_no_other_row(tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_text("no tar")
    (tmp_path / "a.mp4").touch()
    fault = "it is no plain tar file that can be read: "
    for place in (tmp_path, tmp_path / "list.txt"):
        (tmp_path / "list.txt").write_text("a.mp4\nbad.tar\nabsent.tar\n")
        clips = {clip.name: clip.fault for clip in list_clips(place)}
        assert clips.pop("a.mp4") == ""
        assert clips.keys() == ({"bad.tar"} if place == tmp_path else {"bad.tar", "absent.tar"})
        assert all(found.startswith(fault) for found in clips.values())


def test_names_of_other_systems(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("e\u0301.mp4", "sub/a.mp4", "sub\\b.mp4"):
        (tmp_path / name).touch()
    raw = os.fsencode(tmp_path) + b"/\xe9.mp4"
    Path(os.fsdecode(raw)).touch()
    (tmp_path / "list.txt").write_bytes("é.mp4\nsub\\a.mp4\nsub\\b.mp4\n".encode() + b"\xe9.mp4\n")
    assert [str(row.file.relative_to(tmp_path)) for row in read_list(tmp_path / "list.txt").rows] == [
        "e\u0301.mp4",
        "sub/a.mp4",
        "sub\\b.mp4",
        "\udce9.mp4",
    ]


def test_a_set_with_everything_odd_about_it(source: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the index needs the extra `dataset`")
    clip = (source / "a.mp4").read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    long = "n" * 247 + ".mp4"  # of the clip it is one, of its tokens no more
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4", "\udce9.mp4", long):
        (folder / name).write_bytes(clip)
    (folder / "a.json").write_text('{"title": "half \\ud83d", "whole": "\\ud83d\\ude00", "n": 3}')
    (folder / "b.json").write_text("[" * 100_000)
    (folder / "b.txt").write_bytes(codecs.BOM_UTF8 + "a\u2028b".encode())
    (folder / "c.txt").write_bytes("déjà vu".encode("latin-1"))
    (folder / "c.json").symlink_to("c.json")
    (folder / "d.txt").write_text('{"not": "attributes"}')
    for per_tar in ((), ("--tar", 10)):
        out = tmp_path / f"out{len(per_tar)}"
        result = dataset(folder, out, "--workers", 1, *per_tar)
        assert result.exit_code == 1
        assert not isinstance(result.exception, Exception)
        lines = result.stderr.splitlines()
        assert f"in: left out: {folder / 'c.json'}, a link that leads to no file" in lines[0]
        assert "the .json of a.mp4 holds halves" in lines[1]
        assert "the .json of b.mp4 cannot be read and is left out: it is nested" in lines[1]
        assert "1 of 6 clips could not be tokenized" in lines[2]
        failures = list(csv.DictReader((out / "quarantine.csv").open()))
        assert [f["clip"] for f in failures] == [long]
        rows = {row["clip"]: row for row in parquet.read_table(out / "index.parquet").to_pylist()}
        assert list(rows) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "%E9.mp4"]
        assert (rows["a.mp4"]["title"], rows["a.mp4"]["whole"], rows["a.mp4"]["n"]) == ("half \ufffd", "😀", "3")
        captions = [row["caption"] for row in rows.values()]
        assert captions == [None, "a\u2028b", "déjà vu", '{"not": "attributes"}', None]
        before = content(out)
        assert dataset(folder, out, *per_tar).exit_code == 1  # and again
        assert content(out) == before


def test_what_a_list_asks_in_vain(source: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes((source / "a.mp4").read_bytes())
    table = tmp_path / "list.csv"
    table.write_text("file,start,clipEnd,restart,caption\na.mp4,,0.2,0,x\nrtsp://127.0.0.1:1/b,0,1,0,y\n")
    result = dataset(table, tmp_path / "out", "--workers", 1)
    assert result.exit_code == 1
    first, second, last = result.stderr.splitlines()
    assert "the columns clipEnd only go into the index" in first
    assert "line 3: rtsp://127.0.0.1:1/b is a stream" in second
    assert "1 of 2 clips could not be tokenized" in last
    (failure,) = csv.DictReader((tmp_path / "out/quarantine.csv").open())
    assert (failure["clip"], failure["tries"]) == ("line 3", "0")
    assert (tmp_path / "out/a.safetensors").is_file()
    table.write_text("file\nrtsp://127.0.0.1:1/b\n")
    with pytest.raises(InputError, match=r"line 2: rtsp://.* is a stream"):
        list_clips(table)


def test_linked_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, real = tmp_path / "clips", tmp_path / "real"
    for path in (folder / "a.mp4", real / "day1/b.mp4", real / "day2/c.mp4"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "day1").symlink_to("../real/day1")
    (folder / "linked.mp4").symlink_to("../real/day2/c.mp4")
    (folder / "loop").symlink_to(".")
    (real / "day1/up").symlink_to(real)
    assert [str(p.relative_to(folder)) for p in files_in(folder)] == [
        "a.mp4",
        "day1/b.mp4",
        "day1/up/day2/c.mp4",
        "linked.mp4",
    ]
    assert not caplog.records
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    (folder / "self").symlink_to("self")
    assert len(files_in(folder)) == 4
    (record,) = caplog.records
    assert "gone.mp4, a link that leads to no file" in record.getMessage()
    assert "self, a link" in record.getMessage()
    entries = list_files(folder, PART, quiet=True)
    assert [entry.path.name for entry in entries] == ["a.mp4", "b.mp4", "c.mp4", "linked.mp4"]


def test_what_copying_tools_leave(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    for name in ("a.mp4", "._a.mp4", ".DS_Store", "__MACOSX/a.mp4", "__MACOSX/._a.mp4", "deep/._a.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((source / "a.mp4").read_bytes())
    assert [clip.name for clip in list_clips(folder)] == ["a.mp4"]
    assert [entry.path.name for entry in list_files(folder, PART, quiet=True)] == ["a.mp4"]
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(folder, "x")
    assert [clip.name for clip in list_clips(tmp_path / "s.tar")] == ["s/x/a.mp4"]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("0.png", "1.png"):
        cv2.imwrite(str(pictures / name), np.zeros((32, 32, 3), np.uint8))
    (pictures / "._0.png").write_text("no picture")
    assert run("encode", pictures, "-o", tmp_path / "t.safetensors", *OPTIONS).exit_code == 0


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_no_locks(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    out = tmp_path / "out"
    (tmp_path / "list.txt").write_text(str(source / "a.mp4"))
    result = dataset(tmp_path / "list.txt", out, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert f"ledger.jsonl cannot be locked on this file system ({os.strerror(number)})" in result.stderr
    streamed = run("stream", source / "a.mp4", tmp_path / "segments", *OPTIONS)
    assert streamed.exit_code == 0, streamed.output
    assert "segments cannot be locked on this file system" in streamed.stderr
    assert "another" not in streamed.stderr


def test_a_lock_that_is_held(tmp_path: Path) -> None:
    again = alone_in(tmp_path / "s")
    with alone_in(tmp_path / "s"), pytest.raises(OutputError, match="another vidtok-run stream"), again:
        pass


def test_parts_of_long_names(source: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    stem = "Some Talk at Some Conference about Video Tokenizers [dQw4w9WgXcQ]"
    (folder / f"{stem} 1.mp4").write_bytes((source / "a.mp4").read_bytes())
    out.mkdir()
    left = PartFile(out / f"{stem} 1.safetensors").part
    others = [PartFile(out / f"{stem} 2.safetensors").part, PartFile(out / "other.safetensors").part]
    for part in (left, *others):
        part.touch()
    assert dataset(folder, out, "--workers", 1).exit_code == 0
    assert sorted(out.glob("*.part")) == sorted(others)  # another shard may be at work on these


DAMAGED = [
    "{}",
    "[]",
    "null",
    "x",
    "[" * 50_000,
    '{"done": "a.mp4"}',
    '{"done": "a.mp4", "file": "a.safetensors", "sha256": "", "size": "1", "frames": 1, "height": 1, "width": 1}',
    '{"done": "a.mp4", "file": "a.st", "sha256": "", "size": 1, "frames": 1, "height": 1, "width": 1, "fps": 25}',
    '{"failed": "a.mp4", "tries": 2}',
    '{"failed": ["a.mp4"], "tries": 2, "reason": ""}',
    '{"planned": "a.mp4", "file": "../../a.safetensors"}',
    '{"planned": "a.mp4", "file": 5}',
    '{"packed": "../t.tar", "clips": [], "size": 1, "sha256": ""}',
    '{"packed": "t.tar", "clips": [5], "size": 1, "sha256": ""}',
    '{"cut": "a.mp4", "at": ["x"]}',
    '{"cut": "a.mp4", "at": ["1/0"]}',
    '{"cut": "a.mp4", "at": [1]}',
    '{"settings": []}',
    '{"odd": 1}',
]


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text(json.dumps({"settings": {}}) + f"\n{line}\n")
    with pytest.raises(OutputError, match=r"ledger\.jsonl is damaged in line 2: .*; remove the line"):
        Ledger(tmp_path, "", {})


def test_settings_that_were_removed_are_written_again(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text('{"planned": "a.mp4", "file": "a.safetensors"}\n')
    Ledger(tmp_path, "", {"size": 64}).close()
    with pytest.raises(OutputError, match="was begun with size 64, not 32"):
        Ledger(tmp_path, "", {"size": 32})


@pytest.mark.parametrize("room", [100, 500])  # ends within the settings, within the plan
def test_a_ledger_on_a_full_disk(source: Path, tmp_path: Path, room: int) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX systems limit the size of a file")
    out = tmp_path / "out"
    # -B: it would leave half of a compiled module behind, too.
    command = [sys.executable, "-B", "-m", "vidtok_runtime.cli", "dataset", str(source), str(out), *OPTIONS]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (room, room))
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"vidtok-run: error: {out}/ledger.jsonl cannot be written: File too large\n"
    assert dataset(source, out).exit_code == 0


def test_a_name_too_long_for_any_file_is_one_clip(source: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{source / 'b.mp4'}\n{'n' * 300}.mp4\n")
    result = dataset(tmp_path / "list.txt", tmp_path / "out", "--workers", 1)
    assert result.exit_code == 1
    assert "1 of 2 clips could not be tokenized" in result.stderr
    assert len(records(tmp_path / "out", "done")) == 1
