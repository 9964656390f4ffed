"""The documentation site builds without a warning, and asks nothing of the network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("mkdocs", reason="mkdocs is not installed (the extra docs)")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed (the extra docs)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    # A process of its own, since material.py of the tests has the name of the theme.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ROOT / "docs/site/mkdocs.yml", "-d", target]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def _pages(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from _pages(value) if isinstance(value, list) else [value]


def test_every_page_is_there(site: Path) -> None:
    import yaml

    nav = yaml.safe_load((ROOT / "docs/site/mkdocs.yml").read_text())["nav"]
    pages = list(_pages(nav))
    assert len(pages) > 15
    for page in pages:
        assert (site / page).with_suffix(".html").is_file()
    assert (site / "examples/diffusers_adapter.py").is_file()
    assert not list(site.rglob("hooks.py"))


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"((?:https?:)?//[^\"]*)", page.read_text()
        )
        assert not loaded, page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", style.read_text()), style


def test_all_commands_and_options_are_described(site: Path) -> None:
    from vidtok_export.cli import main as export
    from vidtok_ref.train.cli import main as train
    from vidtok_runtime.cli import main as run

    text = (site / "commands.html").read_text()

    def check(command: click.Command, path: str) -> None:
        assert f'id="{path.replace(" ", "-")}"' in text
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[-1] in text, f"{path} {parameter.opts}"
        for name, child in getattr(command, "commands", {}).items():
            check(child, f"{path} {name}")

    for name, command in (("vidtok-run", run), ("vidtok-export", export), ("vidtok-train", train)):
        check(command, name)


def test_the_python_reference_has_the_public_names(site: Path) -> None:
    import vidtok_runtime

    text = (site / "api.html").read_text()
    for name in vidtok_runtime.__all__:
        assert re.search(rf'id="vidtok_runtime\.(\w+\.)?{name}"', text), name
