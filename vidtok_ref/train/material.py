"""Training material: which files there are, and those that are kept in memory."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from vidtok_ref.errors import DataError
from vidtok_ref.train.clips import HeldClip, Pixels, read_image
from vidtok_ref.train.recipe import DataPart
from vidtok_runtime.errors import VideoError

VIDEO = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".3gp"}
IMAGE = {".jpg", ".jpeg", ".png"}
HELD_BACK = "held_back"


class Entry(NamedTuple):
    """One file, what is noted about it, and whether it is `train` or `held_back`."""

    path: Path
    note: str
    split: str


@dataclass
class Material:
    """Videos and photographs (`H W 3`), decoded or as paths; held-back clips `T H W 3`; why files were left out."""

    videos: list[HeldClip | Path] = field(default_factory=list)
    images: list[Pixels | Path] = field(default_factory=list)
    held_back: list[Pixels] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and "file" not in rows[0]:
        raise DataError(f"{table} has no column `file`; its columns are {', '.join(rows[0])}")
    return rows


def _notes(folder: Path) -> dict[str, str]:
    """File name -> note of the nearest SOURCES.csv, if there is one."""
    for parent in (folder, *folder.resolve().parents[:2]):
        if (parent / "SOURCES.csv").is_file():
            return {Path(row["file"]).name: row.get("note") or "" for row in _rows(parent / "SOURCES.csv")}
    return {}


def list_files(data: Path, part: DataPart) -> list[Entry]:
    """Files of a folder, searched through, or of a CSV list.

    A list has a column `file` (paths beside the list), perhaps `note`, and `split`, of which `train`, `held_back`
    and nothing are taken. Raises DataError.
    """
    if data.is_dir():
        notes = _notes(data)
        entries = [Entry(path, notes.get(path.name, ""), "train") for path in sorted(data.rglob("*"))]
    else:
        entries = [
            Entry(data.parent / row["file"], row.get("note") or "", row.get("split") or "train") for row in _rows(data)
        ]
    return [
        entry._replace(split=HELD_BACK if entry.path.stem in part.held_back else entry.split)
        for entry in entries
        if entry.path.suffix.lower() in VIDEO | IMAGE
        and entry.split in ("train", HELD_BACK)
        and not any(doubt in entry.note for doubt in part.skip_notes)
    ]


def _centre(clip: Pixels, size: int) -> Pixels:
    top, left = (clip.shape[1] - size) // 2, (clip.shape[2] - size) // 2
    return clip[:, top : top + size, left : left + size]


def load_material(data: Path, part: DataPart, quiet: bool = False) -> Material:
    """List a folder or CSV list and decode what is kept in memory: held-back clips, and with `cache` everything.

    Unreadable files are listed, not fatal. Raises DataError.
    """
    material = Material()
    for path, _, split in tqdm(list_files(data, part), desc="reading clips", unit="file", disable=quiet):
        try:
            if split == HELD_BACK:
                held = HeldClip(path, part.held_back_size, part.held_back_frames)
                material.held_back.append(_centre(held.pixels, part.held_back_size))
            elif path.suffix.lower() in IMAGE:
                material.images.append(read_image(path, 2 * part.short_side) if part.cache else path)
            else:
                material.videos.append(HeldClip(path, part.short_side, part.max_clip_frames) if part.cache else path)
        except VideoError as error:
            material.skipped.append(str(error))
    if not material.videos or not material.held_back:
        raise DataError(
            f"{data} gave {len(material.videos)} clips to train on and {len(material.held_back)} held back; "
            "both are needed (`held_back` in the recipe names clips by file stem)"
        )
    return material
