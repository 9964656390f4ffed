"""A whole run: material, first weights, trainer; killed at any moment, it goes on where it was."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import lightning as L
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from tqdm import tqdm

from vidtok_ref.errors import DataError
from vidtok_ref.families import find_variant
from vidtok_ref.families.build import build
from vidtok_ref.train.first_weights import first_model
from vidtok_ref.train.material import load_material
from vidtok_ref.train.module import Training
from vidtok_ref.train.recipe import Recipe
from vidtok_ref.train.report import Report
from vidtok_ref.train.resume import LAST, RunCheckpoints
from vidtok_runtime.errors import OutputError


def _check_variant(recipe: Recipe) -> None:
    variant = find_variant(recipe.model.variant, **recipe.model.overrides)
    for name, size in {"size": recipe.data.size, "held_out_size": recipe.data.held_out_size}.items():
        if size % variant.stream.spatial_multiple:
            raise DataError(
                f"[data] {name} of {variant.name} must be a multiple of {variant.stream.spatial_multiple}, got {size}"
            )
    if recipe.loss.usage and not variant.stream.levels:
        raise DataError(f"[loss] usage is for tokens by channel (fsq, lfq), which {variant.name} does not have")


@contextlib.contextmanager
def _folder(run: Path) -> Iterator[None]:
    """Make the run folder, before data are read for minutes; after an error it goes, unless something is in it."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the run folder {run} cannot be made: {error.strerror}; name another --run") from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            run.rmdir()  # only an empty folder can go
        raise


def _perceptual(recipe: Recipe) -> nn.Module | None:
    if not recipe.loss.perceptual:
        return None
    from vidtok_ref.perceptual.lpips import load_lpips

    return load_lpips(weights=Path(recipe.loss.lpips_weights) if recipe.loss.lpips_weights else None).requires_grad_(
        False
    )


def _make_trainer(recipe: Recipe, report: Report, accelerator: str, devices: int, nodes: int) -> L.Trainer:
    return L.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        # Generator and discriminator take turns, so that some parameters have no part in each backward pass.
        strategy=DDPStrategy(find_unused_parameters=bool(recipe.gan.weight)) if devices * nodes > 1 else "auto",
        precision=recipe.model.precision,
        plugins=[RunCheckpoints()],
        callbacks=[report],
        max_epochs=1,  # an epoch is the steps that remain
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def train(
    recipe: Recipe,
    data: Path,
    run: Path,
    init: Path | None = None,
    *,
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
) -> float:
    """Train or resume in the folder `run`; `best.safetensors` there is the best average of weights so far.

    When all steps are done, `last.safetensors` is the average at the end: LPIPS and GAN cost PSNR, so that the best may
    be from before they took effect.

    data: folder or CSV list. Returns the best held-out PSNR in dB. Raises DataError, WeightsError, OutputError;
    DivergedError when a gradient is not finite.
    """
    if recipe.data.batch % (devices * nodes):
        raise DataError(f"[data] batch {recipe.data.batch} cannot be shared evenly by {devices * nodes} processes")
    _check_variant(recipe)
    last = run / LAST
    perceptual = _perceptual(recipe)
    resumes = last.is_file()
    report = Report(run)
    with warnings.catch_warnings():
        _hush()
        trainer = _make_trainer(recipe, report, accelerator, devices, nodes)
        first_process = trainer.is_global_zero
        part = recipe.model
        with _folder(run) if first_process else contextlib.nullcontext():
            material = load_material(data, recipe.data, quiet=not first_process)
            model = build(part.variant, **part.overrides) if resumes else first_model(recipe, material, init)
        if first_process:
            for stray in run.glob("*.part"):  # of a process that was killed while it wrote
                stray.unlink()
            for line in material.skipped:
                report.skip(line, write=True)
            videos, images, held = len(material.videos), len(material.images), len(material.held_out)
            tqdm.write(f"{videos} clips, {images} photographs, {held} held out")
        module = Training(recipe, model, material, perceptual, last)
        trainer.fit(module, ckpt_path=last if resumes else None, weights_only=True)
        trainer.strategy.barrier()  # what the first process wrote is there for all
    return module.best


def _hush() -> None:
    """Silence what the trainer library says about itself."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
