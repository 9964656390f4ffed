"""`vidtok-run dataset --batch`: clips that share calls have the tokens that they have alone, whatever happens."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cache
from multiprocessing import Pipe
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_runs import content, dataset, records

from vidtok_runtime.dataset import reading
from vidtok_runtime.dataset.feed import in_turn, send
from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Job, Outcome
from vidtok_runtime.dataset.plan import DatasetPlan
from vidtok_runtime.dataset.reading import ClipFrames, ClipStart, read_batch
from vidtok_runtime.dataset.run import tokenize_dataset
from vidtok_runtime.dataset.worker import Worker
from vidtok_runtime.errors import InputError
from vidtok_runtime.streaming.posterior import LatentForm
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.tokens import Tokens
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.writer import VideoWriter

FORM = LatentForm(sample=3, with_variance=True)  # each clip has noise of its own
TOLERANCE = 1e-4


def tokenizer() -> Tokenizer:
    return Tokenizer("tiny-kl-16chn", "cpu", threads=1)


RECIPE = EncodeRecipe(tokenizer, {"form": FORM})


def write(path: Path, frames: int, seed: int, height: int = 16, width: int = 24) -> Path:
    path.parent.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)
    with VideoWriter(path) as writer:
        for number, pixels in enumerate(noise):
            writer.write(pixels, number)
        writer.close()
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips; of the first five that follow each other three are alike, of the second five two and two."""
    folder = tmp_path_factory.mktemp("clips")
    about = [(18, 16), (9, 16), (18, 16), (18, 24), (18, 16), (6, 16), (6, 24), (6, 24), (6, 16), (5, 16)]
    for number, (frames, height) in enumerate(about):
        write(folder / f"{number}.mkv", frames, number, height)
    return folder


SHARED = [["0", "2", "4"], ["5", "8"], ["6", "7"]]


@cache
def worker() -> Worker:
    return Worker(RECIPE)


class Here:
    """Runs batches in this process, and keeps them."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def run(self, recipe: EncodeRecipe, batches: Sequence[Batch]) -> Generator[Outcome]:
        one = worker() if recipe is RECIPE else Worker(recipe)
        for batch in batches:
            self.batches.append(batch)
            yield from one.attempt(batch)


def tokenize(place: Path, out: Path, batch: int, **plan: object) -> Here:
    engine = Here()
    tokenize_dataset(place, out, RECIPE, engine, {"name": "x"}, DatasetPlan(batch=batch, **plan), quiet=True)  # type: ignore[arg-type]
    return engine


def together(batch: Batch) -> list[list[str]]:
    """The clips that share calls."""
    pieces = (piece for _, piece in read_batch(RECIPE, batch, 1))
    starts = [piece.batch for piece in pieces if isinstance(piece, ClipStart)]
    return [[Path(job.clip).stem for job in start] for start in starts]


@pytest.fixture(scope="module")
def alone(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    tokenize(clips, out, 1)
    return out


@pytest.fixture(scope="module")
def shared(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five at a time, undisturbed."""
    out = tmp_path_factory.mktemp("shared")
    tokenize(clips, out, 5)
    return out


def same(out: Path, alone: Path, *clips: str) -> None:
    """Latents, noise and variances within rounding, all else equal."""
    for clip in clips or [path.stem for path in alone.glob("*.safetensors")]:
        ours, theirs = (Tokens.load(folder / f"{clip}.safetensors") for folder in (out, alone))
        assert ours.info == theirs.info
        assert np.array_equal(ours.pts, theirs.pts)
        np.testing.assert_allclose(ours.data, theirs.data, atol=TOLERANCE)
        np.testing.assert_allclose(ours.log_variance, theirs.log_variance, atol=TOLERANCE)


def test_the_same_as_alone(clips: Path, alone: Path, shared: Path, tmp_path: Path) -> None:
    same(shared, alone)
    assert len(content(shared)) == len(content(alone)) == 10 + 1  # the index
    engine = tokenize(clips, tmp_path, 5)
    found = [group for batch in engine.batches for group in together(_anew(batch, tmp_path))]
    assert [group for group in found if len(group) > 1] == SHARED
    assert sum(map(len, found)) == 10


def _anew(batch: Batch, out: Path) -> Batch:
    return tuple(job._replace(target=out / "absent" / job.clip) for job in batch)


def test_tokens_are_equal(clips: Path, tmp_path: Path) -> None:
    """Of a codebook: those of noise lie far from the borders of their cells."""
    recipe = EncodeRecipe(lambda: Tokenizer("tiny-fsq-32768", "cpu", threads=1), {})
    jobs = tuple(Job(name, str(clips / f"{name}.mkv"), tmp_path / f"{name}.st") for name in SHARED[0])
    assert [outcome.reason for outcome in Worker(recipe).attempt(jobs)] == ["", "", ""]
    for job in jobs:
        with VideoReader(job.source) as reader:
            video = np.stack([frame.pixels for frame in reader])
        assert np.array_equal(Tokens.load(job.target).data, recipe.tokenizer().encode(video).data)


@pytest.mark.parametrize("per_tar", [None, 4])
def test_a_resumed_run_ends_as_an_undisturbed_one(
    clips: Path, shared: Path, tmp_path: Path, per_tar: int | None
) -> None:
    """Whichever clips of a batch are finished already, the others' bytes are the same: calls stay as wide."""
    wanted = shared
    if per_tar:
        wanted = tmp_path / "wanted"
        tokenize(clips, wanted, 5, per_tar=per_tar)
    out = tmp_path / "out"
    tokenize(clips, out, 5, per_tar=per_tar)
    ledger = out / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    again = [b'"2.mkv"', b'"7.mkv"']
    kept = [
        line for line in lines if b"packed" not in line and not (b'"done"' in line and any(a in line for a in again))
    ]
    ledger.write_bytes(b"".join(kept))
    for path in [*out.glob("*.tar"), out / "2.safetensors", out / "7.safetensors"]:
        path.unlink(missing_ok=True)
    engine = tokenize(clips, out, 5, per_tar=per_tar)
    if per_tar is None:
        assert [[job.clip for job in batch if not job.over] for batch in engine.batches] == [["2.mkv"], ["7.mkv"]]
        assert all(len(batch) == 5 for batch in engine.batches)
    assert content(out) == content(wanted)


def test_files_that_a_killed_run_left_complete(clips: Path, shared: Path, tmp_path: Path) -> None:
    jobs = [Job(f"{name}.mkv", str(clips / f"{name}.mkv"), tmp_path / f"{name}.safetensors") for name in SHARED[0]]
    (tmp_path / "2.safetensors").write_bytes((shared / "2.safetensors").read_bytes())
    before = (tmp_path / "2.safetensors").stat().st_ino
    outcomes = list(worker().attempt(tuple(jobs)))
    assert sorted(outcome.clip for outcome in outcomes) == ["0.mkv", "2.mkv", "4.mkv"]
    assert (tmp_path / "2.safetensors").stat().st_ino == before
    for name in SHARED[0]:
        assert (tmp_path / f"{name}.safetensors").read_bytes() == (shared / f"{name}.safetensors").read_bytes()


def test_processes_make_the_same_files(clips: Path, tmp_path: Path) -> None:
    """Several workers and readers, in whatever order they come."""
    assert dataset(clips, tmp_path / "processes", "--batch", 5, "--workers", 2, "--readers", 2).exit_code == 0
    recipe = EncodeRecipe(tokenizer, {})
    tokenize_dataset(clips, tmp_path / "here", recipe, Here(), {}, DatasetPlan(batch=5), quiet=True)
    assert content(tmp_path / "processes") == content(tmp_path / "here")


def test_pictures_share_calls(tmp_path: Path) -> None:
    jobs = []
    for name in ("a.png", "b.webp", "c.png"):
        cv2.imwrite(str(tmp_path / name), np.full((16, 24, 3), len(jobs), np.uint8))
        jobs.append(Job(name, str(tmp_path / name), tmp_path / f"{name}.st"))
    assert together(tuple(jobs)) == [["a", "b", "c"]]


def test_parts_of_clips_and_shards(clips: Path, tmp_path: Path) -> None:
    """Rows of one length share calls, by their order among the clips of a shard."""
    rows = ["0.mkv,0,0.2", "1.mkv,,", "2.mkv,0.2,0.4", "3.mkv,0,0.2", "4.mkv,0.1,0.3", "5.mkv,,"]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["file,start,end", *(f"{clips}/{row}" for row in rows)]))
    for shard, groups in (((0, 1), [[0, 2, 4]]), ((0, 2), [[0, 2, 4]]), ((1, 2), [])):
        out = tmp_path / f"{shard}"
        engine = tokenize(table, out, 6, shard=shard)
        found = [group for batch in engine.batches for group in together(_anew(batch, out))]
        assert [[int(name[0]) for name in group] for group in found if len(group) > 1] == groups


def test_a_bad_clip_fails_alone(clips: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be opened has no place, and one that is broken in its midst leaves it."""
    place, out = tmp_path / "in", tmp_path / "out"
    place.mkdir()
    for number in range(5):
        (place / f"{number}.mkv").write_bytes((clips / f"{number}.mkv").read_bytes())
    broken = (clips / "2.mkv").read_bytes()
    (place / "2.mkv").write_bytes(broken[:-100])
    (place / "5.mkv").write_text("no video")
    monkeypatch.setattr(reading, "_PIECE", 1)  # a frame at a time, and what is broken shows late
    tokenize(place, out, 6)
    failed = {str(record["failed"]): str(record["reason"]) for record in records(out, "failed")}
    assert failed.keys() == {"2.mkv", "5.mkv"}
    assert "is truncated" in failed["2.mkv"]
    seen = [type(piece) for job, piece in read_batch(RECIPE, (Job("2", str(place / "2.mkv"), tmp_path / "2"),), 1)]
    assert seen.count(ClipFrames) > 9
    assert seen[-1] is Outcome
    for name in ("0", "1", "3", "4"):
        assert (out / f"{name}.safetensors").read_bytes() == (shared / f"{name}.safetensors").read_bytes()
    assert not list(out.rglob("*.part"))


def test_a_file_that_cannot_be_written_fails_alone(clips: Path, alone: Path, tmp_path: Path) -> None:
    jobs = [Job(f"{name}.mkv", str(clips / f"{name}.mkv"), tmp_path / f"{name}.safetensors") for name in SHARED[0]]
    jobs[1] = jobs[1]._replace(target=tmp_path / ("x" * 300))
    outcomes = {outcome.clip: outcome for outcome in worker().attempt(tuple(jobs))}
    assert "File name too long" in outcomes["2.mkv"].reason
    assert not outcomes["2.mkv"].fatal
    same(tmp_path, alone, "0", "4")


@pytest.mark.parametrize("lengths", [(18, 18, 9), (18, 9, 9), (18, 9, 6)])
def test_lengths_that_files_do_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lengths: Sequence[int]
) -> None:
    """Those that are unlike most are done again alone."""
    monkeypatch.setattr(VideoReader, "frame_count", 18)
    paths = [write(tmp_path / "in" / f"{number}.mkv", frames, number) for number, frames in enumerate(lengths)]
    for folder, batches in (("alone", [[path] for path in paths]), ("shared", [paths])):
        for batch in batches:
            jobs = tuple(Job(p.name, str(p), tmp_path / folder / f"{p.stem}.safetensors") for p in batch)
            outcomes = list(worker().attempt(jobs))
            assert {o.clip: o.facts and o.facts["frames"] for o in outcomes} == {
                p.name: lengths[int(p.stem)] for p in batch
            }
    same(tmp_path / "shared", tmp_path / "alone")


def test_a_call_that_fails_is_made_for_each_alone(
    clips: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Tokenizer.plan

    def plan(self: Tokenizer, role: str, height: int, width: int, groups: object = None, clips: int = 1) -> object:
        if clips > 1:
            raise InputError("too large together")
        return inner(self, role, height, width, groups, clips)  # type: ignore[arg-type]

    monkeypatch.setattr(Tokenizer, "plan", plan)
    jobs = tuple(Job(f"{n}.mkv", str(clips / f"{n}.mkv"), tmp_path / f"{n}.safetensors") for n in SHARED[0])
    assert sorted(o.clip for o in worker().attempt(jobs) if o.facts) == [job.clip for job in jobs]
    for name in SHARED[0]:
        assert (tmp_path / f"{name}.safetensors").read_bytes() == (alone / f"{name}.safetensors").read_bytes()


def start(name: str) -> ClipStart:
    return ClipStart((Job(name, name, Path(name)),), 16, 16)


def test_clips_begin_where_there_is_room() -> None:
    """The second begins when the first is over, though both are there; a third that has room goes in between."""
    feeds = []
    for name in ("a", "b", "c"):
        here, there = Pipe(duplex=False)
        for piece in (start(name), Outcome(name)):
            send(there, piece.batch[0] if isinstance(piece, ClipStart) else start(name).batch[0], piece)
        there.close()
        feeds.append(here)
    slow, slow_end = Pipe(duplex=False)
    send(slow_end, start("slow").batch[0], start("slow"))
    order = []
    for job, piece in in_turn([slow, *feeds], lambda begin: begin.batch[0].clip != "b"):
        order.append((job.clip, type(piece).__name__))
        if order[-2:] == [("c", "ClipStart"), ("c", "Outcome")]:
            send(slow_end, start("slow").batch[0], Outcome("slow"))
            slow_end.close()
    assert [clip for clip, _ in order] == ["slow", "a", "a", "c", "c", "slow", "b", "b"]


def test_room_is_a_matter_of_memory(clips: Path, tmp_path: Path) -> None:
    """One stream is in a call, the others keep their states: so many are open as fit, each in calls as if alone."""
    one = Worker(RECIPE)
    tok, begin = one._tok, start("a")._replace(height=256, width=256)
    tok.plans.available = 10**12
    plan = tok.plan("encoder", 256, 256)
    assert plan.peak
    assert 0 < plan.held < plan.peak / 4
    tok.plans.available = plan.peak + 2 * plan.held
    begun = []
    while one.has_room(begin):
        name = f"{len(begun)}"
        job = Job(name, name, tmp_path / name)
        one.take(job, ClipStart((job,), 256, 256))
        begun.append(job)
    assert len(begun) == 3
    assert tok.plan("encoder", 256, 256) is plan
    one.take(begun[0], Outcome("0"))
    assert one.has_room(begin)
    assert not one.has_room(begin._replace(batch=begin.batch * 4))
    assert not list(tmp_path.glob("0*"))
