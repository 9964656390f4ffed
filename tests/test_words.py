"""The field's words: those that were given up stay away, and a class name means one thing."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RETIRED = {
    r"\bReach\b": "causal cache",
    r"\bThread\(state": "state scope",
    r"\bdef miss\b|\.miss\(": "distance to cell",
    r"\bdef double\b": "upsample_linear",
    r"[Pp]age[- _]locked": "pinned memory",
    r"\b[Hh](eld|old)[ _-]back\b": "held-out",
    r"[Bb]its a pixel": "bits per pixel",
    r"\btraining legs?\b|\blegs? of (the )?training": "training stage",
    r"\b_?(MOST|LEAST)_[A-Z]|\b_?(most|least)_[a-z]": "max_, min_",
    r"\btake_turns\b": "interleave",
}
TEXTS = {".py", ".md", ".toml", ".hpp", ".cpp", ".js", ".mjs", ".ts", ".html", ".csv"}
EXEMPT = {"CHANGELOG.md", "tests/test_words.py", "RELEASING.md"}  # they name old words


def _files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if name not in EXEMPT]


def test_retired_words_stay_away() -> None:
    found = []
    for path in _files():
        if path.suffix not in TEXTS or not path.is_file():
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for pattern, instead in RETIRED.items():
                if match := re.search(pattern, line.replace("most_common", "")):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]!r}; the word is {instead}")
    assert not found, "\n".join(found)


def test_a_class_name_means_one_thing() -> None:
    homes = defaultdict(list)
    for path in _files():
        if path.suffix == ".py" and path.is_file() and ROOT / "tests" not in path.parents:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes[node.name].append(str(path.relative_to(ROOT)))
    assert not {name: places for name, places in homes.items() if len(places) > 1}
