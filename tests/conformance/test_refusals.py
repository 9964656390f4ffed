"""One file of what is refused and what is not, judged by every runtime; and random changes that all judge alike."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from cases import KIT
from cpp_program import BUILD, Build
from mutations import JSON_FILES, random_edits, whole
from onnx_mutations import mutations
from refusals import REFUSALS, Refusal, read_refusals
from test_node import WEB

pytest_plugins = ["cpp_builds"]

QUICK = 400
THOROUGH = int(os.environ.get("VIDTOK_FUZZ", "5000"))
MAX_CASES = 10_000  # of one file


@pytest.mark.parametrize("case", read_refusals(), ids=lambda case: case.name)
def test_python(case: Refusal, tmp_path: Path) -> None:
    said = case.refused(tmp_path)
    assert (said is not None) == (case.verdict == "refuse"), (said, case.why)


def judged_by_cpp(path: Path) -> None:
    done = subprocess.run(
        [BUILD / "vidtok_tests", "refusals", KIT, path], capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr


def judged_by_node(path: Path) -> None:
    done = subprocess.run(
        ["node", "--test", WEB / "test/refusals.test.js"],
        env={**os.environ, "VIDTOK_REFUSALS": str(path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]


def test_cpp(plain: Build) -> None:
    judged_by_cpp(REFUSALS)


def test_the_file_is_of_use() -> None:
    cases = read_refusals()
    assert len({case.name for case in cases}) == len(cases)
    refused = Counter(case.file.rpartition(".")[2] for case in cases if case.verdict == "refuse")
    assert refused["json"] + refused["safetensors"] >= 60
    assert refused["onnx"] >= 10
    assert sum(case.verdict == "accept" for case in cases) >= 15


@pytest.mark.parametrize("count", [QUICK, pytest.param(THOROUGH, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [*JSON_FILES, "encoder.local.onnx"])
def test_all_runtimes_judge_random_changes_alike(plain: Build, kind: str, count: int, tmp_path: Path) -> None:
    chance = random.Random(kind)
    graphs = mutations(chance, count)
    for start in range(0, count, MAX_CASES):
        cases, refused = [], 0
        for i in range(start, min(count, start + MAX_CASES)):
            if kind in JSON_FILES:
                raw = random_edits(chance, chance.choice(JSON_FILES[kind]))
            else:
                raw = whole("fsq-causal/encoder.local.onnx", next(graphs))
            case = Refusal(**{"name": f"{i}", "part": "file", "verdict": "", "why": "", **raw})
            said = case.refused(tmp_path)
            if said is not None and "is missing" in said:  # only a reader that has the folder can tell
                continue
            refused += said is not None
            verdict = "accept" if said is None else "refuse"
            cases.append({"name": f"{i}", **raw, "verdict": verdict, "why": (said or "")[-120:]})
        assert len(cases) / 4 < refused < len(cases)
        path = tmp_path / "random.json"
        path.write_text(json.dumps({"format": "vidtok-refusals", "version": 1, "cases": cases}))
        judged_by_cpp(path)
        judged_by_node(path)
