"""Lists of files as people and programs write them: CSV or a name a line, in the usual encodings."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidtok_runtime.errors import InputError
from vidtok_runtime.remote import FFMPEG_SCHEMES, Place, RemotePath

# UTF-32 before UTF-16, whose mark UTF-32's begins with.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_LONGEST_FIELD = 2**31 - 1  # letters; what fits a C long everywhere
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ListRow:
    """A row: the number of its first line, the file that it names, its other columns; `fault`: why it names none."""

    line: int
    file: Place
    columns: dict[str, str]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class FileList:
    """The columns and rows of a list, and what is odd about rows that are taken all the same."""

    columns: list[str]
    rows: list[ListRow]
    oddities: list[str] = field(default_factory=list)


def read_list(path: Place) -> FileList:
    """A `.csv` list with a column `file`, or a list with a name a line; empty rows are left out. Raises InputError.

    Names are URLs, or paths that are taken from the list's folder.
    Text that is not UTF-8 and has no byte order mark is taken as Latin-1.
    """
    try:
        lines = _lines(_decoded(path.read_bytes()))
    except OSError as error:
        raise InputError(f"{path} cannot be read as a list: {error.strerror}") from error
    if path.suffix.lower() != ".csv":
        names = ((number, line.strip(" \t\r\n")) for number, line in enumerate(lines, 1))
        return FileList(["file"], [_row(path.parent, number, name, {}) for number, name in names if name])
    records = _records(lines)
    _, header, _ = next(records, (0, [], True))
    columns = list(map(text_of, header))
    if "file" not in columns:
        raise InputError(f"{path} has no column `file`; its columns are {', '.join(columns) or 'none'}")
    rows, oddities = [], []
    for number, cells, sound in records:
        if not any(cells):
            continue
        if not sound:
            oddities.append(f"line {number} has a quote without its counterpart and is taken as it stands")
        if len(cells) > len(columns):
            oddities.append(f"line {number} has {len(cells)} cells for {len(columns)} columns; the last are left out")
        cells += [""] * (len(columns) - len(cells))
        given = dict(zip(columns, cells, strict=False))
        name = given.pop("file")
        values = {key: text_of(value) for key, value in given.items()}
        if values != given:
            oddities.append(f"line {number} is not UTF-8 and is taken as Latin-1")
        rows.append(_row(path.parent, number, name, values))
    return FileList(columns, rows, oddities)


def _decoded(content: bytes) -> str:
    """Text; bytes that are not UTF-8 become surrogates, as in names of files."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "surrogateescape" if encoding == "utf-8" else "replace")
    return content.decode("utf-8", "surrogateescape")


def _lines(text: str) -> list[str]:
    """Lines with their ends, which are those of files: str.splitlines would end them at U+2028 and others, too."""
    return list(io.StringIO(text, newline=""))


def _records(lines: Sequence[str]) -> Iterator[tuple[int, list[str], bool]]:
    """Line number and cells of every record of CSV; False where its quotes do not match: then it is one line."""
    csv.field_size_limit(_LONGEST_FIELD)
    first = 0
    while first < len(lines):
        begun = first
        reader = csv.reader((lines[i] for i in range(begun, len(lines))), strict=True)
        try:
            for cells in reader:
                yield first + 1, cells, True
                first = begun + reader.line_num
        except csv.Error:
            yield first + 1, lines[first].rstrip("\r\n").split(","), False
            first += 1


def _row(folder: Place, line: int, name: str, columns: dict[str, str]) -> ListRow:
    scheme = found[1].lower() if (found := _ADDRESS.match(name)) else ""
    if not name:
        fault = "it names no file"
    elif "\0" in name:
        fault = "its name has a NUL in it, as no file's has"
    elif scheme in FFMPEG_SCHEMES - {"http", "https"}:
        fault = f"{text_of(name)} is a stream, and lists are of files; record it first"
    elif scheme and scheme != "file":
        return ListRow(line, RemotePath(text_of(name)).without_dots(), columns)
    else:
        return ListRow(line, _file(Path("/") if scheme else folder, name.removeprefix("file://")), columns)
    return ListRow(line, folder, columns, fault)


def _file(folder: Place, name: str) -> Place:
    """The file of a name, byte by byte; if there is none, of the name as another system would write it."""
    text = text_of(name)
    if isinstance(folder, RemotePath):
        return (folder / text).without_dots()
    ways = [name, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD")), text.replace("\\", "/")]
    paths = [Path(os.path.normpath(folder / way)) for way in dict.fromkeys(ways)]
    return next(filter(os.path.lexists, paths), paths[0]) if len(paths) > 1 else paths[0]


def text_of(raw: bytes | str) -> str:
    """Text of any bytes: by its byte order mark, else UTF-8, else (Windows') Latin-1. Always valid Unicode."""
    text = _decoded(raw) if isinstance(raw, bytes) else raw
    return _SURROGATES.sub(lambda found: bytes([ord(found[0]) - 0xDC00]).decode("cp1252", "replace"), text)


def whole_characters(text: str) -> str:
    """Text with U+FFFD for halves of characters, which JSON may hold and no UTF-8 can."""
    return _SURROGATES.sub("\ufffd", text)


def plain_name(name: str) -> str:
    """The name of a file with %E9 for a byte that is not UTF-8."""
    return _SURROGATES.sub(lambda found: f"%{ord(found[0]):X}".replace("%DC", "%"), name)


def few(items: Sequence[str]) -> str:
    """The first three items and how many more there are, for a line."""
    more = f"; and {len(items) - 3} more" if len(items) > 3 else ""
    return "; ".join(items[:3]) + more
