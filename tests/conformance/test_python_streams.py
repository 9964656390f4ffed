"""Python on streams of every kind that the format allows, in parts and with weights in a file."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import KIT, Case, pieces, read_cases
from made_arithmetic import Arithmetic
from made_kit import make_bundle, make_clip, make_kit, write_tokens
from made_streams import FIRST, MADE, SIZE, Made, calls

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.stream_spec import Groups
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.cuda_graph import CapturedOrtSession
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.engines.registry import PROVIDERS
from vidtok_runtime.errors import BundleError, InputError, MismatchError
from vidtok_runtime.pipeline.files import decode_file, round_trip
from vidtok_runtime.tokens.tokens import TokenReader, Tokens
from vidtok_runtime.video.source import Frame

BY_NAME = {made.name: made for made in MADE}
EVERY = [f"{made.name}-{frames}" for made in MADE for frames in made.lengths]
HEIGHT, WIDTH = SIZE
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("made")
    make_kit(folder)
    return {case.name: case for case in read_cases(folder)}


def tokenizer(bundle: Path, provider: str = "cpu", **settings: Any) -> Tokenizer:
    return Tokenizer(bundle, provider, threads=1, **settings)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("name", EVERY)
def test_every_kind_of_stream_in_every_chunking(made: dict[str, Case], name: str, provider: str) -> None:
    case = made[name]
    tok, clip, tokens = tokenizer(case.bundle, provider), case.read_input(), case.read_tokens()
    found = tok.encode(clip, case.fps)
    case.check_data(found.data)
    assert replace(found.info, provider="numpy") == tokens.info
    for sizes in case.pushes:
        stream = tok.encoder()
        case.check_data(np.concatenate([*map(stream.push, pieces(clip, sizes)), stream.finish()]))
    case.check_video(tok.decode(tokens, "float32"))
    for sizes in case.pulls:
        told = tok.decoder(case.size[0], HEIGHT, WIDTH, "float32")
        case.check_video(np.concatenate([*map(told.push, pieces(tokens.data, sizes)), told.finish()]))
        later = tok.decoder(height=HEIGHT, width=WIDTH, dtype="float32")
        video = np.concatenate([*map(later.push, pieces(tokens.data, sizes)), later.finish(case.size[0])])
        case.check_video(video[: case.size[0]])


@pytest.mark.parametrize("name", ["surplus-40", "shared-34", "parts-30", "squares-20", "exact-26"])
def test_there_and_back_in_one_pass(made: dict[str, Case], name: str) -> None:
    case = made[name]
    frames = [Frame(pixels, i, None) for i, pixels in enumerate(case.read_input())]
    pairs = list(round_trip(tokenizer(case.bundle), frames, HEIGHT, WIDTH))
    assert [frame.pts for frame, _ in pairs] == list(range(case.size[0]))
    case.check_video(np.stack([pixels for _, pixels in pairs]))


def changed(made: Made, **stream: Any) -> Made:
    return replace(made, unusual={**made.unusual, **stream})


def check(tok: Tokenizer, made: Made, frames: int, gop: int | None = None) -> Tokens:
    clip, arithmetic = make_clip(frames), Arithmetic(made)
    tokens = tok.encode(clip, gop=gop)
    np.testing.assert_allclose(tokens.data, wanted := arithmetic.encode(clip), atol=TOLERANCE)
    video = arithmetic.decode(wanted, frames, HEIGHT, WIDTH)
    np.testing.assert_allclose(tok.decode(tokens, "float32"), video, atol=TOLERANCE)
    return tokens


def groups(frames: int, latents: int, *, whole: bool) -> dict[str, Any]:
    shared = {"shared_frames": 0, "shared_latents": 0}
    return {"frames": frames, "latents": latents, **shared, "whole": whole, "multiple": None}


def test_groups_of_another_length(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b", BY_NAME["windows"])
    tok = tokenizer(tmp_path / "b", window=12)
    tokens = check(tok, changed(BY_NAME["windows"], groups=groups(12, 3, whole=True)), 19)
    assert tokens.info.groups == Groups(12, 3)
    # Tokens know their groups.
    assert np.array_equal(tokenizer(tmp_path / "b").decode(tokens), tok.decode(tokens))
    with pytest.raises(MismatchError, match="windows of 12 frames, windows of 4 were asked for"):
        tokenizer(tmp_path / "b", window=4).decode(tokens)
    for wrong in (0, 2, 13):
        with pytest.raises(InputError, match="a multiple of 4 frames"):
            tokenizer(tmp_path / "b", window=wrong)
    make_bundle(tmp_path / "fixed", BY_NAME["shared"])
    assert tokenizer(tmp_path / "fixed", window=17).stream.groups == tokenizer(tmp_path / "fixed").stream.groups
    with pytest.raises(InputError, match="have 17 frames, got 16"):
        tokenizer(tmp_path / "fixed", window=16)


@pytest.mark.parametrize(
    ("length", "front", "frames"), [((0, 4), 3, 9), ((1, 4), 0, 9), ((0, 1), 0, 12)], ids=["front", "first", "any"]
)
def test_groups_that_are_asked_for(length: tuple[int, int], front: int, frames: int, tmp_path: Path) -> None:
    stream = {
        "time_factor": 4,
        "front_frames": front,
        "length": {"first": length[0], "multiple": length[1]},
        "encoder": calls(4, 8, first=1 if length[0] else 4, flags=FIRST),
        "decoder": calls(1, 4, first=1, drop=0 if length == (0, 1) else 3, flags=FIRST),
    }
    make_bundle(tmp_path / "b", Made("gops", stream))
    tokens = check(tokenizer(tmp_path / "b"), Made("gops", {**stream, "groups": groups(frames, 3, whole=False)}), 22, 3)
    assert tokens.info.groups == Groups(frames, 3, whole=False)


def test_a_number_of_latents_that_no_frames_make(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b", BY_NAME["exact"])  # 1 + 8k frames are 1 + 2k latents
    assert tokenizer(tmp_path / "b").encode(make_clip(9), gop=3).info.groups == Groups(9, 3, whole=False)
    with pytest.raises(InputError, match="makes 2 latents"):
        tokenizer(tmp_path / "b").encoder(gop=2)


def part_of(folder: Path, made: Made, frames: int, start: int, end: int) -> Tokens:
    make_bundle(folder, made)
    return tokenizer(folder).encode(make_clip(frames)).slice(start, end)


@pytest.mark.parametrize("name", ["surplus", "shared", "windows", "parts", "exact"])
@pytest.mark.parametrize(("start", "end"), [(0, 40), (0, 6), (3, 9), (17, 18), (16, 34), (33, 40), (39, 40)])
def test_parts_of_tokens(name: str, start: int, end: int, tmp_path: Path) -> None:
    made = BY_NAME[name]
    make_bundle(tmp_path / "b", made)
    tok = tokenizer(tmp_path / "b")
    tokens = tok.encode(make_clip(40))
    part = tokens.slice(start, end)
    assert len(part.pts) == part.num_frames == end - start
    path = tmp_path / "part.safetensors"
    part.save(path)
    assert Tokens.load(path).info == part.info
    # Pictures are red; the other colours count calls and frames, which start anew with the part.
    wanted = tok.decode(tokens, "float32")[start:end]
    np.testing.assert_allclose(tok.decode(part, "float32")[..., 0], wanted[..., 0], atol=TOLERANCE)
    if tok.stream.groups and end - start == 1:
        assert len(part.data) <= tok.stream.groups.latents


@pytest.mark.parametrize("name", ["surplus", "shared", "exact"])
def test_a_buffer_that_is_used_again(name: str, tmp_path: Path) -> None:
    make_bundle(tmp_path / "b", BY_NAME[name])
    tok = tokenizer(tmp_path / "b")
    tokens = tok.encode(make_clip(40))
    decoder, buffer, frames = tok.decoder(40, dtype="float32"), np.empty_like(tokens.data[:1]), []
    for latent in tokens.data:
        buffer[0] = latent
        frames.append(decoder.push(buffer))
    frames.append(decoder.finish())
    buffer[:] = 0
    np.testing.assert_allclose(np.concatenate(frames), tok.decode(tokens, "float32"), atol=TOLERANCE)


def test_a_part_that_begins_in_what_groups_share(tmp_path: Path) -> None:
    part = part_of(tmp_path / "b", BY_NAME["shared"], 40, 20, 25)  # frames 16..32 are the second group
    assert (part.info.skip, len(part.data)) == (4, 5)
    first = part_of(tmp_path / "c", BY_NAME["shared"], 40, 16, 17)  # which the first group gives
    assert (first.info.skip, len(first.data)) == (16, 5)


@pytest.mark.parametrize("case", read_cases(), ids=lambda case: case.name)
def test_a_kit_graph_as_a_group(case: Case, tmp_path: Path) -> None:
    """A whole group is a clip of its own, whatever follows it."""
    tok = tokenizer(case.bundle)
    if tok.stream.groups is not None:
        pytest.skip("it has groups of its own")
    clip = case.read_input()
    long = np.concatenate([clip, clip[::-1]])
    gop = tok.stream.latents(len(clip))
    count = tok.stream.frames(gop)
    tokens = tok.encode(long, gop=gop)
    np.testing.assert_allclose(tokens.data[:gop], tok.encode(long[:count]).data, atol=case.latent_tolerance)
    np.testing.assert_allclose(tokens.data[gop : 2 * gop], tok.encode(long[count : 2 * count]).data, atol=2e-4)


@pytest.mark.parametrize("name", ["fsq-causal", "fsq-noncausal", "kl-causal-v1.1"])
def test_token_files_of_version_2(name: str, tmp_path: Path) -> None:
    (case,) = (case for case in read_cases() if case.name == name)
    path = KIT / f"version-2/{name}.tokens.safetensors"
    old, tok = Tokens.load(path), tokenizer(case.bundle)
    assert old.info == case.read_tokens().info
    np.testing.assert_array_equal(old.data, case.read_tokens().data)
    case.check_video(tok.decode(old, "float32"))
    old.save(tmp_path / "new.safetensors")
    assert TokenReader(tmp_path / "new.safetensors").info == old.info
    decode_file(tok, path, tmp_path / "back.mp4", quiet=True)


def test_version_2_with_groups_that_were_asked_for(tmp_path: Path) -> None:
    content = (KIT / "version-2/fsq-causal.tokens.safetensors").read_bytes()
    path = tmp_path / "gop.safetensors"
    path.write_bytes(content.replace(b'"skip":"0"', b'"gop":"4","skip":"0"').replace(b" " * 10, b"", 1))
    assert Tokens.load(path).info.groups == Groups(13, 4, whole=False)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_what_a_chain_is(made: dict[str, Case], provider: str) -> None:
    tok = tokenizer(made["parts-30"].bundle, provider)
    chain = load_chain(tok.manifest, "decoder", provider, None, Options(threads=1))
    assert (chain.role, chain.takes.name, chain.gives.name, len(chain.graphs)) == ("decoder", "latent", "video", 2)
    assert [graph.entry.file for graph in chain.graphs] == ["decoder0.onnx", "decoder1.onnx"]
    assert not chain.in_use
    stream = chain.fresh()
    assert chain.in_use
    stream.step(np.zeros((1, 14, 1, 3, 5), np.float32))
    del stream
    assert not chain.in_use


def test_precisions_are_chains_of_their_own(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b", BY_NAME["parts"])
    manifest = tmp_path / "b/manifest.json"
    raw = json.loads(manifest.read_text())
    others = [{**row, "precision": "int8"} for row in raw["graphs"]]
    raw["graphs"] = [row for pair in zip(others, raw["graphs"], strict=True) for row in pair]
    manifest.write_text(json.dumps(raw))
    assert check(tokenizer(tmp_path / "b"), BY_NAME["parts"], 14).info.precision == "int8"
    assert check(tokenizer(tmp_path / "b", precision="fp32"), BY_NAME["parts"], 14).info.precision == "fp32"
    with pytest.raises(BundleError, match="no fp16 encoder graph for cpu"):
        tokenizer(tmp_path / "b", precision="fp16")
    raw["graphs"].pop()
    manifest.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="the decoder has others"):
        tokenizer(tmp_path / "b")


@pytest.mark.parametrize("pixel_range", [(0.0, 1.0), (-0.5, 0.5), (0.0, 255.0)])
def test_pixels_in_another_range(pixel_range: tuple[float, float], tmp_path: Path) -> None:
    made = changed(BY_NAME["windows"], pixel_range=list(pixel_range))
    made = replace(made, told=False)
    make_bundle(tmp_path / "b", made)
    tok = tokenizer(tmp_path / "b")
    clip = make_clip(9)
    floats = (clip / np.float32(127.5) - 1).astype(np.float32)
    np.testing.assert_allclose(tok.encode(floats).data, tok.encode(clip).data, atol=1e-4)
    np.testing.assert_allclose(tok.encode(clip).data, Arithmetic(made).encode(clip), rtol=1e-5, atol=1e-4)


def test_squares(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b", BY_NAME["squares"])
    tok = tokenizer(tmp_path / "b")
    for height, width in ((12, 20), (20, 12), (3, 40), (8, 8)):
        clip = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
        tokens = tok.encode(clip)
        side = -(-max(height, width) // 4)
        assert tokens.data.shape[2:] == (side, side)
        assert tok.decode(tokens).shape == clip.shape
        tokens.save(tmp_path / "t.safetensors", force=True)
        assert Tokens.load(tmp_path / "t.safetensors").info == tokens.info
    for wrong in (np.zeros((1, 14, 3, 5), np.float32), np.zeros((1, 14, 4, 4), np.float32)):
        with pytest.raises(InputError, match=r"are squares|needs 5 latents"):
            tok.decoder(1, 12, 20).push(wrong)


def test_frames_a_second_and_names_in_a_file(made: dict[str, Case], tmp_path: Path) -> None:
    case = made["shared-34"]
    tokens = tokenizer(case.bundle).encode(case.read_input(), Fraction(25))
    tokens.save(tmp_path / "t.safetensors")
    case.check_token_file(tmp_path / "t.safetensors")
    info = TokenReader(tmp_path / "t.safetensors").info
    assert (info.family, info.name) == ("made", "shared")
    assert info.to_metadata()["groups"] == "frames=17 latents=5 shared_frames=1 shared_latents=1 whole=1"
    assert info.to_metadata()["length"] == "first=1 multiple=4"


def test_tokens_of_another_bundle(made: dict[str, Case], tmp_path: Path) -> None:
    shared, windows = (tokenizer(made[name].bundle) for name in ("shared-1", "windows-1"))
    tokens = shared.encode(make_clip(3))
    with pytest.raises(MismatchError, match=r"made by shared \(made\).* is windows \(made\)"):
        windows.decode(tokens)
    for wrong in (None, Groups(17, 5), Groups(9, 3, 1, 1), Groups(17, 5, 1, 1, whole=False)):
        with pytest.raises(MismatchError, match="do not count frames"):
            shared.decode(replace(tokens, info=replace(tokens.info, groups=wrong)))
    with pytest.raises(MismatchError, match=r"\(other\)"):
        shared.decode(replace(tokens, info=replace(tokens.info, family="other")))
    with pytest.raises(MismatchError, match="no mean and scale"):
        shared.decode(replace(tokens, info=replace(tokens.info, normalized=True)))


def test_files_written_elsewhere(made: dict[str, Case], tmp_path: Path) -> None:
    made_, clip = BY_NAME["flush"], make_clip(11)
    tok = tokenizer(made["flush-11"].bundle)
    latents = Arithmetic(made_).encode(clip)
    mean, deviation = (np.reshape(made_.stream[key], (1, -1, 1, 1)) for key in ("latent_mean", "latent_std"))
    write_tokens(tmp_path / "n.safetensors", made_, (latents - mean) / deviation, 11, normalized="1")
    wanted = Arithmetic(made_).decode(latents, 11, HEIGHT, WIDTH)
    np.testing.assert_allclose(tok.decode(Tokens.load(tmp_path / "n.safetensors"), "float32"), wanted, atol=TOLERANCE)


def test_parts_in_fixed_memory(made: dict[str, Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA graphs need it; run on the CPU, which ignores the graphs' numbers."""
    monkeypatch.setitem(PROVIDERS, "cpu", replace(PROVIDERS["cpu"], load=CapturedOrtSession))
    case = made["parts-30"]
    tok = tokenizer(case.bundle)
    case.check_data(tok.encode(case.read_input()).data)
    case.check_video(tok.decode(case.read_tokens(), "float32"))
