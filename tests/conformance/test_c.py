"""The C API: libvidtok called through the types of its own header, held to the kit."""

from __future__ import annotations

import ctypes as C
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_header import HEADER, Header, Library, RefusedError
from c_program import needs, onnxruntime
from cases import KIT, Case, every_case, pieces, read_cases
from cpp_program import leftovers
from strange_bundles import listing_bundle

from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.errors import InputError
from vidtok_runtime.memory.planner import CallPlan
from vidtok_runtime.memory.plans import Plans
from vidtok_runtime.tools.demo import synthetic_frame

pytest_plugins = ["c_builds"]

FSQ, KL = KIT / "fsq-causal", KIT / "kl-causal-v1.1"


@pytest.fixture(scope="module")
def api(library: Path) -> Library:
    loaded = Library(library / "libvidtok.so")
    loaded.call("load_onnxruntime", str(onnxruntime()).encode())
    return loaded


@pytest.fixture
def open_tokenizer(api: Library) -> Iterator[Callable[..., C.c_void_p]]:
    """Opens tokenizers that are freed in the end."""
    made = []

    def open_one(bundle: Path, **options: Any) -> C.c_void_p:
        given = api.header.struct("vidtok_options", **{"threads": 1, **options})
        made.append(api.open("tokenizer_open", str(bundle).encode(), C.byref(given)))
        return made[-1]

    yield open_one
    for tokenizer in made:
        api.call("tokenizer_free", tokenizer)


def pixels_of(frames: np.ndarray) -> Any:
    return frames.ctypes.data_as(C.POINTER(C.c_uint8))


def data_of(tokens: Any) -> np.ndarray:
    """A copy of vidtok_tokens: `[t, C, h, w]` or `[t, h, w]`."""
    space = (tokens.height, tokens.width)
    if tokens.indices:
        return np.ctypeslib.as_array(tokens.indices, (tokens.count, *space)).copy()
    if tokens.latent:
        return np.ctypeslib.as_array(tokens.latent, (tokens.count, tokens.channels, *space)).copy()
    assert tokens.count == 0
    return np.empty(0)


def video_of(frames: Any) -> np.ndarray:
    shape = (frames.count, frames.height, frames.width, 3)
    return np.ctypeslib.as_array(frames.pixels, shape).copy() if frames.count else np.empty((0, *shape[1:]), "f4")


def join(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([part for part in parts if len(part)])


def encode(api: Library, tokenizer: C.c_void_p, clip: np.ndarray, pushes: list[int], writer: Any = None) -> np.ndarray:
    """The tokens of a clip, and a finished file of them if a writer is given."""
    encoder = api.open("encoder_open", tokenizer, 0)
    found = []
    for part in [*pieces(clip, pushes), None]:
        if part is None:
            tokens = api.ask("vidtok_tokens", "encoder_finish", encoder)
        else:
            part = np.ascontiguousarray(part)
            tokens = api.ask("vidtok_tokens", "encoder_push", encoder, pixels_of(part), *part.shape[:3])
        if writer:
            api.call("writer_append", writer, C.byref(tokens))
        found.append(data_of(tokens))
    if writer:
        times = api.header.struct("vidtok_times", fps=(25, 1))
        api.call("writer_finish", writer, encoder, C.byref(times))
        api.call("writer_free", writer)
    api.call("encoder_free", encoder)
    return join(found)


def decode(api: Library, tokenizer: C.c_void_p, file: Path, pulls: list[int]) -> np.ndarray:
    reader = api.open("reader_open", str(file).encode())
    api.call("reader_verify", reader)
    decoder = api.open("decoder_open_file", tokenizer, reader)
    found, at = [], 0
    for count in pulls:
        tokens = api.ask("vidtok_tokens", "reader_read", reader, at, count)
        found.append(video_of(api.ask("vidtok_frames", "decoder_push", decoder, C.byref(tokens))))
        at += count
    api.call("reader_free", reader)  # the decoder does not need it
    found.append(video_of(api.ask("vidtok_frames", "decoder_finish", decoder)))
    api.call("decoder_free", decoder)
    return join(found)


@every_case
def test_every_case_in_every_chunking(
    case: Case, api: Library, open_tokenizer: Callable[..., C.c_void_p], tmp_path: Path
) -> None:
    tokenizer, clip = open_tokenizer(case.bundle), case.read_input()
    for i, pushes in enumerate(case.pushes):
        file = tmp_path / f"{i}.safetensors"
        writer = api.open("writer_open", tokenizer, str(file).encode(), 0, 0)
        case.check_data(encode(api, tokenizer, clip, pushes, writer))
        case.check_token_file(file)
    for pulls in case.pulls:
        video = decode(api, tokenizer, case.tokens, pulls)
        case.check_video(video)
    bytes_ = np.empty(video.shape, np.uint8)
    api.call("to_uint8", video.ctypes.data_as(C.POINTER(C.c_float)), video.size, pixels_of(bytes_))
    case.check_video(bytes_)


def test_what_bundles_and_files_say(api: Library, open_tokenizer: Callable[..., C.c_void_p]) -> None:
    bundle = api.ask("vidtok_bundle", "tokenizer_info", open_tokenizer(FSQ))
    assert (bundle.family, bundle.provider, bundle.precision) == (b"vidtok", b"cpu", b"fp32")
    assert (bundle.time_factor, bundle.latent_channels) == (4, 1)
    case = next(case for case in read_cases() if case.name == "fsq-causal")
    wanted = case.read_tokens()
    reader = api.open("reader_open", str(case.tokens).encode())
    clip = api.ask("vidtok_clip", "reader_info", reader)
    assert (clip.num_frames, clip.height, clip.width) == case.size
    assert (clip.fps.numerator, clip.fps.denominator, clip.time_base.denominator) == (25, 1, 0)
    assert (clip.count, clip.token_height, clip.token_width) == wanted.data.shape
    assert clip.codebook_size == bundle.codebook_size == wanted.info.codebook_size
    assert clip.weights_sha256 == bundle.weights_sha256
    pts = C.POINTER(C.c_int64)()
    api.call("reader_pts", reader, C.byref(pts))
    assert pts[: clip.num_frames] == wanted.pts.tolist()
    for start in (clip.count, clip.count + 5, 2**40, 2**64 - 1):
        assert api.ask("vidtok_tokens", "reader_read", reader, start, 3).count == 0
    api.call("reader_free", reader)
    assert api.call("version").decode() == version("vidtok-onnx")


def test_only_the_header_s_functions_are_exported(library: Path) -> None:
    needs("nm")
    declared = set(Header(HEADER.read_text()).functions)
    assert len(declared) > 20
    done = subprocess.run(
        ["nm", "-D", "--defined-only", library / "libvidtok.so"], capture_output=True, text=True, check=True
    )
    found = {line.split()[-1] for line in done.stdout.splitlines()}
    assert found == {f"{name}@@VIDTOK_0.1" for name in declared} | {"VIDTOK_0.1"}


def test_tiles_are_whole_frames(api: Library, open_tokenizer: Callable[..., C.c_void_p]) -> None:
    clip = np.stack([synthetic_frame(3 * i, 101, 139) for i in range(5)])
    whole = encode(api, open_tokenizer(KL), clip, [5])
    tiled = encode(api, open_tokenizer(KL, max_tile=100), clip, [2, 3])
    assert whole.shape == tiled.shape
    assert np.abs(whole - tiled).max() < 1e-5 * np.abs(whole).max()
    with pytest.raises(RefusedError, match=r"INPUT_ERROR.*pixels at least"):
        api.open("encoder_open", open_tokenizer(KL, max_tile=1), 0)


def test_a_limit_of_memory(api: Library, open_tokenizer: Callable[..., C.c_void_p]) -> None:
    clip = np.stack([synthetic_frame(3 * i, 101, 139) for i in range(5)])
    whole = encode(api, open_tokenizer(KL), clip, [5])
    manifest = read_manifest(KL)

    def plan(limit: int, *roles: str) -> CallPlan:
        return Plans(manifest, "cpu", limit, partial(manifest.chain, provider="cpu", precision=None)).plan(
            roles, "encoder", manifest.stream, 101, 139
        )

    limit = next(limit for limit in range(plan(10**12, "encoder").peak, 0, -(10**6)) if plan(limit, "encoder").in_tiles)
    tokenizer = open_tokenizer(KL, max_memory=limit)
    tiled = encode(api, tokenizer, clip, [2, 3])
    assert np.abs(whole - tiled).max() < 1e-5 * np.abs(whole).max()

    # Streams of both roles do not fit together; as soon as one is freed its graphs are, too.
    with pytest.raises(InputError) as told:
        plan(limit, "encoder", "decoder")  # as they were loaded
    decoder, encoder = api.open("decoder_open", tokenizer, 0, 0, 0), api.open("encoder_open", tokenizer, 0)
    pushes = [("encoder_push", encoder, pixels_of(part), *part.shape[:3]) for part in pieces(clip, [2, 3])]
    with pytest.raises(RefusedError) as caught:
        api.ask("vidtok_tokens", *pushes[0])
    assert (caught.value.status, caught.value.text) == ("VIDTOK_INPUT_ERROR", str(told.value))
    api.call("decoder_free", decoder)
    found = [data_of(api.ask("vidtok_tokens", *call)) for call in (*pushes, ("encoder_finish", encoder))]
    api.call("encoder_free", encoder)
    assert np.array_equal(join(found), tiled)
    with pytest.raises(RefusedError, match=r"INPUT_ERROR.*leave max_tile out"):
        open_tokenizer(KL, max_memory=limit, max_tile=100)


def test_refusals(api: Library, open_tokenizer: Callable[..., C.c_void_p], tmp_path: Path) -> None:
    file, garbage = tmp_path / "clip.safetensors", tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"\xff" * 100)
    fsq, kl = open_tokenizer(FSQ), open_tokenizer(KL)
    clip = np.zeros((2, 8, 8, 3), np.uint8)

    def refused(status: str, text: str, name: str, *arguments: Any) -> None:
        with pytest.raises(RefusedError) as caught:
            api.call(name, *arguments)
        assert caught.value.status == f"VIDTOK_{status}"
        assert text in caught.value.text
        assert "\n" not in caught.value.text

    out = C.byref(C.c_void_p())
    refused("BUNDLE_ERROR", "manifest.json", "tokenizer_open", str(tmp_path).encode(), None, out)
    refused("INPUT_ERROR", "folder is NULL", "tokenizer_open", None, None, out)
    for options, status, text in (
        ({"provider": b"abacus"}, "PROVIDER_ERROR", "choose cpu or openvino"),
        ({"provider": b"openvino"}, "PROVIDER_ERROR", "VIDTOK_OPENVINO=ON"),
        ({"precision": b"fp1"}, "BUNDLE_ERROR", "fp1"),
        ({"chunk": 3}, "INPUT_ERROR", "multiple of 4"),
        ({"threads": 1 << 40}, "INPUT_ERROR", "4096"),
        ({"normalize": 1}, "INPUT_ERROR", "normalize"),
    ):
        given = C.byref(api.header.struct("vidtok_options", **options))
        refused(status, text, "tokenizer_open", str(FSQ).encode(), given, out)
    refused("PROVIDER_ERROR", "loaded before", "load_onnxruntime", b"/nowhere/libonnxruntime.so")
    refused("TOKEN_FILE_ERROR", "no file", "reader_open", str(tmp_path / "absent").encode(), out)
    refused("TOKEN_FILE_ERROR", "b?ndel", "reader_open", b"b\xfcndel", out)  # what says so is UTF-8
    refused("TOKEN_FILE_ERROR", "garbage", "reader_open", str(garbage).encode(), out)
    refused("OUTPUT_ERROR", "exists already", "writer_open", fsq, str(garbage).encode(), 0, 0, out)
    refused("OUTPUT_ERROR", "does not exist", "writer_open", fsq, str(tmp_path / "no/x").encode(), 0, 0, out)

    tokens = C.byref(api.header.struct("vidtok_tokens"))
    refused("INPUT_ERROR", "encoder is NULL", "encoder_push", None, pixels_of(clip), 2, 8, 8, tokens)
    encoder = api.open("encoder_open", fsq, 0)
    api.call("encoder_push", encoder, pixels_of(clip), 2, 8, 8, tokens)
    refused("INPUT_ERROR", "got 16x8", "encoder_push", encoder, pixels_of(clip), 1, 8, 16, tokens)
    api.call("encoder_push", encoder, pixels_of(clip), 2, 8, 8, tokens)  # what was refused has changed nothing
    api.call("encoder_free", encoder)

    encoder = api.open("encoder_open", kl, 0)
    writer = api.open("writer_open", kl, str(file).encode(), 0, 0)
    refused("INPUT_ERROR", "not finished", "writer_finish", writer, encoder, None)
    numbers = (C.c_int32 * 4)()
    given = api.header.struct("vidtok_tokens", count=1, channels=1, height=2, width=2, indices=numbers)
    refused("INPUT_ERROR", "takes latents", "writer_append", writer, C.byref(given))
    finished = api.ask("vidtok_tokens", "encoder_finish", encoder)
    api.call("writer_append", writer, C.byref(finished))
    refused("INPUT_ERROR", "no frames", "writer_finish", writer, encoder, None)
    api.call("writer_free", writer)
    api.call("encoder_free", encoder)

    writer = api.open("writer_open", fsq, str(file).encode(), 0, 0)
    given = api.header.struct("vidtok_tokens", count=1, channels=2, height=1, width=2, indices=numbers)
    refused("INPUT_ERROR", "takes indices [t, h, w]", "writer_append", writer, C.byref(given))
    api.call("writer_free", writer)
    encoder = api.open("encoder_open", fsq, 0)
    api.call("encoder_push", encoder, pixels_of(clip), 2, 8, 8, tokens)
    finished = api.ask("vidtok_tokens", "encoder_finish", encoder)
    for pts, text in (([3, 3], "do not rise"), ([3], "as many timestamps")):
        writer = api.open("writer_open", fsq, str(file).encode(), 0, 0)
        for _ in range(2):  # 2 frames need so many, whatever they are
            api.call("writer_append", writer, C.byref(finished))
        times = api.header.struct("vidtok_times", pts=(C.c_int64 * len(pts))(*pts), num_pts=len(pts))
        refused("INPUT_ERROR", text, "writer_finish", writer, encoder, C.byref(times))
        api.call("writer_free", writer)
    api.call("encoder_free", encoder)
    assert not leftovers(tmp_path)
    assert not file.exists()

    reader = api.open("reader_open", str(KIT / "fsq-causal.tokens.safetensors").encode())
    refused("MISMATCH_ERROR", "were made by", "decoder_open_file", kl, reader, out)
    api.call("reader_free", reader)
    decoder = api.open("decoder_open", fsq, 0, 0, 0)
    for values in ({}, {"indices": numbers, "latent": (C.c_float * 4)()}, {"indices": numbers, "width": 1 << 60}):
        given = api.header.struct("vidtok_tokens", **{"count": 1, "channels": 1, "height": 2, "width": 2, **values})
        frames = C.byref(api.header.struct("vidtok_frames"))
        broken = api.open("decoder_open", fsq, 0, 0, 0)
        refused("INPUT_ERROR", "", "decoder_push", broken, C.byref(given), frames)
        api.call("decoder_free", broken)
    api.call("decoder_free", decoder)
    api.call("decoder_free", None)


def test_a_push_of_no_frames_changes_nothing(api: Library, open_tokenizer: Callable[..., C.c_void_p]) -> None:
    case = next(case for case in read_cases() if case.name == "open-sora-plan-shared")
    clip, large = case.read_input(), np.zeros((1, 128, 128, 3), np.uint8)
    encoder = api.open("encoder_open", open_tokenizer(case.bundle), 0)

    def push(pixels: np.ndarray) -> np.ndarray:
        return data_of(api.ask("vidtok_tokens", "encoder_push", encoder, pixels_of(pixels), *pixels.shape[:3]))

    # The first 9 frames are a group, of which the next one needs the last frame again.
    found = [push(large[:0]), push(clip[:9]), push(large[:0]), push(clip[9:])]
    found.append(data_of(api.ask("vidtok_tokens", "encoder_finish", encoder)))
    api.call("encoder_free", encoder)
    case.check_data(join(found))

    encoder = api.open("encoder_open", open_tokenizer(case.bundle), 0)
    push(clip[:9])
    push(large[:0])
    with pytest.raises(RefusedError, match="frames of one stream are all"):
        push(large)
    api.call("encoder_free", encoder)


def test_a_finished_file_takes_nothing_more(
    api: Library, open_tokenizer: Callable[..., C.c_void_p], tmp_path: Path
) -> None:
    tokenizer, clip = open_tokenizer(FSQ), np.zeros((5, 8, 8, 3), np.uint8)
    encoder, nothing = api.open("encoder_open", tokenizer, 0), api.header.struct("vidtok_tokens")
    files = [tmp_path / f"{i}.safetensors" for i in range(3)]
    writers = [api.open("writer_open", tokenizer, str(file).encode(), 0, 0) for file in files]
    for call in (("encoder_push", encoder, pixels_of(clip), *clip.shape[:3]), ("encoder_finish", encoder)):
        tokens = api.ask("vidtok_tokens", *call)
        for writer in writers:
            api.call("writer_append", writer, C.byref(tokens))
    more = [
        ("writer_finish", encoder, None),
        ("writer_append", C.byref(tokens)),
        ("writer_append", C.byref(nothing)),
    ]
    for file, writer, (name, *arguments) in zip(files, writers, more, strict=True):
        api.call("writer_finish", writer, encoder, None)
        before = file.read_bytes()
        with pytest.raises(RefusedError, match="INPUT_ERROR: this token file is finished; open a new writer"):
            api.call(name, writer, *arguments)
        api.call("writer_free", writer)
        assert file.read_bytes() == before
    api.call("encoder_free", encoder)
    assert not leftovers(tmp_path)


def test_a_file_that_could_not_be_written_takes_nothing_more(
    api: Library, open_tokenizer: Callable[..., C.c_void_p], tmp_path: Path
) -> None:
    writer = api.open("writer_open", open_tokenizer(KL), str(tmp_path / "clip.safetensors").encode(), 0, 0)
    sizes = {"count": 1, "channels": 4, "height": 64, "width": 64}
    tokens = api.header.struct("vidtok_tokens", **sizes, latent=(C.c_float * (4 * 64 * 64))())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, limits[1]))
    try:
        with pytest.raises(RefusedError, match=r"OUTPUT_ERROR.*cannot be written"):
            api.call("writer_append", writer, C.byref(tokens))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(RefusedError, match=r"INPUT_ERROR.*an earlier call with this stream has failed"):
        api.call("writer_append", writer, C.byref(tokens))
    api.call("writer_free", writer)
    assert not list(tmp_path.iterdir())


def test_altered_bundles(api: Library, open_tokenizer: Callable[..., C.c_void_p], tmp_path: Path) -> None:
    bundle = tmp_path / "bündel"
    shutil.copytree(FSQ, bundle)
    graph = bundle / "encoder.local.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(RefusedError, match=r"BUNDLE_ERROR.*bündel/encoder.local.onnx is altered"):
        api.open("encoder_open", open_tokenizer(bundle), 0)
    with pytest.raises(RefusedError, match=r"BUNDLE_ERROR.* latent is float32 .* no tensor"):
        api.open("encoder_open", open_tokenizer(listing_bundle(tmp_path / "list")), 0)


def test_the_environment_is_set_once(api: Library, open_tokenizer: Callable[..., C.c_void_p]) -> None:
    system, name = C.CDLL(None), b"ORT_DISABLE_TELEMETRY"
    system.getenv.restype = C.c_char_p
    try:
        for value in (b"1", None):
            api.call("encoder_free", api.open("encoder_open", open_tokenizer(FSQ), 0))
            assert system.getenv(name) == value
            system.unsetenv(name)
    finally:
        system.setenv(name, b"1", 1)


def test_threads_open_streams_of_one_tokenizer(api: Library, open_tokenizer: Callable[..., C.c_void_p]) -> None:
    case = next(case for case in read_cases() if case.name == "fsq-causal")
    tokenizer, clip = open_tokenizer(case.bundle), case.read_input()

    def work(i: int) -> tuple[bytes, bytes]:
        name = f"absent-{i}"
        with pytest.raises(RefusedError, match=name):  # its own text, whatever other threads fail at
            api.open("reader_open", name.encode())
        found = encode(api, tokenizer, clip, case.pushes[i % len(case.pushes)])
        return found.tobytes(), decode(api, tokenizer, case.tokens, case.pulls[0]).tobytes()

    with ThreadPoolExecutor(6) as pool:
        results = set(pool.map(work, range(12)))
    assert len(results) == 1
    case.check_data(encode(api, tokenizer, clip, [len(clip)]))
