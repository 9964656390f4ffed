"""`bench`: how fast this machine is."""

from __future__ import annotations

from pathlib import Path

import click

from vidtok_runtime.cli.options import FILE, FORCE, command
from vidtok_runtime.engines.registry import PROVIDERS


@click.command(
    epilog="Examples: vidtok-run bench; vidtok-run bench kl-4chn --size 128 --threads 2 --provider openvino "
    "--json speed.json --plot speed.png"
)
@click.argument("bundle", required=False)
@click.option("--size", "sizes", type=click.IntRange(1), multiple=True, default=(256,), show_default=True, help="Side.")
@click.option("--frames", type=click.IntRange(1), help="Frames a call.  [default: the bundle's]")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: one per core]")
@click.option(
    "--provider", "providers", type=click.Choice(list(PROVIDERS)), multiple=True, help="[default: all usable]"
)
@click.option("--precision", "precisions", multiple=True, help="As the bundle names it.  [default: all it has]")
@click.option("--device-id", default=0, show_default=True, help="Number of the CUDA device.")
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True, help="Calls that are measured.")
@click.option("--json", type=FILE, help="Also write the figures to this file.")
@click.option("--plot", type=FILE, help="Draw frames a second (.png, .svg).")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@command(FORCE)
def bench(
    bundle: str | None,
    sizes: tuple[int, ...],
    frames: int | None,
    threads: int | None,
    providers: tuple[str, ...],
    precisions: tuple[str, ...],
    device_id: int,
    repeats: int,
    quiet: bool,
    json: Path | None,
    plot: Path | None,
    force: bool,
) -> None:
    """Measure how fast BUNDLE (folder or shipped name) encodes and decodes here, on every engine in every precision.

    Size, provider and precision can be given several times. The engines take turns; the numbers are of graph calls
    that carry their state, without reading and writing of video.
    """
    from vidtok_runtime.bench.plan import bundle_peers, cases
    from vidtok_runtime.bench.report import Files, write
    from vidtok_runtime.bench.run import run_bench
    from vidtok_runtime.bundle.lookup import find_bundle

    targets = Files(json, plot, force).open()
    manifest = find_bundle(bundle)
    plan = {
        case: bundle_peers(manifest, case, providers, precisions)
        for case in cases(manifest, sizes, frames, threads, device_id)
    }
    write(run_bench(manifest, plan, repeats, say=click.echo, quiet=quiet), targets)
