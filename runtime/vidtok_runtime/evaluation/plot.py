"""Pictures of an evaluation: rate against distortion, and its clips one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from vidtok_runtime.quality.picture import COLOURS, content, new_figure

# Told apart by readers who do not see colours as most do (Okabe and Ito), and by shape.
_CODECS = {"h264": ("#e69f00", "<"), "h265": ("#56b4e9", ">"), "av1": ("#009e73", "^")}
_PCA = "#777777"
_MARKERS = "oDsPX*hp"
_PCA_MARKERS = "+x1234"
Figures = dict[str, Any]


def _style(figures: Figures) -> dict[str, dict[str, Any]]:
    """Colour and marker of every method by name; a codec is filled with the colour of the model whose rate it has."""
    styles: dict[str, dict[str, Any]] = {}
    model = pca = -1
    colour = COLOURS[0]
    for result in figures["results"]:
        style: dict[str, Any] = {"markersize": 6, "markeredgewidth": 1.2}
        if result["kind"] == "model":
            model += 1
            style = {"markersize": 8, "zorder": 3, "marker": _MARKERS[model % len(_MARKERS)]}
            # Shifted by one once the markers are used up, so that no two models look alike.
            colour = COLOURS[(model + model // len(_MARKERS)) % len(COLOURS)]
            style["color"] = colour
        elif result["kind"] == "pca":
            pca += 1
            style |= {"color": _PCA, "marker": _PCA_MARKERS[pca % len(_PCA_MARKERS)]}
        else:
            style["color"], style["marker"] = _CODECS[result["name"].split()[0]]
            style["markerfacecolor"] = colour
        styles[result["name"]] = style
    return styles


def rate_distortion(figures: Figures, suffix: str) -> bytes:
    """Bits per pixel against PSNR and SSIM: codecs as curves, models and block transforms as points."""
    figure = new_figure(11, max(5, _legend_height(len(figures["results"]))))
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
        axes.set_xlabel("bits per pixel")
        axes.set_ylabel(label)
        axes.grid(visible=True, which="both", alpha=0.25)
    _legend(figure, figures)
    return content(figure, suffix)


def clip_by_clip(figures: Figures, suffix: str) -> bytes:
    """PSNR and SSIM of every clip, a marker a method."""
    styles = _style(figures)
    clips = list(dict.fromkeys(row["clip"] for result in figures["results"] for row in result["clips"]))
    figure = new_figure(11, max(2 + 0.35 * len(clips), _legend_height(len(figures["results"]))))
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
    panels[0].set_yticks(range(len(clips)), clips, parse_math=False)
    panels[0].invert_yaxis()
    _legend(figure, figures)
    return content(figure, suffix)


def _legend_height(entries: int) -> float:
    """Inches of a legend of so many entries."""
    return 0.3 + 0.19 * entries


def _legend(figure: Figure, figures: Figures) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name may have dollars in it
    protocols = "\n".join(dict.fromkeys(result["protocol"] for result in figures["results"]))
    figure.suptitle(protocols, fontsize="small")
