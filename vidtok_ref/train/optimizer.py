"""The optimizer of a recipe and its learning rate over the steps."""

from __future__ import annotations

import math

import torch
from torch import nn

from vidtok_ref.tokenizer import VideoTokenizer
from vidtok_ref.train.muon import Muon
from vidtok_ref.train.recipe import Recipe


def make_optimizer(model: VideoTokenizer, objective: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Optimizer of every parameter of model and objective that is trained."""
    part = recipe.optimizer
    fast, slow = part.betas
    trained = [p for p in (*model.parameters(), *objective.parameters()) if p.requires_grad]
    if part.name == "muon":
        encoder, decoder = model.encoder, model.decoder
        ends = [*encoder.first_weights(), *encoder.last_weights(), *decoder.last_weights()]
        return Muon(trained, ends, part.learning_rate, (fast, slow), part.momentum)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[part.name]
    optimizer: torch.optim.Optimizer = kind(
        trained, lr=part.learning_rate, betas=(fast, slow), weight_decay=part.weight_decay
    )
    return optimizer


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of a step, counted from 0: warm-up, plateau, and the fall over the last `cooldown` steps."""
    part = recipe.optimizer
    rise = min(1.0, (step + 1) / max(1, part.warmup))
    fall = min(1.0, (recipe.steps - step) / max(1, part.cooldown))
    if part.fall == "cosine":
        fall = (1 - math.cos(math.pi * fall)) / 2
    return part.learning_rate * min(rise, fall)
