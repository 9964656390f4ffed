"""A training recipe: one typed TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidtok_ref.errors import DataError

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """All that decides a training run; equal recipe, data and seed give an equal run."""

    variant: str
    steps: int
    overrides: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    # Data: clips of `frames` frames of `size` x `size` pixels, cut from frames of shorter side `short_side`.
    batch: int = 4
    frames: int = 13
    size: int = 64
    short_side: int = 144
    max_clip_frames: int = 160
    image_share: float = 0.25
    held_back: tuple[str, ...] = ()
    skip_notes: tuple[str, ...] = ()
    # Optimisation: warm up, hold, then fall linearly to zero over the last `cooldown` steps.
    learning_rate: float = 2e-3
    warmup: int = 50
    cooldown: int = 500
    clip_norm: float = 1.0
    ema: float = 0.995
    l1_weight: float = 1.0
    l2_weight: float = 1.0
    kl_weight: float = 1e-6
    log_variance_start: float = -8.0
    # Compiled training steps: minutes to start, then about 1.5 times as fast. Needs a C++ compiler on the CPU.
    compile: bool = False
    # Reporting.
    validate_every: int = 100
    checkpoint_every: int = 25


def load_recipe(name: str) -> Recipe:
    """Read a recipe from a path, or a shipped one by name; raises DataError."""
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise DataError(f"no recipe {name!r}; give a .toml file or one of: {shipped}")
    try:
        values = tomllib.loads(path.read_text())
        return Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except (TypeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
