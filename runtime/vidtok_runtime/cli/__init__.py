"""`vidtok-run`: parse and call."""

from __future__ import annotations

import click

from vidtok_runtime.cli import convert, evaluate, inspect, tokens


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: vidtok-run encode clip.mp4; vidtok-run decode clip.safetensors -o back.mp4; vidtok-run demo",
)
@click.version_option(package_name="vidtok-onnx")
def main() -> None:
    """Tokenize video and turn tokens back into video, without PyTorch."""


for _command in (
    convert.encode,
    convert.decode,
    convert.reconstruct,
    evaluate.evaluate,
    inspect.info,
    convert.demo,
    tokens.cut,
    tokens.join,
    tokens.convert,
):
    main.add_command(_command)
