"""Write the table of docs/inputs.md: the files that tests/video_files.py makes, encoded and decoded, as measured.

python scripts/inputs_table.py
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import av
import click
from pages import put

from vidtok_runtime import Tokenizer
from vidtok_runtime.pipeline.files import decode_file, encode_file
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.source import Damage, Opening

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs/inputs.md"
sys.path.insert(0, str(ROOT / "tests"))


class Notes(logging.Handler):
    """Keeps what is said about an input."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage().partition(": ")[2])


def row(case: str, path: Path, tok: Tokenizer) -> str:
    """One line of the table."""
    notes = Notes()
    logging.getLogger("vidtok_runtime").handlers = [notes]
    tokens, back = path.with_name("t.safetensors"), path.with_name("back.mkv")
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stored = f"{stream.codec_context.name} {stream.codec_context.pix_fmt} {stream.width}x{stream.height}"
    info = encode_file(tok, path, tokens, opening=Opening(Damage.COUNTED), quiet=True)
    decode_file(tok, tokens, back, quiet=True)
    with VideoReader(path, opening=Opening(Damage.COUNTED)) as a, VideoReader(back) as b:
        before = [float(frame.pts * a.time_base) for frame in a]
        after = [float(frame.pts * b.time_base) for frame in b]
    off = max((abs(x - y) for x, y in zip(before, after, strict=True)), default=0.0)
    size = f"{info.width}x{info.height}"
    return (
        f"| {case} | `{path.suffix}` {stored} | {len(after)} of {size} | {1000 * off:.1f} | {'; '.join(notes.said)} |\n"
    )


@click.command()
def main() -> None:
    """Measure every case and put the rows into the page."""
    from video_files import FILES, damaged, make

    tok = Tokenizer("tiny-fsq-32768", provider="cpu", threads=1)
    rows = ["| input | stored as | frames back | times off by, ms | message |\n", "|---|---|---|---|---|\n"]
    with tempfile.TemporaryDirectory() as name:
        for number, (case, values) in enumerate(FILES.items()):
            folder = Path(name) / str(number)
            folder.mkdir()
            rest = {k: v for k, v in values.items() if k not in ("name", "pictures", "interlaced")}
            rows.append(row(case, make(folder / values["name"], values.get("pictures"), **rest), tok))
        for suffix in (".mkv", ".mp4"):
            folder = Path(name) / f"damaged{suffix}"
            folder.mkdir()
            rows.append(row("a packet overwritten, of 60", damaged(folder / f"a{suffix}", "middle"), tok))
    put(TARGET, "".join(rows))


if __name__ == "__main__":
    main()
