"""Bundles in tiles beside whole frames: latents, tokens and frames, one shot and streamed, on both engines."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHALLOW

from vidtok_export.verify import THRESHOLD_MARGIN
from vidtok_ref import VideoTokenizer, build
from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.memory.planner import CallPlan
from vidtok_runtime.streaming.geometry import to_network
from vidtok_runtime.streaming.tiled_graph import margin_of
from vidtok_runtime.streaming.tiles import Axis, Tiling, cuts
from vidtok_runtime.tools.demo import synthetic_frame

WAN = Path(__file__).parents[1] / "conformance/kit/wan-causal"
NAMES = ["kl-4chn", "fsq-32768", "fsq-32768-v1.1", "kl-4chn-noncausal", "wan"]
PROVIDERS = ["cpu", "openvino"]
# A causal model, one with look-ahead, one of windows and another family, each on one engine; the others by `make slow`.
QUICK = {("kl-4chn", "cpu"), ("fsq-32768-v1.1", "openvino"), ("kl-4chn-noncausal", "cpu"), ("wan", "openvino")}
EVERY = [
    pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow) for case in itertools.product(NAMES, PROVIDERS)
]
SHAPES = [(1, 2), (3, 2)]  # tiles down and across
TOLERANCE = 1e-5  # of the largest value
FRAMES, HEIGHT, WIDTH = 11, 38, 52  # the size in latents; three pixels of it are missing


@dataclass(frozen=True)
class Whole:
    """What an engine gives for a clip in whole frames; before: what the reference quantizes, in float64."""

    tok: Tokenizer
    model: VideoTokenizer | None
    clip: np.ndarray
    tokens: Tokens
    frames: np.ndarray

    def tiled(self, down: int, across: int, chunk: int = 1, less: int = 0) -> Tokenizer:
        """A tokenizer that cuts frames into so many tiles, with a margin that is less than the right one."""
        other = Tokenizer(self.tok.manifest, self.tok.provider, threads=1)
        size, tiles = self.tokens.data.shape[-2:], {}
        for role in ("encoder", "decoder"):
            tilings = []
            for graph in other.manifest.chain(role, other.provider, None):
                margin = margin_of(graph, other.stream.spatial_multiple)
                if margin is None:
                    tilings.append(Tiling.whole(*size))
                    continue
                found = [
                    axis
                    for length, count in zip(size, (down, across), strict=True)
                    for axis in cuts(length, margin)
                    if len(axis.tiles) == count
                ]
                rows, columns = (Axis(axis.length, axis.size, max(0, axis.margin - less)) for axis in found)
                tilings.append(Tiling(rows, columns))
            tiles[role] = tuple(tilings)
        other.plan = lambda *_: CallPlan(chunk, tiles)  # type: ignore[method-assign]
        return other

    def check_tokens(self, found: np.ndarray) -> int:
        """Of discrete tokens the number that differ, each of which must lie at the border of its cell."""
        wanted = self.tokens.data
        assert found.shape == wanted.shape
        if wanted.ndim == 4:
            assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()
            return 0
        differing = int((found != wanted).sum())
        assert differing <= 1e-4 * wanted.size
        if differing:
            assert (self._distance(found)[found != wanted] <= THRESHOLD_MARGIN).all()
        return differing

    def check_frames(self, found: np.ndarray) -> None:
        assert found.shape == self.frames.shape
        assert np.abs(found - self.frames).max() <= TOLERANCE * np.abs(self.frames).max()

    @torch.no_grad()
    def _distance(self, tokens: np.ndarray) -> np.ndarray:
        """Of what the reference quantizes from the cells of tokens."""
        assert self.model is not None
        video = torch.from_numpy(to_network(self.clip, self.tok.stream.spatial_multiple)).double()
        before = self.model.double().features(video)
        return self.model.regularization.distance_to_cell(before, torch.from_numpy(tokens)[None])[0].numpy()


def whole_frames(folder: Path | str, provider: str, model: VideoTokenizer | None, size: tuple[int, int]) -> Whole:
    tok = Tokenizer(folder, provider, threads=1)
    height, width = (n * tok.stream.spatial_multiple - 3 for n in size)
    clip = np.stack([synthetic_frame(3 * i, height, width) for i in range(FRAMES)])
    tokens = tok.encode(clip)
    return Whole(tok, model, clip, tokens, tok.decode(tokens, "float32"))


@pytest.fixture(scope="module", params=EVERY)
def whole(request: pytest.FixtureRequest, exported: Callable[[VideoTokenizer], Path]) -> Whole:
    name, provider = request.param
    model = None if name == "wan" else build(name, **SHALLOW)
    return whole_frames(WAN if model is None else exported(model), provider, model, (HEIGHT, WIDTH))


@pytest.mark.parametrize("shape", SHAPES)
def test_one_shot(whole: Whole, shape: tuple[int, int]) -> None:
    tok = whole.tiled(*shape, chunk=4)
    whole.check_tokens(tok.encode(whole.clip).data)
    whole.check_frames(tok.decode(whole.tokens, "float32"))


@pytest.mark.parametrize(("pushes", "chunk"), [([1] * FRAMES, 1), ([4, 1, 6], 2), ([FRAMES], 1)])
def test_streams(whole: Whole, pushes: list[int], chunk: int) -> None:
    tok = whole.tiled(2, 2, chunk)
    encoder, decoder = tok.encoder(), tok.decoder(FRAMES, *whole.clip.shape[1:3], "float32")
    starts = np.cumsum([0, *pushes])
    pieces = [encoder.push(whole.clip[start : start + n]) for start, n in zip(starts, pushes, strict=False)]
    whole.check_tokens(np.concatenate([*pieces, encoder.finish()]))
    latents = np.array_split(whole.tokens.data, min(len(pushes), len(whole.tokens.data)))
    whole.check_frames(np.concatenate([*map(decoder.push, latents), decoder.finish()]))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_margin_that_is_too_small_shows(provider: str) -> None:
    whole = whole_frames(WAN, provider, None, (HEIGHT, WIDTH))
    tok = whole.tiled(2, 2, less=4)
    with pytest.raises(AssertionError):
        whole.check_tokens(tok.encode(whole.clip).data)
    with pytest.raises(AssertionError):
        whole.check_frames(tok.decode(whole.tokens, "float32"))


def test_states_are_kept_once_a_frame() -> None:
    whole = whole_frames(WAN, "cpu", None, (HEIGHT, WIDTH))
    stream = whole.tiled(2, 2).encoder()
    stream.push(whole.clip)
    tiled, *_ = stream._calls._chain.graphs  # type: ignore[union-attr]
    whole_shape = to_network(whole.clip[:1], whole.tok.stream.spatial_multiple).shape
    states = tiled._states  # type: ignore[attr-defined]
    assert [s.input for s in tiled.entry.states] == list(states)
    total = sum(array.nbytes for array in tiled._graph.initial_state(whole_shape).values())  # type: ignore[attr-defined]
    held = sum(state._room.nbytes + state._strip.nbytes for state in states.values())
    assert total < held <= total * (1 + tiled._tiling.beside)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("bundle", ["tiny-kl-16chn", "tiny-fsq-32768"])
@pytest.mark.parametrize("shape", [(2, 1), (2, 3)])
def test_shipped_bundles(bundle: str, provider: str, shape: tuple[int, int]) -> None:
    from vidtok_export.verify import reference_of

    tok = Tokenizer(bundle, provider, threads=1)
    whole = whole_frames(bundle, provider, None, (40, 66))
    if whole.tokens.data.ndim == 3:
        whole = replace(whole, model=reference_of(tok.manifest))
    tiled = whole.tiled(*shape)
    whole.check_tokens(tiled.encode(whole.clip).data)
    whole.check_frames(tiled.decode(whole.tokens, "float32"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", ["kl-4chn", "fsq-262144"])
def test_full_width(name: str, provider: str, exported: Callable[[VideoTokenizer], Path]) -> None:
    model = build(name)
    whole = whole_frames(exported(model), provider, model, (36, 48))
    tiled = whole.tiled(1, 2)
    whole.check_tokens(tiled.encode(whole.clip).data)
    whole.check_frames(tiled.decode(whole.tokens, "float32"))
