"""Clips of one length and size side by side in every call: what comes out is that of single clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidtok_runtime import Tokenizer
from vidtok_runtime.errors import InputError, MismatchError
from vidtok_runtime.tools.demo import synthetic_frame

KIT = Path(__file__).parents[1] / "conformance/kit"
BUNDLES = ["tiny-kl-16chn", *sorted(str(path.parent) for path in KIT.glob("*/manifest.json"))]
TOLERANCE = 1e-4


def clips(count: int = 3, frames: int = 10, height: int = 28, width: int = 40) -> np.ndarray:
    return np.stack(
        [np.stack([synthetic_frame(7 * n + t, height, width) for t in range(frames)]) for n in range(count)]
    )


def alike(ours: Any, theirs: Any) -> None:
    """Latents within rounding, tokens equal: they lie far from the borders of their cells here."""
    assert ours.info == theirs.info
    np.testing.assert_allclose(ours.data, theirs.data, atol=TOLERANCE)
    np.testing.assert_array_equal(ours.pts, theirs.pts)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: Path(bundle).name)
def test_batches(bundle: str, provider: str) -> None:
    tok = Tokenizer(bundle, provider, threads=1)
    videos = clips()
    single = [tok.encode(video, 25) for video in videos]
    together = tok.encode_batch(videos, 25)
    for ours, theirs in zip(together, single, strict=True):
        alike(ours, theirs)
    for ours, one in zip(tok.decode_batch(single, "float32"), single, strict=True):
        np.testing.assert_allclose(ours, tok.decode(one, "float32"), atol=TOLERANCE)


def test_a_sequence_of_one() -> None:
    tok = Tokenizer("tiny-fsq-32768", "cpu", threads=1)
    video = clips(1)[0]
    (found,) = tok.encode_batch([video])
    alike(found, tok.encode(video))
    (back,) = tok.decode_batch([found])
    np.testing.assert_array_equal(back, tok.decode(found))


def test_groups_noise_and_variances() -> None:
    """Each clip is drawn with the noise that it gets alone."""
    tok = Tokenizer("tiny-kl-16chn", "cpu", threads=1)
    options: dict[str, Any] = {"gop": 2, "sample": 5, "with_variance": True}
    videos = clips(2)
    for ours, video in zip(tok.encode_batch(videos, **options), videos, strict=True):
        theirs = tok.encode(video, **options)
        alike(ours, theirs)
        assert ours.log_variance is not None
        assert theirs.log_variance is not None
        np.testing.assert_allclose(ours.log_variance, theirs.log_variance, atol=TOLERANCE)


def test_streams_in_pieces() -> None:
    tok = Tokenizer("tiny-kl-16chn", "cpu", threads=1)
    videos = clips(2)
    encoder = tok.encoder(clips=2)
    frames = np.moveaxis(videos, 0, 1)
    pieces = [encoder.push(piece) for piece in (frames[:1], frames[1:6], frames[6:])]
    latents = np.concatenate([*pieces, encoder.finish()])
    wanted = np.stack([tok.encode(video).data for video in videos], axis=1)
    np.testing.assert_allclose(latents, wanted, atol=TOLERANCE)
    decoder = tok.decoder(10, 28, 40, clips=2)
    video = np.concatenate([decoder.push(latents[:1]), decoder.push(latents[1:]), decoder.finish()])
    assert video.shape == (10, 2, 28, 40, 3)


def test_tiles() -> None:
    """A limit of memory counts all clips of a call."""
    videos = clips(4, 5, 128, 128)
    roomy = Tokenizer("tiny-fsq-32768", "cpu", threads=1)
    tight = Tokenizer("tiny-fsq-32768", "cpu", threads=1, max_memory="250MB")
    assert tight.plan("encoder", 128, 128, clips=4).in_tiles
    assert not tight.plan("encoder", 128, 128).in_tiles
    for ours, theirs in zip(tight.encode_batch(videos), roomy.encode_batch(videos), strict=True):
        alike(ours, theirs)


def test_what_does_not_go_together() -> None:
    tok = Tokenizer("tiny-fsq-32768", "cpu", threads=1)
    short, long = tok.encode(clips(1, 5)[0]), tok.encode(clips(1, 9)[0])
    with pytest.raises(InputError, match="clips that are decoded together have one length"):
        tok.decode_batch([short, long])
    with pytest.raises(InputError, match="there are no tokens"):
        tok.decode_batch([])
    for one in (None, short, iter([short])):
        with pytest.raises(InputError, match="decode_batch takes a list of Tokens, got "):
            tok.decode_batch(one)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"clips of one stream have one size, got \[5, 28, 40, 3\] and \[9, 28, 40, 3\]"
    ):
        tok.encode_batch([clips(1, 5)[0], clips(1, 9)[0]])
    with pytest.raises(InputError, match=r"clips must be \[N, T, H, W, 3\]"):
        tok.encode_batch(clips(1)[0])
    with pytest.raises(InputError, match=r"video must be \[T, 2, H, W, 3\], got \[3, 10, 28, 40, 3\]"):
        tok.encoder(clips=2).push(clips())
    with pytest.raises(InputError, match="clips must be a whole number"):
        tok.encoder(clips=0)
    with pytest.raises(InputError, match=r"tokens must be integers \[t, 2, h, w\]"):
        tok.decoder(clips=2).push(short.data)
    with pytest.raises(MismatchError):
        Tokenizer("tiny-kl-16chn", "cpu").decode_batch([short])
