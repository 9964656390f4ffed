"""The report as one picture: frames in columns, charts below."""

from __future__ import annotations

import cv2
import numpy as np

from vidtok_runtime.quality.metrics import Pixels
from vidtok_runtime.view.charts import Chart
from vidtok_runtime.view.pictures import pictures, png, reading
from vidtok_runtime.view.plots import charts
from vidtok_runtime.view.study import Study

_COLUMN, _GAP, _LEFT = 320, 8, 124  # pixels: a picture's longer side, between pictures, for names
_LINE = 26  # height of a line of text
_CHART = 250  # height, of which the axes take the lower and the left part
_LEAST = 3  # columns, so that texts and charts have room
_INK, _SOFT, _MARK, _FAINT = (30, 34, 38), (205, 210, 215), (11, 98, 176), (156, 196, 232)


def sheet(study: Study) -> bytes:
    """The contact sheet as a PNG file."""
    samples = study.samples
    rows: dict[str, list[Pixels]] = {}
    for sample in samples:
        for what, pixels in pictures(study, sample).items():
            rows.setdefault(what, []).append(pixels)
    height, width = samples[0].decoded.shape[:2]
    scale = _COLUMN / max(height, width)
    tall, wide = (max(1, round(n * scale)) for n in (height, width))
    across = _LEFT + max(_LEAST, len(samples)) * (_COLUMN + _GAP)
    captions = [f"frame {s.frame}" + ("" if s.psnr is None else f", {s.psnr:.2f} dB") for s in samples]
    headline = ", ".join([study.name, *(f"{name} {value}" for name, value in study.figures().items())])
    parts = [texts(across, {_GAP: headline}), texts(across, {_GAP: reading(study)})]
    parts.append(texts(across, {_LEFT + i * (_COLUMN + _GAP): text for i, text in enumerate(captions)}))
    for what, column in rows.items():
        row = _blank(tall + _GAP, across)
        _write(row, what, _GAP, tall // 2)
        for i, pixels in enumerate(column):
            left = _LEFT + i * (_COLUMN + _GAP)
            sharp = cv2.INTER_NEAREST if what in ("tokens", "latent") else cv2.INTER_AREA
            row[:tall, left : left + wide] = cv2.resize(pixels, (wide, tall), interpolation=sharp)
        parts.append(row)
    drawn = charts(study)
    room = across // len(drawn)
    shown = [_drawn(chart, room) for chart, _ in drawn]
    parts.append(np.concatenate([*shown, _blank(_CHART, across - room * len(drawn))], axis=1))
    return png(np.concatenate(parts))


def _drawn(chart: Chart, width: int) -> Pixels:
    """A chart as a picture of a width."""
    picture = _blank(_CHART, width)
    left, right, top, bottom = 70, width - 20, 34, _CHART - 44

    def place(x: float, y: float) -> tuple[int, int]:
        across, down = chart.at(x, y)
        return round(left + across * (right - left)), round(top + down * (bottom - top))

    _write(picture, f"{chart.y_label}, by {chart.x_label}", left, 20)
    for tick in chart.y_ticks:
        _, y = place(chart.x[0], tick)
        cv2.line(picture, (left, y), (right, y), _SOFT)
        _write(picture, f"{tick:g}", 20, y + 5)
    for tick in chart.x_ticks:
        x, _ = place(tick, chart.y[0])
        _write(picture, f"{tick:,.0f}", min(x - 8, width - 60), bottom + 20)
    for bar in chart.bars:
        colour = _FAINT if bar.faint else _MARK
        cv2.rectangle(picture, place(bar.left, bar.high), place(bar.right, bar.low), colour, -1)
    points = [place(*point) for point in chart.line]
    cv2.polylines(picture, [np.array(points or [(0, 0)], np.int32)], False, _MARK, 2 if points else 1, cv2.LINE_AA)
    if chart.level is not None:
        _, y = place(chart.x[0], chart.level)
        for x in range(left, right, 12):
            cv2.line(picture, (x, y), (x + 6, y), _INK)
    cv2.line(picture, (left, bottom), (right, bottom), _INK)
    return picture


def _blank(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), 255, np.uint8)


def texts(width: int, places: dict[int, str]) -> Pixels:
    """A line with texts that begin at some places, as a picture."""
    row = _blank(_LINE, width)
    for left, text in places.items():
        _write(row, text, left, 18)
    return row


def _write(picture: Pixels, text: str, x: int, y: int) -> None:
    plain = text.encode("ascii", "replace").decode()  # the font has no other letters
    cv2.putText(picture, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
