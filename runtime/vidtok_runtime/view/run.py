"""`view`: a clip or tokens in, a report out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest

from vidtok_runtime.errors import InputError
from vidtok_runtime.files import PartFile
from vidtok_runtime.pipeline.files import decoded_frames, progress, round_trip, warn
from vidtok_runtime.quality.metrics import Pixels
from vidtok_runtime.remote import Place, place_of
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.segments import joined, segments_in
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Opening
from vidtok_runtime.view.page import page
from vidtok_runtime.view.sheet import sheet
from vidtok_runtime.view.study import Study

FORMATS: dict[str, Callable[[Study], bytes]] = {".html": page, ".png": sheet}


def target_for(out: Place, *, force: bool) -> PartFile:
    """The file to write; raises InputError for a suffix that is no report's, OutputError when it may not be written."""
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"{out}: a report is {' or '.join(FORMATS)}, by its suffix")
    return PartFile(out, force=force)


def view_clip(
    tok: Tokenizer,
    clip: str,
    out: Place,
    count: int,
    selection: Selection | None = None,
    opening: Opening | None = None,
    *,
    force: bool = False,
    quiet: bool = False,
) -> Study:
    """Encode and decode a clip and write the report, with `count` frames as pictures; memory does not grow with it.

    Raises InputError and OutputError before any work, VideoError.
    """
    target = target_for(out, force=force)
    study = Study(tok, place_of(clip).name, count)
    with VideoReader(clip, selection, opening) as reader, progress(reader.frame_count, "view", quiet) as bar:
        study.begin(tok.describe(1, reader.height, reader.width, reader.fps))
        for frame, pixels in round_trip(tok, reader, reader.height, reader.width, study.look):
            study.add(frame.pixels, pixels)
            bar.update()
    warn(reader.path, reader.notes())
    target.write_whole(FORMATS[out.suffix.lower()](study))
    return study


def view_tokens(
    tok: Tokenizer,
    tokens: Place,
    out: Place,
    count: int,
    original: str | None = None,
    selection: Selection | None = None,
    opening: Opening | None = None,
    *,
    force: bool = False,
    quiet: bool = False,
) -> Study:
    """Decode a token file or a folder of segments and write the report; errors are shown where `original` is given.

    Raises InputError, OutputError, TokenFileError, MismatchError, VideoError.
    """
    target = target_for(out, force=force)
    readers = [TokenReader(path) for path in segments_in(tokens)]
    info = joined(readers)
    study = Study(tok, tokens.name, count)

    def decoded() -> Iterator[Pixels]:
        for reader in readers:
            study.begin(reader.info.part(0, None, reader.shape[0])[0])
            frames = slice(0, reader.info.num_frames)
            yield from (frame.pixels for frame in decoded_frames(tok, reader, frames, study.look))

    with progress(info.num_frames, "view", quiet) as bar:
        for source, pixels in _beside(decoded(), info.height, info.width, original, selection, opening):
            study.add(source, pixels)
            bar.update()
    target.write_whole(FORMATS[out.suffix.lower()](study))
    return study


def _beside(
    decoded: Iterator[Pixels],
    height: int,
    width: int,
    original: str | None,
    selection: Selection | None,
    opening: Opening | None,
) -> Iterator[tuple[Pixels | None, Pixels]]:
    """Decoded frames with those of the original; raises InputError where these are not the clip that was encoded."""
    if original is None:
        yield from ((None, pixels) for pixels in decoded)
        return
    cure = "give the clip that was encoded, and --size, --fps, --start and --end as then"
    with VideoReader(original, selection, opening) as reader:
        if (reader.height, reader.width) != (height, width):
            raise InputError(
                f"{original} has frames of {reader.width}x{reader.height}, the tokens of {width}x{height}; {cure}"
            )
        for frame, pixels in zip_longest(reader, decoded):
            if frame is None or pixels is None:
                which = "fewer" if frame is None else "more"
                raise InputError(f"{original} has {which} frames than the tokens; {cure}")
            yield frame.pixels, pixels
    warn(reader.path, reader.notes())
