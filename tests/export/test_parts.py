"""The parts of which graphs are made: together they are the whole, and a local one sees what the manifest says."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch
from conftest import SHALLOW, SHALLOWEST
from torch import Tensor

from vidtok_export.footprint import smallest_input
from vidtok_export.graph import make_graphs
from vidtok_export.lowering.lower import lower
from vidtok_export.parts import WIDE, Part, parts_of
from vidtok_ref import VideoTokenizer, build
from vidtok_ref.streaming.parts import LOCAL, Coder
from vidtok_ref.streaming.state import State, flatten
from vidtok_ref.tokenizer import make_call
from vidtok_runtime.bundle.graph_entry import ROLES
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.bundle.stream_spec import FIRST_CALL, FLUSH_CALL, SECOND_CALL

KIT = Path(__file__).parents[1] / "conformance/kit"
WAN = {"ch": 4, "z_channels": 4, "ch_mult": (1, 2), "num_res_blocks": 1, "temporal_down": (True,)}
MODELS = {
    "kl-4chn": SHALLOW,
    "kl-4chn-v1.1": SHALLOW,
    "fsq-262144-noncausal": SHALLOW,
    "wan-2.1": WAN | {"latent_mean": None, "latent_std": None},
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> VideoTokenizer:
    return build(request.param, **MODELS[request.param])


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cut(model: VideoTokenizer, role: str) -> list[Part]:
    x = smallest_input(model.stream, role)
    lowered = lower(getattr(model, role)).to("meta")
    return parts_of(lowered, x, model.stream.side_multiple, model.stream.spatial_multiple)


@pytest.mark.parametrize("role", ROLES)
@torch.no_grad()
def test_parts_one_after_the_other_are_the_whole(model: VideoTokenizer, role: str) -> None:
    coder, calls = getattr(model, role), model.stream.calls(role)
    _, channels, frames, height, width = smallest_input(model.stream, role).shape
    state: State | None = None
    parts = cut(model, role)
    states: dict[str, State | None] = {part.name: None for part in parts}
    for i, now in enumerate((FIRST_CALL, SECOND_CALL, None, FLUSH_CALL)):
        x = noise((1, channels, 2 * frames, 3 * height, 2 * width), i)
        call = make_call(calls, {now}, x)
        whole, state = coder.step(x, state, call)
        for part in parts:
            x, states[part.name] = coder.step(x, states[part.name], call, part.paths)
        assert torch.equal(x, whole)
        flat = dict(flatten(state))
        assert [name for own in states.values() for name, _ in flatten(own or {})] == list(flat)
        assert all(torch.equal(value, flat[name]) for own in states.values() for name, value in flatten(own or {}))


def steps(model: VideoTokenizer, role: str, coder: Coder) -> Iterator[tuple[Part, Tensor, Tensor]]:
    """Each part with the least that it takes and what it makes of it, without storage."""
    x, bare = smallest_input(model.stream, role), copy.deepcopy(coder).to("meta")
    for part in cut(model, role):
        y, _ = bare.step(x, None, None, part.paths)
        yield part, x, y
        x = y


@torch.no_grad()
def reach(coder: Coder, part: Part, shape: tuple[int, ...], sizes: tuple[int, int], value: float) -> int:
    """Pixels from an input of a local part to the farthest output that changes with it, on either side.

    shape: of the input, `1 C T H W`. sizes: pixels that a position of the input and of the output stands for.
    value: what is put there, in the last frame of the first half.
    """
    of_input, of_output = sizes
    x, found = noise(shape), 0
    before, _ = coder.step(x, None, None, part.paths)
    middle = shape[3] // 2
    for at in range(middle, middle + math.ceil(of_output / of_input)):  # as it lies among the pixels of an output
        changed = x.clone()
        changed[:, :, shape[2] // 2 - 1, at, at] = value
        differs = (coder.step(changed, None, None, part.paths)[0] != before).any(dim=1).any(dim=1)[0]
        first, end = at * of_input, (at + 1) * of_input
        for axis in (0, 1):
            outputs = differs.any(dim=axis).nonzero() * of_output
            found = max(found, first - int(outputs.min()) - of_output + 1, int(outputs.max()) - end + 1)
    return found


@pytest.mark.parametrize("role", ROLES)
def test_an_output_of_a_local_part_sees_its_receptive_field_and_no_more(model: VideoTokenizer, role: str) -> None:
    coder, pixels = getattr(model, role), model.stream.spatial_multiple
    for part, x, y in steps(model, role, coder):
        if part.kind != LOCAL:
            continue
        field = part.receptive_field
        of_input, of_output = pixels // x.shape[3], pixels // y.shape[3]
        side = 2 * math.ceil((field + pixels) / pixels) * pixels // of_input
        shape = (1, x.shape[1], 2 * x.shape[2], side, side)
        # NaN shows all that sees it, however little it counts; an input is a square of pixels, all seen with one.
        assert reach(coder, part, shape, (of_input, of_output), math.nan) == field - (of_input - 1)
        assert (
            0 < reach(coder, part, shape, (of_input, of_output), 3.0) <= field
        )  # the others are the same, bit for bit


def test_a_part_that_looks_far_is_cut_where_the_halves_look_least_far() -> None:
    found: dict[str, list[tuple[str, int]]] = {}
    model = build("kl-4chn", ch=4)
    for role in ROLES:
        parts = cut(model, role)
        whole = getattr(model, role).parts
        assert [path for part in parts for path in part.paths] == [path for paths in whole.values() for path in paths]
        found[role] = [(part.name, part.receptive_field) for part in parts]
        local = [part for part in parts if part.kind == LOCAL]
        # Two at most, each over whole resolutions: the higher ones and the lower ones.
        assert len(local) == 2
        assert sum(part.receptive_field for part in local) > WIDE * model.stream.spatial_multiple
    assert found == {
        "encoder": [("local", 20), ("local2", 20), ("global", 80)],
        "decoder": [("global", 88), ("local", 32), ("local2", 28)],
    }
    narrow = build("kl-4chn", **SHALLOWEST)
    assert [part.name for part in cut(narrow, "encoder")] == ["local", "global"]


@pytest.mark.parametrize("bundle", sorted(path.parent.name for path in KIT.glob("*/manifest.json")))
def test_graphs_take_what_the_manifest_says_and_look_at_it(bundle: str) -> None:
    manifest = read_manifest(KIT / bundle)
    parts = [(graph.role, graph.part) for graph in manifest.graphs]
    whole = [("encoder", "global"), ("decoder", "global")]  # of families whose norms see whole frames
    each = [part for i, part in enumerate(parts) if part not in parts[:i]]
    assert each in (whole, [("encoder", "local"), ("encoder", "global"), ("decoder", "global"), ("decoder", "local")])
    for role in ROLES:
        taken = set()
        for graph in manifest.chain(role, "cpu", None):
            loaded = onnx.load(manifest.folder / graph.file).graph
            ports = (*graph.inputs, *graph.flags)
            assert [port.name for port in loaded.input] == [*(p.name for p in ports), *(s.input for s in graph.states)]
            assert {port.name for port in loaded.input} <= {name for node in loaded.node for name in node.input}
            taken |= {flag.name for flag in graph.flags}
            attends = any(stage.attention for stage in graph.stages)
            assert graph.part == "global" if attends else graph.part == "local" or parts == whole
        assert taken == set(manifest.stream.calls(role).flags)


@pytest.mark.slow
def test_a_part_lists_only_the_flags_that_it_looks_at() -> None:
    model = build("kl-4chn-v1.1", **SHALLOWEST)
    assert set(model.stream.decoder.flags) == {"first", "boundary"}
    head, tail = make_graphs(model, "decoder")
    assert ((head.part.name, tail.part.name), [p.name for p in head.outputs]) == (("global", "local"), ["features"])
    assert head.outputs == tail.inputs
    assert [flag.name for flag in head.flags] == ["first"]
    assert [flag.name for flag in tail.flags] == ["first", "boundary"]
