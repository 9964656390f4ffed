"""The browser page, served for all tests that open it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from cases import KIT


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where `vidtok-run serve` serves the page and the kit's bundles."""
    bundles = sorted({str(KIT / case["bundle"]) for case in json.loads((KIT / "cases.json").read_text())["cases"]})
    command = [sys.executable, "-m", "vidtok_runtime.cli", "serve", "--port", "0", *bundles]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.match(r"(http://127\.0\.0\.1:\d+/)", process.stdout.readline())
        assert found
        yield found[1]
        process.terminate()
