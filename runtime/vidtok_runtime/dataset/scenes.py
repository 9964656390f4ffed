"""Clips cut where shots change, as PySceneDetect finds it (https://www.scenedetect.com/docs/latest/api.html)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from tqdm import tqdm

from vidtok_runtime.dataset.clips import ClipEntry
from vidtok_runtime.dataset.job import EncodeRecipe, Job
from vidtok_runtime.dataset.ledger import Ledger
from vidtok_runtime.errors import InputError, VideoError
from vidtok_runtime.machine import cores
from vidtok_runtime.remote import Place
from vidtok_runtime.video.reader import VideoReader

_SIZE = "128"  # of the shorter side; what a shot is shows in small


def cut_at_scenes(
    keyed: Mapping[str, ClipEntry], ledger: Ledger, recipe: EncodeRecipe, out: Place, *, quiet: bool = False
) -> dict[str, ClipEntry]:
    """The shots of clips by key, each a clip of its own; one that has a single shot, or cannot be read, stays whole.

    Cuts are written to the ledger, so that no clip is looked at twice. Raises InputError, OutputError.
    """
    if importlib.util.find_spec("scenedetect") is None:
        raise InputError("--scenes needs PySceneDetect; pip install 'vidtok-onnx[scenes]'")
    clips = list(keyed.values())
    left = [clip for clip in clips if not clip.fault and clip.name not in ledger.cuts]
    jobs = [Job(clip.name, clip.piece.url(), out, clip.part) for clip in left]
    begun = len(clips) - len(left)
    with (
        ThreadPoolExecutor(cores()) as pool,
        tqdm(total=len(clips), initial=begun, desc="scenes", unit="clip", disable=quiet) as bar,
    ):
        for clip, cuts in zip(left, pool.map(lambda job: find_cuts(job, recipe), jobs), strict=True):
            ledger.append({"cut": clip.name, "at": list(map(str, cuts))})
            bar.update()
    found: dict[str, ClipEntry] = {}
    for key, clip in keyed.items():
        parts = _parts(clip, ledger.cuts.get(clip.name, []))
        found |= {f"{key}-{number:04d}": part for number, part in enumerate(parts)} if parts[1:] else {key: clip}
    return found


def find_cuts(job: Job, recipe: EncodeRecipe) -> list[Fraction]:
    """When shots after the first begin, in seconds since the first frame of the file; none where it cannot be read."""
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    selection, opening = job.asked(recipe)
    selection = replace(selection, size=_SIZE, fps=None)
    detector, times = AdaptiveDetector(), list[Fraction]()
    numbers: list[int] = []
    try:
        with VideoReader(job.source, selection, opening) as reader:
            for frame in reader:
                times.append(frame.pts * reader.time_base)
                at = FrameTimecode(len(times) - 1, reader.fps)
                numbers += [cut.frame_num for cut in detector.process_frame(at, frame.pixels[..., ::-1])]
    except VideoError:
        return []
    began = times[0] if reader.span[0] is None else reader.span[0] - (selection.start or 0)
    return [times[number] + reader.origin - began for number in numbers]


def _parts(clip: ClipEntry, cuts: Sequence[str]) -> list[ClipEntry]:
    if not cuts:
        return [clip]
    bounds = [clip.part.start or "0", *cuts, clip.part.end]
    found = []
    for number, (start, end) in enumerate(pairwise(bounds)):
        part = clip.part._replace(start=start, end=end)
        said = {"source": clip.source or clip.name, "scene": str(number), "cuts": " ".join(map(_seconds, cuts))}
        said |= {"start": _seconds(start or "0"), "end": "" if end is None else _seconds(end)}
        name = part.named(clip.source or clip.name)
        found.append(replace(clip, name=name, part=part, columns={**clip.columns, **said}))
    return found


def _seconds(time: str) -> str:
    return f"{float(Fraction(time)):.6f}"
