"""The report as one HTML file that needs nothing else: pictures inside, charts as SVG, no script."""

from __future__ import annotations

import base64
from html import escape

from vidtok_runtime.view.pictures import pictures, png, reading
from vidtok_runtime.view.plots import charts
from vidtok_runtime.view.study import Study, StudyFrame
from vidtok_runtime.view.svg import svg

_STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#57606a;--edge:#d5dae0;--mark:#0b62b0;--faint:#9cc4e8}
@media (prefers-color-scheme:dark){
:root{--back:#14171a;--text:#e6e9ec;--soft:#a2abb5;--edge:#343b43;--mark:#6cb2f2;--faint:#2f5a80}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:72rem;background:var(--back);color:var(--text);
font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.4rem;margin:.2rem 0 .8rem;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:2rem 0 .6rem}
h3{font-size:.95rem;font-weight:600;margin:1rem 0 .2rem}
p,figcaption,dt{color:var(--soft)}
p{margin:.4rem 0;max-width:44rem}
dl{margin:0}
dd{margin:0;overflow-wrap:anywhere}
.facts div{display:grid;grid-template-columns:7rem 1fr}
.figures{display:flex;flex-wrap:wrap;gap:.4rem 2rem;margin-bottom:1rem}
.figures div{display:flex;flex-direction:column-reverse}
.figures dd{font-size:1.5rem;font-weight:600}
.frame{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(9.5rem,100%),1fr));gap:.6rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:1rem 2rem}
figure{margin:0}
figcaption{font-size:.85rem}
img,svg{display:block;width:100%;height:auto}
img{max-height:80vh;object-fit:contain;object-position:left}
svg text{fill:var(--soft);font:12px system-ui,sans-serif}
.grid{stroke:var(--edge)}
.axis{stroke:var(--soft)}
.level{stroke:var(--text);stroke-dasharray:4 3}
.line{fill:none;stroke:var(--mark);stroke-width:2;stroke-linejoin:round}
.bar,.dot{fill:var(--mark)}
.faint{fill:var(--faint)}
"""


def page(study: Study) -> bytes:
    """The report of a study."""
    title = escape(study.name)
    body = [f"<h1>{title}</h1>", _terms(study.figures(), "figures"), _terms(study.facts(), "facts")]
    body += ["<h2>Charts</h2>", '<div class="charts">']
    body += [f"<figure>{svg(chart)}<figcaption>{caption}</figcaption></figure>" for chart, caption in charts(study)]
    body += ["</div>", "<h2>Frames</h2>", f"<p>{reading(study)}</p>"]
    for sample in study.samples:
        quality = "" if sample.psnr is None else f", {sample.psnr:.2f} dB"
        body += [f"<h3>Frame {sample.frame}{quality}</h3>", '<div class="frame">', *_figures(study, sample), "</div>"]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    text = "\n".join(body)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>\n{text}\n</main></body></html>\n'.encode()


def _figures(study: Study, sample: StudyFrame) -> list[str]:
    """The pictures of a frame, in the file itself."""
    out = []
    for what, pixels in pictures(study, sample).items():
        height, width = pixels.shape[:2]
        place = f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"
        image = f'<img alt="{what} of frame {sample.frame}" width="{width}" height="{height}" src="{place}">'
        out.append(f"<figure>{image}<figcaption>{what}</figcaption></figure>")
    return out


def _terms(rows: dict[str, str], kind: str) -> str:
    pairs = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in rows.items())
    return f'<dl class="{kind}">{pairs}</dl>'
