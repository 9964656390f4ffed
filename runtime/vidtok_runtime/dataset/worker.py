"""Pieces of clips into token files, in whatever process the engine runs it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Job, Outcome, left_of
from vidtok_runtime.dataset.reading import ClipFrames, ClipStart, Reading, read_batch
from vidtok_runtime.dataset.together import Lane, Together
from vidtok_runtime.errors import InputError
from vidtok_runtime.streaming.posterior import LatentForm

_CLOSING = 4  # files that are closed at the same time, since disks and stores are slow to say that all is there
_WAITING = 16  # and those that may be left open for it


class Worker:
    """One session and the clips that go through it; `say` is told outcomes as they come, in whatever thread.

    The first outcome of a clip counts. Errors become outcomes, so that one clip never stops the others. Raises
    BundleError, ProviderError.
    """

    def __init__(self, recipe: EncodeRecipe, say: Callable[[Outcome], None] | None = None) -> None:
        self._recipe = recipe
        self._tok = recipe.tokenizer()
        self._tok.plans.available = recipe.available
        # Loads the graphs now: what is wrong with them is no clip's fault.
        self._tok.encoder(**vars(recipe.encode.get("form") or LatentForm()))
        self._begun: dict[str, Together] = {}  # by the clips of which more is to be read
        self._outcomes = SimpleQueue[Outcome]()
        self._say = say or self._outcomes.put
        self._closers = ThreadPoolExecutor(_CLOSING)
        self._closing = deque[Future[None]]()

    def attempt(self, batch: Batch) -> Iterator[Outcome]:
        """Read clips and encode them, one piece after the other; outcomes are said here."""
        left = left_of(batch)
        self._do(batch)
        while self._closing:
            self._closing.popleft().result()
        while left:
            outcome = self._outcomes.get()
            if left.pop(outcome.clip, None):
                yield outcome

    def _do(self, batch: Batch) -> None:
        import cv2

        cv2.setNumThreads(self._tok.options.threads or -1)
        for job, piece in read_batch(self._recipe, batch, self._tok.options.threads):
            self.take(job, piece)

    def has_room(self, start: ClipStart) -> bool:
        """Whether clips fit into the memory beside those that are begun, whatever of them has its next call."""
        begun = {id(clips): clips.plan for clips in self._begun.values() if clips.plan and not clips.over}.values()
        try:
            plan = self._tok.plan("encoder", start.height, start.width, clips=len(start.batch))
        except InputError:
            return not begun
        return self._tok.plans.fit_together([*begun, plan])

    def take(self, job: Job, piece: Reading) -> None:
        """Do the next piece of a clip; pieces of several clips may come in turns."""
        if isinstance(piece, ClipStart):
            clips = Together(self._tok, self._recipe, piece)
            self._begun |= {each.clip: clips for each in piece.batch if not each.over}
        elif job.clip not in self._begun:
            if isinstance(piece, Outcome):
                self._say(piece)
            return
        else:
            clips = self._begun[job.clip]
            if isinstance(piece, ClipFrames):
                clips.push(job, piece)
            else:
                del self._begun[job.clip]
                clips.fail(job, piece) if isinstance(piece, Outcome) else clips.end(job, piece)
        self._tell(clips)

    def _tell(self, clips: Together) -> None:
        """Say what has become of clips by now, and do those alone that have to be."""
        outcomes, complete = list(clips.outcomes), list(clips.complete)
        clips.outcomes.clear()
        clips.complete.clear()
        for outcome in outcomes:
            self._say(outcome)
        for lane in complete:
            if len(self._closing) == _WAITING:
                self._closing.popleft().result()
            self._closing.append(self._closers.submit(self._close, lane))
        if clips.over:
            alone = list(clips.alone)
            clips.alone.clear()
            for job in alone:
                self._do((job,))

    def _close(self, lane: Lane) -> None:
        self._say(lane.close())
