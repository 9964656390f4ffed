"""The commands as tests call them: in this process, with whatever arguments, read as a terminal would."""

from __future__ import annotations

from click.testing import CliRunner, Result

from vidtok_runtime.cli import main


def run(*args: object) -> Result:
    """What `vidtok-run` does with the arguments."""
    return CliRunner().invoke(main, [str(a) for a in args])


def run_export(*args: object) -> Result:
    """What `vidtok-export` does with the arguments."""
    from vidtok_export.cli import main

    return CliRunner().invoke(main, [str(a) for a in args])
