"""The soak test of scripts/soak.py on some seconds of video; whether memory grows only a long run can tell."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("soak")


@pytest.mark.parametrize("bundle", ["tiny-kl-16chn", "tiny-fsq-32768"])
def test_seconds_of_it(script: Any, tmp_path: Path, bundle: str) -> None:
    result = script.soak(
        tmp_path,
        minutes=0.05,
        fps=30,
        size=(32, 32),
        bundle=bundle,
        provider="cpu",
        threads=1,
        every=0.001,
        say=lambda _: None,
    )
    assert [line for line in result["failed"] if not line.startswith("memory")] == []
    assert (result["frames"], result["frames_in_tokens"], result["frames_back"]) == (90, 90, 90)
    whole, last = result["other_pushes"]["whole"], result["other_pushes"]["last_minute"]
    assert whole["latents"] == last["latents"] == 24
    for phase in result["phases"].values():
        assert phase["samples"] >= 4  # one for each quarter
        assert 30 < phase["first_quarter_mib"] <= phase["max_mib"]


def test_what_it_would_notice(script: Any) -> None:
    phase = {"growth": 0.0}
    part = {"numbers": 10_000, "differing": 0, "largest": 0.0}
    sound = {
        "frames": 9,
        "frames_in_tokens": 9,
        "frames_back": 9,
        "frames_missing": 0,
        "times_off_by_s": 0.0,
        "phases": {"encode": phase},
        "other_pushes": {"whole": part, "last_minute": part},
    }
    assert script.failures(sound, discrete=True) == script.failures(sound, discrete=False) == []
    off = {**part, "differing": 2, "largest": 2e-4}
    for change, said in (
        ({"frames_in_tokens": 8}, "frames in the token file"),
        ({"frames_missing": 1}, "frames back"),
        ({"times_off_by_s": 0.04}, "times"),
        ({"phases": {"encode": {"growth": 0.03}}}, "memory of encode"),
        ({"other_pushes": {"whole": part, "last_minute": off}}, "tokens of other pushes, last_minute"),
    ):
        for discrete in (True, False):
            assert script.failures({**sound, **change}, discrete=discrete) == [said]
