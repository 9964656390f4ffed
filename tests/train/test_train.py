"""The trainer on made-up clips: it learns, averages, starts from weights, and shares the work."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from click.testing import CliRunner
from conftest import NARROW
from lightning.pytorch.utilities import rank_zero_only
from safetensors import safe_open
from safetensors.torch import load_file
from training_runs import GAN, LINEAR, command, last_state, log_rows, tiny, tiny_recipe
from video_files import lossless

from vidtok_ref import build
from vidtok_ref.errors import DataError, WeightsError
from vidtok_ref.families.weights_file import embedded_variant, write_weights
from vidtok_ref.train.cli import main
from vidtok_ref.train.first_weights import first_model
from vidtok_ref.train.material import load_material
from vidtok_ref.train.recipe import load_recipe
from vidtok_ref.train.report import Report
from vidtok_ref.train.run import train
from vidtok_runtime.tools.demo import synthetic_frame


def test_a_run_leaves_log_pictures_and_what_it_skipped(whole: Path) -> None:
    rows = log_rows(whole)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert all(float(row[name]) > 0 for row in rows for name in ("loss", "l1", "l2", "kl", "gradient_norm"))
    assert [bool(row["held_out_psnr"]) for row in rows] == [False, False, True, False, False, True]
    picture = cv2.imread(str(whole / "pictures/step-000003.png"))
    assert picture.shape == (64, 32, 3)
    assert "broken.mp4" in (whole / "skipped.txt").read_text()
    assert len((whole / "skipped.txt").read_text().splitlines()) == 1
    assert not list(whole.glob("*.part"))


def test_what_is_written_is_the_average(whole: Path) -> None:
    state, best = last_state(whole), load_file(whole / "best.safetensors")
    assert float(log_rows(whole)[-1]["held_out_psnr"]) == float(log_rows(whole)[-1]["best_psnr"])
    name = "decoder.conv_out.conv.weight"
    assert torch.equal(best[name], state[f"average.{name}"])
    assert not torch.equal(best[name], state[f"model.{name}"])


def test_the_last_weights_are_handed_on_though_others_were_better(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter((30.0, 20.0))
    monkeypatch.setattr("vidtok_ref.train.report.psnr", lambda *_: next(falling))
    train(tiny_recipe(tmp_path), clips, tmp_path)
    last, state = load_file(tmp_path / "last.safetensors"), last_state(tmp_path)
    assert last.keys() == load_file(tmp_path / "best.safetensors").keys()
    assert all(torch.equal(tensor, state[f"average.{name}"]) for name, tensor in last.items())
    with safe_open(tmp_path / "best.safetensors", "pt") as best, safe_open(tmp_path / "last.safetensors", "pt") as end:
        assert (best.metadata()["steps"], end.metadata()["steps"]) == ("3", "6")
    variant = embedded_variant(tmp_path / "last.safetensors")
    assert variant is not None
    assert variant.ch == 8


def rms_apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return torch.cat([(a[name] - b[name]).double().flatten() for name in a]).square().mean().sqrt().item()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    changes = (GAN, LINEAR, ("learning_rate = 3e-4\n", ""))
    recipe, clips = tiny(tmp_path, *changes), tmp_path / "clips"
    clips.mkdir()
    for name, first in (("a", 0), ("b", 20), ("held", 50)):
        lossless(clips / f"{name}.mkv", [synthetic_frame(first + i, 144, 144) for i in range(12)])
    cv2.imwrite(str(clips / "photo.png"), synthetic_frame(7, 160, 200))
    train(load_recipe(str(recipe))[0], clips, tmp_path / "one", accelerator="cpu")
    run = command(recipe, clips, tmp_path / "two", "--devices", "2")
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Half of every batch, which is what a process sees that nobody talks to, leads somewhere else.
    train(tiny_recipe(tmp_path, *changes, ("batch = 2", "batch = 1")), clips, tmp_path / "half")
    one, two, half = (last_state(tmp_path / run) for run in ("one", "two", "half"))
    assert one.keys() == two.keys()
    # A run repeats to the bit, but batches of one and of two are summed in another order, and Adam's first steps are as
    # long for a gradient of rounding errors as for any other: RMS 3e-8 to 6e-5 over 20 sets of clips, where the steps
    # themselves come to 0.1.
    assert rms_apart(one, two) < rms_apart(one, half) / 200
    rows = [log_rows(tmp_path / run) for run in ("one", "two", "half")]
    for name, steps in {"gradient_norm": (0, 1, 2), "adaptive_weight": (2,)}.items():  # before that has effect
        alone, shared, unshared = ([float(row[step][name]) for step in steps] for row in rows)
        assert shared == pytest.approx(alone, rel=1e-3)
        assert unshared != pytest.approx(alone, rel=1e-2)
    held = [float(row[-1]["held_out_psnr"]) for row in rows[:2]]
    assert abs(held[0] - held[1]) < 0.05
    assert len(rows[1]) == 6


def test_the_first_process_of_another_node_writes_nothing(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # set by the trainer, for the whole process
    monkeypatch.setattr("lightning.Trainer.fit", lambda *_, **__: None)
    train(tiny_recipe(tmp_path), clips, tmp_path / "run", accelerator="cpu", nodes=2)
    assert not (tmp_path / "run").exists()
    Report(tmp_path).skip("broken.mp4", write=False)
    assert not (tmp_path / "skipped.txt").exists()


def test_the_second_stage_leaves_the_encoder_alone(clips: Path, tmp_path: Path, whole: Path) -> None:
    recipe = tiny_recipe(tmp_path, ("ema = 0.995", 'train = "decoder"\nema = 0.995'))
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
        model = first_model(load_recipe(str(recipe))[0], load_material(clips, load_recipe(str(recipe))[0].data), init)
        assert all(torch.equal(t, model.state_dict()[k]) for k, t in load_file(whole / "best.safetensors").items())
    named = tiny_recipe(tmp_path, ("[data]", 'init = "kl-4chn"\n[data]'))
    with pytest.raises(WeightsError, match="vidtok_kl_causal_488_4chn"):
        first_model(named, load_material(clips, named.data))


def test_bf16_and_files_read_by_workers_train(clips: Path, tmp_path: Path) -> None:
    read = ("batch = 2", "batch = 2\ncache = false\nworkers = 1")
    half = ("ema = 0.995", 'ema = 0.995\nprecision = "bf16-mixed"\ngradient_checkpointing = true')
    train(tiny_recipe(tmp_path, read, half), clips, tmp_path / "run")
    assert "broken.mp4" in (tmp_path / "run/skipped.txt").read_text()
    assert all(t.dtype == torch.float32 for t in load_file(tmp_path / "run/best.safetensors").values())


def test_command_line(clips: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(clips), "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(main, ["no-such-recipe", *arguments])
    assert result.exit_code == 1
    assert "tiny-kl-16chn" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    result = CliRunner().invoke(main, [str(tiny(tmp_path)), *arguments, "--steps", "1", "--accelerator", "cpu"])
    assert result.exit_code == 0
    assert "best held-out PSNR" in result.stdout
    assert CliRunner().invoke(main, ["x", "--data", str(tmp_path / "none"), "--run", "y"]).exit_code == 2
    assert "released-stage2" in CliRunner().invoke(main, ["--help"]).stdout


def test_steps_in_bf16(clips: Path, tmp_path: Path) -> None:
    half = ("ema = 0.995", 'ema = 0.995\nprecision = "bf16-mixed"')
    assert train(tiny_recipe(tmp_path, half), clips, tmp_path / "run") > 5
