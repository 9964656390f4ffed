"""CogVideoX lowered, and what its bundle says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vidtok_export.graph import frame_unit
from vidtok_export.lowering.lower import lower
from vidtok_ref import VARIANTS, VideoTokenizer, build
from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.stream_spec import Length
from vidtok_runtime.tools.demo import synthetic_frame

BUNDLE = Path(__file__).parents[1] / "conformance/kit/cogvideox-exact"
NARROW = {"channels": (4, 4, 8), "z_channels": 4, "num_res_blocks": 1, "groups": 2}


@pytest.fixture(scope="module")
def narrow() -> VideoTokenizer:
    return build("cogvideox", **NARROW)


def clip(frames: int) -> np.ndarray:
    return np.stack([synthetic_frame(i, 10, 14) for i in range(frames)])


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@torch.no_grad()
def test_lowered_it_gives_the_same(narrow: VideoTokenizer, role: str) -> None:
    coder, channels = getattr(narrow, role), 3 if role == "encoder" else 4
    lowered, states = lower(coder), [None, None]
    for size in narrow.stream.calls(role).sizes(17 if role == "encoder" else 5):
        x = torch.randn(2, channels, size, 4, 8, generator=torch.Generator().manual_seed(size))
        (wanted, states[0]), (found, states[1]) = coder.step(x, states[0]), lowered.step(x, states[1])
        assert torch.allclose(found, wanted, atol=1e-5)


def test_frames_of_a_call_need_not_be_whole_latents() -> None:
    assert frame_unit(VARIANTS["cogvideox"].stream) == 1
    streams = [config.stream for config in VARIANTS.values()]
    whole = [stream for stream in streams if stream.length == Length(0, stream.time_factor)]
    assert all(frame_unit(stream) == stream.time_factor for stream in whole)


def test_latents_as_the_pipelines_of_the_release_have_them() -> None:
    tok = Tokenizer(BUNDLE, "cpu", threads=1)
    plain, normal = tok.encode(clip(9)), tok.encode(clip(9), normalize=True)
    np.testing.assert_allclose(normal.data, plain.data * 1.15258426, atol=1e-5)


def test_what_the_manifest_says_of_its_graphs() -> None:
    graphs = Tokenizer(BUNDLE, "cpu", threads=1).manifest.graphs
    assert [graph.part for graph in graphs] == ["global", "global"]
    assert [flag.name for graph in graphs for flag in graph.flags] == ["first", "first"]
    told = [[(stage.space, stage.time) for stage in graph.stages] for graph in graphs]
    assert told == [[(1, 1), (1, 2), (2, 2), (2, 4), (4, 4)], [(4, 4), (2, 4), (2, 2), (1, 2), (1, 1)]]
