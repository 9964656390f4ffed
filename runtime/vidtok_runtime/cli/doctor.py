"""`doctor`: whether all is well."""

from __future__ import annotations

import json
import sys

import click

from vidtok_runtime.cli.options import command


@click.command(epilog="Examples: vidtok-run doctor; vidtok-run doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@command()
def doctor(as_json: bool) -> None:
    """Show versions, engines, memory and codecs, and test the default bundle on every engine.

    What cannot be used has the reason and the command that cures it. Exit code 1 if the test fails.
    """
    from vidtok_runtime.tools.doctor import diagnose, report

    findings = diagnose()
    click.echo(json.dumps(findings, indent=1) if as_json else "\n".join(report(findings)))
    if not findings["self_test"]["passed"]:
        sys.exit(1)
