"""What a run leaves behind: log, pictures, best and last weights, checkpoint, a progress bar."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from tqdm import tqdm

from vidtok_ref.families.weights_file import write_weights
from vidtok_ref.train.module import Training
from vidtok_ref.train.resume import LAST
from vidtok_ref.train.validate import psnr, reconstruct, write_pictures

COLUMNS = (
    *("step", "loss", "l1", "l2", "perceptual", "gradient", "texture", "psnr", "log_variance"),
    *("kl", "entropy", "entropy_weight", "commitment", "usage"),
    *("generator", "adaptive_weight", "discriminator", "lecam"),
    *("learning_rate", "gradient_norm", "seconds_a_step", "held_out_psnr", "best_psnr"),
)


class Log:
    """A CSV of `COLUMNS`, one row a logged step; rows behind the step that a run resumes from are dropped."""

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        kept = []
        if path.is_file():
            with path.open(newline="") as file:
                kept = [
                    row for row in csv.DictReader(file) if (row["step"] or "").isdigit() and int(row["step"]) <= first
                ]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def add(self, row: dict[str, Any]) -> None:
        cells = {k: f"{float(v):.6g}" if k != "step" else v for k, v in row.items()}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(cells)


class Report(L.Callback):
    """Logs, validates and saves by the recipe; only the first of several processes writes."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.unreadable = run / "skipped.txt"
        known = self.unreadable.read_text("utf-8", "surrogateescape") if self.unreadable.is_file() else ""
        self.skipped = {line for line in known.split("\n") if line}
        self.bar = tqdm(disable=True)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, Training)
        self.started, self.counted = time.perf_counter(), 0
        recipe = module.recipe
        self.bar = tqdm(
            total=recipe.steps,
            initial=module.steps_done,
            unit="step",
            mininterval=5,
            disable=not trainer.is_global_zero,
        )
        if trainer.is_global_zero:
            self.log = Log(self.run / "log.csv", module.steps_done)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert isinstance(module, Training)
        recipe, step = module.recipe, module.steps_done
        self.bar.update()
        self.counted += 1
        for line in module.skipped:
            self.skip(line, write=trainer.is_global_zero)
        row: dict[str, Any] = {}
        if step % recipe.report.log_every == 0 or self._due(module, recipe.report.validate_every):
            # Reading the figures waits for the device, so that the clock counts finished steps.
            row = {k: v.item() if isinstance(v, Tensor) else v for k, v in module.latest.items()}
            row |= {"step": step, "seconds_a_step": (time.perf_counter() - self.started) / self.counted}
        if self._due(module, recipe.report.validate_every):
            held = self._validate(trainer, module)
            row |= {"held_out_psnr": held, "best_psnr": module.best}
            if trainer.is_global_zero:
                tqdm.write(f"step {step}: loss {row['loss']:.4f}, held-out PSNR {held:.2f} dB (best {module.best:.2f})")
        if row:
            if trainer.is_global_zero:
                self.log.add(row)
            self.started, self.counted = time.perf_counter(), 0
        if self._due(module, recipe.report.checkpoint_every):
            trainer.save_checkpoint(self.run / LAST)

    def skip(self, line: str, write: bool) -> None:
        """Say once that a file cannot be read and, in the first process, list it."""
        if line in self.skipped:
            return
        self.skipped.add(line)
        tqdm.write(f"skipped: {line}")
        if write:
            with self.unreadable.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f"{line}\n")

    @staticmethod
    def _due(module: Training, every: int) -> bool:
        return module.steps_done % every == 0 or module.steps_done == module.recipe.steps

    def _validate(self, trainer: L.Trainer, module: Training) -> float:
        """Mean PSNR in dB of the average over the held-out clips, which the processes share."""
        clips = module.material.held_out[trainer.global_rank :: trainer.world_size]
        pairs = [(clip, reconstruct(module.average, clip, module.device)) for clip in clips]
        total = torch.tensor(sum(psnr(*pair) for pair in pairs), dtype=torch.float64).to(module.device)
        held = float(trainer.strategy.reduce(total, reduce_op="sum")) / len(module.material.held_out)
        step, pictures = module.steps_done, module.recipe.report.pictures
        if trainer.is_global_zero and pictures:
            write_pictures(self.run / "pictures" / f"step-{step:06d}.png", pairs[:pictures])
        if held > module.best:
            module.best = held
            self._write_average(trainer, module, "best", held)
        if step == module.recipe.steps:
            self._write_average(trainer, module, "last", held)
        return held

    def _write_average(self, trainer: L.Trainer, module: Training, name: str, held: float) -> None:
        if trainer.is_global_zero:
            path = self.run / f"{name}.safetensors"
            write_weights(module.average, path, steps=str(module.steps_done), held_out_psnr=f"{held:.2f}")

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self.bar.close()  # what is said next begins a line

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.bar.close()
        if self.skipped and trainer.is_global_zero:
            tqdm.write(f"{len(self.skipped)} files could not be read: {self.unreadable}")
