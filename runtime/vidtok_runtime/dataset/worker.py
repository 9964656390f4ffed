"""Pieces of clips into token files, in whatever process the engine runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidtok_runtime.dataset.job import EncodeRecipe, Job, Outcome, done, failure, form_of
from vidtok_runtime.dataset.reading import ClipFrames, ClipStart, Reading, read_clip
from vidtok_runtime.errors import OutputError
from vidtok_runtime.places import make_folder
from vidtok_runtime.streaming.posterior import LatentForm

if TYPE_CHECKING:
    from vidtok_runtime.pipeline.clip_encoder import ClipEncoder


class Worker:
    """One session and the clips that go through it. Raises BundleError, ProviderError."""

    def __init__(self, recipe: EncodeRecipe) -> None:
        self._recipe = recipe
        self._tok = recipe.tokenizer()
        self._tok.plans.available = recipe.available
        # Loads the graphs now: what is wrong with them is no clip's fault.
        self._tok.encoder(**vars(recipe.encode.get("form") or LatentForm()))
        self._begun: dict[str, ClipEncoder] = {}

    def attempt(self, job: Job) -> Outcome:
        """Read a clip and encode it, one after the other."""
        import cv2

        cv2.setNumThreads(self._tok.options.threads or -1)
        outcomes = (self.take(job, piece) for piece in read_clip(self._recipe, job, self._tok.options.threads))
        return next(outcome for outcome in outcomes if outcome)

    def take(self, job: Job, piece: Reading) -> Outcome | None:
        """Do the next piece of a clip; returns its outcome, once, when there is one.

        Errors become an outcome, so that one clip never stops the others. Pieces of several clips may come in turns.
        """
        try:
            return self._take(job, piece)
        except Exception as error:  # of a library, too, about this clip: the others go on
            self._drop(job)
            return failure(job, error)

    def _take(self, job: Job, piece: Reading) -> Outcome | None:
        from vidtok_runtime.pipeline.clip_encoder import ClipEncoder

        if isinstance(piece, Outcome):
            self._drop(job)
            return piece
        if isinstance(piece, ClipStart):
            try:
                make_folder(job.target.parent)
            except OSError as error:
                raise OutputError(f"the folder {job.target.parent} cannot be made: {error.strerror}") from error
            self._begun[job.clip] = ClipEncoder(
                self._tok,
                job.target,
                piece.height,
                piece.width,
                half=self._recipe.encode.get("half", False),
                form=form_of(job.clip, self._recipe.encode.get("form")),
                force=True,
            )
        elif job.clip in self._begun:  # else it has failed already
            encoder = self._begun[job.clip]
            if isinstance(piece, ClipFrames):
                encoder.push(piece.pixels, piece.pts)
            else:
                info = encoder.finish(piece)
                del self._begun[job.clip]
                return done(job, info)
        return None

    def _drop(self, job: Job) -> None:
        encoder = self._begun.pop(job.clip, None)
        if encoder is not None:
            encoder.discard()
