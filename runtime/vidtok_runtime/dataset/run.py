"""A data set from clips to tokens: what is left to do, doing it, and taking note of it."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from vidtok_runtime.bundle.manifest import sha256_of
from vidtok_runtime.dataset.clips import ClipEntry, list_clips, token_names
from vidtok_runtime.dataset.index import index_missing, write_index, write_quarantine
from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Job, Outcome, left_of
from vidtok_runtime.dataset.ledger import Ledger
from vidtok_runtime.dataset.plan import DatasetPlan, Engine, Summary
from vidtok_runtime.dataset.progress import Progress, Standing
from vidtok_runtime.dataset.scenes import cut_at_scenes
from vidtok_runtime.dataset.shards import ShardSample, Tars
from vidtok_runtime.errors import OutputError
from vidtok_runtime.files import sweep_parts
from vidtok_runtime.lists import few
from vidtok_runtime.places import sizes_at
from vidtok_runtime.remote import Place

_log = logging.getLogger(__name__)


def tokenize_dataset(
    place: Place,
    out: Place,
    recipe: EncodeRecipe,
    engine: Engine,
    settings: Mapping[str, Any],
    plan: DatasetPlan | None = None,
    *,
    quiet: bool = False,
) -> Summary:
    """Tokenize what is not finished yet of the clips of a folder, a list or shards into the folder `out`.

    settings: what the tokens depend on; a folder goes on only with those that it was begun with. Raises InputError,
    OutputError, BundleError, ProviderError; clips that fail are listed in quarantine.csv.
    """
    plan = plan or DatasetPlan()
    clips = list_clips(place)
    settings = dict(settings)
    if plan.per_tar:  # which clips share a tar follows from all of them
        names = sha256("\n".join(clip.name for clip in clips).encode()).hexdigest()
        settings |= {"clips a tar": plan.per_tar, "shards": plan.shard[1], "clips": names}
    with contextlib.closing(Ledger(out, plan.tag, settings)) as ledger:
        ours = dict(list(enumerate(clips))[plan.shard[0] :: plan.shard[1]])
        others = [clip for number, clip in enumerate(clips) if number not in ours]
        keyed = {f"{number:09d}": clip for number, clip in ours.items()}
        if plan.scenes:
            keyed = cut_at_scenes(keyed, ledger, recipe, out, plan, quiet=quiet)
        return _Run(keyed, others, out, ledger, plan, quiet).do(recipe, engine)


class _Run:
    """One part of a data set, with its ledger held: clips by their keys in tars, and those of the other parts."""

    def __init__(
        self,
        ours: Mapping[str, ClipEntry],
        others: Sequence[ClipEntry],
        out: Place,
        ledger: Ledger,
        plan: DatasetPlan,
        quiet: bool,
    ) -> None:
        self._out, self._ledger, self._plan, self._quiet = out, ledger, plan, quiet
        self._keys = {clip.name: key for key, clip in ours.items()}
        files = token_names([clip for clip in [*others, *ours.values()] if not clip.fault], ledger.planned)
        self._clips = {clip.name: clip for clip in ours.values() if not clip.fault}
        self._unreadable = [clip for clip in ours.values() if clip.fault]
        self._files = {name: files[name] for name in self._clips}
        self._tars = Tars(out, self._ledger, list(self._clips), plan.per_tar, plan.tag, self._sample)
        self._index, self._quarantine = (
            out / name.format(plan.tag) for name in ("index{}.parquet", "quarantine{}.csv")
        )
        self._failed: set[str] = set()
        self._oddities: dict[str, None] = {}
        self._done_now = self._frames = 0
        self._begin = time.monotonic()

    def do(self, recipe: EncodeRecipe, engine: Engine) -> Summary:
        self._write_plan()
        self._sweep()
        self._check_finished()
        self._look_at_failures()
        try:
            self._work(recipe, engine)
        finally:
            self._sweep()
        self._write_tables()
        if self._oddities:
            _log.warning("captions and attributes: %s", few(list(self._oddities)))
        return Summary(**asdict(self._standing()), quarantine=self._quarantine)

    def _standing(self) -> Standing:
        return Standing(
            clips=len(self._clips) + len(self._unreadable),
            done=len(self._clips.keys() & self._ledger.done.keys()),
            done_now=self._done_now,
            quarantined=len(self._failed) + len(self._unreadable),
            frames=self._frames,
            seconds=time.monotonic() - self._begin,
        )

    def _target(self, name: str) -> Place:
        # Files that go into a tar wait in a folder of their own.
        return self._out / (f"waiting/{self._files[name]}" if self._plan.per_tar else self._files[name])

    def _write_plan(self) -> None:
        """Say which files will be made before any is: what is found at their places later is a killed run's."""
        planned, index = self._ledger.planned, self._index.name
        new = [name for name in self._clips if name not in planned]
        places = [self._target(name) for name in new]
        if index not in planned and len(new) == len(self._clips):
            places += [*self._tars.paths(), self._index, self._quarantine]
        for place in self._sizes(places):
            raise OutputError(
                f"{place} exists already and is not of this data set; move it away, or name another folder"
            )
        files = {name: self._files[name] for name in new} | ({} if index in planned else {index: index})
        if files:
            self._ledger.append(*({"planned": name, "file": file} for name, file in files.items()))

    def _sizes(self, places: Sequence[Place]) -> dict[Place, int | None]:
        try:
            return sizes_at(places, self._out)
        except OSError as error:
            raise OutputError(f"{self._out} cannot be looked at: {error.strerror}") from error

    def _sweep(self) -> None:
        """Remove what killed processes left half-written."""
        sweep_parts(self._out, {*map(self._target, self._clips), *self._tars.paths(), self._index, self._quarantine})

    def _check_finished(self) -> None:
        """Forget clips and tars whose file is not what was recorded; they are done again."""
        ledger = self._ledger
        tars = {self._out / name: record for name, record in ledger.packed.items()}
        for tar in self._altered(tars):
            for name in ledger.packed.pop(tar.name)["clips"]:
                ledger.done.pop(name, None)
        alone = self._clips.keys() & ledger.done.keys() - self._tars.packed().keys()
        names = {self._target(name): name for name in alone}
        for file in self._altered({file: ledger.done[name] for file, name in names.items()}):
            file.unlink(missing_ok=True)
            del ledger.done[names[file]]

    def _altered(self, records: Mapping[Place, Mapping[str, Any]]) -> list[Place]:
        """Files that are not what was recorded of them."""
        sizes = self._sizes(list(records))

        def intact(path: Place, record: Mapping[str, Any]) -> bool:
            same = sizes.get(path) == record["size"]
            return same and (not self._plan.verify or sha256_of(path) == record["sha256"])

        return [path for path, record in records.items() if not intact(path, record)]

    def _look_at_failures(self) -> None:
        enough = {name for name in self._clips if self._ledger.tries(name) >= self._plan.tries}
        if self._plan.again:
            for name in enough:
                del self._ledger.failed[name]
        else:
            self._failed = enough

    def _left(self) -> list[Batch]:
        """What is left to do, so that which clips share a call follows from the list of clips alone."""
        over = self._ledger.done.keys() | self._failed
        jobs = [
            Job(name, clip.piece.url(), self._target(name), clip.part, name in over)
            for name, clip in self._clips.items()
        ]
        count = self._plan.batch
        batches = (tuple(jobs[first : first + count]) for first in range(0, len(jobs), count))
        return [batch for batch in batches if left_of(batch)]

    def _work(self, recipe: EncodeRecipe, engine: Engine) -> None:
        left = self._left()
        for name in self._clips.keys() - {name for batch in left for name in left_of(batch)}:
            self._tars.over(name)
        style = None if self._quiet else self._plan.progress
        with contextlib.closing(Progress(style, self._plan.metrics, self._standing())) as progress:
            while left:  # once, and again for clips that may still succeed
                with contextlib.closing(engine.run(recipe, left)) as outcomes:
                    for outcome in outcomes:
                        self._take(outcome)
                        progress.show(self._standing())
                left = self._left()

    def _take(self, outcome: Outcome) -> None:
        """Record an outcome."""
        name, ledger = outcome.clip, self._ledger
        if outcome.fatal:
            raise OutputError(outcome.reason)
        if outcome.facts is None:
            tries = ledger.tries(name) + 1
            ledger.append({"failed": name, "tries": tries, "reason": outcome.reason})
            if tries < self._plan.tries:
                return
            self._failed.add(name)
        else:
            ledger.append({"done": name, "file": self._files[name], **outcome.facts})
            self._done_now += 1
            self._frames += outcome.facts["frames"]
        self._tars.over(name)

    def _facts(self, name: str) -> dict[str, Any]:
        return {"clip": name, **{key: value for key, value in self._ledger.done[name].items() if key != "done"}}

    def _sample(self, name: str, own_file: bool) -> ShardSample:
        facts = {**self._metadata(name), **self._facts(name)}
        return ShardSample(self._keys[name], self._target(name) if own_file else None, facts)

    def _metadata(self, name: str) -> dict[str, str]:
        found, faults = self._clips[name].metadata()
        self._oddities |= dict.fromkeys(faults)
        return found

    def _write_tables(self) -> None:
        failed = [self._ledger.failed[name] for name in self._clips if name in self._failed]
        failed += [
            {"failed": clip.name, "tries": self._ledger.tries(clip.name), "reason": clip.fault}
            for clip in self._unreadable
        ]
        write_quarantine(self._quarantine, failed)
        missing = index_missing()
        if missing:
            print(f"vidtok: no {self._index.name}: {missing}", file=sys.stderr)
            return
        tars, rows = self._tars.packed(), []
        for name in self._clips:
            if name in self._ledger.done:
                place = {"tar": tars[name], "file": f"{self._keys[name]}.safetensors"} if name in tars else {}
                rows.append(({**self._facts(name), **place}, self._metadata(name)))
        write_index(self._index, rows)
