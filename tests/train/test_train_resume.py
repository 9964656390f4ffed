"""Training that is killed goes on exactly; what is not the same run is refused."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from training_runs import GAN, command, log_rows, same_run, tiny, tiny_recipe

from vidtok_ref.errors import DataError, WeightsError
from vidtok_ref.train.cli import main
from vidtok_ref.train.module import Training
from vidtok_ref.train.recipe import load_recipe
from vidtok_ref.train.run import train
from vidtok_ref.train.stages import train_stages

SCALE = ("l2 = 1.0", 'l2 = 1.0\nlog_variance = true\nper = "frame"\npsnr = 0.1')


USAGE = [("kl-4chn", "fsq-4096"), ("l2 = 1.0", "l2 = 1.0\nusage = 0.1")]


@pytest.mark.parametrize("changes", [(), (GAN, SCALE), USAGE], ids=["plain", "gan", "usage"])
def test_a_resumed_run_equals_an_undisturbed_one(
    clips: Path, tmp_path: Path, whole: Path, changes: tuple[tuple[str, str], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(tmp_path, *changes)
    if changes:
        whole = tmp_path / "whole"
        train(recipe, clips, whole)
    killed = tmp_path / "killed"
    step = Training.training_step

    def stop(self: Training, *batch: Any) -> None:
        if self.steps_done == 4:  # one step behind the checkpoint
            raise MemoryError
        step(self, *batch)

    monkeypatch.setattr(Training, "training_step", stop)
    with pytest.raises(MemoryError):
        train(recipe, clips, killed)
    monkeypatch.undo()
    train(recipe, clips, killed)
    assert same_run(whole, killed)
    timeless = [[{**row, "seconds_a_step": ""} for row in log_rows(run)] for run in (whole, killed)]
    assert timeless[0] == timeless[1]
    # All is done: the same command again changes nothing.
    before = (killed / "last.ckpt").read_bytes()
    train(recipe, clips, killed)
    assert (killed / "last.ckpt").read_bytes() == before


def test_a_killed_process_is_resumed_exactly(clips: Path, tmp_path: Path) -> None:
    recipe = tiny(tmp_path, ("steps = 6", "steps = 12"))
    train(load_recipe(str(recipe))[0], clips, tmp_path / "whole")
    run = tmp_path / "killed"
    victim = subprocess.Popen(command(recipe, clips, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (run / "last.ckpt").is_file():
        assert victim.poll() is None
        time.sleep(0.005)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    train(load_recipe(str(recipe))[0], clips, run)
    assert same_run(tmp_path / "whole", run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_says_so(clips: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    stopped = subprocess.Popen(
        command(tiny(tmp_path, ("steps = 6", "steps = 100000")), clips, run),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # also where shells ignore it
        text=True,
    )
    while not (run / "last.ckpt").is_file():
        assert stopped.poll() is None
        time.sleep(0.005)
    stopped.send_signal(number)
    said = stopped.communicate()[1].splitlines()[-1]
    assert stopped.returncode == 128 + number
    assert f"stopped; the same command goes on from the last checkpoint in {run}" in said


def test_a_run_of_another_model_is_not_resumed(clips: Path, tmp_path: Path, whole: Path) -> None:
    wide = tiny_recipe(tmp_path, ("ch = 8", "ch = 10"))
    with pytest.raises(DataError, match="ch 8, not 10; name another --run"):
        train(wide, clips, whole)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("l2 = 1.0", "l2 = 1.0\nlog_variance = true", r"\[loss\] log_variance False, not True; name another --run"),
        (
            "warmup = 1",
            'warmup = 2\nname = "muon"',
            r"\[optimizer\] name adamw, not muon; \[optimizer\] warmup 1, not 2",
        ),
    ],
)
def test_a_run_of_another_recipe_is_not_resumed(
    clips: Path, tmp_path: Path, whole: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        train(tiny_recipe(tmp_path, (old, new)), clips, whole)


def test_checkpoints_of_others_and_of_earlier_runs(clips: Path, tmp_path: Path, whole: Path) -> None:
    checkpoint = torch.load(whole / "last.ckpt", weights_only=True)
    run = tmp_path / "run"
    run.mkdir()
    del checkpoint["progress"]["recipe"]
    torch.save(checkpoint, run / "last.ckpt")
    # Longer, and reported on more rarely, is the same run.
    longer = (("steps = 6", "steps = 7"), ("validate_every = 3", "validate_every = 7"))
    train(tiny_recipe(tmp_path, *longer), clips, run)
    assert [row["step"] for row in log_rows(run)] == ["7"]
    train(tiny_recipe(tmp_path, ("steps = 6", "steps = 8"), longer[1]), clips, run)
    del checkpoint["progress"]
    torch.save(checkpoint, run / "last.ckpt")
    with pytest.raises(WeightsError, match="not a checkpoint of vidtok-train"):
        train(tiny_recipe(tmp_path), clips, run)


def test_a_checkpoint_is_never_unpickled(clips: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    recipe = tiny_recipe(tmp_path)
    (tmp_path / "run").mkdir()
    for content in (pickle.dumps(Trap()), b"PK cut short"):
        (tmp_path / "run/last.ckpt").write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be resumed from"):
            train(recipe, clips, tmp_path / "run")
    torch.save({"state_dict": Trap()}, tmp_path / "run/last.ckpt")
    with pytest.raises(WeightsError, match="cannot be resumed from"):
        train(recipe, clips, tmp_path / "run")
    assert not (tmp_path / "sprung").exists()


def test_stages_follow_each_other_and_go_on_where_they_were(clips: Path, tmp_path: Path) -> None:
    text = tiny(tmp_path, ("steps = 6", "steps = 3")).read_text()
    path, run = tmp_path / "stages.toml", tmp_path / "run"
    path.write_text(f"{text}[[stage]]\n[[stage]]\nseed = 1\ndata = {{ frames = 1 }}\n")
    first, second = stages = load_recipe(str(path))
    train(first, clips, run / "stage-1")  # and killed before the second
    before = (run / "stage-1/last.ckpt").stat().st_mtime_ns
    best = train_stages(stages, clips, run)
    assert (run / "stage-1/last.ckpt").stat().st_mtime_ns == before
    assert train(second, clips, tmp_path / "alone", run / "stage-1/last.safetensors") == best
    assert same_run(run / "stage-2", tmp_path / "alone")
    for name in ("best.safetensors", "last.safetensors"):
        assert (run / name).read_bytes() == (run / "stage-2" / name).read_bytes()
    again = run_cli(path, clips, run)
    assert (again.exit_code, f"{best:.2f} dB" in again.output) == (0, True)
    assert "--steps is for a recipe of one stage" in run_cli(path, clips, run, "--steps", "9").output


def run_cli(recipe: Path, clips: Path, run: Path, *more: str) -> Result:
    return CliRunner().invoke(main, [str(recipe), "--data", str(clips), "--run", str(run), *more])
