"""Where scripts put their tables: between two comments of a page of docs/; the words around them are the page's own."""

from __future__ import annotations

from pathlib import Path

_END = "<!-- end -->\n"


def put(page: Path, text: str, mark: str = "measured") -> None:
    """Replace what stands in a page between `<!-- MARK -->` and the `<!-- end -->` behind it."""
    head, begin, rest = page.read_text().partition(f"<!-- {mark} -->\n")
    _, end, tail = rest.partition(_END)
    if not end:
        raise SystemExit(f"{page} has no <!-- {mark} --> with an <!-- end --> behind it")
    page.write_text(head + begin + text.strip() + "\n" + end + tail)
