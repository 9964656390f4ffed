"""What the documentation shows works: commands and code run, errors are those of the code, links lead somewhere."""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import shlex
import shutil
import sys
import tarfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from doc_snippets import PAGES, REASONS, ROOT, Block, blocks

from vidtok_export.cli import main as export_main
from vidtok_ref.families.vidtok.variant import VARIANTS
from vidtok_ref.train.cli import main as train_main
from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.cli import main as run_main
from vidtok_runtime.tools.demo import make_clip, synthetic_frame

PROGRAMS: dict[str, click.Command] = {"vidtok-run": run_main, "vidtok-export": export_main, "vidtok-train": train_main}
SHOWN = {"text", "json", "csv"}  # nothing to run
# What they run starts many processes; `make slow` runs them in whole, and the default suite parses their commands.
LONG = {"docs/tour.md", "docs/how-to/data-set.md", "docs/how-to/evaluate.md", "docs/how-to/train.md"}


def _clip(path: Path, count: int, rate: int = 25, first: int = 0) -> None:
    make_clip(path, count, 48, 64, first=first, fps=Fraction(rate))


def _run(line: str) -> None:
    """Run a command here, in this process, as it is pasted, but on one engine and one thread."""
    program, *args = shlex.split(os.path.expandvars(line))
    command, context = PROGRAMS[program], None
    path = []
    for arg in args:
        if not isinstance(command, click.Group) or arg not in command.commands:
            break
        command = command.commands[arg]
        path.append(arg)
    context = click.Context(command)
    options = {option for parameter in command.get_params(context) for option in parameter.opts}
    if "--provider-option" in options and "--provider" not in args:
        args += ["--provider", "cpu"]
    if "--threads" in options and "--threads" not in args:
        args += ["--threads", "1"]
    result = CliRunner().invoke(PROGRAMS[program], args)
    assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the documentation names."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("clips", "train", "frames", "shards"):
        (folder / name).mkdir()
    _clip(folder / "clip.mp4", 52)
    for i, name in enumerate(("clips/a", "clips/b", "train/c")):
        _clip(folder / f"{name}.mp4", 24, first=40 * i)
    (folder / "clips/a.txt").write_text("a ball and a bar\n")
    (folder / "list.csv").write_text("file,caption\nclips/a.mp4,one\nclips/b.mp4,two\n")
    with tarfile.open(folder / "shards/0.tar", "w") as shard:
        shard.add(folder / "clips/b.mp4", "b.mp4")
    for i in range(3):
        cv2.imwrite(str(folder / f"frames/{i}.png"), synthetic_frame(i, 48, 64))
    shutil.copytree(SHIPPED / "tiny-kl-16chn", folder / "kl-4chn")  # in place of a released variant, as exported
    manifest = folder / "kl-4chn/manifest.json"
    raw = json.loads(manifest.read_text())
    raw["graphs"] = [graph for graph in raw["graphs"] if graph["precision"] == "fp32"]
    manifest.write_text(json.dumps(raw))
    return folder


@pytest.fixture
def place(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the current folder."""
    folder = shutil.copytree(material, tmp_path / "here")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(ROOT / "docs/examples"))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    return folder


def _play(page: Path, place: Path, material: Path, *, slow: bool) -> None:
    """Run the blocks of a page one after another, with those that are slow or without."""
    frames = np.stack([synthetic_frame(i, 48, 64) for i in range(5)])
    names = {"__name__": "docs", "video": frames, "frames": frames}  # what the README takes for given
    for number, block in enumerate(blocks(page)):
        for name in block.arguments("saved as"):
            (place / name).write_text(block.text)
        if block.marked("run by") or block.marked("quoted from") or block.marked("not run"):
            continue
        with pytest.MonkeyPatch.context() as patch:
            if block.marked("in an empty folder"):
                (place / f"empty{number}").mkdir()
                patch.chdir(place / f"empty{number}")
            if block.language == "python" and (slow or not block.marked("slow")):
                exec(compile("\n" * block.line + block.text, str(page), "exec"), names)  # with the page's line numbers
            for line in block.lines() if block.language == "bash" else ():
                if block.marked("not run", line) or (block.marked("slow", line) and not slow):
                    continue
                if block.marked("each line apart"):
                    apart = place.parent / "apart"
                    patch.chdir(shutil.copytree(material, apart))
                    _run(line)
                    shutil.rmtree(apart)
                else:
                    _run(line)


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if _name(page) not in LONG], ids=_name)
def test_commands_and_code_run(page: Path, place: Path, material: Path) -> None:
    _play(page, place, material, slow=False)


def _is_long(page: Path) -> bool:
    return _name(page) in LONG or any("slow" in mark for block in blocks(page) for mark in block.marks)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if _is_long(page)], ids=_name)
def test_long_commands_run(page: Path, place: Path, material: Path) -> None:
    _play(page, place, material, slow=True)


def test_long_pages_are_there() -> None:
    assert {_name(page) for page in PAGES} >= LONG


def _all_blocks() -> Iterator[Block]:
    return itertools.chain.from_iterable(map(blocks, PAGES))


def test_every_block_is_run_or_says_why_not() -> None:
    for block in _all_blocks():
        where = f"{block.page}:{block.line}"
        assert set(block.arguments("not run")) <= REASONS, where
        for name in (*block.arguments("run by"), *block.arguments("quoted from")):
            assert (ROOT / name).is_file(), f"{where}: {name} is not there"
        for name in block.arguments("run by"):
            assert block.page.name in (ROOT / name).read_text(), f"{where}: {name} does not read the page"
        if block.language == "bash":
            if not block.marked("run by"):
                for line in block.lines():
                    assert block.marked("not run", line) or line.split()[0] in PROGRAMS, f"{where}: {line}"
        elif block.language not in SHOWN | {"python"}:
            assert block.marks, f"{where}: say with a comment how the {block.language} block is tested"
        for name in block.arguments("quoted from"):
            lines = [line.strip() for line in block.text.splitlines() if line.strip()]
            found = [line.strip() for line in (ROOT / name).read_text().splitlines() if line.strip()]
            places = range(len(found) - len(lines) + 1)
            assert any(found[i : i + len(lines)] == lines for i in places), f"{where}: {name} has no such lines"


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are parsed to the end, but do nothing, and files need not exist."""
    monkeypatch.setattr(click.Command, "invoke", lambda self, ctx: None)
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: self.coerce_path_result(value))


def _parse(line: str) -> None:
    line = re.sub(r"\$\w+", "0", line.rpartition("| ")[2])  # of a pipe what is ours
    program, *args = shlex.split(line)
    try:
        PROGRAMS[program.rpartition("/")[2]].main(args, program, standalone_mode=False)
    except click.ClickException as error:
        pytest.fail(f"{line}: {error.format_message()}")


@pytest.mark.usefixtures("parse_only")
def test_options_of_all_commands_exist() -> None:
    for block in _all_blocks():
        if block.language == "bash":
            for line in itertools.chain.from_iterable(part.split(" && ") for part in block.lines()):
                if line.split()[0].rpartition("/")[2] in PROGRAMS and not block.marked("run by"):
                    _parse(line)


def test_scripts_and_their_options_exist() -> None:
    lines = [line for block in _all_blocks() if block.language == "bash" for line in block.lines()]
    calls = [shlex.split(line)[1:] for line in lines if line.startswith("python scripts/")]
    assert len(calls) > 10
    for script, *args in calls:
        text = (ROOT / script).read_text()
        options = [arg for arg in args if arg.startswith("--")]
        unknown = [arg for arg in options if f'"{arg}' not in text and f"/{arg}" not in text]  # or as --x/--no-x
        assert not unknown, f"{script} has no {unknown}"


def test_options_of_commands_inside_sentences_exist() -> None:
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for line in re.findall(r"`(vidtok-(?:run|export|train) [^`]+)`", text):
            program, *args = line.split()
            command = PROGRAMS[program]
            while isinstance(command, click.Group) and args and args[0] in command.commands:
                command = command.commands[args.pop(0)]
            assert not isinstance(command, click.Group) or args[:1] == [] or args[0].startswith("-"), f"{page}: {line}"
            options = {o for parameter in command.get_params(click.Context(command)) for o in parameter.opts}
            unknown = {arg for arg in args if re.match("--?[a-z]", arg)} - options
            assert not unknown, f"{page}: {line} has {unknown}"


@pytest.mark.usefixtures("parse_only")
def test_examples_of_the_help_texts_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs/site"))
    hooks = pytest.importorskip("hooks", reason="mkdocs is not installed (the extra docs)", exc_type=ImportError)

    def walk(command: click.Command) -> Iterator[str]:
        yield from hooks.examples(command)
        for child in getattr(command, "commands", {}).values():
            yield from walk(child)

    lines = [line for command in PROGRAMS.values() for line in walk(command)]
    assert len(lines) > 25
    for line in lines:
        _parse(line)


def test_every_command_has_an_example() -> None:
    def walk(command: click.Command, path: str) -> Iterator[str]:
        if f"{path} " not in f"{command.epilog or ''} ":
            yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{path} {name}")

    assert [path for name, command in PROGRAMS.items() for path in walk(command, name)] == []


def _texts_of_the_code() -> list[list[str]]:
    """Every text of the sources that has words in it, in pieces between what is filled in."""
    found = []
    for folder in ("runtime", "export", "vidtok_ref"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    pieces = [v.value if isinstance(v, ast.Constant) else None for v in node.values]
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                    pieces = [node.value]
                else:
                    continue
                found.append([p if p is not None else "\0" for p in pieces])
    return found


def test_errors_of_troubleshooting_are_those_of_the_code() -> None:
    templates = set()
    for pieces in _texts_of_the_code():
        for end in range(1, len(pieces) + 1):
            whole = end == len(pieces)
            if whole or pieces[end - 1] == "\0":  # a text with … may end where something is filled in
                pattern = "".join(".+?" if p == "\0" else re.escape(p) for p in pieces[:end])
                if len(pattern.replace(".+?", "")) >= 15:
                    templates.add((whole, re.compile(pattern)))  # more than the module keeps
    page = ROOT / "docs/troubleshooting.md"
    shown = [match[2] for match in re.finditer(r"^\| (`+)(.+?)\1 \| ", page.read_text(), re.MULTILINE)]
    assert len(shown) > 30
    for text in shown:
        cut = text.endswith("…")
        reason = text.removeprefix("provider cuda: ")  # `provider NAME: ` stands in front of what another text says
        assert any(p.fullmatch(t) for whole, p in templates if whole or cut for t in (text, reason)), text


def test_links_lead_somewhere() -> None:
    generated = {"commands.md", "security.md", "changelog.md"}
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target and target not in generated:
                assert (page.parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("name", ["kl-4chn", "kl-4chn-4x16x16-noncausal", "fsq-32768-8x8x8-v1.1"])
def test_variant_table_is_that_of_the_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import variant_table

    page = variant_table.TARGET.read_text()
    made = variant_table.row(VARIANTS[name], {})
    beginning = made[: made.index(" - | - | - | - |")]  # what is published is not computed
    assert beginning in page
    assert all(f"`{v}`" in page for v in VARIANTS)
    sys.modules.pop("variant_table")


@pytest.mark.parametrize("name", ["kl-16chn", "cosmos-dv-4x8x8"])
def test_table_of_systems_is_that_of_the_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import variant_table

    page = variant_table.TABLE1.read_text()
    systems = {system["variant"]: system for system in variant_table.published()}
    assert variant_table.system_row(systems[name]) in page
    for variant, system in systems.items():
        (row,) = (line for line in page.splitlines() if f"| `{variant}` |" in line)
        assert ("not here yet" in row) == (variant not in variant_table.VARIANTS)
        assert f"({system['parameters_millions'] or '-'})" in row
        assert row.endswith(" / ".join(system["webvid_val"][key] or "-" for key in system["webvid_val"]) + " |")
    sys.modules.pop("variant_table")
