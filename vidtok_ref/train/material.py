"""Training material: which files there are, and those that are kept in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from vidtok_ref.errors import DataError
from vidtok_ref.train.clips import HeldClip, Pixels, read_image
from vidtok_ref.train.recipe import DataPart
from vidtok_runtime.errors import InputError, VideoError
from vidtok_runtime.files import files_in, is_hidden
from vidtok_runtime.lists import ListRow, few, read_list

VIDEO = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".3gp"}
IMAGE = {".jpg", ".jpeg", ".png"}
HELD_OUT = "held_out"


class Entry(NamedTuple):
    """One file, what is noted about it, and whether it is `train` or `held_out`."""

    path: Path
    note: str
    split: str


@dataclass
class Material:
    """Videos and photographs (`H W 3`), decoded or as paths; held-out clips `T H W 3`; why files were left out."""

    videos: list[HeldClip | Path] = field(default_factory=list)
    images: list[Pixels | Path] = field(default_factory=list)
    held_out: list[Pixels] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def _rows(table: Path, quiet: bool) -> list[tuple[Path, dict[str, str]]]:
    """Files on this machine and what is said of them."""
    try:
        listed = read_list(table)
    except InputError as error:
        raise DataError(str(error)) from error
    faults = {row.line: row.fault or _elsewhere(row) for row in listed.rows}
    odd = [*listed.oddities, *(f"line {line} is left out: {fault}" for line, fault in faults.items() if fault)]
    if odd and not quiet:
        tqdm.write(f"{table}: {few(odd)}")
    return [(row.file, row.columns) for row in listed.rows if not row.fault and isinstance(row.file, Path)]


def _elsewhere(row: ListRow) -> str:
    return "" if isinstance(row.file, Path) else f"{row.file} is an address; download it first"


def _entry(path: Path, row: dict[str, str]) -> Entry:
    return Entry(path, row.get("note") or "", row.get("split") or "train")


def _sources(folder: Path, quiet: bool) -> dict[Path, dict[str, str]]:
    """Rows of the nearest SOURCES.csv, if there is one, by resolved path, or by name where nothing is at the path."""
    for parent in (folder, *folder.resolve().parents[:2]):
        table = parent / "SOURCES.csv"
        if table.is_file():
            rows = [(file.resolve(), columns) for file, columns in _rows(table, quiet)]
            return {path if os.path.lexists(path) else Path(path.name): columns for path, columns in rows}
    return {}


def _hold_out(entries: list[Entry], quiet: bool) -> list[Entry]:
    """Every tenth video, from the first on, where there are two or more; of very many, some thirty."""
    videos = [entry for entry in entries if entry.path.suffix.lower() in VIDEO]
    every = max(10, len(videos) // 30)
    chosen = videos[::every] if len(videos) > 1 else []
    if chosen and not quiet:
        names = ", ".join(entry.path.name for entry in chosen)
        tqdm.write(f"no clip is marked or named as held out, so every {every}th video is: {names}")
    held = set(chosen)
    return [entry._replace(split=HELD_OUT) if entry in held else entry for entry in entries]


def list_files(data: Path, part: DataPart, quiet: bool = False) -> list[Entry]:
    """Files of a folder, searched through, or of a CSV list.

    A list has a column `file` (paths beside the list), perhaps `note`, and `split`, of which `train`, `held_out`
    and nothing are taken; a SOURCES.csv in a folder, or up to two above it, says the same of the folder's files.
    Where neither `split` nor the recipe holds anything out, every tenth video is. Raises DataError.
    """
    if data.is_dir():
        rows = _sources(data, quiet)
        entries = [
            _entry(path, rows.get(path.resolve()) or rows.get(Path(path.name)) or {})
            for path in files_in(data)
            if not is_hidden(path.relative_to(data))
        ]
    elif data.suffix.lower() == ".csv":
        entries = [_entry(file, columns) for file, columns in _rows(data, quiet)]
    else:
        raise DataError(f"{data} is neither a folder nor a .csv list; give one of these")
    if part.skip_notes and not quiet and not any(entry.note for entry in entries):
        tqdm.write(f"{data} has no notes (SOURCES.csv, or the column `note`), so that `skip_notes` leaves nothing out")
    taken = [
        entry._replace(split=HELD_OUT if entry.path.stem in part.held_out else entry.split)
        for entry in entries
        if entry.path.suffix.lower() in VIDEO | IMAGE
        and entry.split in ("train", HELD_OUT)
        and not any(doubt in entry.note for doubt in part.skip_notes)
    ]
    return taken if any(entry.split == HELD_OUT for entry in taken) else _hold_out(taken, quiet)


def _centre(clip: Pixels, size: int) -> Pixels:
    top, left = (clip.shape[1] - size) // 2, (clip.shape[2] - size) // 2
    return clip[:, top : top + size, left : left + size]


def load_material(data: Path, part: DataPart, quiet: bool = False) -> Material:
    """List a folder or CSV list and decode what is kept in memory: held-out clips, and with `cache` everything.

    Unreadable files are listed, not fatal. Raises DataError.
    """
    material = Material()
    for path, _, split in tqdm(list_files(data, part, quiet), desc="reading clips", unit="file", disable=quiet):
        try:
            if split == HELD_OUT:
                held = HeldClip(path, part.held_out_size, part.held_out_frames)
                material.held_out.append(_centre(held.pixels, part.held_out_size))
            elif path.suffix.lower() in IMAGE:
                material.images.append(read_image(path, 2 * part.short_side) if part.cache else path)
            else:
                material.videos.append(HeldClip(path, part.short_side, part.max_clip_frames) if part.cache else path)
        except VideoError as error:
            material.skipped.append(str(error))
    if not material.videos or not material.held_out:
        raise DataError(
            f"{data} gave {len(material.videos)} clips to train on, {len(material.held_out)} held out and "
            f"{len(material.skipped)} that cannot be read; the first two are needed (`held_out` in the recipe names "
            "clips by file stem)"
        )
    return material
