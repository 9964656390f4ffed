"""What a data set is made of: the clips of a folder, a list or webdataset shards, and where their tokens go."""

from __future__ import annotations

import json
import logging
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from vidtok_runtime.dataset.part import PARTS, WHOLE, ClipPart
from vidtok_runtime.errors import InputError
from vidtok_runtime.files import files_in, is_below, is_file, is_hidden, is_pipe
from vidtok_runtime.lists import few, plain_name, read_list, text_of, whole_characters
from vidtok_runtime.places import read_range
from vidtok_runtime.remote import Place, RemotePath, part_url

_log = logging.getLogger(__name__)

VIDEOS = {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"}
VIDEOS |= {".ogv", ".ts", ".webm", ".wmv", ".y4m"}
PICTURES = {".avif", ".bmp", ".exr", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_NOTES = (".txt", ".json")  # beside a clip, as webdataset has them: its caption, its metadata
_LONGEST_NOTE = 1 << 24  # bytes
_LEADS_OUT = "its name leads out of its folder; name it otherwise"
# A column with one of these words in its name, and not one of these names, seems to ask for a part of a clip.
_OF_A_PART = {"start", "begin", "end", "stop", "segment", "segments", "timestamp", "timestamps"}


class Piece(NamedTuple):
    """A file, or the part of a tar file that is one."""

    path: Place
    offset: int = 0
    size: int | None = None

    def url(self) -> str:
        """What FFmpeg opens, or fsspec."""
        if self.size is None:
            return str(self.path)
        whole = str(self.path) if isinstance(self.path, RemotePath) else f"file://{self.path}"
        return part_url(whole, self.offset, self.size)

    def read(self) -> bytes:
        """The content; raises OSError, and ValueError where it is too long to be a note."""
        longest = _LONGEST_NOTE + 1 if self.size is None else min(self.size, _LONGEST_NOTE + 1)
        content = read_range(self.path, self.offset, self.offset + longest)
        if len(content) > _LONGEST_NOTE:
            raise ValueError(f"it has more than {_LONGEST_NOTE:,} bytes")
        return content


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """A clip: its `name` in the data set (a path with `/`), where it is, and what is known about it.

    part: what is taken of the file, which alone is called `source`. notes: the files beside it by suffix. fault: why
    it cannot be read, as far as that is known without trying. shot: columns that say which of several shots it is.
    """

    name: str
    piece: Piece
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Piece] = field(default_factory=dict)
    fault: str = ""
    part: ClipPart = WHOLE
    source: str = ""
    shot: Mapping[str, str] = field(default_factory=dict)

    def metadata(self) -> tuple[dict[str, str], list[str]]:
        """Columns of the list, the text beside the clip as `caption` and the entries of the JSON beside it.

        What has the name of a column of the shot has `given_` in front. And what is wrong with these.
        """
        found, faults = dict(self.columns), []
        for suffix, note in self.notes.items():
            try:
                values = _noted(suffix, note.read())
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                faults.append(f"the {suffix} of {self.name} cannot be read and is left out: {reason}")
                continue
            whole = {whole_characters(key): whole_characters(value) for key, value in values.items()}
            if whole != values:
                faults.append(f"the {suffix} of {self.name} holds halves of characters, which are replaced")
            found |= whole
        found = {f"given_{name}" if name in self.shot else name: value for name, value in found.items()}
        return {**found, **self.shot}, faults


def _noted(suffix: str, content: bytes) -> dict[str, str]:
    """What a note says, by name; raises ValueError."""
    text = text_of(content)
    if suffix == ".txt":
        return {"caption": text.strip()}
    try:
        values = json.loads(text)  # as people's tools write it, not as strictly as ours is read
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def list_clips(place: Place) -> list[ClipEntry]:
    """Clips of a folder, of a list (`.csv` with a column `file`, or `.txt`), or of a `.tar`, in order.

    Of a folder the videos and pictures are taken, of one with shards those inside. Raises InputError.
    """
    place = place.absolute()  # workers may run elsewhere
    suffix = place.suffix.lower()
    try:
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
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror}") from error
    if not clips:
        raise InputError(f"{place} holds no clips ({' '.join(sorted(VIDEOS | PICTURES))})")
    faults = [f"{clip.name}: {clip.fault}" for clip in clips if clip.fault]
    if len(faults) == len(clips):
        raise InputError(f"{place} names no clips that can be read: {few(faults)}")
    name, count = Counter(clip.name for clip in clips).most_common(1)[0]
    if count > 1:
        raise InputError(f"{place} names {name} {count} times; name every clip once")
    if faults:
        _log.warning("%s: left out: %s", place, few(faults))
    return clips


def _of_folder(folder: Place) -> Iterator[ClipEntry]:
    found: Iterable[Place] = folder.files() if isinstance(folder, RemotePath) else files_in(folder)
    files = [path for path in found if not is_hidden(path.relative_to(folder))]  # type: ignore[arg-type]
    known = set(files)
    for path in files:
        relative = PurePosixPath(path.relative_to(folder))  # type: ignore[arg-type]
        if path.suffix.lower() not in VIDEOS | PICTURES | {".tar"}:
            continue
        if not is_below(str(relative)):  # as a store may name it
            yield ClipEntry(plain_name(str(relative)), Piece(path), fault=_LEADS_OUT)
        elif path.suffix.lower() == ".tar":
            yield from _of_one_shard(path, relative)
        else:
            notes = {suffix: Piece(note) for suffix in _NOTES if (note := path.with_suffix(suffix)) in known}
            yield ClipEntry(plain_name(str(relative)), Piece(path), notes=notes)


def _of_list(path: Place) -> Iterator[ClipEntry]:
    table = read_list(path)
    if table.oddities:
        _log.warning("%s: %s", path, few(table.oddities))
    asking = [column for column in table.columns if column not in PARTS and not _OF_A_PART.isdisjoint(_words(column))]
    if asking:
        _log.warning(
            "%s: the columns %s only go into the index; parts of clips are chosen by columns named %s",
            path,
            ", ".join(asking),
            ", ".join(PARTS),
        )
    names = _names([row.file for row in table.rows], path.parent)
    for row, name in zip(table.rows, names, strict=True):
        fault = row.fault or ("a pipe is no file; a data set is made of files" if is_pipe(row.file) else "")
        try:
            part = ClipPart.of(row.columns)
        except InputError as error:
            fault = fault or str(error)
        fault = fault or ("" if name.name else "it names a folder")
        fault = fault or ("" if is_below(str(name)) else _LEADS_OUT)
        if fault:
            yield ClipEntry(f"line {row.line}", Piece(row.file), row.columns, fault=fault)
        elif row.file.suffix.lower() == ".tar":
            for clip in _of_one_shard(row.file, name):
                yield replace(clip, name=part.named(clip.name), columns=row.columns, part=part, source=clip.name)
        else:
            source = plain_name(str(name))
            yield ClipEntry(part.named(source), Piece(row.file), row.columns, part=part, source=source)


def _names(files: Sequence[Place], folder: Place) -> list[PurePosixPath]:
    """Names of a list's files; where only the queries of addresses differ, with a part of the query's SHA-256."""
    names = [_name(file, folder) for file in files]
    queries = [file.query if isinstance(file, RemotePath) else "" for file in files]
    asked = defaultdict[PurePosixPath, set[str]](set)
    for name, query in zip(names, queries, strict=True):
        asked[name].add(query)
    marks = [f"~{sha256(query.encode()).hexdigest()[:8]}" for query in queries]
    return [
        name.parent / f"{name.stem}{mark}{name.suffix}" if len(asked[name]) > 1 else name
        for name, mark in zip(names, marks, strict=True)
    ]


def _name(file: Place, folder: Place) -> PurePosixPath:
    """From the list's folder on; outside of it the whole path, so that it does not depend on the other rows."""
    if isinstance(file, RemotePath):
        inside = isinstance(folder, RemotePath) and file.is_relative_to(folder)
        return file.relative_to(folder) if inside else file.public  # type: ignore[arg-type]
    inside = isinstance(folder, Path) and file.is_relative_to(folder)
    return PurePosixPath(*(file.relative_to(folder).parts if inside else file.parts[1:]))  # type: ignore[arg-type]


def _words(column: str) -> list[str]:
    """Lower-case words of clip_start, startTime, END."""
    return [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", column)]


def _of_one_shard(path: Place, name: PurePosixPath) -> list[ClipEntry]:
    """Clips of one of several files, a tar of this name; one that cannot be read costs no other file."""
    try:
        return list(_of_shard(path, name.with_suffix("")))
    except InputError as error:
        return [ClipEntry(plain_name(str(name)), Piece(path), fault=str(error).replace(str(path), "it", 1))]


def _of_shard(path: Place, name: PurePosixPath) -> Iterator[ClipEntry]:
    """Clips of a webdataset tar: members of one key are a sample, whose video, or else picture, is the clip.

    A sample has several where their names have dots (`a.left.mp4`, `a.right.mp4`); a note goes with the clip of its
    name, or with all of its sample.
    """
    samples: dict[str, dict[str, Piece | None]] = {}  # None: a link to what is not there
    try:
        with _headers(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                visible = not is_hidden(PurePosixPath(member.name))
                key, suffix = _split(member.name)
                if visible and member.islnk():  # a further name of a member in front of it
                    target, of_target = _split(member.linkname)
                    samples.setdefault(key, {})[suffix] = samples.get(target, {}).get(of_target)
                elif visible and member.isreg() and not member.issparse():
                    samples.setdefault(key, {})[suffix] = Piece(path, member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined] # else it keeps every header
    except (tarfile.TarError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} is no plain tar file that can be read: {reason}") from error
    for key, sample in samples.items():
        for clip in _clips_of(sample):
            named = plain_name(f"{name}/{key}.{clip}")
            piece = sample[clip]
            if piece is None or not is_below(f"{key}.{clip}"):
                fault = _LEADS_OUT if piece else "it is a link to no plain file in front of it in the tar"
                yield ClipEntry(named, piece or Piece(path), fault=fault)
                continue
            stem = clip.rpartition(".")[0]
            names = [(suffix, name) for suffix in _NOTES for name in (suffix[1:], f"{stem}{suffix}".removeprefix("."))]
            notes = {suffix: note for suffix, name in names if (note := sample.get(name))}
            yield ClipEntry(str(PurePosixPath(named)), piece, notes=notes)


def _headers(path: Place) -> BinaryIO:
    """A file of which little is read here and there."""
    return path.open(ahead=False) if isinstance(path, RemotePath) else path.open("rb")


def _split(member: str) -> tuple[str, str]:
    """Key and suffix of a member: up to the first dot of the file's name, and what follows it."""
    folder, slash, name = member.rpartition("/")
    key, _, suffix = name.partition(".")
    return folder + slash + key, suffix.lower()


def _clips_of(sample: Iterable[str]) -> list[str]:
    """The videos of different names, or else the first picture."""
    videos, pictures = dict[str, str](), list[str]()
    for name in sorted(sample, key=lambda name: (name.count("."), name)):
        stem, _, suffix = name.rpartition(".")
        if f".{suffix}" in VIDEOS:
            videos.setdefault(stem, name)
        elif f".{suffix}" in PICTURES:
            pictures.append(name)
    return list(videos.values()) or pictures[:1]


def token_names(clips: Collection[ClipEntry], planned: Mapping[str, str]) -> dict[str, str]:
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
    for file, count in Counter(names.values()).items():
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
