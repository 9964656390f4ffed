"""What scripts/table1.py writes: the rows as Markdown and as a picture, published figures beside, never mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from vidtok_runtime.bundle.stream_spec import StreamSpec
from vidtok_runtime.quality.picture import COLOURS, content, new_figure

Entry = dict[str, Any]  # published, measured, missing
QUALITY = {"psnr": ("PSNR", 2), "ssim": ("SSIM", 3), "lpips": ("LPIPS", 3), "fvd": ("FVD", 1)}
_NONE = "-"


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |\n"


def calls(spec: StreamSpec) -> str:
    """How clips become calls, in words."""
    if spec.encoder.exact:
        first, later = spec.encoder.first or spec.encoder.max, spec.encoder.max
        return f"exact calls of {first}, {later}, {later} ... frames"
    if (groups := spec.groups) is not None:
        shared = f" that share {groups.shared_frames}" if groups.shared_frames else ""
        return f"windows of {groups.frames} frames{shared}"
    return "streams, calls of any number of latents"


def measured_quality(entry: Entry, measure: str) -> float | None:
    """A mean over clips, of FVD the distance; None where it was not measured."""
    found = entry["measured"].get("quality")
    value: float | None = None if found is None else found["fvd"] if measure == "fvd" else found["mean"][measure]
    return value


def published_quality(entry: Entry, measure: str) -> str | None:
    """As the paper has it for MCL-JCV."""
    text: str | None = entry["published"].get("mcl_jcv", {}).get(measure)
    return text


def _text(value: float | None, form: str) -> str:
    return _NONE if value is None else format(value, form)


def _role(entry: Entry, role: str, key: str) -> float | None:
    value: float | None = entry["measured"].get("speed", {}).get(role, {}).get(key)
    return value


def _parity(rows: list[dict[str, Any]]) -> str:
    """Largest differences from the reference over all engines that the export tried, as the manifest has them."""
    if not rows:
        return _NONE
    frames = f"frames {max(row['video_max_diff'] for row in rows):.0e}"
    if count := sum(row.get("tokens", 0) for row in rows):  # latents have none
        return f"{sum(row['tokens_differing'] for row in rows)} of {count:,} tokens, {frames}"
    return f"latents {max(row['latent_max_diff'] for row in rows):.0e}, {frames}"


def _cells(entry: Entry) -> list[str]:
    own, told = entry["measured"], entry["published"]
    bits = own["quality"]["mean"]["bits_per_pixel"] if "quality" in own else None
    parameters, work = (
        own[key] / unit if key in own else None for key, unit in (("parameters", 1e6), ("multiply_adds", 1e12))
    )
    cells = [
        told["method"],
        f"`{told['variant']}`",
        told.get("regularizer", _NONE),
        own.get("calls", _NONE),
        _parity(own.get("parity", [])),
        _text(bits, ".3f"),
        _text(parameters, ".4g"),
        str(told.get("parameters_millions") or _NONE),
        _text(work, ".3g"),
    ]
    for measure, (_, digits) in QUALITY.items():
        cells += [_text(measured_quality(entry, measure), f".{digits}f"), published_quality(entry, measure) or _NONE]
    cells += [_text(_role(entry, role, "frames_per_second"), ".3g") for role in ("encoder", "decoder")]
    peaks = [_text(_role(entry, role, "peak_mib"), ".0f") for role in ("encoder", "decoder")]
    return [*cells, " / ".join(peaks), "; ".join(entry["missing"])]


COLUMNS = (
    *("system", "variant", "regularizer", "calls", "parity"),
    *("bits per pixel", "parameters (M)", "paper", "operations (T)"),
    *(cell for name, _ in QUALITY.values() for cell in (name, "paper")),
    *("encoding, frames/s", "decoding, frames/s", "peak MiB, encoding / decoding", "missing"),
)


def markdown(report: dict[str, Any]) -> str:
    """The whole page."""
    machine = report["machine"]
    rows = "".join(line(_cells(entry)) for entry in report["systems"])
    return (
        f"# {report['title']}\n\n"
        f"{report['clips']} files; {report['protocol'] or 'no clip was measured'}. {report['provider']}, "
        f"{report['threads']} threads of {machine['processor']}.\n\n"
        f"Columns called *paper* are {report['published']['source']} (MCL-JCV; {report['published']['protocol']}), all "
        "others were measured here. Operations: multiply-adds of the reference for a clip, encoding and decoding "
        "together. Parity: the largest difference from the reference in float64, over all engines. "
        "Frames/s: calls of the graphs behind the first, arrays in and out; every peak is of a process of "
        "its own.\n\n"
        f"{line(COLUMNS)}{line('-' for _ in COLUMNS)}{rows}\n" + "".join(f"- {note}\n" for note in report["notes"])
    )


def picture(report: dict[str, Any], suffix: str) -> bytes:
    """Quality measured and published as two kinds of points, then speed and memory, a row a system."""
    entries = report["systems"]
    measures = [m for m in QUALITY if m in ("psnr", "ssim") or any(measured_quality(e, m) is not None for e in entries)]
    figure = new_figure(3.2 * (len(measures) + 2) + 2, 2.2 + 0.42 * len(entries))
    panels = figure.subplots(1, len(measures) + 2, sharey=True)
    for axes, measure in zip(panels, measures, strict=False):
        for value, style in (
            (
                lambda e, m=measure: measured_quality(e, m),
                {"color": COLOURS[0], "marker": "o", "label": "measured here"},
            ),
            (_published(measure), {"color": "#777777", "marker": "|", "label": "paper", "markeredgewidth": 2}),
        ):
            points = [(found, i) for i, entry in enumerate(entries) if (found := value(entry)) is not None]
            axes.plot(*(zip(*points, strict=True) if points else ([], [])), linestyle="none", markersize=9, **style)
        axes.set_xlabel(QUALITY[measure][0])
    for axes, key, label in zip(
        panels[len(measures) :], ("frames_per_second", "peak_mib"), ("frames a second", "peak MiB"), strict=True
    ):
        for offset, role, name, colour in (
            (-0.2, "encoder", "encoding", COLOURS[1]),
            (0.2, "decoder", "decoding", COLOURS[2]),
        ):
            values = [_role(entry, role, key) or 0 for entry in entries]
            axes.barh([i + offset for i in range(len(entries))], values, 0.38, color=colour, label=name)
        axes.set_xlabel(label)
    panels[0].set_yticks(range(len(entries)), [_title(entry) for entry in entries], fontsize="small")
    panels[0].invert_yaxis()
    for axes in panels:
        axes.grid(visible=True, alpha=0.25)
    handles = [h for axes in (panels[0], panels[-1]) for h in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(f"{report['title']}\n{report['protocol'] or 'no clip was measured'}", fontsize="small")
    return content(figure, suffix)


def _published(measure: str) -> Callable[[Entry], float | None]:
    def found(entry: Entry) -> float | None:
        text = published_quality(entry, measure)
        return None if text is None else float(text)

    return found


def _title(entry: Entry) -> str:
    told = entry["published"]
    name = f"{told['method']} {told.get('regularizer', '')}".strip()
    if "quality" in entry["measured"]:
        return name
    reason = entry["missing"][0].partition(":")[0]
    return f"{name}\nnot measured: {reason}"
