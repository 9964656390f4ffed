"""HDR pictures (PQ, HLG) as ordinary ones, by FFmpeg's filters (https://ffmpeg.org/ffmpeg-filters.html#tonemap-1)."""

from __future__ import annotations

from typing import Any

import av
import av.filter

from vidtok_runtime.errors import InputError, VideoError

HDR = {16: "PQ", 18: "HLG"}  # transfers, by H.273
# Linear light in units of 100 cd/m2, BT.709's primaries, Hable's curve, and back to what screens without HDR show.
_STEPS = (
    ("zscale", "transfer=linear:npl=100"),
    ("format", "gbrpf32le"),
    ("zscale", "primaries=bt709"),
    ("tonemap", "tonemap=hable:desat=0"),
    ("zscale", "transfer=bt709:matrix=bt709:range=limited"),
    ("format", "yuv444p10le"),
)
_BY_HAND = ",".join(f"{name}={value}" for name, value in _STEPS)


def check_tone_map() -> None:
    """Raise InputError where this FFmpeg has not the filters."""
    missing = sorted({name for name, _ in _STEPS} - set(av.filter.filters_available))
    if missing:
        raise InputError(
            f"--tone-map needs FFmpeg's filter {', '.join(missing)}, which the FFmpeg of PyAV here lacks; build PyAV "
            f"with one that has it, or convert clips first: ffmpeg -i IN -vf {_BY_HAND} OUT"
        )


class ToneMap:
    """Maps HDR frames of one clip, and hands on all others as they are. Raises InputError, VideoError."""

    def __init__(self) -> None:
        check_tone_map()
        self._kind: tuple[Any, ...] = ()
        self._graph: Any = None

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame with the same size, time and display matrix."""
        if int(frame.color_trc) not in HDR:
            return frame
        kind = frame.format.name, frame.width, frame.height, int(frame.color_trc), int(frame.colorspace)
        try:
            if kind != self._kind:
                self._graph, self._kind = _graph(frame), kind
            self._graph.push(frame)
            mapped = self._graph.pull()
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"an HDR picture cannot be mapped: {error}") from error
        mapped.pts, mapped.time_base = frame.pts, frame.time_base
        return mapped  # type: ignore[no-any-return]


def _graph(frame: av.VideoFrame) -> Any:
    graph = av.filter.Graph()
    last: Any = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    for name, value in _STEPS:
        step = graph.add(name, value)
        last.link_to(step)
        last = step
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
