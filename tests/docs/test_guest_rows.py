"""The tables of other families in docs/variants.md are those of the code."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from doc_snippets import ROOT

from vidtok_ref import VARIANTS, find_variant
from vidtok_ref.families import family_of, make_model
from vidtok_ref.families.vidtok.variant import VARIANTS as RELEASED
from vidtok_ref.streaming.parts import GLOBAL, LOCAL


def guest_rows() -> list[dict[str, list[str]]]:
    """The cells of both tables of other families in docs/variants.md, by variant."""
    part = (ROOT / "docs/variants.md").read_text().split("\n## Other families\n")[1].split("\n### ")[0]
    tables: list[dict[str, list[str]]] = []
    for lines in re.findall(r"(?:^\|.*\n)+", part, re.MULTILINE):
        cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in lines.splitlines()[2:]]
        tables.append({name: rest for first, *rest in cells for name in re.findall("`(.*?)`", first)})
    return tables


GUESTS = sorted(set(VARIANTS) - set(RELEASED))


def test_every_guest_has_its_rows() -> None:
    assert [sorted(table) for table in guest_rows()] == [GUESTS, GUESTS]


@pytest.mark.parametrize("name", GUESTS)
def test_rows_of_guests_are_those_of_the_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import variant_table

    config = find_variant(name)
    with torch.device("meta"):
        model = make_model(config)
    (family, compression, latent, parameters, _), (streams, calls, states, _, tiles) = (t[name] for t in guest_rows())
    spec = model.stream
    assert family == family_of(config).title
    assert compression == f"{spec.time_factor}x{spec.spatial_multiple}x{spec.spatial_multiple}"
    codes = f"{spec.codebook_size:,} codes" if spec.codebook_size else f"{spec.latent_channels} numbers"
    assert latent == codes
    assert float(parameters) == round(sum(p.numel() for p in model.parameters()) / 1e6, 1)

    if (groups := spec.groups) is not None:
        assert streams.startswith(f"in windows of {groups.frames} frames")
        assert ("share one" in streams) == (groups.shared_frames == groups.shared_latents == 1)
        assert f"{groups.frames} frames and {groups.latents} latents" in calls
    elif spec.encoder.exact:
        sizes = [f"{c.first}, {c.max}, {c.max} ..." for c in (spec.encoder, spec.decoder)]
        assert calls.startswith("exactly {} frames and {} latents".format(*sizes))
    else:
        assert (streams, calls) == ("yes, any splitting gives one shot", "any number of latents")
    held = [variant_table.state_bytes(model, role) / 2**20 for role in ("encoder", "decoder")]
    assert states == (" / ".join(f"{n:.1f}" for n in held) if any(held) else "none")
    kinds = {part for role in ("encoder", "decoder") for part in getattr(model, role).parts}
    told = {
        frozenset({GLOBAL}): "none: both graphs are global",
        frozenset({LOCAL}): "cut all of its graphs, which are local",
        frozenset({LOCAL, GLOBAL}): "cut its local graphs",
    }
    assert tiles == told[frozenset(kinds)]
    sys.modules.pop("variant_table")
