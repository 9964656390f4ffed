"""`vidtok-export` itself: a variant and its weights to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vidtok_export.cli.options import CHECKPOINT, FILE, VARIANT, chosen_variant, loud, overrides_of
from vidtok_export.servers.repository import check_room
from vidtok_export.targets import check_bundle, named
from vidtok_ref.errors import WeightsError
from vidtok_ref.families import all_families, family_of


def _list() -> str:
    """The variants by family, families by title."""
    lines = []
    for family in sorted(all_families().values(), key=lambda family: family.title.lower()):
        lines.append(f"{family.title + ':':<34}{'latent':>16}{'factor T x H x W':>18}")
        for name, config in family.configs.items():
            spec = config.stream
            latent = f"{spec.codebook_size:,} codes" if spec.codebook_size else f"{spec.latent_channels} channels"
            factor = f"{spec.time_factor}x{spec.spatial_multiple}x{spec.spatial_multiple}"
            lines.append(f"  {name:<32}{latent:>16}{factor:>18}")
    return "\n".join(lines)


def _show_list(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(_list())
        ctx.exit()


def _released(config: Any) -> Path:
    """The released weights of a configuration; raises WeightsError."""
    try:
        return family_of(config).find_checkpoint(config)
    except WeightsError as error:
        raise WeightsError(f"{error}; or give --seed N for untrained weights") from error


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: vidtok-export --variant kl-4chn --checkpoint vidtok_kl_causal_488_4chn.ckpt; "
    "vidtok-export --variant wan-2.1 --checkpoint vae/; "
    "vidtok-export --variant cosmos-cv-4x8x8 --checkpoint autoencoder.jit; "
    "vidtok-export verify kl-4chn; vidtok-export convert vidtok_kl_causal_488_4chn.ckpt --variant kl-4chn",
)
@VARIANT
@CHECKPOINT
@click.option("--out", type=FILE, help="New bundle folder.  [default: the variant's name]")
@click.option(
    "--seed",
    type=click.IntRange(-(2**63), 2**63 - 1),
    metavar="N",
    help="Untrained weights from this seed, instead of a checkpoint.",
)
@click.option("--ch", type=click.IntRange(1), help="Width, instead of the released one.")
@click.option(
    "--config", "released_config", type=FILE, help="The release's own config.json, for a checkpoint of another size."
)
@click.option("--chunk", type=click.IntRange(1), default=4, show_default=True, help="Latents a call, or a window.")
@click.option("--licence", help="Licence of the weights, for the manifest.  [default: that of the release]")
@click.option("--weights-files", is_flag=True, help="Keep weights in files beside the graphs, as is done beyond 2 GB.")
@click.option("--triton", type=FILE, help="Also add it to this model repository, as `vidtok-export triton` does.")
@click.option("--no-simplify", is_flag=True, help="Skip onnxsim.")
@click.option("--force", is_flag=True, help="Replace an existing bundle and its models in --triton.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--list", "show", is_flag=True, is_eager=True, expose_value=False, callback=_show_list, help="Variants.")
@click.version_option(package_name="vidtok-onnx")
@click.pass_context
@loud
def main(
    ctx: click.Context,
    variant: str | None,
    checkpoint: Path | None,
    out: Path | None,
    seed: int | None,
    ch: int | None,
    released_config: Path | None,
    chunk: int,
    licence: str | None,
    weights_files: bool,
    triton: Path | None,
    no_simplify: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Export a tokenizer to a bundle of ONNX graphs and check it against the reference.

    Without --checkpoint and --seed the released weights are looked for in $VIDTOK_CHECKPOINTS, in
    ./checkpoints and on the model hub.
    """
    if ctx.invoked_subcommand is not None:
        return
    if checkpoint is not None and seed is not None:
        raise click.UsageError("give --checkpoint FILE, or --seed N for untrained weights, not both")
    chosen = chosen_variant(variant, checkpoint)
    out = out or Path(Path(chosen.name).name)
    check_bundle(named(out), force=force)
    if triton is not None:
        check_room(named(triton), chosen.name, force=force)
    weights = checkpoint if checkpoint or seed is not None else _released(chosen)

    from vidtok_export.bundle import export
    from vidtok_ref.families.build import build

    model = build(chosen, weights, seed=seed or 0, released_config=released_config, **overrides_of(ch))
    export(
        model,
        out,
        chunk=chunk,
        simplify=not no_simplify,
        force=force,
        licence=licence,
        weights_files=weights_files,
        quiet=quiet,
    )
    if not quiet:
        size = sum(p.stat().st_size for p in out.iterdir()) / 1e6
        click.echo(f"{out}: {size:.1f} MB" + ("" if model.seed is None else ", UNTRAINED weights"))
        click.echo(f"licence of the weights: {licence or family_of(model.config).licence}")
    if triton is not None:
        from vidtok_export.servers.triton import write_triton
        from vidtok_runtime.bundle.manifest import read_manifest

        names = write_triton(read_manifest(out), triton, (256, 256), force=force)
        if not quiet:
            click.echo(f"{triton}: {', '.join(names)}")
