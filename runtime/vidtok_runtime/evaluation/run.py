"""How well bundles and baselines bring clips back, by a stated protocol: tables, JSON and pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vidtok_runtime.errors import VideoError, VidtokError
from vidtok_runtime.evaluation.baselines import Baselines
from vidtok_runtime.evaluation.methods import Method, Model
from vidtok_runtime.evaluation.plot import clip_by_clip, rate_distortion
from vidtok_runtime.evaluation.protocol import Excerpt, Protocol, published_frames
from vidtok_runtime.evaluation.scores import Evaluation, Measures, Result
from vidtok_runtime.files import PartFile, files_in
from vidtok_runtime.lists import plain_name
from vidtok_runtime.quality.bits_per_pixel import BITS_COUNTED
from vidtok_runtime.quality.graph_metrics import FVD_CLIPS
from vidtok_runtime.quality.picture import check_picture
from vidtok_runtime.tokenizer import Tokenizer

_BITS = (
    f"bits: {BITS_COUNTED}; a block transform's numbers as a latent's; of codecs all coded pictures, without headers"
)


@dataclass(frozen=True)
class Outputs:
    """Files to write, each only when named: figures as JSON, rate against distortion, the clips one by one."""

    json: Path | None = None
    plot: Path | None = None
    plot_clips: Path | None = None
    force: bool = False

    def open(self) -> dict[str, PartFile]:
        """The targets by name; raises OutputError when one exists or cannot be, InputError for a wrong picture."""
        pictures = [path for path in (self.plot, self.plot_clips) if path]
        for path in pictures:
            check_picture(path)
        named = {"json": self.json, "plot": self.plot, "plot_clips": self.plot_clips}
        return {name: PartFile(path, force=self.force) for name, path in named.items() if path}


def _named(tokenizers: Sequence[Tokenizer]) -> list[Model]:
    """The bundles under the names of their folders, numbered where these are equal."""
    names = [tok.manifest.folder.absolute().name for tok in tokenizers]
    return [
        Model(tok, name if names.count(name) == 1 else f"{name} ({i})")
        for i, (tok, name) in enumerate(zip(tokenizers, names, strict=True), 1)
    ]


def _clip_names(clips: Sequence[Path], folder: Path) -> dict[Path, str]:
    """Clips by their stems, and by their place in the folder where these are equal."""
    stems = Counter(clip.stem for clip in clips)
    named = {clip: clip.stem if stems[clip.stem] == 1 else clip.relative_to(folder).as_posix() for clip in clips}
    return {clip: plain_name(name) for clip, name in named.items()}


def _optional(value: float | None, width: int, digits: int) -> str:
    return "" if value is None else f"{value:>{width}.{digits}f}"


def _row(row: Result) -> str:
    line = f"{row.clip:<32}{row.frames:>7}{row.psnr:>9.2f} dB{row.ssim:>9.4f}{row.bits_per_pixel:>9.4f}"
    return line + _optional(row.lpips, 9, 4)


def _codes(model: Model) -> str:
    codes = model.tok.stream.codebook_size
    assert codes
    line = f"codes in use: {model.codes_used:.1%} of {codes:,} ({model.tokens:,} tokens seen"
    return line + (f", so at most {model.tokens / codes:.1%})" if model.tokens < codes else ")")


class Table:
    """Evaluates bundles and baselines on clips, which have names, and keeps the figures."""

    def __init__(self, clips: Mapping[Path, str], measures: Measures, *, quiet: bool) -> None:
        self._clips = clips
        self._measures = measures
        self._quiet = quiet
        self.evaluations: list[Evaluation] = []
        self.curves: list[dict[str, Any]] = []

    def measure(self, method: Method, protocol: Protocol, clips: Collection[Path]) -> Iterator[str]:
        """Lines of one method as they are measured; clips that fail have a line, too."""
        evaluation = Evaluation(method, protocol, self._measures)
        yield f"{method.name}: {', '.join([str(protocol), *self._measures.names()])}"
        if method.kind != "model":  # a transform or a codec works by settings of its own
            yield ", ".join(f"{key}: {value}" for key, value in method.describe().items())
        yield f"{'clip':<32}{'frames':>7}{'PSNR':>12}{'SSIM':>9}{'bits/px':>9}" + "    LPIPS" * bool(
            self._measures.lpips
        )
        for clip in tqdm(clips, desc=method.name, unit="clip", disable=self._quiet):
            try:
                yield _row(evaluation.add(Excerpt(clip, protocol), self._clips[clip]))
            except VidtokError as error:
                yield (
                    f"left out: {error}" if isinstance(error, VideoError) else f"left out: {self._clips[clip]}: {error}"
                )
        if not evaluation.results and method.kind != "model":
            yield f"left out: {method.name}, no clip could be measured"
            return
        yield _row(evaluation.mean())
        self.evaluations.append(evaluation)

    def bundle(self, model: Model, protocol: Protocol, baselines: Baselines) -> Iterator[str]:
        """A bundle and then its baselines on the clips that could be measured."""
        yield from self.measure(model, protocol, self._clips)
        evaluation = self.evaluations[-1]
        if model.codes_used is not None:
            yield _codes(model)
        done = [e.method.name for e in self.evaluations if e.protocol == protocol]
        for method in baselines.of(model, protocol, evaluation.bits):
            if method.name not in done:
                yield ""
                yield from self.measure(method, protocol, list(evaluation.bits))

    def trace(self, baselines: Baselines) -> None:
        """The codecs over the range of their rates, by every protocol that was used."""
        used = {e.protocol: e for e in self.evaluations if e.method.kind == "model"}
        for evaluation in used.values():
            for name, methods in baselines.curves().items():
                points = [Evaluation(method, evaluation.protocol) for method in methods]
                for clip in tqdm(evaluation.bits, desc=f"{name} curve", unit="clip", disable=self._quiet):
                    excerpt = Excerpt(clip, evaluation.protocol)
                    try:
                        for point in points:
                            point.add(excerpt, self._clips[clip])
                    except VidtokError:
                        break  # its row in the table has said why
                else:
                    means = [point.mean() for point in points]
                    self.curves.append(
                        {
                            "name": name,
                            "protocol": str(evaluation.protocol),
                            "points": [
                                {"bits_per_pixel": m.bits_per_pixel, "psnr": m.psnr, "ssim": m.ssim} for m in means
                            ],
                        }
                    )

    def summary(self) -> Iterator[str]:
        """Means of all methods, one a line, and what to think of them."""
        columns = f"{'mean over clips':<32}{'clips':>7}{'PSNR':>12}{'SSIM':>9}{'bits/px':>9}"
        lpips, fvd = self._measures.lpips, self._measures.fvd
        yield columns + "    LPIPS" * bool(lpips) + "      FVD" * bool(fvd)
        for evaluation in self.evaluations:
            mean = evaluation.mean()
            mean.clip, mean.frames = evaluation.method.name, len(evaluation.results)
            yield _row(mean) + _optional(evaluation.fvd, 9, 1)
        yield _BITS
        fewest = min(len(evaluation.results) for evaluation in self.evaluations)
        if fvd is not None and fewest < FVD_CLIPS:
            yield (
                f"warning: FVD of {fewest} clips; it is published over 2,048 (at least {FVD_CLIPS}), and fewer give "
                "another, larger number: compare it with no published figure"
            )

    def to_json(self) -> dict[str, Any]:
        """All figures, and how they were measured."""
        return {
            "bits": _BITS,
            "measures": self._measures.names(),
            "results": [evaluation.to_json() for evaluation in self.evaluations],
            "curves": self.curves,
        }


def evaluate_folder(
    tokenizers: Sequence[Tokenizer],
    folder: Path,
    protocol: Callable[[int], Protocol] = Protocol,
    *,
    baselines: Baselines | None = None,
    measures: Measures | None = None,
    outputs: Outputs | None = None,
    quiet: bool = False,
) -> Iterator[str]:
    """Lines of a table, as they are measured. Clips that fail have a line, too.

    protocol: is given the published number of frames, 17 or 16, as the bundle has it. Raises OutputError before any
    work when an output is there already, InputError when nothing could be measured or an option does not fit.
    """
    targets = (outputs or Outputs()).open()
    baselines, measures = baselines or Baselines(), measures or Measures()
    plans = []
    for model in _named(tokenizers):
        own = protocol(published_frames(model.tok.manifest))
        baselines.prepare(model, own, quiet=quiet)
        if measures.fvd is not None:
            measures.fvd.check(own.frames)
        plans.append((model, own))
    table = Table(_clip_names(files_in(folder), folder), measures, quiet=quiet)
    yield from (f"left out: {reason}" for reason in baselines.missing())
    for model, own in plans:
        yield from table.bundle(model, own, baselines)
        model.tok.unload()  # several large models would not fit into the memory together
        yield ""
    yield from table.summary()
    if "plot" in targets:
        table.trace(baselines)
    figures = table.to_json()
    contents: dict[str, Callable[[], bytes]] = {
        "json": lambda: json.dumps(figures, indent=1).encode(),
        "plot": lambda: rate_distortion(figures, targets["plot"].path.suffix),
        "plot_clips": lambda: clip_by_clip(figures, targets["plot_clips"].path.suffix),
    }
    for name, target in targets.items():
        target.write_whole(contents[name]())
