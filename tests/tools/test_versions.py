"""One version in all the places that need it: packages of each language, and what the C library says of itself."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_all_packages_have_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    web, rust = ROOT / "runtime/web", ROOT / "runtime/rust"
    locked = json.loads((web / "package-lock.json").read_text())
    (crate,) = (
        row for row in tomllib.loads((rust / "Cargo.lock").read_text())["package"] if row["name"].startswith("vidtok")
    )
    (library,) = re.findall(
        r"VERSION ([0-9.]+)", (ROOT / "runtime/cpp/CMakeLists.txt").read_text().split("project(")[1]
    )
    found = {
        "package.json": json.loads((web / "package.json").read_text())["version"],
        "package-lock.json": locked["version"],
        "package-lock.json, its package": locked["packages"][""]["version"],
        "Cargo.toml": tomllib.loads((rust / "Cargo.toml").read_text())["package"]["version"],
        "Cargo.lock": crate["version"],
        "CMakeLists.txt": library,
        **{f"javascript.md, {n}": v for n, v in enumerate(_archives())},
    }
    assert found == dict.fromkeys(found, version)


def _archives() -> list[str]:
    """Versions in the names of npm's archives."""
    return re.findall(r"vidtok-onnx-web-([0-9.]+)\.tgz", (ROOT / "docs/javascript.md").read_text())
