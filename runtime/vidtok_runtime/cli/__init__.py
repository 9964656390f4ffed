"""`vidtok-run`: parse and call."""

from __future__ import annotations

import logging

import click

from vidtok_runtime.cli import bench, convert, dataset, doctor, evaluate, inspect, serve, tokens, view
from vidtok_runtime.cli import stream as streams
from vidtok_runtime.cli.descriptors import settle


class _Warnings(logging.Handler):
    """One line on stderr for what the runtime logs."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"vidtok-run: warning: {record.getMessage()}", err=True)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: vidtok-run encode clip.mp4; vidtok-run decode clip.safetensors -o back.mp4; vidtok-run demo",
)
@click.version_option(package_name="vidtok-onnx")
def main() -> None:
    """Tokenize video and turn tokens back into video, without PyTorch."""
    settle()
    logging.getLogger("vidtok_runtime").handlers = [_Warnings(logging.WARNING)]


for _command in (
    convert.encode,
    convert.decode,
    convert.reconstruct,
    streams.stream,
    evaluate.evaluate,
    view.view,
    bench.bench,
    inspect.info,
    doctor.doctor,
    dataset.dataset,
    convert.demo,
    serve.serve,
    tokens.cut,
    tokens.join,
    tokens.convert,
):
    main.add_command(_command)
