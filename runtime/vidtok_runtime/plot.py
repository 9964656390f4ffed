"""Pictures drawn from figures: rate against distortion, an evaluation's clips one by one, speeds side by side."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidtok_runtime.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vidtok_runtime.bench import Bench

_SUFFIXES = (".png", ".svg")
# Told apart by readers who do not see colours as most do (Okabe and Ito), and by shape.
_CODECS = {"h264": ("#e69f00", "<"), "h265": ("#56b4e9", ">"), "av1": ("#009e73", "^")}
_MODELS = ["#d55e00", "#0072b2", "#cc79a7", "#000000"]
_PCA = "#777777"
_MARKERS = "oDsPX*hp"
_PCA_MARKERS = "+x1234"
Figures = dict[str, Any]


def check_picture(path: Path) -> None:
    """Raise InputError unless a picture can be drawn and has a suffix that says how."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path}: a picture is {' or '.join(_SUFFIXES)}, by its suffix")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(
            "pictures need matplotlib, which is not installed; pip install matplotlib, or 'vidtok-onnx[eval]'"
        )


def _style(figures: Figures) -> dict[str, dict[str, Any]]:
    """Colour and marker of every method by name; a codec is filled with the colour of the model whose rate it has."""
    styles: dict[str, dict[str, Any]] = {}
    model = pca = -1
    for result in figures["results"]:
        style: dict[str, Any] = {"markersize": 6, "markeredgewidth": 1.2}
        if result["kind"] == "model":
            model += 1
            style = {"markersize": 8, "zorder": 3, "marker": _MARKERS[model % len(_MARKERS)]}
            style["color"] = _MODELS[model % len(_MODELS)]
        elif result["kind"] == "pca":
            pca += 1
            style |= {"color": _PCA, "marker": _PCA_MARKERS[pca % len(_PCA_MARKERS)]}
        else:
            style["color"], style["marker"] = _CODECS[result["name"].split()[0]]
            style["markerfacecolor"] = _MODELS[model % len(_MODELS)]
        styles[result["name"]] = style
    return styles


def _new(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _content(figure: Figure, suffix: str) -> bytes:
    """The file's bytes, the same for the same figures."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    kind = suffix.lower().lstrip(".")
    with rc_context({"svg.hashsalt": "vidtok"}):
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return buffer.getvalue()


def rate_distortion(figures: Figures, suffix: str) -> bytes:
    """Bits a pixel against PSNR and SSIM: codecs as curves, models and block transforms as points."""
    figure = _new(11, 5)
    styles = _style(figures)
    traced = {curve["name"] for curve in figures["curves"]}
    for axes, measure, label in zip(figure.subplots(1, 2), ("psnr", "ssim"), ("PSNR, dB", "SSIM"), strict=True):
        for curve in figures["curves"]:
            xs, ys = ([point[key] for point in curve["points"]] for key in ("bits_per_pixel", measure))
            axes.plot(xs, ys, color=_CODECS[curve["name"]][0], label=curve["name"], linewidth=1.5, marker=".")
        for result in figures["results"]:
            if result["kind"] == "codec" and result["name"].split()[0] in traced:
                continue  # on its curve
            mean = result["mean"]
            axes.plot(
                mean["bits_per_pixel"],
                mean[measure],
                linestyle="none",
                label=result["name"],
                **styles[result["name"]],
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("bits a pixel")
        axes.set_ylabel(label)
        axes.grid(visible=True, which="both", alpha=0.25)
    _legend(figure, figures)
    return _content(figure, suffix)


def clip_by_clip(figures: Figures, suffix: str) -> bytes:
    """PSNR and SSIM of every clip, a marker a method."""
    styles = _style(figures)
    clips = list(dict.fromkeys(row["clip"] for result in figures["results"] for row in result["clips"]))
    figure = _new(11, 2 + 0.35 * len(clips))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, measure, label in zip(panels, ("psnr", "ssim"), ("PSNR, dB", "SSIM"), strict=True):
        for result in figures["results"]:
            rows = result["clips"]
            axes.plot(
                [row[measure] for row in rows],
                [clips.index(row["clip"]) for row in rows],
                linestyle="none",
                label=result["name"],
                **styles[result["name"]],
            )
        axes.set_xlabel(label)
        axes.grid(visible=True, alpha=0.25)
    panels[0].set_yticks(range(len(clips)), clips)
    panels[0].invert_yaxis()
    _legend(figure, figures)
    return _content(figure, suffix)


def speeds(bench: Bench, suffix: str) -> bytes:
    """Frames a second of every side, a panel for each role and size; beside a bar the time to its first result."""
    cases = bench.by_case()
    columns = 2 if len(cases) > 1 else 1
    lines = -(-len(cases) // columns)
    figure = _new(6.5 * columns, lines * (1 + 0.4 * max(map(len, cases.values()))) + 0.5)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in panels[len(cases) :]:
        axes.set_axis_off()
    peers = list(dict.fromkeys(row.peer for row in bench.rows))
    for axes, (case, rows) in zip(panels, cases.items(), strict=False):
        colours = [_MODELS[peers.index(row.peer) % len(_MODELS)] for row in rows]
        bars = axes.barh(range(len(rows)), [row.frames_per_second for row in rows], color=colours)
        texts = [f"{row.frames_per_second:.3g} ({row.ratio:.2f}x), first {row.first_s:.2g} s" for row in rows]
        axes.bar_label(bars, texts, padding=3, fontsize="small")
        axes.set_yticks(range(len(rows)), [str(row) for row in rows], fontsize="small")
        axes.invert_yaxis()
        axes.margins(x=0.45)
        axes.set_xlabel("frames a second")
        axes.set_title(str(case), fontsize="small")
    figure.suptitle(f"{bench.bundle}: {bench.machine['processor']}", fontsize="small")
    return _content(figure, suffix)


def _legend(figure: Figure, figures: Figures) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    protocols = "\n".join(dict.fromkeys(result["protocol"] for result in figures["results"]))
    figure.suptitle(protocols, fontsize="small")
