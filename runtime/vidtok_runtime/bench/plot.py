"""The picture of a benchmark: speeds side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidtok_runtime.bench.run import Bench
from vidtok_runtime.quality.picture import COLOURS, content, new_figure


def speeds(bench: Bench, suffix: str) -> bytes:
    """Frames a second of every side, a panel for each role and size; beside a bar the time to its first result."""
    cases = bench.by_case()
    columns = 2 if len(cases) > 1 else 1
    lines = -(-len(cases) // columns)
    figure = new_figure(6.5 * columns, lines * (1 + 0.4 * max(map(len, cases.values()))) + 0.5)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in panels[len(cases) :]:
        axes.set_axis_off()
    peers = list(dict.fromkeys(row.peer for row in bench.rows))
    for axes, (case, rows) in zip(panels, cases.items(), strict=False):
        colours = [COLOURS[peers.index(row.peer) % len(COLOURS)] for row in rows]
        bars = axes.barh(range(len(rows)), [row.frames_per_second for row in rows], color=colours)
        texts = [f"{row.frames_per_second:.3g} ({row.ratio:.2f}x), first {row.first_s:.2g} s" for row in rows]
        axes.bar_label(bars, texts, padding=3, fontsize="small")
        axes.set_yticks(range(len(rows)), [str(row) for row in rows], fontsize="small")
        axes.invert_yaxis()
        axes.margins(x=0.45)
        axes.set_xlabel("frames a second")
        axes.set_title(str(case), fontsize="small")
    figure.suptitle(f"{bench.bundle}: {bench.machine['processor']}", fontsize="small")
    return content(figure, suffix)
