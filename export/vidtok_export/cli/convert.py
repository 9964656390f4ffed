"""`convert`: a checkpoint to safetensors."""

from __future__ import annotations

from pathlib import Path

import click

from vidtok_export.cli.options import FILE, FORCE, VARIANT, chosen_variant, loud, overrides_of
from vidtok_runtime.files import PartFile


@click.command(epilog="Example: vidtok-export convert vidtok_kl_causal_488_4chn.ckpt --variant kl-4chn")
@click.argument("checkpoint", type=FILE)
@VARIANT
@click.option("-o", "--out", type=FILE, help="New file.  [default: CHECKPOINT with the suffix .safetensors]")
@click.option("--ch", type=click.IntRange(1), help="Width, instead of the released one.")
@click.option("--half", is_flag=True, help="Store float16 instead of float32.")
@FORCE
@loud
def convert(checkpoint: Path, variant: str | None, out: Path | None, ch: int | None, half: bool, force: bool) -> None:
    """Turn CHECKPOINT into safetensors with the variant inside and nothing but the model."""
    out = out or checkpoint.with_suffix(".safetensors")
    PartFile(out, force=force)

    import torch

    from vidtok_ref.families.build import build
    from vidtok_ref.families.weights_file import write_weights

    model = build(chosen_variant(variant, checkpoint), checkpoint, **overrides_of(ch))
    write_weights(model, out, torch.float16 if half else torch.float32)
    click.echo(f"{out}: {model.config.name}, {out.stat().st_size / 1e6:.1f} MB")
