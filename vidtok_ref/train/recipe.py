"""A training recipe: one typed TOML file, a section a dataclass; perhaps of several stages."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vidtok_ref.errors import DataError
from vidtok_ref.families import family_of, find_variant

RECIPES = Path(__file__).parent / "recipes"
STAGE = "stage"  # tables of a recipe that is trained in several


@dataclass(frozen=True)
class ModelPart:
    """What is trained, from which first weights."""

    variant: str
    overrides: dict[str, Any] = field(default_factory=dict)
    init: str = ""  # a weights file, or the name of a shipped model or a released variant; `--init` goes before it
    # What gives the weights that `init` does not; linear: for narrow models; grown: from a narrower `init`.
    start: Literal["random", "linear", "grown"] = "random"
    log_variance_start: float = -8.0  # with `linear` and KL
    train: Literal["all", "decoder"] = "all"  # decoder: encoder and regularizer stay as they are
    ema: float = 0.999  # decay of the average of the weights, which is what is validated and written
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    gradient_checkpointing: bool = False  # a third more work for a fraction of the memory


@dataclass(frozen=True)
class DataPart:
    """Clips of `frames` frames of `size` x `size` pixels, cut from frames of shorter side `short_side`."""

    batch: int = 4  # of all processes together
    frames: int = 13
    size: int = 64
    short_side: int = 144
    fps: tuple[float, ...] = (0.0,)  # frames a second, one is drawn a sample; 0: every or every second frame
    flip: bool = True
    reverse: bool = True
    turn: bool = False  # rows and columns exchanged in half of the samples
    zoom: tuple[float, ...] = (1.0, 1.0)  # least, greatest: a crop of a video is so much larger, and shrunk
    colour: float = 0.0  # standard deviation of contrast, brightness and the channels' gains; in half of the samples
    vivid: float = 0.0  # share of samples whose channels change places and whose colours grow strong, as in graphics
    image_share: float = 0.25  # samples made of photographs, if there are any
    cache: bool = True  # decode everything once and keep it; false: read each sample from its file
    max_clip_frames: int = 160  # kept of a clip when cached
    workers: int = 0  # processes that cut samples, with a copy each of what is cached; 0: the trainer does it
    held_out: tuple[str, ...] = ()  # file stems of the clips to validate on
    held_out_frames: int = 17
    held_out_size: int = 128  # shorter side, and the centre square
    skip_notes: tuple[str, ...] = ()  # files whose note has one of these in it stay out


@dataclass(frozen=True)
class OptimizerPart:
    """Warm up, hold, then fall to zero over the last `cooldown` steps."""

    name: Literal["adam", "adamw", "muon"] = "adamw"  # muon: for narrow models
    learning_rate: float = 2e-3
    betas: tuple[float, ...] = (0.9, 0.99)
    weight_decay: float = 0.0  # with adam and adamw
    momentum: float = 0.95  # with muon
    warmup: int = 50
    cooldown: int = 500
    fall: Literal["linear", "cosine"] = "linear"
    clip_norm: float = 1.0


@dataclass(frozen=True)
class LossPart:
    """Weights of the terms; one of weight 0 has no part in the loss, though the regularizer still tells its size."""

    l1: float = 1.0
    l2: float = 0.0
    perceptual: float = 0.0  # LPIPS
    lpips_weights: str = ""  # a local file, where the usual places have none
    gradient: float = 0.0  # of the pictures' gradients at three scales: needs no weights, as LPIPS does
    texture: float = 0.0  # of how much there is of gradients in small windows: detail need not be where it was
    psnr: float = 0.0  # of 10 log10(mean square error), averaged over clips: what mean PSNR measures
    log_variance: bool = False  # learn one scalar s: reconstruction terms become `terms / exp(s) + s`
    # What the reconstruction terms and KL are counted per: a number of the video, or a frame (numbers of a frame
    # summed, KL of a clip whole), the convention in which published KL weights are given.
    per: Literal["number", "frame"] = "number"
    kl: float = 1e-6
    commitment: float = 0.25
    entropy: float = 0.1
    entropy_boost: float = 3.0  # times the entropy weight at first, falling to once over `entropy_steps`
    entropy_steps: int = 2000
    usage: float = 0.0  # FSQ, LFQ: of an even use of the whole codebook, which `entropy` does not reach


@dataclass(frozen=True)
class GanPart:
    """Patch discriminator on frames; weight 0: none."""

    weight: float = 0.0
    start: int = 20001  # the first step with it
    layers: int = 3
    width: int = 64
    learning_rate: float = 1e-5
    betas: tuple[float, ...] = (0.5, 0.9)
    lecam: float = 0.005


@dataclass(frozen=True)
class ReportPart:
    """How often, in steps."""

    log_every: int = 20
    validate_every: int = 100
    checkpoint_every: int = 25
    pictures: int = 4  # held-out clips in the picture of each validation; 0: no pictures


@dataclass(frozen=True)
class Recipe:
    """All that decides a training run, or one stage of it; equal recipe, data and seed give an equal run."""

    steps: int
    model: ModelPart
    seed: int = 0
    data: DataPart = DataPart()
    optimizer: OptimizerPart = OptimizerPart()
    loss: LossPart = LossPart()
    gan: GanPart = GanPart()
    report: ReportPart = ReportPart()

    def __post_init__(self) -> None:
        for words, (holds, keys) in _RANGES.items():
            for key in keys:
                section, _, name = key.rpartition(".")
                value = getattr(getattr(self, section) if section else self, name)
                numbers = value if isinstance(value, tuple) else (value,)
                if not all(holds(number) for number in numbers):
                    where = f"[{section}] {name}" if section else name
                    raise DataError(f"{where} must be {words}, got {', '.join(map(str, numbers))}")
        data, optimizer, gan = self.data, self.optimizer, self.gan
        if self.seed >= 2**63:
            raise DataError(f"seed must be below 2^63, got {self.seed}")
        if data.short_side < data.size:
            raise DataError(f"[data] short_side {data.short_side} is less than size {data.size}; no crop fits")
        if len(data.zoom) != 2 or not 1 <= data.zoom[0] <= data.zoom[1] <= data.short_side / data.size:
            raise DataError(
                f"[data] zoom is two numbers, rising, from 1 to short_side / size = {data.short_side / data.size:g}, "
                f"got {list(data.zoom)}"
            )
        if not data.fps or min(data.fps) < 0:
            raise DataError(f"[data] fps must list rates of 0 or more, got {list(data.fps)}")
        if not (len(optimizer.betas) == len(gan.betas) == 2):
            raise DataError("[optimizer] and [gan] betas are two numbers")
        if gan.weight and data.size < 3 * 2**gan.layers:
            raise DataError(f"[gan] layers {gan.layers} need frames of {3 * 2**gan.layers} pixels, size is {data.size}")


# Ranges of numbers by themselves: in words, as a test, and the keys that keep to it.
_RANGES: dict[str, tuple[Callable[[float], bool], tuple[str, ...]]] = {
    "at least 1": (
        lambda number: number >= 1,
        (
            "steps",
            *("data.batch", "data.frames", "data.size", "data.max_clip_frames"),
            *("data.held_out_frames", "data.held_out_size"),
            *("report.log_every", "report.validate_every", "report.checkpoint_every", "gan.width"),
        ),
    ),
    "0 or more": (
        lambda number: number >= 0,
        ("seed", "data.workers", "data.colour", "optimizer.weight_decay", "gan.layers", "report.pictures"),
    ),
    "above 0": (lambda number: number > 0, ("optimizer.learning_rate", "optimizer.clip_norm", "gan.learning_rate")),
    "at least 0 and below 1": (
        lambda number: 0 <= number < 1,
        ("model.ema", "optimizer.momentum", "optimizer.betas", "gan.betas"),
    ),
    "0 to 1": (lambda number: 0 <= number <= 1, ("data.image_share", "data.vivid")),
}

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _typed(value: Any, kind: Any, where: str) -> Any:
    """`value` of a TOML file as `kind`; raises DataError that names the place."""
    if get_origin(kind) is UnionType:  # with None, which no TOML file can say
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    if is_dataclass(kind):
        return _section(value, kind, where)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise DataError(f"{where} is one of {', '.join(get_args(kind))}, got {value!r}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise DataError(f"{where} must be a list, got {value!r}")
        return tuple(_typed(v, get_args(kind)[0], where) for v in value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise DataError(f"{where} must be {_WORDS[kind]}, got {value!r}")
    if kind is float and not math.isfinite(value):
        raise DataError(f"{where} must be a finite number, got {value}")
    return value


def _table(values: Any, kind: Any, where: str) -> dict[str, Any]:
    """`values` of a TOML table as fields of the dataclass `kind`, some or all; raises DataError."""
    types = get_type_hints(kind)
    hints = {f.name: types[f.name] for f in fields(kind)}
    if not isinstance(values, dict):
        raise DataError(f"{where} must be a table, got {values!r}")
    for name in values:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(hints)}"
            raise DataError(f"{where} has no {name!r}; {hint}")
    places = {name: f"[{name}]" if is_dataclass(hints[name]) else f"{where} {name}" for name in values}
    typed = {}
    for name, value in values.items():
        if get_origin(hints[name]) is dict:  # fields of the variant that the same table names; it may lack the name
            named = "variant" in values
            typed[name] = (
                _table(value, family_of(find_variant(values["variant"])).config, places[name]) if named else {}
            )
        else:
            typed[name] = _typed(value, hints[name], places[name])
    return typed


def _section(values: Any, kind: Any, where: str) -> Any:
    given = _table(values, kind, where)
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in given]
    if missing:
        raise DataError(f"{where} lacks {' and '.join(missing)}")
    return kind(**given)


def _stages(values: dict[str, Any]) -> list[dict[str, Any]]:
    """`values` of a recipe for each of its `[[stage]]` tables, which change what stands above them."""
    tables = values.pop(STAGE, [{}])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise DataError(f"the stages of a recipe are tables: [[{STAGE}]]")
    stages = []
    for table in tables:
        both = {k for k in values.keys() & table.keys() if isinstance(values[k], dict) and isinstance(table[k], dict)}
        values = {**values, **table, **{k: {**values[k], **table[k]} for k in both}}
        stages.append(values)
    return stages


def load_recipe(name: str) -> list[Recipe]:
    """Read a recipe from a path, or a shipped one by name: its stages in order, most have one. Raises DataError.

    A later stage begins with the weights that the one before gives, so that `init` and `start` are those of the first.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise DataError(f"no recipe {name!r}; give a .toml file or one of: {shipped}")
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    try:
        first, *later = (_section(stage, Recipe, "the recipe") for stage in _stages(values))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return [first, *(replace(stage, model=replace(stage.model, init="", start="random")) for stage in later)]
