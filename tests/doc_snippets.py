"""Blocks of code in Markdown, and what comments in front of them say about running them.

<!-- not run: REASON -->             the block needs what a test machine lacks; REASON is one of `REASONS`
<!-- not run: REASON: BEGINNING -->  only its lines that begin so
<!-- slow -->  <!-- slow: BEGINNING -->  run by `make slow`
<!-- each line apart -->             every line begins with the files that are given
<!-- in an empty folder -->          the block makes files that exist already
<!-- saved as: NAME -->              a file that later blocks of the page use
<!-- run by: tests/test_x.py -->     another test runs it
<!-- all run by: tests/test_x.py -->  the same of every block of the page
<!-- quoted from: PATH -->           it stands so in a file of the repository, which has tests of its own
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REASONS = {
    "needs the network",
    "needs a camera",
    "needs CUDA",
    "needs a bucket",
    "needs a cluster",
    "needs real clips",
    "needs released weights",
    "needs published weights",
    "needs hours of training",
    "needs a long measurement",
    "needs the golden vectors",
    "needs a model server",
    "needs a browser",
}
_FENCE = re.compile(r"((?:<!--[^\n]*-->\n+)*)```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WHAT = "not run|slow|each line apart|in an empty folder|saved as|run by|quoted from"
_MARK = re.compile(rf"<!-- ({_WHAT})(?:: ([^:]+?)(?:: (.+?))?)? -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, line, language, text, and marks as (what, argument, beginning)."""

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[tuple[str, str, str], ...]

    def arguments(self, what: str) -> list[str]:
        return [argument for name, argument, _ in self.marks if name == what]

    def marked(self, what: str, line: str | None = None) -> bool:
        """Whether a mark covers the block, or a line of it."""
        for name, argument, beginning in self.marks:
            beginning = argument if what == "slow" else beginning
            if name == what and (not beginning or (line is not None and line.startswith(beginning))):
                return True
        return False

    def lines(self) -> list[str]:
        """Commands, with continued lines joined and comments left out."""
        joined = self.text.replace("\\\n", " ")
        lines = [re.sub(r"(?:^|\s)#\s.*$", "", line).strip() for line in joined.splitlines()]
        return [re.sub(r"\s{2,}", " ", line) for line in lines if line]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = page.read_text()
    elsewhere = tuple(("run by", name, "") for name in re.findall("<!-- all run by: (.+?) -->", text))
    for match in _FENCE.finditer(text):
        marks = elsewhere + tuple((m[1], m[2] or "", m[3] or "") for m in _MARK.finditer(match[1]))
        yield Block(page, text[: match.start(2)].count("\n") + 1, match[2], match[3], marks)
