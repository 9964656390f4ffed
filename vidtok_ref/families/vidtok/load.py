"""Variant and weights to model, and what is said when they do not belong together."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.vidtok.checkpoints import release_name
from vidtok_ref.families.vidtok.model import VidTok
from vidtok_ref.families.vidtok.variant import VARIANTS, Variant, find_variant
from vidtok_ref.families.vidtok.weights_file import embedded_variant
from vidtok_ref.weights import load_into, read_weights


def build(
    variant: str | Variant,
    weights: str | PathLike[str] | Mapping[str, Tensor] | None = None,
    *,
    seed: int = 0,
    **overrides: Any,
) -> VidTok:
    """Build a reference model in evaluation mode.

    variant: a name of `VARIANTS` or a `Variant`; overrides replace its fields (`ch=16`).
    weights: checkpoint path, or mapping of released names to tensors; None: random by `seed`.
    Raises VariantError, WeightsError.
    """
    chosen = find_variant(variant, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VidTok(chosen)
    if weights is None:
        model.source, model.seed = f"untrained, seed {seed}", seed
    elif isinstance(weights, Mapping):
        model.source = "given tensors"
        _load(model, weights)
    else:
        path = Path(weights)
        tensors = read_weights(path)
        _check_claims(path, chosen)
        model.source = path.name
        _load(model, tensors)
    return model.eval()


def _load(model: VidTok, weights: Mapping[str, Tensor]) -> None:
    try:
        load_into(model, weights, model.variant.name)
    except WeightsError as error:
        similar = look_alikes(weights)
        raise WeightsError(f"{error}; they look like {' or '.join(similar)}" if similar else str(error)) from error


def _check_claims(path: Path, v: Variant) -> None:
    """Raise WeightsError when the file itself says that it belongs to another variant.

    Versions 1.0 and 1.1 of a variant have the same tensors: only the variant inside a safetensors
    file, or a released file name, can tell them apart.
    """
    inside = embedded_variant(path)
    if inside is not None:
        wanted, found = v.to_dict(), inside.to_dict()
        differing = [f"{k} {found[k]}, not {wanted[k]}" for k in wanted if found[k] != wanted[k]]
        if differing:
            raise WeightsError(
                f"{path} holds {inside.name}, not the {v.name} that was asked for: {'; '.join(differing)}; "
                "ask for the variant inside (vidtok-export takes it when --variant is left out)"
            )
        return
    named = next((w for w in VARIANTS.values() if release_name(w) == path.stem), None)
    if named is not None and named.name != v.name:
        raise WeightsError(
            f"{path} has the released name of {named.name}, not of {v.name}; give --variant {named.name}, "
            "or rename the file if its weights really are the other's"
        )


def look_alikes(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the variants whose tensors, at the width of these weights, have exactly these names and shapes."""
    first = weights.get("encoder.conv_in.conv.weight", weights.get("encoder.conv_in.weight"))
    if first is None:
        return []
    shapes = {k: t.shape for k, t in weights.items() if k.startswith(("encoder.", "decoder."))}
    found = []
    for v in VARIANTS.values():
        with torch.device("meta"):
            model = VidTok(find_variant(v, ch=first.shape[0]))
        if {k: t.shape for k, t in model.state_dict().items()} == shapes:
            found.append(v.name)
    return found
