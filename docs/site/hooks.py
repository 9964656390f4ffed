"""What the site has beyond the files of docs/: pages made of the code and of the files at the top of the repository."""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[2]
# Files at the top of the repository that are pages of the site.
TOP = {"SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
# What the theme would load from the network for searching without a server, and what is here instead.
_SHIM, _OURS = "https://unpkg.com/iframe-worker/shim", "site/worker.js"
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that no file of docs/ holds."""
    for name, page in TOP.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the repository that are no part of the site stay as their text."""

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        folder = "" if page.file.generated_by else posixpath.dirname(page.file.src_uri)
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        place = posixpath.normpath(posixpath.join("." if page.file.src_uri in TOP.values() else "docs", folder, target))
        if place in TOP:
            return f"[{text}]({posixpath.relpath(TOP[place], folder or '.')}{anchor})"
        if not place.startswith("docs/"):
            return text
        return f"[{text}]({posixpath.relpath(place.removeprefix('docs/'), folder or '.')}{anchor})"

    return _LINK.sub(link, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Nothing comes from the network."""
    return output.replace(_SHIM, get_relative_url(_OURS, page.url))


def on_post_template(output: str, **_: Any) -> str:
    """The same for 404.html."""
    return output.replace(_SHIM, _OURS)


def programs() -> dict[str, click.Command]:
    """The commands that the package installs, by name."""
    from vidtok_export.cli import main as export
    from vidtok_ref.train.cli import main as train
    from vidtok_runtime.cli import main as run

    return {"vidtok-run": run, "vidtok-export": export, "vidtok-train": train}


def commands_page() -> str:
    """Every command with its options and examples, as Markdown."""
    lines = ["# Commands", "", "What `--help` prints, made from the code.", ""]
    for name, command in programs().items():
        lines += _describe(click.Context(command, info_name=name), 2)
    return "\n".join(lines)


def examples(command: click.Command) -> list[str]:
    """Command lines of the epilog of a command."""
    text = " ".join((command.epilog or "").replace("\b", "").split())
    listed = text.partition("Examples:")[2] or text.partition("Example:")[2]
    parts = re.split(r"; (?:then )?| (?=vidtok-train )", listed)
    return [part.strip() for part in parts if part.strip()]


def _describe(context: click.Context, level: int) -> Iterator[str]:
    command = context.command
    yield f"{'#' * level} {context.command_path}"
    yield ""
    yield from inspect.cleandoc(command.help or "").splitlines()
    yield ""
    usage = " ".join(command.collect_usage_pieces(context))
    yield from ("```text", f"{context.command_path} {usage}", "```", "")
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    yield from ("| option | |", "| - | - |")
    for names, text in filter(None, records):
        if text:  # not so for the plain arguments, which the text above describes
            yield f"| `{names}` | {_cell(text)} |"
    yield ""
    if lines := examples(command):
        yield from ("```bash", *lines, "```", "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _describe(click.Context(child, info_name=name, parent=context), level + 1)


def _cell(text: str) -> str:
    return re.sub(r"([|<>*_\[\]])", r"\\\1", text)
