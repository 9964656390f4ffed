"""What a data set is made of: the clips of a folder, a list or webdataset shards, and where their tokens go."""

from __future__ import annotations

import csv
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vidtok_runtime.errors import InputError
from vidtok_runtime.files import files_in, is_file

VIDEOS = {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"}
VIDEOS |= {".ogv", ".ts", ".webm", ".wmv", ".y4m"}
PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_NOTES = (".txt", ".json")  # beside a clip, as webdataset has them: its caption, its metadata
_LONGEST_NOTE = 1 << 20  # bytes


class Piece(NamedTuple):
    """A file, or the part of a tar file that is one."""

    path: Path
    offset: int = 0
    size: int | None = None

    def url(self) -> str:
        """What FFmpeg opens."""
        if self.size is None:
            return str(self.path)
        return f"subfile,,start,{self.offset},end,{self.offset + self.size},,:file://{self.path}"

    def read(self) -> bytes:
        """The content, cut at a mebibyte."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(_LONGEST_NOTE if self.size is None else min(self.size, _LONGEST_NOTE))


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip: its `name` in the data set (a path with `/`), where it is, and what is known about it."""

    name: str
    piece: Piece
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Piece, ...] = ()

    def metadata(self) -> dict[str, str]:
        """Columns of the list, the text beside the clip as `caption` and the entries of the JSON beside it."""
        found = dict(self.columns)
        for note in self.notes:
            text = note.read().decode(errors="replace")
            try:
                values = json.loads(text)
            except ValueError:
                values = None
            if isinstance(values, dict):
                found |= {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
            else:
                found["caption"] = text.strip()
        return found


def list_clips(place: Path) -> list[Clip]:
    """Clips of a folder, of a list (`.csv` with a column `file`, or `.txt`), or of a `.tar`, in order.

    Of a folder the videos and pictures are taken, of one with shards those inside. Raises InputError.
    """
    place = place.absolute()  # workers may run elsewhere
    suffix = place.suffix.lower()
    if place.is_dir():
        clips = list(_of_folder(place))
    elif not is_file(place):
        raise InputError(f"{place} is neither a folder nor a file")
    elif suffix == ".tar":
        clips = list(_of_shard(place, PurePosixPath(place.stem)))
    elif suffix in (".csv", ".txt"):
        clips = list(_of_list(place))
    else:
        raise InputError(f"{place} is neither a folder nor a list (.csv, .txt) nor a shard (.tar)")
    if not clips:
        raise InputError(f"{place} holds no clips ({' '.join(sorted(VIDEOS | PICTURES))})")
    name, count = Counter(clip.name for clip in clips).most_common(1)[0]
    if count > 1:
        raise InputError(f"{place} names {name} {count} times; name every clip once")
    return clips


def _of_folder(folder: Path) -> Iterator[Clip]:
    # A leading dot hides what copying tools leave beside a file.
    files = [path for path in files_in(folder) if not path.name.startswith(".")]
    known = set(files)
    for path in files:
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        if path.suffix.lower() == ".tar":
            yield from _of_shard(path, relative.with_suffix(""))
        elif path.suffix.lower() in VIDEOS | PICTURES:
            notes = (path.with_suffix(suffix) for suffix in _NOTES)
            yield Clip(str(relative), Piece(path), notes=tuple(Piece(n) for n in notes if n in known))


def _of_list(path: Path) -> Iterator[Clip]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list: {getattr(error, 'strerror', None) or error}") from error
    rows: Iterable[dict[str, str]]
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(text.splitlines(keepends=True))
        if "file" not in (reader.fieldnames or ()):
            raise InputError(f"{path} has no column `file`; its columns are {', '.join(reader.fieldnames or ())}")
        rows = ({k: v or "" for k, v in row.items() if isinstance(k, str)} for row in reader)
    else:
        rows = ({"file": line.strip()} for line in text.splitlines())
    for row in rows:
        if not row["file"]:
            continue
        file = Path(os.path.normpath(path.parent / row["file"]))
        # Outside the list's folder the whole path is the name, so that it does not depend on the other rows.
        inside = file.is_relative_to(path.parent)
        name = PurePosixPath(*(file.relative_to(path.parent).parts if inside else file.parts[1:]))
        columns = {k: v for k, v in row.items() if k != "file"}
        if file.suffix.lower() == ".tar":
            for clip in _of_shard(file, name.with_suffix("")):
                yield Clip(clip.name, clip.piece, columns, clip.notes)
        else:
            yield Clip(str(name), Piece(file), columns)


def _of_shard(path: Path, name: PurePosixPath) -> Iterator[Clip]:
    """Clips of a webdataset tar: members of one key are a sample, of which the video (or picture) is the clip."""
    samples: dict[str, dict[str, Piece]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    key, suffix = _split(member.name)
                    samples.setdefault(key, {})[suffix] = Piece(path, member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined] # else it keeps every header
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{path} is no plain tar file that can be read: {error}") from error
    for key, sample in samples.items():
        clip = min((s for s in sample if "." + s.rpartition(".")[2] in VIDEOS | PICTURES), key=_rank, default=None)
        if clip is None:
            continue
        if PurePosixPath(key).is_absolute() or ".." in PurePosixPath(key).parts:
            raise InputError(f"{path} has a member {key}.{clip}, which leads out of its folder; leave the file out")
        notes = (sample.get(suffix[1:]) for suffix in _NOTES)
        yield Clip(str(name / f"{key}.{clip}"), sample[clip], notes=tuple(note for note in notes if note))


def _split(member: str) -> tuple[str, str]:
    """Key and suffix of a member: up to the first dot of the file's name, and what follows it."""
    folder, slash, name = member.rpartition("/")
    key, _, suffix = name.partition(".")
    return folder + slash + key, suffix.lower()


def _rank(suffix: str) -> tuple[bool, str]:
    return "." + suffix.rpartition(".")[2] not in VIDEOS, suffix


def token_names(clips: Collection[Clip], planned: Mapping[str, str]) -> dict[str, str]:
    """Token file of every clip by its name: folders mirrored, `<stem>.safetensors`.

    Clips that would share a file keep their suffix (`a.mp4.safetensors`, `a.mov.safetensors`); what is planned
    already stays, so that a clip that comes later does not rename an earlier one. Raises InputError.
    """
    owners = {file: clip for clip, file in planned.items()}
    names = {clip.name: str(PurePosixPath(clip.name).with_suffix(".safetensors")) for clip in clips}
    while True:
        uses = Counter(names.values())
        shared = [clip for clip, file in names.items() if uses[file] > 1 or owners.get(file, clip) != clip]
        if all(names[clip] == f"{clip}.safetensors" for clip in shared):
            break
        names |= {clip: f"{clip}.safetensors" for clip in shared}
    names |= {clip: planned[clip] for clip in names.keys() & planned.keys()}
    file, count = Counter(names.values()).most_common(1)[0]
    if count > 1:
        raise InputError(f"two clips would both become {file}; rename one")
    return names


def parse_shard(text: str) -> tuple[int, int]:
    """Number and count of `i/n`, 0 <= i < n; raises InputError."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not index < count:
        raise InputError(f"a shard is I/N with I from 0 to N-1, like 0/8, got {text!r}")
    return index, count
