"""Which baselines stand beside a model."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vidtok_runtime.errors import InputError
from vidtok_runtime.evaluation.block_pca import BlockTransform, Grid, fit_blocks
from vidtok_runtime.evaluation.codecs import CODECS, Codec, Coded, encode, encode_to
from vidtok_runtime.evaluation.methods import BlockPca, CodecMethod, Method, Model
from vidtok_runtime.evaluation.protocol import Excerpt, Protocol
from vidtok_runtime.files import PartFile, files_in

PCA = "pca"
_CURVE_POINTS = 9


def parse_baseline(text: str) -> tuple[str, int | None]:
    """`pca`, `pca:4` or a codec as name and number; raises InputError."""
    name, colon, number = text.partition(":")
    if name in CODECS and not colon:
        return name, None
    if name == PCA and (not colon or (number.isdecimal() and int(number) > 0)):
        return name, int(number) if colon else None
    raise InputError(f"a baseline is pca, pca:NUMBERS or one of {', '.join(CODECS)}, got {text!r}")


@dataclass
class Baselines:
    """Baselines by name, and where block transforms come from: fitted on `pca_clips`, kept in `pca_file`.

    With both, the transform is fitted and written; with the file alone, read. Raises InputError, and OutputError where
    the file is to be written and is there already.
    """

    names: tuple[str, ...] = ()
    pca_clips: Path | None = None
    pca_file: Path | None = None
    force: bool = False
    _transforms: dict[tuple[Grid, Protocol], BlockTransform] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parsed = [parse_baseline(name) for name in dict.fromkeys(self.names)]
        self._codecs = [name for name, _ in parsed if name != PCA]
        self._numbers = [number for name, number in parsed if name == PCA]
        if self._numbers and not (self.pca_clips or self.pca_file):
            raise InputError("--baseline pca needs --pca-clips FOLDER to be fitted on, or --pca FILE.npz made earlier")
        if (self.pca_clips or self.pca_file) and not self._numbers:
            raise InputError("--pca and --pca-clips are for --baseline pca; give that, too")
        if self.pca_clips and self.pca_file:
            PartFile(self.pca_file, force=self.force)

    def missing(self) -> list[str]:
        """Why codecs are left out, one line each."""
        reasons = {name: CODECS[name].missing() for name in self._codecs}
        return [f"{name}, {reason}" for name, reason in reasons.items() if reason]

    def _usable(self) -> list[str]:
        return [name for name in self._codecs if CODECS[name].missing() is None]

    def prepare(self, model: Model, protocol: Protocol, *, quiet: bool) -> None:
        """Fit or read the block transform that a model is compared with; raises InputError, OutputError."""
        if not self._numbers:
            return
        grid = Grid.of(model.tok.manifest)
        if (grid, protocol) in self._transforms:
            return
        if self.pca_clips is None:
            assert self.pca_file is not None
            transform = BlockTransform.load(self.pca_file)
            if transform.grid != grid:
                raise InputError(
                    f"{self.pca_file} is made for blocks {transform.grid}, {model.name} has {grid}; fit one with "
                    "--pca-clips"
                )
        else:
            if self.pca_file is not None and self._transforms:
                raise InputError("these bundles need several block transforms, a file holds one; leave out --pca")
            clips = tqdm(files_in(self.pca_clips), desc="block transform", unit="clip", disable=quiet)
            transform = fit_blocks(clips, grid, protocol)
            if self.pca_file is not None:
                transform.save(self.pca_file, force=self.force)
        for number in self._numbers:
            transform.check(number or model.channels)
        self._transforms[grid, protocol] = transform

    def of(self, model: Model, protocol: Protocol, bits: Mapping[Path, float]) -> Iterator[Method]:
        """Methods to compare a prepared model with; `bits` are what it spent on each clip."""
        for number in self._numbers:
            transform = self._transforms[Grid.of(model.tok.manifest), protocol]
            yield BlockPca(transform, number or model.channels)
        for name in self._usable():

            def code(clip: Excerpt, codec: Codec = CODECS[name]) -> Coded:
                return encode_to(codec, clip, bits[clip.path])

            yield CodecMethod(f"{name} at {model.name}", CODECS[name], code)

    def curves(self) -> dict[str, list[Method]]:
        """Each codec at settings that span its range, best quality first."""
        curves: dict[str, list[Method]] = {}
        for name in self._usable():
            codec = CODECS[name]
            # What is better still has far more bits than any tokenizer.
            settings = np.linspace(codec.crf[1] / 10, codec.crf[1], _CURVE_POINTS).round()
            curves[name] = [
                CodecMethod(name, codec, functools.partial(encode, codec, crf=crf)) for crf in settings.tolist()
            ]
        return curves
