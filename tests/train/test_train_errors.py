"""What is wrong with a training run is one line, and spares what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from training_runs import tiny, tiny_recipe

from vidtok_ref.errors import DataError, DivergedError, ModelError
from vidtok_ref.train.cli import main
from vidtok_ref.train.run import train


def test_a_batch_that_cannot_be_shared_is_refused(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="batch 2 cannot be shared evenly by 3 processes"):
        train(tiny_recipe(tmp_path), clips, tmp_path / "run", devices=3)


def test_not_a_number_stops_the_run_and_spares_the_best(clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DivergedError, match=r"step 0: .* lower learning_rate .* starts again"):
        train(tiny_recipe(tmp_path, ("l2 = 1.0", "l2 = 1e300")), clips, run)
    sick = tiny(tmp_path, ("learning_rate = 3e-4", "learning_rate = 1e30"))
    train(tiny_recipe(tmp_path, ("steps = 6", "steps = 3")), clips, run)
    before = {name: (run / name).read_bytes() for name in ("best.safetensors", "last.ckpt")}
    result = CliRunner().invoke(main, [str(sick), "--data", str(clips), "--run", str(run)])
    assert result.exit_code == 1
    (line,) = [text for text in result.stderr.splitlines() if "error" in text]
    assert "step 4: the loss is" in line
    assert f"resumes from {run / 'last.ckpt'}" in line
    assert all((run / name).read_bytes() == content for name, content in before.items())


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
        ("held_out_size = 32", "held_out_size = 20", r"\[data\] held_out_size of kl-4chn .* multiple of 8, got 20"),
        ("kl-4chn", "kl-5chn", "no variant is called 'kl-5chn'"),
        ("[1, 1, 2, 2]", "[]", "ch_mult not empty"),
        (
            "l2 = 1.0",
            "usage = 1.0",
            r"\[loss\] usage is for tokens by channel \(fsq, lfq\), which kl-4chn does not have",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_said_before_anything_is_read(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        train(tiny_recipe(tmp_path, (old, new)), tmp_path / "none", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_data_leave_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="clips to train on"):
        train(tiny_recipe(tmp_path), tmp_path / "empty", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_made(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arguments = ["--data", str(clips), "--run", str(tmp_path / "file/run")]
    result = CliRunner().invoke(main, [str(tiny(tmp_path)), *arguments])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "cannot be made: Not a directory; name another --run" in line
