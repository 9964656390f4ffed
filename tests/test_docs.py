"""Pages that are made by a script still say what the script says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vidtok_ref import VARIANTS

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["kl-4chn", "kl-4chn-4x16x16-noncausal", "fsq-32768-8x8x8-v1.1"])
def test_variant_table_is_that_of_the_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import variant_table

    page = variant_table.TARGET.read_text()
    made = variant_table.row(VARIANTS[name], {})
    beginning = made[: made.index(" - | - | - | - |")]  # what is published is not computed
    assert beginning in page
    assert all(f"`{v}`" in page for v in VARIANTS)
    sys.modules.pop("variant_table")
