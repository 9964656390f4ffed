"""Streams after an error: a refused argument changes nothing, a failed call ends the stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vidtok_runtime import Tokenizer
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.errors import InputError, ProviderError

VIDEO = np.random.default_rng(0).integers(0, 256, (41, 16, 24, 3), np.uint8)
OPTIONS: list[dict[str, Any]] = [{}, {"gop": 2}]


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer("tiny-kl-16chn", provider="cpu", threads=1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_refused_argument_changes_nothing(tok: Tokenizer, options: dict[str, Any]) -> None:
    wanted = tok.encode(VIDEO, **options)
    encoder, decoder = tok.encoder(**options), tok.decoder(len(VIDEO), 16, 24, **options)
    data, frames = [encoder.push(VIDEO[:3])], [decoder.push(wanted.data[:3])]
    for no_video in (VIDEO[3:].astype(np.float64), VIDEO[3:].astype(np.float32) / 256, VIDEO[3:, :8]):
        with pytest.raises(InputError, match=r"float32|frames of one stream"):
            encoder.push(no_video)
    for no_latents in (wanted.data[3:] * np.float32("nan"), wanted.data[3:, :, :1]):
        with pytest.raises(InputError, match=r"NaN|latents of one stream"):
            decoder.push(no_latents)
    data += [encoder.push(VIDEO[3:]), encoder.finish()]
    frames += [decoder.push(wanted.data[3:]), decoder.finish()]
    assert encoder.num_frames == len(VIDEO)
    np.testing.assert_allclose(np.concatenate(data), wanted.data, atol=2e-4)
    assert np.abs(np.concatenate(frames).astype(int) - tok.decode(wanted)).max() <= 1


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_failed_call_ends_the_stream(
    tok: Tokenizer, options: dict[str, Any], good: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = tok.encode(VIDEO, **options).data
    step, calls = GraphChain.step, 0

    def failing(*args: Any, **flags: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > good:
            raise ProviderError("no memory")
        return step(*args, **flags)

    for stream, items in ((tok.encoder(**options), VIDEO), (tok.decoder(**options), latents)):
        calls = 0
        with monkeypatch.context() as patch:
            patch.setattr(GraphChain, "step", failing)
            with pytest.raises(ProviderError, match="no memory"):
                stream.push(items)
        with pytest.raises(InputError, match="an earlier call of this stream failed"):
            stream.push(items)
        with pytest.raises(InputError, match="an earlier call of this stream failed"):
            stream.finish()
