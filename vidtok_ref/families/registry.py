"""The families of tokenizers: found in the folders beside this file, described without PyTorch."""

from __future__ import annotations

import difflib
import importlib
import json
import pkgutil
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from vidtok_ref.errors import VariantError, WeightsError

if TYPE_CHECKING:
    from vidtok_ref.tokenizer import VideoTokenizer

T = TypeVar("T")


class Family:
    """One system of tokenizers. A folder of its own gives an instance as `FAMILY` and imports PyTorch only to build.

    name: in manifests and token files. title: for people. licence: of the released weights, as far as known.
    config: the dataclass of its configurations. configs: those that were released, by name. model: the class in
    `model.py` that is built from one. published: what `--checkpoint` takes, for people. release_class: what
    `_class_name` is in the release's `config.json`, None where it has none. release_library: the library that has the
    release's own implementation, None where `release` gives none.
    """

    name: str
    title: str
    licence: str
    config: type[Any]
    configs: Mapping[str, Any]
    model: str
    published: str
    release_class: str | None = None
    release_library: str | None = None

    def make(self, config: Any) -> VideoTokenizer:
        """A model with random weights."""
        made: VideoTokenizer = getattr(self._file("model"), self.model)(config)
        return made

    def find_checkpoint(self, config: Any, option: str = "--checkpoint") -> Path:
        """Where the released weights of a configuration are; raises WeightsError with the ways to give them.

        option: that of the command which takes a file of them.
        """
        raise WeightsError(f"no weights of {config.name}: give {option} with {self.published}")

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        """Tensors by our names, of released ones or of ours; values stay what they are. `checkpoints.py` maps them."""
        named: dict[str, T] = self._file("checkpoints").own_names(weights)
        return named

    def check_weights(self, weights: Mapping[str, Any]) -> None:
        """Raise WeightsError where tensors of the right names say that they are of another configuration."""

    def _file(self, name: str) -> ModuleType:
        """A file of the family's own folder."""
        return importlib.import_module(f"{type(self).__module__}.{name}")

    def embedded(self, metadata: Mapping[str, str]) -> Any | None:
        """The configuration that a safetensors file of this family names; None where it is of none or another."""
        return self.config.from_dict(json.loads(metadata["config"])) if metadata.get("family") == self.name else None

    def check_file(self, path: Path, config: Any) -> None:
        """Raise WeightsError where a checkpoint's name says that it belongs to another configuration."""

    def release(self, model: Any) -> Any | None:
        """The release's own implementation with the weights of a model, None where there is none to call.

        It has `compile()` and `step(role, x)`, which runs the next call of one stream: `N C T H W`, T whole latents;
        and `encode(video)` and `decode(latent)` for whole clips of a length that the release has, in float64. Raises
        MissingError.
        """
        return None

    def start_linear(self, model: Any, video: Any, log_variance: float) -> None:
        """Solve for first weights on clips `N 3 T H W` in its pixel range, in place; raises VariantError."""
        raise VariantError(f'family {self.name} has no linear start; give `start = "random"`')

    def start_grown(self, model: Any, narrow: Any) -> None:
        """Give a model the function of a narrower one, in place, for training; raises VariantError."""
        raise VariantError(f'family {self.name} has no grown start; give `start = "random"`')


@cache
def all_families() -> dict[str, Family]:
    """All families by name."""
    package = importlib.import_module(__package__)
    found = [
        importlib.import_module(f"{__package__}.{module.name}").FAMILY
        for module in pkgutil.iter_modules(package.__path__)
        if module.ispkg
    ]
    return {family.name: family for family in found}


def family_of(config: Any) -> Family:
    """The family of a configuration."""
    return next(family for family in all_families().values() if isinstance(config, family.config))


def variants() -> dict[str, Any]:
    """The released configurations of all families by name."""
    return {name: config for family in all_families().values() for name, config in family.configs.items()}


def find_variant(name: Any, **overrides: Any) -> Any:
    """The named configuration (or the one given) with some fields replaced; raises VariantError naming the nearest."""
    known = variants()
    if isinstance(name, str) and name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(known)}"
        raise VariantError(f"no variant is called {name!r}; {hint}")
    base = known[name] if isinstance(name, str) else name
    try:
        return replace(base, **overrides)
    except TypeError as error:
        fitting = ", ".join(f.name for f in fields(base))
        raise VariantError(f"unknown override ({error}); a variant has: {fitting}") from error


def make_model(config: Any) -> VideoTokenizer:
    """A model of a configuration with random weights, or without storage on the device `meta`."""
    return family_of(config).make(config)
