"""The trainer on made-up clips: it learns, resumes exactly, averages, and says what is wrong."""

from __future__ import annotations

import csv
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from click.testing import CliRunner
from lightning.pytorch.utilities import rank_zero_only
from safetensors import safe_open
from safetensors.torch import load_file

from vidtok_ref import build
from vidtok_ref.errors import DataError, DivergedError, ModelError, WeightsError
from vidtok_ref.train.cli import main
from vidtok_ref.train.material import load_material
from vidtok_ref.train.module import Training
from vidtok_ref.train.recipe import load_recipe
from vidtok_ref.train.report import Report
from vidtok_ref.train.run import first_model, train
from vidtok_ref.weights import embedded_variant, write_weights

NARROW = {"ch": 8, "ch_mult": (1, 1, 2, 2), "num_res_blocks": 1}
TINY = """
steps = 6
[model]
variant = "kl-4chn"
overrides = { ch = 8, ch_mult = [1, 1, 2, 2], num_res_blocks = 1 }
start = "linear"
ema = 0.995
[data]
batch = 2
frames = 5
size = 32
short_side = 40
held_back = ["held"]
held_back_frames = 5
held_back_size = 32
[optimizer]
warmup = 1
cooldown = 2
[loss]
l2 = 1.0
[report]
log_every = 1
validate_every = 3
checkpoint_every = 3
"""


def tiny(folder: Path, *changes: tuple[str, str]) -> Path:
    """A recipe file with some of its text replaced, or lines added behind a section's head."""
    text = TINY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / f"recipe-{abs(hash(text))}.toml"
    path.write_text(text)
    return path


def last_state(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    return state


def same_run(one: Path, other: Path) -> bool:
    """Best weights and everything in the last checkpoint are equal to the bit."""
    pairs = [(last_state(run), load_file(run / "best.safetensors")) for run in (one, other)]
    return all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in zip(*pairs, strict=True)
    )


def log_rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def command(recipe: Path, clips: Path, run: Path, *more: str) -> list[str]:
    arguments = ["--data", str(clips), "--run", str(run), "--threads", "1", "--accelerator", "cpu", *more]
    return [sys.executable, "-m", "vidtok_ref.train.cli", str(recipe), *arguments]


@pytest.fixture(scope="module")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(load_recipe(str(tiny(folder))), clips, folder / "run") > 5
    return folder / "run"


def test_a_run_leaves_log_pictures_and_what_it_skipped(whole: Path) -> None:
    rows = log_rows(whole)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert all(float(row[name]) > 0 for row in rows for name in ("loss", "l1", "l2", "kl", "gradient_norm"))
    assert [bool(row["held_back_psnr"]) for row in rows] == [False, False, True, False, False, True]
    picture = cv2.imread(str(whole / "pictures/step-000003.png"))
    assert picture.shape == (64, 32, 3)
    assert "broken.mp4" in (whole / "skipped.txt").read_text()
    assert len((whole / "skipped.txt").read_text().splitlines()) == 1
    assert not list(whole.glob("*.part"))


def test_what_is_written_is_the_average(whole: Path) -> None:
    state, best = last_state(whole), load_file(whole / "best.safetensors")
    assert float(log_rows(whole)[-1]["held_back_psnr"]) == float(log_rows(whole)[-1]["best_psnr"])
    name = "decoder.conv_out.conv.weight"
    assert torch.equal(best[name], state[f"average.{name}"])
    assert not torch.equal(best[name], state[f"model.{name}"])


def test_the_last_weights_are_handed_on_though_others_were_better(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter((30.0, 20.0))
    monkeypatch.setattr("vidtok_ref.train.report.psnr", lambda *_: next(falling))
    train(load_recipe(str(tiny(tmp_path))), clips, tmp_path)
    last, state = load_file(tmp_path / "last.safetensors"), last_state(tmp_path)
    assert last.keys() == load_file(tmp_path / "best.safetensors").keys()
    assert all(torch.equal(tensor, state[f"average.{name}"]) for name, tensor in last.items())
    with safe_open(tmp_path / "best.safetensors", "pt") as best, safe_open(tmp_path / "last.safetensors", "pt") as end:
        assert (best.metadata()["steps"], end.metadata()["steps"]) == ("3", "6")
    variant = embedded_variant(tmp_path / "last.safetensors")
    assert variant is not None
    assert variant.ch == 8


GAN = ("[report]", "[gan]\nweight = 0.2\nstart = 3\nwidth = 4\n[report]")
SCALE = ("l2 = 1.0", 'l2 = 1.0\nlog_variance = true\nper = "frame"\npsnr = 0.1')


@pytest.mark.parametrize("changes", [(), (GAN, SCALE)], ids=["plain", "gan"])
def test_a_resumed_run_equals_an_undisturbed_one(
    clips: Path, tmp_path: Path, changes: tuple[tuple[str, str], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(str(tiny(tmp_path, *changes)))
    train(recipe, clips, tmp_path / "whole")
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
    assert same_run(tmp_path / "whole", killed)
    timeless = [[{**row, "seconds_a_step": ""} for row in log_rows(tmp_path / run)] for run in ("whole", "killed")]
    assert timeless[0] == timeless[1]
    # All is done: the same command again changes nothing.
    before = (killed / "last.ckpt").read_bytes()
    train(recipe, clips, killed)
    assert (killed / "last.ckpt").read_bytes() == before


def test_a_killed_process_is_resumed_exactly(clips: Path, tmp_path: Path) -> None:
    recipe = tiny(tmp_path, ("steps = 6", "steps = 24"))
    train(load_recipe(str(recipe)), clips, tmp_path / "whole")
    run = tmp_path / "killed"
    victim = subprocess.Popen(command(recipe, clips, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (run / "last.ckpt").is_file():
        assert victim.poll() is None
        time.sleep(0.005)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    train(load_recipe(str(recipe)), clips, run)
    assert same_run(tmp_path / "whole", run)


def test_two_processes_equal_one(clips: Path, tmp_path: Path) -> None:
    recipe = tiny(tmp_path, GAN)
    train(load_recipe(str(recipe)), clips, tmp_path / "one")
    done = subprocess.run(command(recipe, clips, tmp_path / "two", "--devices", "2"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = last_state(tmp_path / "one"), last_state(tmp_path / "two")
    assert one.keys() == two.keys()
    # Adam divides by the gradient's size, so that rounding may show where it is near zero: a twentieth of one step.
    assert max((two[name] - one[name]).abs().max().item() for name in one) < 1e-4
    # Half of every batch, which is what a process sees that nobody talks to, leads somewhere else.
    train(load_recipe(str(tiny(tmp_path, GAN, ("batch = 2", "batch = 1")))), clips, tmp_path / "half")
    half = last_state(tmp_path / "half")
    assert max((half[name] - one[name]).abs().max().item() for name in one) > 1e-3
    held = [float(log_rows(tmp_path / run)[-1]["held_back_psnr"]) for run in ("one", "two")]
    assert abs(held[0] - held[1]) < 0.05
    assert len(log_rows(tmp_path / "two")) == 6


def test_the_first_process_of_another_node_writes_nothing(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # set by the trainer, for the whole process
    monkeypatch.setattr("lightning.Trainer.fit", lambda *_, **__: None)
    train(load_recipe(str(tiny(tmp_path))), clips, tmp_path / "run", accelerator="cpu", nodes=2)
    assert not (tmp_path / "run").exists()
    Report(tmp_path).skip("broken.mp4", write=False)
    assert not (tmp_path / "skipped.txt").exists()


def test_a_batch_that_cannot_be_shared_is_refused(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="batch 2 cannot be shared evenly by 3 processes"):
        train(load_recipe(str(tiny(tmp_path))), clips, tmp_path / "run", devices=3)


def test_not_a_number_stops_the_run_and_spares_the_best(clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DivergedError, match=r"step 0: .* lower learning_rate .* starts again"):
        train(load_recipe(str(tiny(tmp_path, ("l2 = 1.0", "l2 = inf")))), clips, run)
    sick = tiny(tmp_path, ("warmup = 1", "warmup = 1\nlearning_rate = 1e30"))
    train(load_recipe(str(tiny(tmp_path, ("steps = 6", "steps = 3")))), clips, run)
    before = {name: (run / name).read_bytes() for name in ("best.safetensors", "last.ckpt")}
    result = CliRunner().invoke(main, [str(sick), "--data", str(clips), "--run", str(run)])
    assert result.exit_code == 1
    (line,) = [text for text in result.stderr.splitlines() if "error" in text]
    assert "step 4: the loss is" in line
    assert f"resumes from {run / 'last.ckpt'}" in line
    assert all((run / name).read_bytes() == content for name, content in before.items())


def test_the_second_stage_leaves_the_encoder_alone(clips: Path, tmp_path: Path, whole: Path) -> None:
    recipe = load_recipe(str(tiny(tmp_path, ('start = "linear"', 'train = "decoder"'))))
    with pytest.raises(DataError, match="--init"):
        train(recipe, clips, tmp_path / "run")
    train(recipe, clips, tmp_path / "run", whole / "best.safetensors")
    before, after = load_file(whole / "best.safetensors"), load_file(tmp_path / "run/best.safetensors")
    state = last_state(tmp_path / "run")
    for name, tensor in before.items():
        if name.startswith("encoder."):
            assert torch.equal(after[name], tensor)
            assert torch.equal(state[f"model.{name}"], tensor)
    assert not torch.equal(state["model.decoder.conv_out.conv.weight"], before["decoder.conv_out.conv.weight"])
    half = build("kl-4chn", ch=4, ch_mult=(1, 1, 2, 2), num_res_blocks=2)
    write_weights(half, tmp_path / "other.safetensors")
    wide = replace(recipe, model=replace(recipe.model, overrides={**NARROW, "ch_mult": (1, 1, 2, 4)}))
    with pytest.raises(DataError, match="whole encoder"):
        train(wide, clips, tmp_path / "other", tmp_path / "other.safetensors")


def test_weights_are_started_from(clips: Path, tmp_path: Path, whole: Path) -> None:
    inside = ("[data]", f'init = "{whole / "best.safetensors"}"\n[data]')
    for recipe, init in ((tiny(tmp_path), whole / "best.safetensors"), (tiny(tmp_path, inside), None)):
        model = first_model(load_recipe(str(recipe)), load_material(clips, load_recipe(str(recipe)).data), init)
        assert all(torch.equal(t, model.state_dict()[k]) for k, t in load_file(whole / "best.safetensors").items())
    named = load_recipe(str(tiny(tmp_path, ("[data]", 'init = "kl-4chn"\n[data]'))))
    with pytest.raises(WeightsError, match="vidtok_kl_causal_488_4chn"):
        first_model(named, load_material(clips, named.data))


def test_a_run_of_another_model_is_not_resumed(clips: Path, tmp_path: Path, whole: Path) -> None:
    wide = load_recipe(str(tiny(tmp_path, ("ch = 8", "ch = 10"))))
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
        train(load_recipe(str(tiny(tmp_path, (old, new)))), clips, whole)


def test_checkpoints_of_others_and_of_earlier_runs(clips: Path, tmp_path: Path, whole: Path) -> None:
    checkpoint = torch.load(whole / "last.ckpt", weights_only=True)
    run = tmp_path / "run"
    run.mkdir()
    del checkpoint["progress"]["recipe"]
    torch.save(checkpoint, run / "last.ckpt")
    # Longer, and reported on more rarely, is the same run.
    longer = (("steps = 6", "steps = 7"), ("validate_every = 3", "validate_every = 7"))
    train(load_recipe(str(tiny(tmp_path, *longer))), clips, run)
    assert [row["step"] for row in log_rows(run)] == ["7"]
    train(load_recipe(str(tiny(tmp_path, ("steps = 6", "steps = 8"), longer[1]))), clips, run)
    del checkpoint["progress"]
    torch.save(checkpoint, run / "last.ckpt")
    with pytest.raises(WeightsError, match="not a checkpoint of vidtok-train"):
        train(load_recipe(str(tiny(tmp_path))), clips, run)


def test_a_checkpoint_is_never_unpickled(clips: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    recipe = load_recipe(str(tiny(tmp_path)))
    (tmp_path / "run").mkdir()
    for content in (pickle.dumps(Trap()), b"PK cut short"):
        (tmp_path / "run/last.ckpt").write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be resumed from"):
            train(recipe, clips, tmp_path / "run")
    torch.save({"state_dict": Trap()}, tmp_path / "run/last.ckpt")
    with pytest.raises(WeightsError, match="cannot be resumed from"):
        train(recipe, clips, tmp_path / "run")
    assert not (tmp_path / "sprung").exists()


def test_bf16_and_files_read_by_workers_train(clips: Path, tmp_path: Path) -> None:
    read = ("batch = 2", "batch = 2\ncache = false\nworkers = 1")
    half = ("ema = 0.995", 'ema = 0.995\nprecision = "bf16-mixed"\ngradient_checkpointing = true')
    train(load_recipe(str(tiny(tmp_path, read, half))), clips, tmp_path / "run")
    assert "broken.mp4" in (tmp_path / "run/skipped.txt").read_text()
    assert all(t.dtype == torch.float32 for t in load_file(tmp_path / "run/best.safetensors").values())


def test_absent_lpips_weights_are_an_error_at_the_start(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDTOK_LPIPS", str(tmp_path / "nothing"))
    recipe = tiny(tmp_path, ("l2 = 1.0", "perceptual = 1.0"))
    result = CliRunner().invoke(main, [str(recipe), "--data", str(clips), "--run", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "VIDTOK_LPIPS" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("size = 32\nshort", "size = 36\nshort", r"\[data\] size of kl-4chn must be a multiple of 8, got 36"),
        ("held_back_size = 32", "held_back_size = 20", r"\[data\] held_back_size of kl-4chn .* multiple of 8, got 20"),
        ("kl-4chn", "kl-5chn", "no variant is called 'kl-5chn'"),
        ("[1, 1, 2, 2]", "[]", "ch_mult not empty"),
    ],
)
def test_what_does_not_fit_the_model_is_said_before_anything_is_read(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        train(load_recipe(str(tiny(tmp_path, (old, new)))), tmp_path / "none", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_data_leave_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="clips to train on"):
        train(load_recipe(str(tiny(tmp_path))), tmp_path / "empty", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_made(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arguments = ["--data", str(clips), "--run", str(tmp_path / "file/run")]
    result = CliRunner().invoke(main, [str(tiny(tmp_path)), *arguments])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "cannot be made: Not a directory; name another --run" in line


def test_without_a_compiler_it_is_said_what_to_do(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "none"),))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    recipe = tiny(tmp_path, ("ema = 0.995", "compile = true"))
    arguments = ["--data", str(clips), "--run", str(tmp_path / "run"), "--accelerator", "cpu"]
    result = CliRunner().invoke(main, [str(recipe), *arguments])
    assert result.exit_code == 1
    (line,) = [text for text in result.stderr.splitlines() if "error" in text]
    assert "needs a C++ compiler" in line
    assert "set `compile = false`" in line


def test_command_line(clips: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(clips), "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(main, ["no-such-recipe", *arguments])
    assert result.exit_code == 1
    assert "tiny-kl-16chn" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    result = CliRunner().invoke(main, [str(tiny(tmp_path)), *arguments, "--steps", "1", "--accelerator", "cpu"])
    assert result.exit_code == 0
    assert "best held-back PSNR" in result.stdout
    assert CliRunner().invoke(main, ["x", "--data", str(tmp_path / "none"), "--run", "y"]).exit_code == 2
    assert "released-stage2" in CliRunner().invoke(main, ["--help"]).stdout
