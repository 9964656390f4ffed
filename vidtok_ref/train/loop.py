"""The training loop: step, validate, checkpoint; killed at any moment, it goes on where it was."""

from __future__ import annotations

import copy
import csv
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from vidtok_ref.errors import DataError, ModelError
from vidtok_ref.load import build
from vidtok_ref.model import VidTok
from vidtok_ref.regularizer import DiagonalGaussian
from vidtok_ref.train.data import Material, batches, load_material, to_tensor
from vidtok_ref.train.recipe import Recipe
from vidtok_ref.train.start import start_from_linear
from vidtok_ref.weights import read_weights, write_weights


def learning_rate(recipe: Recipe, step: int) -> float:
    """Warm-up, plateau, linear cool-down."""
    rise = min(1.0, (step + 1) / recipe.warmup)
    fall = min(1.0, (recipe.steps - step) / recipe.cooldown)
    return recipe.learning_rate * min(rise, fall)


def loss_of(model: VidTok, video: Tensor, recipe: Recipe, seed: int) -> Tensor:
    """Weighted sum of L1, L2 and (KL) the divergence per number of the video; a KL latent is sampled by the seed."""
    encoded = model.encode(video)
    latent = encoded.latent
    if encoded.log_variance is not None:
        latent = DiagonalGaussian.sample(encoded, torch.Generator().manual_seed(seed))
    error = model.decode(latent, video.shape[2]) - video
    loss = recipe.l1_weight * error.abs().mean() + recipe.l2_weight * (error**2).mean()
    if encoded.log_variance is not None:
        loss = loss + recipe.kl_weight * DiagonalGaussian.kl(encoded).sum() / video.numel()
    return loss


@torch.no_grad()
def validate(model: nn.Module, material: Material) -> float:
    """Mean PSNR in dB over the held-back clips (17 frames, centre 128x128, pixels rounded to 8 bits)."""
    total = 0.0
    for clip in material.held_back:
        video = to_tensor(clip[None])
        recon = model(video)[0].clamp(-1, 1)
        error = ((recon + 1) * 127.5).round() - (video + 1) * 127.5
        total += 20 * torch.log10(255 / error.square().mean().sqrt()).item()
    return total / len(material.held_back)


def _warm_start(model: VidTok, path: Path) -> list[str]:
    """Take every tensor that fits by name and shape; returns the names that did not."""
    given, own = read_weights(path), model.state_dict()
    fits = {k: t.float() for k, t in given.items() if k in own and own[k].shape == t.shape}
    if not fits:
        raise DataError(f"{path} shares no tensor with {model.variant.name}")
    model.load_state_dict({**own, **fits})
    return sorted(own.keys() - fits.keys())


def _save(content: dict[str, Any], path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(content, part)
    os.replace(part, path)


def train(recipe: Recipe, data: Path, run: Path, init: Path | None = None) -> float:
    """Train or resume in the folder `run`; `best.safetensors` there is the best model so far.

    Returns the best held-back PSNR in dB. Raises DataError; ModelError when the loss is not finite.
    """
    run.mkdir(parents=True, exist_ok=True)
    material = load_material(data, recipe)
    for line in material.skipped:
        tqdm.write(f"skipped: {line}")
    tqdm.write(f"{len(material.videos)} clips, {len(material.images)} photographs, {len(material.held_back)} held back")
    model = build(recipe.variant, seed=recipe.seed, **recipe.overrides).train()
    start_from_linear(model, recipe.log_variance_start)
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    step, best = 0, 0.0
    last = run / "last.ckpt"
    if last.is_file():
        saved = torch.load(last, weights_only=True)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step, best = saved["step"], saved["best"]
        tqdm.write(f"resuming at step {step}, best {best:.2f} dB")
    elif init is not None:
        fresh = _warm_start(model, init)
        average.load_state_dict(model.state_dict())
        tqdm.write(f"started from {init}; new: {', '.join(fresh) or 'nothing'}")

    if recipe.compile:
        model.encode, model.decode = torch.compile(model.encode), torch.compile(model.decode)  # type: ignore[method-assign]
    log_path = run / "log.csv"
    bar = tqdm(total=recipe.steps, initial=step, unit="step", mininterval=5)
    for video in batches(material, recipe, step):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, video, recipe, step)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        if not torch.isfinite(norm):
            raise ModelError(f"step {step}: the loss is {loss.item()}; lower learning_rate and resume from {last}")
        optimizer.step()
        step += 1
        # The average starts short and lengthens, so that the first steps are soon forgotten.
        decay = min(recipe.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        bar.update()
        if step % recipe.validate_every == 0 or step == recipe.steps:
            psnr = validate(average, material)
            if psnr > best:
                best = psnr
                write_weights(average, run / "best.safetensors", steps=str(step), held_back_psnr=f"{psnr:.2f}")
            tqdm.write(f"step {step}: loss {loss.item():.4f}, held-back PSNR {psnr:.2f} dB (best {best:.2f})")
            with log_path.open("a", newline="") as log:
                csv.writer(log).writerow([step, f"{loss.item():.5f}", f"{psnr:.3f}"])
        if step % recipe.checkpoint_every == 0 or step == recipe.steps:
            parts = {"model": model, "average": average, "optimizer": optimizer}
            _save({k: m.state_dict() for k, m in parts.items()} | {"step": step, "best": best}, last)
    bar.close()
    return best
