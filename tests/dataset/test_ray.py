"""`vidtok-run dataset --engine ray`: the same files as local workers, and nothing lost with a killed actor."""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from dataset_runs import content, writer_of
from s3_server import BUCKET, S3Server, s3_server

from vidtok_runtime.cli import main
from vidtok_runtime.dataset.job import EncodeRecipe, Job
from vidtok_runtime.dataset.ray_engine import RayEngine
from vidtok_runtime.remote import RemotePath
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.video.writer import VideoWriter

if importlib.util.find_spec("ray") is None:
    pytest.skip("engine ray needs the extra `ray`", allow_module_level=True)
NO_STORE = importlib.util.find_spec("s3fs") is None or importlib.util.find_spec("moto") is None


@pytest.fixture(scope="module")
def cluster() -> Iterator[S3Server | None]:
    """Ray on this machine, whose actors know the S3 server, if the libraries for one are there."""
    import ray

    with s3_server() if not NO_STORE else nullcontext() as server:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
        yield server
        ray.shutdown()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips, of which one is none and two are of one length."""
    folder = tmp_path_factory.mktemp("in")
    rng = np.random.default_rng(5)
    for i in range(4):
        with VideoWriter(folder / f"{i}.mp4") as writer:
            for k in range(5 + i // 2):
                writer.write(rng.integers(0, 256, (24, 32, 3), np.uint8), k)
            writer.close()
    (folder / "bad.mp4").write_text("no video")
    return folder


def tokenized(place: object, out: object, engine: str) -> None:
    options = ["--engine", engine, "--provider", "cpu", "--threads", "1", "--batch", "2", "--quiet"]
    result = CliRunner().invoke(main, ["dataset", str(place), str(out), *options])
    assert result.exit_code == 1, result.output
    assert "1 of 5 clips could not be tokenized" in result.stderr


@pytest.fixture(scope="module")
def by_local_workers(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("local")
    tokenized(clips, out, "local")
    found = content(out)
    assert len(found) == 4 + 2
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_same_as_local(clips: Path, by_local_workers: dict[str, bytes], tmp_path: Path) -> None:
    tokenized(clips, tmp_path / "ray", "ray")
    assert content(tmp_path / "ray") == by_local_workers


@pytest.mark.slow
@pytest.mark.skipif(NO_STORE, reason="stores need s3fs and moto; pip install -e '.[dev]'")
def test_from_s3_to_s3(clips: Path, by_local_workers: dict[str, bytes], cluster: S3Server) -> None:
    place, out = RemotePath(f"s3://{BUCKET}/in"), RemotePath(f"s3://{BUCKET}/out")
    for path in clips.iterdir():
        (place / path.name).send(path)
    tokenized(place, out, "ray")
    found = {key.removeprefix("out/"): data for key, data in cluster.keys().items() if key.startswith("out/")}
    assert {name: data for name, data in found.items() if not name.startswith("ledger")} == by_local_workers


def running_actors() -> list[psutil.Process]:
    actors = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # another one that ended meanwhile
            if "ray::MapWorker" in process.name():
                actors.append(process)
    return actors


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("times", [1, 3])
def test_an_actor_that_is_killed(clips: Path, tmp_path: Path, times: int) -> None:
    good = [Path(shutil.copy(clips / f"{i}.mp4", tmp_path)) for i in range(3)]
    pipe = tmp_path / "pipe.mp4"  # whoever opens it waits
    os.mkfifo(pipe)
    work = [Job(p.name, str(p), tmp_path / f"out/{p.stem}.safetensors") for p in [pipe, *good[1:]]]
    recipe = EncodeRecipe(partial(Tokenizer, provider="cpu", threads=1), {})

    def kill() -> None:
        for _ in range(times):
            writer = writer_of(pipe)
            (actor,) = running_actors()
            if times == 1:
                good[0].rename(pipe)
            actor.kill()
            actor.wait()
            os.close(writer)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    outcomes = {o.clip: o for o in RayEngine(actors=1, cpus=1).run(recipe, [(job,) for job in work])}
    killer.join(5)
    assert set(outcomes) == {job.clip for job in work}
    lost = {name: outcome.reason for name, outcome in outcomes.items() if outcome.facts is None}
    assert lost == ({} if times == 1 else {"pipe.mp4": "the actor that had it died 3 times"})
    made = {job.target.name for job in work if job.clip not in lost}
    assert made <= {p.name for p in (tmp_path / "out").iterdir()}


def test_no_time_limit(clips: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["dataset", str(clips), str(tmp_path / "x"), "--engine", "ray", "--time-limit", "9"]
    )
    assert result.exit_code == 2
    assert "--time-limit is for local workers" in result.stderr
