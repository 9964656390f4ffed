"""Configuration and weights to model, and what is said when they do not belong together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidtok_ref.errors import MisfitError, VariantError, WeightsError
from vidtok_ref.families.look_alikes import look_alikes
from vidtok_ref.families.registry import Family, all_families, family_of, find_variant, make_model
from vidtok_ref.families.weights_file import embedded_variant
from vidtok_ref.tokenizer import VideoTokenizer
from vidtok_ref.weights import load_into, read_weights

_CONFIG = "config.json"  # in a folder of a release


def build(
    name: Any,
    weights: str | PathLike[str] | Mapping[str, Tensor] | None = None,
    *,
    seed: int = 0,
    released_config: str | PathLike[str] | Mapping[str, Any] | None = None,
    **overrides: Any,
) -> VideoTokenizer:
    """Build a reference model of any family in evaluation mode.

    name: of a configuration (`vidtok_ref.VARIANTS` has them), or a configuration; overrides replace its fields
    (`ch=16`). weights: path of a checkpoint or of a folder of them, or mapping of released names to tensors; None:
    random by `seed`. released_config: the release's own configuration, a mapping or the path of its `config.json`;
    None: that in the folder of the weights, if there is one, or beside the file of a released configuration's weights,
    if it names the class of the release. Overrides replace its fields, too. Raises VariantError, WeightsError.
    """
    config = find_variant(name)
    family = family_of(config)
    if released_config is None and isinstance(weights, str | PathLike):
        released_config = _config_of(family, config, Path(weights))
    if released_config is not None:
        settings = _read_config(released_config)
        _check_class(family, settings)
        config = family.config.from_release(config.name, settings, **overrides)
    else:
        config = find_variant(config, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(config)
    if weights is None:
        model.source, model.seed = f"untrained, seed {seed}", seed
    elif isinstance(weights, Mapping):
        model.source = "given tensors"
        _load(family, model, weights)
    else:
        path = Path(weights)
        tensors = read_weights(path)
        _check_claims(family, path, config)
        model.source = path.name
        _load(family, model, tensors)
    return model.eval()


def _config_of(family: Family, config: Any, weights: Path) -> Mapping[str, Any] | None:
    """The release's own configuration that lies with its weights, None where there is none."""
    if (weights / _CONFIG).is_file():
        return _read_config(weights / _CONFIG)
    beside = weights.parent / _CONFIG
    # Beside a file may lie that of something else. A file of ours says itself what it is, and so does who gives more
    # than a name.
    asked = family.release_class is not None and config == family.configs.get(config.name)
    if not (asked and weights.is_file() and beside.is_file()) or embedded_variant(weights) is not None:
        return None
    settings = _read_config(beside)
    return settings if settings.get("_class_name") == family.release_class else None


def _read_config(given: str | PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    try:
        data = json.loads(Path(given).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise VariantError(f"{given} is no configuration file: {error}") from error
    if not isinstance(data, dict):
        raise VariantError(f"{given} is no configuration file: it holds no JSON object")
    return data


def _check_class(family: Family, settings: Mapping[str, Any]) -> None:
    """Raise VariantError when a release's configuration says that it is of another family."""
    said = settings.get("_class_name", family.release_class)
    if said == family.release_class:
        return
    owners = [f", which is of {other.title}" for other in all_families().values() if other.release_class == said]
    if owners or family.release_class:
        raise VariantError(f"this configuration is of {said}{''.join(owners)}, not of {family.title}")


def _load(family: Family, model: VideoTokenizer, weights: Mapping[str, Tensor]) -> None:
    try:
        load_into(model, family.own_names(weights), model.config.name)
    except MisfitError as error:
        raise MisfitError("; ".join(filter(None, [str(error), look_alikes(weights)]))) from error
    family.check_weights(weights)


def _check_claims(family: Family, path: Path, config: Any) -> None:
    """Raise WeightsError when the file itself says that it belongs to another configuration."""
    inside = embedded_variant(path)
    if inside is None:
        family.check_file(path, config)
        return
    wanted, found = config.to_dict(), inside.to_dict()
    differing = [f"{k} {found.get(k)}, not {wanted[k]}" for k in wanted if found.get(k) != wanted[k]]
    if differing:
        raise WeightsError(
            f"{path} holds {inside.name}, not the {config.name} that was asked for: {'; '.join(differing)}; "
            "ask for the variant inside (vidtok-export takes it when --variant is left out)"
        )
