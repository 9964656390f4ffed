"""The weights that a run begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vidtok_ref.errors import DataError
from vidtok_ref.families import family_of, variants
from vidtok_ref.families.build import build
from vidtok_ref.families.weights_file import embedded_variant
from vidtok_ref.tokenizer import VideoTokenizer
from vidtok_ref.train.loader import Samples
from vidtok_ref.train.material import Material
from vidtok_ref.train.pixels import to_network, to_tensor
from vidtok_ref.train.recipe import ModelPart, Recipe
from vidtok_ref.weights import read_weights
from vidtok_runtime.bundle.lookup import SHIPPED


def first_model(recipe: Recipe, material: Material, init: Path | None = None) -> VideoTokenizer:
    """The model of a recipe with its first weights: those of `init` (or the recipe's), and what its start gives.

    Raises DataError, VariantError, WeightsError.
    """
    part = recipe.model
    init = init or _named(part.init)
    model = build(part.variant, seed=recipe.seed, **part.overrides)
    if part.start == "grown":
        _grow(model, init)
        return model
    if part.start == "linear":
        clips = to_network(_start_clips(material, recipe), model.stream.pixel_range)
        family_of(model.config).start_linear(model, clips, part.log_variance_start)
    if init is not None:
        _load_fitting(model, init, part)
    elif part.train == "decoder":
        raise DataError("the encoder is not trained by this recipe; give the weights of the stage before by --init")
    return model


def _named(init: str) -> Path | None:
    """The weights file that a recipe names: a path, a shipped model, or a released variant."""
    if not init:
        return None
    shipped = SHIPPED / init / f"{init}.safetensors"
    if Path(init).is_file():  # a folder of that name is rather a bundle
        return Path(init)
    if shipped.is_file():
        return shipped
    released = variants().get(init)
    return Path(init) if released is None else family_of(released).find_checkpoint(released, option="--init")


def _start_clips(material: Material, recipe: Recipe) -> Tensor:
    """Samples beyond those that the run trains on, long enough that most latents have a full past."""
    samples = Samples(material, replace(recipe.data, frames=17), recipe.seed)
    first = recipe.steps * recipe.data.batch
    return to_tensor(torch.from_numpy(np.stack([samples[first + i][0] for i in range(16)])))


def _grow(model: VideoTokenizer, init: Path | None) -> None:
    narrow = None if init is None else embedded_variant(init)
    if narrow is None:
        raise DataError('`start = "grown"` needs an `init` that says which model it is, as vidtok-train writes them')
    assert init is not None
    family_of(model.config).start_grown(model, build(narrow, init))
    tqdm.write(f"grown from {init}")


def _load_fitting(model: VideoTokenizer, init: Path, part: ModelPart) -> None:
    """Load the tensors of `init`, under released names or ours, that have a place in `model`."""
    family, weights = family_of(model.config), read_weights(init)
    family.check_weights(weights)
    given, own = family.own_names(weights), model.state_dict()
    fits = {k: t.float() for k, t in given.items() if k in own and own[k].shape == t.shape}
    new = sorted(own.keys() - fits.keys())
    if not fits:
        raise DataError(f"{init} shares no tensor with {model.config.name}")
    if part.train == "decoder" and any(not name.startswith("decoder.") for name in new):
        raise DataError(
            f"{init} does not have the whole encoder of {model.config.name}, which this recipe keeps as it is"
        )
    model.load_state_dict({**own, **fits})
    tqdm.write(f"started from {init}; new: {', '.join(new) or 'nothing'}")
