"""Parts of tokens, of streams of every kind that the format allows: they decode as in the whole, or are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpp_program import Build
from made_kit import make_bundle, make_clip
from made_streams import MADE, SIZE, Made, calls, groups
from numpy.typing import NDArray
from test_node import WEB, run_node

from vidtok_runtime import Tokenizer
from vidtok_runtime.errors import InputError
from vidtok_runtime.pipeline.files import decoded_frames
from vidtok_runtime.tokens.convert import convert_file
from vidtok_runtime.tokens.edit import cut_file, join_files
from vidtok_runtime.tokens.tokens import TokenReader, Tokens

pytest_plugins = ["cpp_builds"]

BY_NAME = {made.name: made for made in MADE}
ANY = {"time_factor": 4, "encoder": calls(4, 8)}
# Besides those of the kit: streams without groups, and groups whose last frames a shorter group may have, too.
KINDS = [
    *((made, gop) for made in MADE for gop in ((None, 3) if made.stream["groups"] is None else (None,))),
    (Made("surplus without groups", {**ANY, "decoder": calls(1, 2, drop="surplus")}), None),
    (Made("surplus in gops", {**ANY, "decoder": calls(1, 2, drop="surplus")}), 3),
    (Made("long calls", {**ANY, "decoder": calls(1, 3, exact=True)}, told=True), None),
    (Made("long calls in gops", {**ANY, "decoder": calls(1, 3, exact=True)}, told=True), 4),
    (Made("a long first call", {**ANY, "decoder": calls(1, 1, first=2, exact=True)}, told=True), None),
    (Made("fed late", {**ANY, "decoder": calls(1, 1, drop=3, flush={"size": 1, "keep": 3})}), None),
    (Made("any end", {**ANY, "decoder": calls(1, 3)}), None),
    (
        Made(
            "surplus, lengths", {**ANY, "groups": groups(19, 5), "encoder": calls(), "decoder": calls(drop="surplus")}
        ),
        None,
    ),
    (
        Made(
            "surplus, not whole",
            {**ANY, "groups": groups(18, 5, whole=False), "encoder": calls(), "decoder": calls(drop="surplus")},
        ),
        None,
    ),
    (
        Made(
            "surplus, shared",
            {
                **ANY,
                "length": {"first": 1, "multiple": 4},
                "groups": groups(13, 4, 1),
                "decoder": calls(1, 4, drop="surplus"),
            },
        ),
        None,
    ),
]
NAMES = [made.name + (f", gop {gop}" if gop else "") for made, gop in KINDS]
FRAMES = 30


def tokens_of(made: Made, gop: int | None, folder: Path, frames: int = FRAMES) -> tuple[Tokenizer, Tokens]:
    bundle = folder / made.name
    make_bundle(bundle, made)
    tok = Tokenizer(bundle, "cpu", threads=1)
    return tok, tok.encode(make_clip(frames), gop=gop)


def shown(video: NDArray[Any], made: Made) -> NDArray[Any]:
    """Without the colour that tells sizes of calls, where nothing else depends on these."""
    return video[..., :2] if made.told and not made.stream["decoder"]["exact"] else video


@pytest.mark.parametrize(("made", "gop"), KINDS, ids=NAMES)
@pytest.mark.parametrize("frames", [17, FRAMES])
def test_every_part_decodes_as_in_the_whole_or_is_refused(
    made: Made, gop: int | None, frames: int, tmp_path: Path
) -> None:
    tok, tokens = tokens_of(made, gop, tmp_path, frames)
    whole = shown(tok.decode(tokens, "float32"), made)
    bounds = range(frames + 1) if frames < 20 else edges(made, frames)
    for start, end in combinations(bounds, 2):
        if part := slice_or_none(tokens, start, end):
            video = shown(tok.decode(part, "float32"), made)
            np.testing.assert_allclose(video, whole[start:end], atol=1e-5, err_msg=f"{start}..{end}")


def edges(made: Made, frames: int) -> list[int]:
    """Frames near which something begins or ends, and some others."""
    groups = made.stream["groups"] or {"frames": 9, "shared_frames": 0}
    step = groups["frames"] - groups["shared_frames"]
    near = {0, 5, frames, *(start + i for start in range(step, frames, step) for i in (-1, 0, 1, 2))}
    return sorted(n for n in near if 0 <= n <= frames)


@pytest.mark.parametrize(("made", "gop"), KINDS, ids=NAMES)
def test_parts_of_parts(made: Made, gop: int | None, tmp_path: Path) -> None:
    """They are the parts of the whole, as far as there are such."""
    tok, tokens = tokens_of(made, gop, tmp_path)
    whole = shown(tok.decode(tokens, "float32"), made)
    for start, end in combinations(edges(made, FRAMES), 2):
        part = slice_or_none(tokens, start, end)
        for first, last in combinations(edges(made, FRAMES), 2) if part else ():
            if not start <= first < last <= end:
                continue
            inner, direct = slice_or_none(part, first - start, last - start), slice_or_none(tokens, first, last)
            where = f"{start}..{end}, of it {first}..{last}"
            assert direct is None or inner is not None, where
            if inner is None:
                continue
            if direct is not None and inner.info == direct.info:
                np.testing.assert_array_equal(inner.data, direct.data, err_msg=where)
                continue
            video = shown(tok.decode(inner, "float32"), made)
            np.testing.assert_allclose(video, whole[first:last], atol=1e-5, err_msg=where)


def slice_or_none(tokens: Tokens, start: int, end: int) -> Tokens | None:
    try:
        return tokens.slice(start, end)
    except InputError:
        return None


# Frames at which a part can end, of those kinds of which not every one is such.
ENDS = {
    "exact": range(2, 31),  # 1 latent is no whole call
    "exact, gop 3": [n for n in range(1, 31) if n not in (1, 10, 19, 28)],  # groups of 9 frames
    "surplus": [*range(1, 18), 30],
    "squares": range(1, 31),
    "surplus without groups": range(2, 31, 4),
    "surplus in gops, gop 3": [*range(4, 13, 4), *range(16, 25, 4), 26, 30],
    "long calls": [*range(9, 13), *range(21, 25), 29, 30],
    "long calls in gops, gop 4": [*range(9, 17), *range(25, 29), 29, 30],
    "a long first call": range(5, 31),
}


@pytest.mark.parametrize(("made", "gop"), KINDS, ids=NAMES)
def test_only_what_depends_on_its_end_is_refused(made: Made, gop: int | None, tmp_path: Path) -> None:
    _, tokens = tokens_of(made, gop, tmp_path)
    name = made.name + (f", gop {gop}" if gop else "")
    ends = [end for end in range(1, FRAMES + 1) if slice_or_none(tokens, 0, end)]
    if name in ENDS:
        assert ends == list(ENDS[name])
    elif made.stream["decoder"]["drop"] != "surplus":
        assert ends == list(range(1, FRAMES + 1))
    for start in range(FRAMES):  # which it does not depend on
        assert [n for n in range(start + 1, FRAMES + 1) if slice_or_none(tokens, start, n)] == [
            n for n in ends if n > start
        ]


def test_a_refusal_names_the_nearest_ends(tmp_path: Path) -> None:
    _, tokens = tokens_of(BY_NAME["surplus"], None, tmp_path)  # groups of 17 and 13 frames
    assert slice_or_none(tokens, 0, 3)  # inside a whole group
    with pytest.raises(InputError, match=r"frames 0\.\.20 cannot be cut .* nearest ends that work are 17f and 30f$"):
        tokens.slice(0, 20)
    with pytest.raises(InputError, match=r"frames 18\.\.20 .* nearest end that works is 30f$"):
        tokens.slice(18, 20)
    _, tokens = tokens_of(BY_NAME["exact"], None, tmp_path)  # calls of 3, 2, 2 ... latents
    with pytest.raises(InputError, match=r"nearest end that works is 2f$"):
        tokens.slice(0, 1)


@pytest.mark.parametrize("name", ["surplus", "exact", "surplus-without-groups", "long-calls-in-gops"])
def test_any_part_of_a_file_decodes(name: str, tmp_path: Path) -> None:
    made, gop = next((made, gop) for made, gop in KINDS if made.name.replace(" ", "-") == name)
    tok, tokens = tokens_of(made, gop, tmp_path)
    tokens.save(tmp_path / "t.safetensors")
    reader, whole = TokenReader(tmp_path / "t.safetensors"), tok.decode(tokens)
    for start, end in combinations(edges(made, FRAMES), 2):
        frames = list(decoded_frames(tok, reader, slice(start, end)))
        assert [frame.pts for frame in frames] == list(range(start, end))
        video = np.stack([frame.pixels for frame in frames])
        difference = shown(video.astype(int) - whole[start:end], made)
        assert np.abs(difference).max() <= 1, f"{start}..{end}"


@pytest.mark.parametrize(("made", "gop"), KINDS, ids=NAMES)
def test_cut_convert_and_join_files(made: Made, gop: int | None, tmp_path: Path) -> None:
    """Files cut where groups end, in every other format and back, make the whole again."""
    _, tokens = tokens_of(made, gop, tmp_path)
    whole, groups = tmp_path / "whole.safetensors", tokens.info.groups
    tokens.save(whole)
    length = groups.frames if groups and not groups.shared_frames else FRAMES
    pieces = []
    for start in range(0, FRAMES, length):
        piece = tmp_path / f"{start}.safetensors"
        cut_file(whole, piece, f"{start}f", f"{start + length}f")
        kept = piece.read_bytes()
        for suffix in ("npz", "tar", "bin"):
            convert_file(piece, tmp_path / f"{start}.{suffix}")
            convert_file(tmp_path / f"{start}.{suffix}", piece, force=True)
            assert piece.read_bytes() == kept
        pieces.append(piece)
    join_files(pieces, tmp_path / "joined.safetensors")
    assert (tmp_path / "joined.safetensors").read_bytes() == whole.read_bytes()


def check_other_runtime(run: Callable[..., object], made: Made, gop: int | None, folder: Path) -> None:
    """`run` is its program; its token files say what cuts keep, and it decodes cuts as Python does."""
    tok, tokens = tokens_of(made, gop, folder)
    raw, found, back = folder / "clip.rgb", folder / "found.safetensors", folder / "back.f32"
    make_clip(FRAMES).tofile(raw)
    size = ("--size", f"{SIZE[1]}x{SIZE[0]}")
    run("encode", folder / made.name, raw, found, *size, *(("--gop", gop) if gop else ()))
    info = TokenReader(found).info
    assert replace(info, provider=tokens.info.provider, fps=None, time_base=None) == tokens.info
    assert info.exact is not None or info.surplus
    for start, end in ((0, 5), (0, 17), (3, 12), (18, 24), (20, 26), (20, 30)):
        if part := slice_or_none(tokens, start, end):
            part.save(folder / "part.safetensors", force=True)
            run("decode", folder / made.name, folder / "part.safetensors", back, "--force")
            video = np.fromfile(back, "<f4").reshape(end - start, *SIZE, 3)
            np.testing.assert_allclose(video, tok.decode(part, "float32"), atol=1e-5, err_msg=f"{start}..{end}")


DEPENDING = [kind for kind in KINDS if kind[0].name in ("exact", "long calls in gops", "surplus", "surplus, lengths")]


@pytest.mark.parametrize(("made", "gop"), DEPENDING)
def test_cuts_in_cpp(plain: Build, made: Made, gop: int | None, tmp_path: Path) -> None:
    check_other_runtime(plain.run, made, gop, tmp_path)


@pytest.mark.parametrize(("made", "gop"), DEPENDING)
def test_cuts_in_node(made: Made, gop: int | None, tmp_path: Path) -> None:
    if shutil.which("node") is None or not (WEB / "node_modules/onnxruntime-node").is_dir():
        pytest.skip("Node, or the packages of runtime/web, are not here")
    check_other_runtime(lambda *args: run_node("bin/vidtok.mjs", *args, "--threads", 1), made, gop, tmp_path)
