"""Pieces of clips into token files, in whatever process the engine runs it."""

from __future__ import annotations

from collections.abc import Iterator

from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Job, Outcome, left_of
from vidtok_runtime.dataset.reading import ClipFrames, ClipStart, Reading, read_batch
from vidtok_runtime.dataset.together import Together
from vidtok_runtime.errors import InputError
from vidtok_runtime.streaming.posterior import LatentForm


class Worker:
    """One session and the clips that go through it. Raises BundleError, ProviderError."""

    def __init__(self, recipe: EncodeRecipe) -> None:
        self._recipe = recipe
        self._tok = recipe.tokenizer()
        self._tok.plans.available = recipe.available
        # Loads the graphs now: what is wrong with them is no clip's fault.
        self._tok.encoder(**vars(recipe.encode.get("form") or LatentForm()))
        self._begun: dict[str, Together] = {}  # by the clips of which more is to be read

    def attempt(self, batch: Batch) -> Iterator[Outcome]:
        """Read clips and encode them, one piece after the other."""
        import cv2

        cv2.setNumThreads(self._tok.options.threads or -1)
        left = left_of(batch)
        for job, piece in read_batch(self._recipe, batch, self._tok.options.threads):
            yield from (outcome for outcome in self.take(job, piece) if left.pop(outcome.clip, None))

    def has_room(self, start: ClipStart) -> bool:
        """Whether clips fit into the memory beside those that are begun, whatever of them has its next call."""
        begun = {id(clips): clips.plan for clips in self._begun.values() if clips.plan and not clips.over}.values()
        try:
            plan = self._tok.plan("encoder", start.height, start.width, clips=len(start.batch))
        except InputError:
            return not begun
        return self._tok.plans.fit_together([*begun, plan])

    def take(self, job: Job, piece: Reading) -> list[Outcome]:
        """Do the next piece of a clip; returns the outcomes that there are by now, the first one of a clip counts.

        Errors become outcomes, so that one clip never stops the others. Pieces of several clips may come in turns.
        """
        if isinstance(piece, ClipStart):
            clips = Together(self._tok, self._recipe, piece)
            self._begun |= {each.clip: clips for each in piece.batch if not each.over}
        elif job.clip not in self._begun:
            return [piece] if isinstance(piece, Outcome) else []
        else:
            clips = self._begun[job.clip]
            if isinstance(piece, ClipFrames):
                clips.push(job, piece)
            else:
                del self._begun[job.clip]
                clips.fail(job, piece) if isinstance(piece, Outcome) else clips.end(job, piece)
        outcomes, clips.outcomes = clips.outcomes, []
        if clips.over:
            alone, clips.alone = clips.alone, []
            for each in alone:
                outcomes += self.attempt((each,))
        return outcomes
