"""One training step, and all that a run carries from step to step."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vidtok_ref.errors import DataError, DivergedError
from vidtok_ref.regularizers.base import Encoded
from vidtok_ref.regularizers.channel import ChannelQuantizer
from vidtok_ref.regularizers.kl import DiagonalGaussian
from vidtok_ref.tokenizer import VideoTokenizer
from vidtok_ref.train.average import update_average
from vidtok_ref.train.gan import Discriminator, adaptive_weight, non_saturating
from vidtok_ref.train.halves import convolve_halves
from vidtok_ref.train.layout import ChannelsLast
from vidtok_ref.train.loader import Batch, Numbers, Samples, make_loader
from vidtok_ref.train.losses import Objective, entropy_weight, frames_of
from vidtok_ref.train.material import Material
from vidtok_ref.train.norms import widen_narrow_norms
from vidtok_ref.train.optimizer import learning_rate, make_optimizer
from vidtok_ref.train.pixels import from_network, to_network, to_tensor
from vidtok_ref.train.recipe import Recipe
from vidtok_ref.train.recompute import recompute_blocks
from vidtok_ref.train.usage import UsageLoss

# Of a recipe's settings, those besides [report] that may change when a run resumes: how long it is, what is advised
# against divergence, and what changes the work but not its aim.
_MAY_CHANGE = {"steps", "[optimizer] learning_rate", "[data] workers"}


def _settings(recipe: dict[str, Any]) -> dict[str, Any]:
    """What a resumed run must have in common with its beginning, by its place in the recipe."""
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        if name != "report":
            flat |= {f"[{name}] {k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return {place: value for place, value in flat.items() if place not in _MAY_CHANGE}


def sample_latent(encoded: Encoded, seed: int, numbers: list[int]) -> Tensor:
    """A latent drawn from each clip's Gaussian; a sample's noise depends on the seed and its number alone."""
    assert encoded.log_variance is not None
    drawn = []
    for i, number in enumerate(numbers):
        word = int(np.random.SeedSequence((seed, number, 1)).generate_state(1, np.uint64)[0] >> 1)
        one = Encoded(encoded.latent[i : i + 1], log_variance=encoded.log_variance[i : i + 1])
        drawn.append(DiagonalGaussian.sample(one, torch.Generator().manual_seed(word)))
    return torch.cat(drawn)


class Training(L.LightningModule):
    """Model, average, discriminator and their optimizers; `latest` holds the last step's figures.

    last: where the run's checkpoint is, for the advice that an error gives. Raises DivergedError when a gradient is
    not finite, before anything is written.
    """

    def __init__(
        self, recipe: Recipe, model: VideoTokenizer, material: Material, perceptual: nn.Module | None, last: Path
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recipe, self.material, self.last = recipe, material, last
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.model = model.train()
        self.frozen = recipe.model.train == "decoder"
        if self.frozen:
            model.encoder.requires_grad_(False)
            model.regularization.requires_grad_(False).eval()
        for network in (self.model, self.average):
            convolve_halves(network)
            widen_narrow_norms(network)
        if recipe.model.gradient_checkpointing:
            recompute_blocks(model)
        self.objective = Objective(recipe.loss, perceptual)
        self.usage = None
        if recipe.loss.usage and not self.frozen:
            assert isinstance(model.regularization, ChannelQuantizer)
            self.usage = UsageLoss(model.regularization)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.discriminator = Discriminator(recipe.gan) if recipe.gan.weight else None
        self.steps_done, self.best = 0, 0.0
        self.latest: dict[str, Tensor | float] = {}
        self.skipped: list[str] = []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers = [make_optimizer(self.model, self.objective, self.recipe)]
        if self.discriminator is not None:
            gan = self.recipe.gan
            fast, slow = gan.betas
            optimizers.append(torch.optim.Adam(self.discriminator.parameters(), gan.learning_rate, (fast, slow)))
        return optimizers

    def train_dataloader(self) -> DataLoader[Batch]:
        recipe = self.recipe
        numbers = Numbers(
            recipe.data.batch, self.steps_done, recipe.steps, self.trainer.global_rank, self.trainer.world_size
        )
        return make_loader(Samples(self.material, recipe.data, recipe.seed), numbers)

    def on_fit_start(self) -> None:
        for fixed in self.objective.perceptual:
            if fixed is not None:
                fixed.to(self.device)

    def training_step(self, batch: Batch, _: int) -> None:
        with ChannelsLast() if self.device.type == "cpu" else nullcontext():
            self._step(batch)

    def _step(self, batch: Batch) -> None:
        recipe, step = self.recipe, self.steps_done
        optimizers = self.optimizers()
        optimizer, *others = optimizers if isinstance(optimizers, list) else [optimizers]
        rate = learning_rate(recipe, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        video, pixel_range = to_tensor(batch.video), self.model.stream.pixel_range
        with torch.set_grad_enabled(not self.frozen):
            h = self.model.features(to_network(video, pixel_range))
            regularizer = self.model.regularization
            encoded, penalties = regularizer.regularize(h)
            if self.usage is not None:
                assert isinstance(regularizer, ChannelQuantizer)
                penalties["usage"] = self.usage(regularizer.bound(h))
        latent = encoded.latent
        if encoded.log_variance is not None:
            latent = sample_latent(encoded, recipe.seed, batch.number.tolist())
        recon = from_network(self.model.decode(latent, video.shape[2]).float(), pixel_range)
        with torch.autocast(self.device.type, enabled=False):
            terms = self.objective.reconstruction(video, recon)
            likelihood = self.objective.likelihood(terms, video)
            loss = likelihood + self.objective.regularization(penalties, video, step)
            figures: dict[str, Any] = {**terms, **penalties}
            adversarial = self.discriminator is not None and step + 1 >= recipe.gan.start
            if adversarial:
                gain, figures["generator"] = self._generator_gain(likelihood, recon)
                figures["adaptive_weight"] = gain
                loss = loss + recipe.gan.weight * gain * figures["generator"]
            figures["loss"] = loss
            figures["gradient_norm"] = self._descend(optimizer, loss)
            if adversarial:
                figures |= self._train_discriminator(others[0], video, recon.detach())
        self.steps_done += 1
        update_average(self.average, self.model, recipe.model.ema, self.steps_done)
        if "entropy" in penalties:
            figures["entropy_weight"] = entropy_weight(recipe.loss, step)
        if self.objective.log_variance is not None:
            figures["log_variance"] = self.objective.log_variance
        self.latest = {**figures, "learning_rate": rate}
        self.skipped = batch.skipped

    def _mean(self, x: Tensor) -> Tensor:
        """Mean over the processes."""
        reduced: Tensor = self.trainer.strategy.reduce(x, reduce_op="mean")
        return reduced

    def _descend(self, optimizer: LightningOptimizer, loss: Tensor) -> Tensor:
        """One step of an optimizer with clipped gradients; returns their norm before."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, self.recipe.optimizer.clip_norm)
        if not torch.isfinite(norm):
            resumes = f"resumes from {self.last}" if self.last.is_file() else "starts again"
            raise DivergedError(
                f"step {self.steps_done}: the loss is {loss.item():.4g} and its gradient {norm.item():.4g}; lower "
                f"learning_rate in the recipe and give the same command again, which {resumes}"
            )
        optimizer.step()
        return norm

    def _generator_gain(self, likelihood: Tensor, recon: Tensor) -> tuple[Tensor, Tensor]:
        """Adaptive weight and generator loss."""
        assert self.discriminator is not None
        self.discriminator.requires_grad_(False)
        generator = non_saturating(self.discriminator(frames_of(recon)))
        last_layer = self.model.decoder.last_weights()
        gradients = [
            [self._mean(gradient) for gradient in torch.autograd.grad(x, last_layer, retain_graph=True)]
            for x in (likelihood, generator)
        ]
        return adaptive_weight(*gradients), generator

    def _train_discriminator(self, optimizer: LightningOptimizer, video: Tensor, recon: Tensor) -> dict[str, Tensor]:
        assert self.discriminator is not None
        self.discriminator.requires_grad_(True)
        hinge, lecam = self.discriminator.loss(frames_of(video), frames_of(recon), self._mean)
        self._descend(optimizer, hinge + self.recipe.gan.lecam * lecam)
        return {"discriminator": hinge, "lecam": lecam}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["progress"] = {
            "steps": self.steps_done,
            "best": self.best,
            "variant": self.model.config.to_dict(),
            "recipe": self._plain_recipe(),
        }

    def _plain_recipe(self) -> dict[str, Any]:
        """The recipe with lists for tuples."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self.recipe)))
        return plain

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises DataError where the checkpoint is of another model or recipe."""
        progress = checkpoint["progress"]
        wanted, found, kind = self.model.config.to_dict(), progress["variant"], "model"
        if wanted == found and "recipe" in progress:  # earlier runs did not keep their recipe
            wanted, found, kind = _settings(self._plain_recipe()), _settings(progress["recipe"]), "recipe"
        differing = [f"{k} {found[k]}, not {wanted[k]}" for k in wanted if k in found and found[k] != wanted[k]]
        if differing:
            raise DataError(f"{self.last} is of another {kind}: {'; '.join(differing)}; name another --run folder")
        self.steps_done, self.best = progress["steps"], progress["best"]
        # Where the run is says `steps`: the loader begins there, so the trainer's own counters start anew.
        checkpoint.pop("loops", None)
