"""Clips of one size and length side by side: calls of all of them, a token file for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.dataset.job import EncodeRecipe, Job, Outcome, done, failure, form_of
from vidtok_runtime.dataset.reading import ClipFrames, ClipStart
from vidtok_runtime.errors import OutputError
from vidtok_runtime.memory.planner import CallPlan
from vidtok_runtime.pipeline.clip_encoder import ClipFacts, ClipFile
from vidtok_runtime.places import make_folder
from vidtok_runtime.streaming.posterior import LatentForm, Posterior
from vidtok_runtime.tokenizer import Tokenizer


class Lane:
    """The place of one clip, with frames of this size: those that wait for a call, and its file.

    frames: all that came. facts: known when no more come.
    """

    def __init__(self, tok: Tokenizer, recipe: EncodeRecipe, job: Job, height: int, width: int) -> None:
        self.job, self._size = job, (height, width)
        self.waiting: list[NDArray[np.uint8]] = []
        self.frames = 0
        self.facts: ClipFacts | None = None
        form = form_of(job.clip, recipe.encode.get("form")) or LatentForm()
        self._posterior = Posterior(tok.stream, form)
        try:
            make_folder(job.target.parent)
        except OSError as error:
            raise OutputError(f"the folder {job.target.parent} cannot be made: {error.strerror}") from error
        self.file = ClipFile(tok, job.target, half=recipe.encode.get("half", False), form=form, force=True)

    @property
    def ready(self) -> int:
        """Frames that wait."""
        return sum(map(len, self.waiting))

    def add(self, piece: ClipFrames) -> None:
        """Frames that come next."""
        self.waiting.append(piece.pixels)
        self.frames += len(piece.pixels)
        self.file.add_times(piece.pts)

    def move(self, out: NDArray[np.uint8]) -> None:
        """Fill `n H W 3` with the frames that wait longest."""
        filled = 0
        while filled < len(out):
            piece = self.waiting[0][: len(out) - filled]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
            self.waiting[0] = self.waiting[0][len(piece) :]
            if not len(self.waiting[0]):
                del self.waiting[0]

    def append(self, data: NDArray[Any]) -> None:
        """Write what the encoder gives for it."""
        self.file.append(self._posterior.shaped(data))

    def close(self) -> Outcome:
        """Give the file its name; it may be on a slow disk or far away."""
        assert self.facts
        try:
            return done(self.job, self.file.close(*self._size, self.facts))
        except Exception as error:  # of a library, too
            return failure(self.job, error)
        finally:
            self.file.discard()


class Together:
    """Encodes clips that share calls. A clip at fault leaves its place empty, and nothing else changes for the others.

    Those whose lengths differ from that of most leave, too, for `alone`, as do all where a call fails. Take what is in
    `outcomes`, `alone` and `complete` (to be closed) out of there.
    """

    def __init__(self, tok: Tokenizer, recipe: EncodeRecipe, start: ClipStart) -> None:
        self._shape = (len(start.batch), start.height, start.width, 3)
        self.outcomes: list[Outcome] = []
        self.alone: list[Job] = []
        self.complete: list[Lane] = []
        self.plan: CallPlan | None = None
        self._lanes: dict[int, Lane] = {}  # by their places; without those that are empty
        for place, job in enumerate(start.batch):
            if not job.over:
                with self._of_a_clip(job):
                    self._lanes[place] = Lane(tok, recipe, job, start.height, start.width)
        with self._of_all():
            self.plan = tok.plan("encoder", *self._shape[1:3], clips=len(start.batch))
            self._step = self.plan.chunk * tok.stream.time_factor
            beside = (recipe.encode.get("form") or LatentForm()).beside
            self._stream = tok.encoder(with_variance=beside is not None, clips=len(start.batch))

    @property
    def over(self) -> bool:
        """Whether no clip is left."""
        return not self._lanes

    def push(self, job: Job, piece: ClipFrames) -> None:
        """Take frames of a clip, unless it has left."""
        if lane := self._lane(job):
            lane.add(piece)
            self._go_on()

    def end(self, job: Job, facts: ClipFacts) -> None:
        """A clip has no more frames."""
        if lane := self._lane(job):
            lane.facts = facts
            self._go_on()

    def fail(self, job: Job, outcome: Outcome) -> None:
        """A clip cannot be read any further."""
        if lane := self._lane(job):
            self._leave(lane)
            self.outcomes.append(outcome)
            self._go_on()

    def _lane(self, job: Job) -> Lane | None:
        return next((lane for lane in self._lanes.values() if lane.job.clip == job.clip), None)

    def _go_on(self) -> None:
        """Make the calls for which there are frames."""
        with self._of_all():
            while self._lanes:
                lanes = list(self._lanes.values())
                if others := _unlike_most(lanes):
                    for lane in others:
                        self._leave(lane)
                        self.alone.append(lane.job)
                elif (ready := min(lane.ready for lane in lanes)) >= self._step:
                    self._call(self._step)
                elif all(lane.facts for lane in lanes):
                    if ready:
                        self._call(ready)
                    self._finish()
                else:
                    break

    def _call(self, count: int) -> None:
        frames = np.zeros((count, *self._shape), np.uint8)
        for place, lane in self._lanes.items():
            lane.move(frames[:, place])
        self._write(self._stream.push(frames))

    def _write(self, data: NDArray[Any]) -> None:
        for place, lane in list(self._lanes.items()):
            with self._of_a_clip(lane.job):
                lane.append(data[:, place])

    def _finish(self) -> None:
        self._write(self._stream.finish())
        self.complete += self._lanes.values()
        self._lanes.clear()

    def _leave(self, lane: Lane) -> None:
        lane.file.discard()
        self._lanes = {place: other for place, other in self._lanes.items() if other is not lane}

    @contextmanager
    def _of_a_clip(self, job: Job) -> Iterator[None]:
        """What goes wrong is this clip's end."""
        try:
            yield
        except Exception as error:  # of a library, too
            if lane := self._lane(job):
                self._leave(lane)
            self.outcomes.append(failure(job, error))

    @contextmanager
    def _of_all(self) -> Iterator[None]:
        """What goes wrong is the end of the only clip; of several, each may do without the others."""
        try:
            yield
        except Exception as error:
            jobs = [lane.job for lane in self._lanes.values()]
            for lane in list(self._lanes.values()):
                self._leave(lane)
            if len(jobs) == 1:
                self.outcomes.append(failure(jobs[0], error))
            else:
                self.alone += jobs


def _unlike_most(lanes: list[Lane]) -> list[Lane]:
    """Those that are shorter or longer than most, once it is known of all; of two halves the longer one."""
    end = min((lane.frames for lane in lanes if lane.facts), default=None)
    if end is None:
        return []
    same = [lane for lane in lanes if lane.facts and lane.frames == end]
    longer = [lane for lane in lanes if lane.frames > end]
    if len(same) + len(longer) < len(lanes):  # the others may end here, too
        return []
    return longer if 2 * len(same) >= len(lanes) else same
