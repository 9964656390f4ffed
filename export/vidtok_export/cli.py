"""`vidtok-export`: parse and call."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vidtok_export.errors import ExportError
from vidtok_ref.errors import ModelError
from vidtok_ref.variant import VARIANTS
from vidtok_runtime.errors import VidtokError


def _list() -> str:
    lines = [f"{'variant':<30}{'latent':>16}{'factor T x H x W':>18}"]
    for v in VARIANTS.values():
        latent = f"{v.codebook_size:,} codes" if v.codebook_size else f"{v.z_channels} channels"
        factor = f"{v.time_factor}x{v.spatial_factor}x{v.spatial_factor}"
        lines.append(f"{v.name:<30}{latent:>16}{factor:>18}")
    return "\n".join(lines)


def _show_list(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(_list())
        ctx.exit()


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vidtok-export --variant kl-4chn --checkpoint vidtok_kl_causal_488_4chn.ckpt --out kl-4chn",
)
@click.option("--variant", required=True, help="Name; --list shows them.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Released .ckpt or .safetensors.")
@click.option("--out", type=click.Path(path_type=Path), help="New bundle folder.  [default: the variant's name]")
@click.option("--seed", type=int, help="Untrained weights from this seed, instead of a checkpoint.")
@click.option("--ch", type=click.IntRange(1), help="Width, instead of the released 128.")
@click.option("--chunk", type=click.IntRange(1), default=4, show_default=True, help="Latents a call, or a window.")
@click.option("--licence", default="MIT", show_default=True, help="Licence of the weights, for the manifest.")
@click.option("--no-simplify", is_flag=True, help="Skip onnxsim.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--list", "show", is_flag=True, is_eager=True, expose_value=False, callback=_show_list, help="Variants.")
@click.version_option(package_name="vidtok-onnx")
def main(
    variant: str,
    checkpoint: Path | None,
    out: Path | None,
    seed: int | None,
    ch: int | None,
    chunk: int,
    licence: str,
    no_simplify: bool,
    force: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Export a tokenizer to a bundle of ONNX graphs and check it against the reference."""
    if (checkpoint is None) == (seed is None):
        raise click.UsageError("give --checkpoint FILE, or --seed N for untrained weights")
    out = out or Path(variant)
    try:
        from vidtok_export.bundle import export
        from vidtok_ref.model import build

        model = build(variant, checkpoint, seed=seed or 0, **({"ch": ch} if ch else {}))
        export(model, out, chunk=chunk, simplify=not no_simplify, force=force, licence=licence, quiet=quiet)
    except (ExportError, ModelError, VidtokError) as error:
        if debug:
            raise
        click.echo(f"vidtok-export: error: {error}", err=True)
        sys.exit(1)
    if not quiet:
        size = sum(p.stat().st_size for p in out.iterdir()) / 1e6
        click.echo(f"{out}: {size:.1f} MB" + ("" if model.trained else ", UNTRAINED weights"))
