"""`scripts/table1.py` on narrow models: what is measured, kept, missing and said."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest
from click.testing import CliRunner, Result
from narrow import NARROW, narrow

from vidtok_ref import VideoTokenizer
from vidtok_ref.families.weights_file import write_weights
from vidtok_runtime.errors import VidtokError
from vidtok_runtime.tools.demo import make_clip

SCRIPTS = Path(__file__).parents[2] / "scripts"
VARIANT = "cosmos-dv-4x8x8"
LATER = {"method": "Later", "regularizer": "VQ-2", "variant": "later-1.0", "parameters_millions": 9}


@pytest.fixture
def table1(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with one more system in the published table that no family has."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("table1", SCRIPTS / "table1.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "table1", module)
    spec.loader.exec_module(module)
    quality = dict.fromkeys(("psnr", "ssim", "lpips", "fvd"), "1.5")
    known = [*module.published(), LATER | {"mcl_jcv": quality, "webvid_val": quality}]
    monkeypatch.setattr(module, "published", lambda: known)
    return module


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clips, a checkpoint of one narrow system, and sizes."""
    for folder in ("clips", "checkpoints"):
        (tmp_path / folder).mkdir(parents=True)
    make_clip(tmp_path / "clips/a.mp4", 17, 32, 40, fps=Fraction(30))
    make_clip(tmp_path / "clips/short.mp4", 3, 32, 40, fps=Fraction(30))
    write_weights(narrow(VARIANT), tmp_path / f"checkpoints/{VARIANT}.safetensors")
    (tmp_path / "sizes.json").write_text(json.dumps({name: NARROW[name] for name in (VARIANT, "cogvideox")}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(table1: ModuleType, *arguments: object) -> Result:
    common = ("clips", "--overrides", "sizes.json", "--size", 16, "--provider", "cpu", "--threads", 1, "--repeats", 1)
    return CliRunner().invoke(table1.main, [str(a) for a in (*common, *arguments, "--quiet")])


@pytest.mark.slow
def test_what_is_there_is_measured_and_what_is_missing_named(
    table1: ModuleType,
    place: Path,
    exported: Callable[[VideoTokenizer], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As an earlier run would have left it.
    shutil.copytree(exported(narrow(VARIANT)), place / "table1.work/bundles" / VARIANT)
    names = ("--variant", VARIANT, "--variant", "cogvideox", "--variant", "later-1.0")
    result = call(table1, "--checkpoints", "checkpoints", *names)
    assert result.exit_code == 0, result.output
    report = json.loads(Path("table1.json").read_text())
    cosmos, cogvideox, later = report["systems"]
    assert [row["frames"] for row in cosmos["measured"]["quality"]["clips"]] == [17]
    assert cosmos["measured"]["quality"]["mean"]["bits_per_pixel"] == pytest.approx(
        15.9658 * 5 * 4 / (17 * 16**2), rel=1e-4
    )
    assert set(cosmos["measured"]["speed"]) == {"encoder", "decoder"}
    assert all(row["frames_per_second"] > 0 for row in cosmos["measured"]["speed"].values())
    assert cosmos["measured"]["parameters"] == sum(p.numel() for p in narrow(VARIANT).parameters())
    assert cosmos["missing"] == ["left out: clips/short.mp4 has 3 of the 17 frames that the protocol asks for"]
    assert cogvideox["missing"] == [
        "no checkpoint: put cogvideox.safetensors, .ckpt or a folder cogvideox into the folder"
    ]
    assert "quality" not in cogvideox["measured"]
    assert (later["measured"], later["missing"]) == ({}, ["not here yet: no family has it"])
    page = Path("table1.md").read_text()
    assert "UNTRAINED" not in page
    rows = {line.split(" | ")[1]: line for line in page.splitlines() if line.startswith("| ")}
    assert "28.07" in rows[f"`{VARIANT}`"]  # the paper's PSNR, beside ours
    assert f"{cosmos['measured']['quality']['mean']['psnr']:.2f}" in rows[f"`{VARIANT}`"]
    assert "not here yet" in rows["`later-1.0`"]
    for text in ("LPIPS is not measured", "FVD is not measured", "frames of 16x16, published figures are of 256x256"):
        assert text in page
        assert text in result.output
    assert cv2.imread("table1.png").shape[1] > 1000

    again = call(table1, "--checkpoints", "checkpoints", *names)
    assert again.exit_code == 1
    assert "exists already" in str(again.exception)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it is measured already")

    for name in ("subprocess.run", "run_bench"):
        monkeypatch.setattr(f"table1.{name}", never)
    untrained = call(table1, "--seed", 0, "--variant", VARIANT, "--force")  # the same weights
    assert untrained.exit_code == 0, untrained.output
    assert Path("table1.md").read_text().startswith("# UNTRAINED: ")
    assert json.loads(Path("table1.json").read_text())["systems"][0]["measured"] == cosmos["measured"]


def test_refusals(table1: ModuleType, place: Path) -> None:
    assert call(table1, "--seed", 0, "--checkpoints", "checkpoints").exit_code == 2
    assert call(table1).exit_code == 2
    unknown = call(table1, "--seed", 0, "--variant", "cogvideo")
    assert isinstance(unknown.exception, VidtokError)
    assert "--list shows them" in str(unknown.exception)
    nothing = call(table1, "--seed", 0, "--variant", "later-1.0", "-o", "nothing")
    assert "nothing could be measured" in str(nothing.exception)
    page = Path("nothing.md").read_text()
    assert page.startswith("# UNTRAINED: ")
    assert "Later (later-1.0): not here yet: no family has it" in page
    assert cv2.imread("nothing.png").shape[1] > 1000
    shutil.copy(f"checkpoints/{VARIANT}.safetensors", f"checkpoints/{VARIANT}")
    twice = call(table1, "--checkpoints", "checkpoints", "--variant", VARIANT, "-o", "twice")
    assert "not everything" in str(twice.exception)
    assert "leave one of them" in Path("twice.md").read_text()
    (place / "sizes.json").write_text("[1]")
    assert "no JSON object of fields by variant" in str(call(table1, "--seed", 0, "-o", "other").exception)


def test_every_published_system_is_one_of_the_paper() -> None:
    content = json.loads((SCRIPTS / "published_table1.json").read_text())
    assert "2412.13061" in content["source"]
    assert len(content["systems"]) == 12
    assert len({system["variant"] for system in content["systems"]}) == 12
