"""Charts as inline SVG, in the colours of the page around them."""

from __future__ import annotations

from html import escape

from vidtok_runtime.view.charts import Chart

_WIDTH, _HEIGHT = 400, 210  # units of the drawing; its text stays readable when a phone shows it at this size
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 10, 36


def svg(chart: Chart) -> str:
    """The drawing as an SVG element, which says its text."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    out = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(chart.text)}">']
    for tick in chart.y_ticks:
        _, y = _place(chart, chart.x[0], tick)
        out.append(f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{right}" y2="{y}"/>')
        out.append(f'<text x="{_LEFT - 5}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in chart.x_ticks:
        x, _ = _place(chart, tick, chart.y[0])
        anchor = "end" if x > right - 12 else "middle"
        out.append(f'<text x="{x}" y="{bottom + 15}" text-anchor="{anchor}">{tick:,.0f}</text>')
    for bar in chart.bars:
        (x0, y1), (x1, y0) = _place(chart, bar.left, bar.low), _place(chart, bar.right, bar.high)
        size = f'width="{max(0.5, x1 - x0):.2f}" height="{max(0.0, y1 - y0):.2f}"'
        out.append(f'<rect class="{"faint" if bar.faint else "bar"}" x="{x0}" y="{y0}" {size}/>')
    places = [_place(chart, *point) for point in chart.line]
    if len(places) == 1:
        out.append(f'<circle class="dot" cx="{places[0][0]}" cy="{places[0][1]}" r="3"/>')
    elif places:
        out.append(f'<polyline class="line" points="{" ".join(f"{x},{y}" for x, y in places)}"/>')
    if chart.level is not None:
        _, y = _place(chart, chart.x[0], chart.level)
        out.append(f'<line class="level" x1="{_LEFT}" y1="{y}" x2="{right}" y2="{y}"/>')
    out.append(f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
    across, half = (_LEFT + right) / 2, (_TOP + bottom) / 2
    out.append(f'<text x="{across}" y="{_HEIGHT - 5}" text-anchor="middle">{escape(chart.x_label)}</text>')
    turned = f'transform="rotate(-90 12 {half})" x="12" y="{half}" text-anchor="middle"'
    return "".join([*out, f"<text {turned}>{escape(chart.y_label)}</text></svg>"])


def _place(chart: Chart, x: float, y: float) -> tuple[float, float]:
    across, down = chart.at(x, y)
    return (
        round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 2),
        round(_TOP + down * (_HEIGHT - _TOP - _BOTTOM), 2),
    )
