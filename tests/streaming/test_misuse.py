"""The Python API used wrongly: a VidtokError with one clear line; used in another way: what is meant."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from commands import run

from vidtok_runtime import Tokenizer, VidtokError
from vidtok_runtime.errors import InputError

VIDEO = np.random.default_rng(0).integers(0, 256, (9, 16, 24, 3), np.uint8)
NAN, INFINITE = float("nan"), float("inf")


def make(**settings: Any) -> Tokenizer:
    return Tokenizer("tiny-fsq-32768", **{"provider": "cpu", "threads": 1, **settings})


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return make()


@pytest.mark.parametrize(
    "settings",
    [
        *({"threads": n} for n in (0, -1, 1.0, "2", True, NAN, 2**40, [1])),
        *({"device_id": n} for n in (-1, "0", None, 0.0)),
        *({"window": n} for n in (4, "4", 0)),
        *({"max_memory": n} for n in (-1, 0, "x", True, INFINITE, NAN, "9" * 400, [])),
        *({"provider": name} for name in ("gpu", None, ["cpu"], 5)),
        *({"precision": name} for name in ("fp8", 5, ["fp32"])),
        *({"provider_options": options} for options in ([1], "a=1", {1: 1}, {"": 1}, {"x" * 3000: 1}, {"a\nb": 1})),
        *({"provider_options": {"intra_op_num_threads": value}} for value in (None, "abc", [1], "", "1" * 3000, NAN)),
        {"provider_options": {"execution_mode": "FAST"}},
        {"provider_options": {"optimized_model_filepath": "x" * 199, "logid": "y" * 199}},  # more than token files hold
        {"provider_options": {".": 1}},
    ],
)
def test_a_tokenizer_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(VidtokError) as caught:
        make(**settings)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


FLOATS = np.full((5, 16, 24, 3), -0.5, np.float32)
NO_VIDEO = {
    "two sizes": [VIDEO[0], VIDEO[0, :8]],
    "none": None,
    "a name": "clip.mp4",
    "nothing": [],
    "no frames": VIDEO[:0],
    "one frame": VIDEO[0],
    "float64": FLOATS.astype(np.float64),
    "float16": FLOATS.astype(np.float16),
    "int64": VIDEO.astype(np.int64),
    "bool": VIDEO > 0,
    "complex": FLOATS.astype(np.complex64),
    "objects": VIDEO.astype(object),
    "channels first": VIDEO.transpose(0, 3, 1, 2),
    "grey": VIDEO[..., :1],
    "NaN": FLOATS * np.float32(NAN),
    "bytes as floats": VIDEO.astype(np.float32),
    "iterator": iter(VIDEO),
    "dictionary": {1: 2},
    "texts": ["a", "b"],
    "ragged": [[1, 2], [3]],
    "clips": [VIDEO, VIDEO],
    "a number": 5,
    "bfloat16": torch.zeros(5, 16, 24, 3, dtype=torch.bfloat16),
    "gradient": torch.zeros(5, 16, 24, 3, requires_grad=True),
    "elsewhere": torch.zeros(5, 16, 24, 3, device="meta"),
}


@pytest.mark.parametrize("name", NO_VIDEO)
def test_what_is_no_video(tok: Tokenizer, name: str) -> None:
    with pytest.raises(InputError) as caught:
        tok.encode(NO_VIDEO[name])
    assert "\n" not in str(caught.value)
    for stream in (tok.encoder(), tok.encoder(gop=2)):
        if name not in ("no frames", "iterator"):  # a push may be empty; the iterator is used up
            with pytest.raises(InputError):
                stream.push(NO_VIDEO[name])


@pytest.mark.parametrize("fps", ["x", NAN, INFINITE, -INFINITE, -1, 0, True, [25], "1/0", 1j, 1e300, 1e-7, b"25", ""])
def test_no_frame_rate(tok: Tokenizer, fps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tok, "encoder", lambda *_: pytest.fail("worked before it looked"))
    with pytest.raises(InputError, match="fps must be frames a second"):
        tok.encode(VIDEO, fps=fps)


@pytest.mark.parametrize("fps", [25, 25.0, "25", "50/2", Fraction(25), np.float32(25), np.int64(25)])
def test_frame_rates(tok: Tokenizer, fps: Any) -> None:
    assert tok.encode(VIDEO, fps=fps).fps == 25


CALLS: dict[str, Callable[[Tokenizer], object]] = {
    "gop 0": lambda tok: tok.encode(VIDEO, gop=0),
    "gop of text": lambda tok: tok.encode(VIDEO, gop="2"),  # type: ignore[arg-type]
    "half a gop": lambda tok: tok.encoder(gop=1.5),  # type: ignore[arg-type]
    "gop of truth": lambda tok: tok.decoder(gop=True),
    "tokens as an array": lambda tok: tok.decode(np.zeros((2, 2, 3), np.int32)),  # type: ignore[arg-type]
    "no tokens": lambda tok: tok.decode(None),  # type: ignore[arg-type]
    "pixels of float64": lambda tok: tok.decoder(dtype="float64"),
    "height of text": lambda tok: tok.decoder(height="x"),  # type: ignore[arg-type]
    "no width": lambda tok: tok.decoder(width=0),
    "fewer than no frames": lambda tok: tok.decoder(num_frames=-1),
    "float tokens": lambda tok: tok.decoder().push(np.zeros((2, 2, 3), np.float32)),
    "tokens of two sizes": lambda tok: tok.decoder().push([np.zeros((2, 2), int), np.zeros((2, 3), int)]),
    "tokens that are none": lambda tok: tok.decoder(gop=2).push(None),
    "codes that are none": lambda tok: tok.decoder().push(np.full((2, 2, 3), 32768, np.int32)),
    "a part by text": lambda tok: tok.encode(VIDEO).slice("a"),  # type: ignore[arg-type]
    "a part of a frame": lambda tok: tok.encode(VIDEO).slice(0.5),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_that_make_no_sense(tok: Tokenizer, name: str) -> None:
    with pytest.raises(InputError) as caught:
        CALLS[name](tok)
    assert "\n" not in str(caught.value)


def test_after_the_end(tok: Tokenizer) -> None:
    for encoder, decoder in ((tok.encoder(), tok.decoder()), (tok.encoder(gop=2), tok.decoder(gop=2))):
        data = np.concatenate([encoder.push(VIDEO), encoder.finish()])
        decoder.push(data)
        decoder.finish()
        assert len(encoder.finish()) == len(decoder.finish()) == 0
        with pytest.raises(InputError, match="finished"):
            encoder.push(VIDEO)
        with pytest.raises(InputError, match="finished"):
            decoder.push(data)


class OnlyDlpack:
    """A tensor of a library without `__array__`."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.values.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()


FORMS: dict[str, Callable[[np.ndarray], object]] = {
    "list": list,
    "tuple": tuple,
    "tensor": torch.from_numpy,
    "list of tensors": lambda values: list(torch.from_numpy(values)),
    "DLPack": OnlyDlpack,
}


@pytest.mark.parametrize("form", FORMS)
def test_sequences_and_tensors(tok: Tokenizer, form: str) -> None:
    shaped = FORMS[form]
    tokens = tok.encode(VIDEO)
    np.testing.assert_array_equal(tok.encode(shaped(VIDEO)).data, tokens.data)
    pictures = tok.decode(tokens)
    for gop in (None, 2):
        wanted = tok.encode(VIDEO, gop=gop).data
        encoder, decoder = tok.encoder(gop=gop), tok.decoder(9, 16, 24, gop=gop)
        found = np.concatenate([encoder.push(shaped(VIDEO[:4])), encoder.push(shaped(VIDEO[4:])), encoder.finish()])
        np.testing.assert_array_equal(found, wanted)
        back = np.concatenate([decoder.push(shaped(wanted)), decoder.finish()])
        assert back.shape == pictures.shape
        if gop is None:
            np.testing.assert_array_equal(back, pictures)


def test_no_torch_for_a_list() -> None:
    script = (
        "import sys, numpy as np; from vidtok_runtime import Tokenizer\n"
        "Tokenizer(provider='cpu', threads=1).encoder().push([np.zeros((16, 16, 3), np.uint8)] * 5)\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_floats_from_0_to_1_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    bright, dark = VIDEO.astype(np.float32) / 255, VIDEO.astype(np.float32) / 255 * 2 - 1
    tok = make()
    with caplog.at_level(logging.WARNING):
        tok.encode(VIDEO)
        tok.encode(dark)
        encoder = tok.encoder()
        for frame in dark:
            encoder.push(frame[None] if frame.min() < 0 else dark)
        assert caplog.messages == []
        tok.encode(bright, gop=1)
        tok.encode(bright)
        tok.encoder().push(list(bright))
    assert len(caplog.messages) == 1
    assert "nothing in it is below 0" in caplog.messages[0]


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_used_tokenizer_is_copied(provider: str) -> None:
    tok = make(
        provider=provider,
        max_memory="3GB",
        provider_options={"INFERENCE_NUM_THREADS": 1} if provider != "cpu" else None,
    )
    tokens = tok.encode(VIDEO, 25)
    tok.decode(tokens)
    for other in (pickle.loads(pickle.dumps(tok)), copy.copy(tok), copy.deepcopy(tok)):
        again = other.encode(VIDEO, 25)
        np.testing.assert_array_equal(again.data, tokens.data)
        assert again.info == tokens.info
        assert (other.options, other.max_memory) == (tok.options, tok.max_memory)


def _tokens_of(tok: Tokenizer) -> np.ndarray:
    return tok.encode(VIDEO).data


def test_a_used_tokenizer_goes_to_a_spawned_process(tok: Tokenizer) -> None:
    wanted = _tokens_of(tok)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(_tokens_of, (tok,)), wanted)


@pytest.mark.parametrize(
    ("provider", "name", "near"),
    [
        ("cpu", "intra_op_num_threds", "intra_op_num_threads"),
        ("cpu", "session.intra_op.allow_spining", "session.intra_op.allow_spinning"),
        ("cpu", "ession.disable_prepacking", "session.disable_prepacking"),
        ("openvino", "INFERENCE_NUM_THREDS", "INFERENCE_NUM_THREADS"),
        ("openvino", "enable_cpu_pinning", "ENABLE_CPU_PINNING"),
        ("openvino", "FULL_DEVICE_NAM", "its manual lists them"),  # there, but not to be set
    ],
)
def test_names_of_options_are_checked(provider: str, name: str, near: str) -> None:
    with pytest.raises(InputError, match=near):
        make(provider=provider, provider_options={name: 1})
    result = run("encode", "no-such-clip.mp4", "--provider", provider, "--provider-option", f"{name}=1")
    assert result.exit_code == 1
    assert near in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("provider", "options", "text"),
    [
        ("cpu", {"intra_op_num_threads": 1, "enable_mem_pattern": True}, "intra_op_num_threads=1 enable_mem_pattern=1"),
        ("cpu", {"session.intra_op.allow_spinning": False}, "session.intra_op.allow_spinning=0"),
        ("cpu", {"execution_mode": "ORT_SEQUENTIAL"}, "execution_mode=ORT_SEQUENTIAL"),
        (
            "openvino",
            {"INFERENCE_NUM_THREADS": np.int64(1), "ENABLE_CPU_PINNING": np.False_},
            "INFERENCE_NUM_THREADS=1 ENABLE_CPU_PINNING=NO",
        ),
    ],
)
def test_numbers_and_booleans_as_options(provider: str, options: dict[str, Any], text: str) -> None:
    tokens = make(provider=provider, provider_options=options).encode(VIDEO)
    assert tokens.info.provider == f"{provider} {text}"
    np.testing.assert_array_equal(tokens.data, make(provider=provider).encode(VIDEO).data)
