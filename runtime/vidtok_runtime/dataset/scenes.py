"""Clips cut where shots change, as PySceneDetect finds it (https://www.scenedetect.com/docs/latest/api.html)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise

from tqdm import tqdm

from vidtok_runtime.dataset.clips import ClipEntry
from vidtok_runtime.dataset.job import EncodeRecipe, Job, Outcome, failure
from vidtok_runtime.dataset.ledger import Ledger
from vidtok_runtime.dataset.plan import DatasetPlan
from vidtok_runtime.errors import InputError
from vidtok_runtime.machine import cores
from vidtok_runtime.remote import Place
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection

_SIZE = "128"  # of the shorter side; what a shot is shows in small


def cut_at_scenes(
    keyed: Mapping[str, ClipEntry],
    ledger: Ledger,
    recipe: EncodeRecipe,
    out: Place,
    plan: DatasetPlan,
    *,
    quiet: bool = False,
) -> dict[str, ClipEntry]:
    """The shots of clips by key, each a clip of its own; one that has a single shot stays whole.

    Cuts are written to the ledger, so that no clip is looked at twice. A clip that cannot be read has failed, which is
    its fault then. Shots that are found in a later run come behind all others, so that which clips share a tar or a
    call stays as it was. Raises InputError, OutputError.
    """
    if importlib.util.find_spec("scenedetect") is None:
        raise InputError("--scenes needs PySceneDetect; pip install 'vidtok-onnx[scenes]'")
    clips = list(keyed.values())
    uncut = [clip for clip in clips if not clip.fault and clip.name not in ledger.cuts]
    if plan.again:
        for clip in uncut:
            ledger.failed.pop(clip.name, None)
    left = [clip for clip in uncut if ledger.tries(clip.name) < plan.tries]
    jobs = [Job(clip.name, clip.piece.url(), out, clip.part) for clip in left]
    tries = [plan.tries - ledger.tries(clip.name) for clip in left]
    begun = len(clips) - len(left)
    with (
        ThreadPoolExecutor(cores()) as pool,
        tqdm(total=len(clips), initial=begun, desc="scenes", unit="clip", disable=quiet) as bar,
    ):
        for clip, seen in zip(left, pool.map(partial(_look, recipe), jobs, tries), strict=True):
            if isinstance(seen, Outcome):
                ledger.append({"failed": clip.name, "tries": plan.tries, "reason": seen.reason})
            else:
                ledger.append({"cut": clip.name, "at": list(map(str, seen))})
            bar.update()
    turns = {name: number for number, name in enumerate(ledger.cuts)}
    found: dict[str, ClipEntry] = {}
    for key, clip in sorted(keyed.items(), key=lambda item: turns.get(item[1].name, len(turns))):
        if not clip.fault and clip.name not in turns:
            found[key] = replace(clip, fault=ledger.failed[clip.name]["reason"])
            continue
        parts = _parts(clip, ledger.cuts.get(clip.name, []), recipe)
        found |= {f"{key}-{number:04d}": part for number, part in enumerate(parts)} if parts[1:] else {key: clip}
    return found


def _look(recipe: EncodeRecipe, job: Job, tries: int) -> list[Fraction] | Outcome:
    """Where a clip is cut, or why it cannot be read, after so many tries."""
    for _ in range(tries):
        try:
            return find_cuts(job, recipe)
        except Exception as error:  # of a library, too, about this clip: the others go on
            outcome = failure(job, error)
    return outcome


def find_cuts(job: Job, recipe: EncodeRecipe) -> list[Fraction]:
    """When shots after the first begin, in seconds since the first frame of the file; raises VideoError, InputError."""
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    selection, opening = job.asked(recipe)
    selection = replace(selection, size=_SIZE, fps=None)
    detector, times = AdaptiveDetector(), list[Fraction]()
    numbers: list[int] = []
    with VideoReader(job.source, selection, opening) as reader:
        for frame in reader:
            times.append(frame.pts * reader.time_base)
            at = FrameTimecode(len(times) - 1, reader.fps)
            numbers += [cut.frame_num for cut in detector.process_frame(at, frame.pixels[..., ::-1])]
    began = times[0] if reader.span[0] is None else reader.span[0] - (selection.start or 0)
    return [times[number] + reader.origin - began for number in numbers]


def _parts(clip: ClipEntry, at: Sequence[str], recipe: EncodeRecipe) -> list[ClipEntry]:
    """The shots of what is taken of a clip; cuts outside of it are none."""
    if not at:
        return [clip]
    asked = recipe.encode.get("selection") or Selection()
    first = Fraction(clip.part.start or asked.start or 0)
    last = asked.end if clip.part.end is None else Fraction(clip.part.end)
    cuts = [cut for cut in map(Fraction, at) if first < cut and (last is None or cut < last)]
    found = []
    for number, (start, end) in enumerate(pairwise([first, *cuts, last])):
        assert start is not None  # only the last end may be
        part = clip.part._replace(start=str(start), end=None if end is None else str(end))
        said = {"source": clip.source or clip.name, "scene": str(number), "cuts": " ".join(map(_seconds, cuts))}
        said |= {"start": _seconds(start), "end": "" if end is None else _seconds(end)}
        found.append(replace(clip, name=part.named(clip.source or clip.name), part=part, shot=said))
    return found


def _seconds(time: Fraction) -> str:
    return f"{float(time):.6f}"
