"""The kit on this package's engines through the public API, and on the reference that made it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from cases import KIT, Case, every_case, pieces, read_cases

from vidtok_ref import VideoTokenizer
from vidtok_ref.weights import weights_sha256
from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.manifest import check_file, read_manifest
from vidtok_runtime.tokens.tokens import Tokens
from vidtok_runtime.tools.demo import synthetic_frame

ROOT = Path(__file__).parents[2]
ENGINES = ("cpu", "openvino")
Tokenizers = dict[tuple[Path, str], Tokenizer]


@pytest.fixture(scope="module")
def tokenizers() -> Tokenizers:
    """Filled as they are asked for."""
    return {}


@pytest.fixture(params=ENGINES)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def tokenizer(bundle: Path, provider: str, known: Tokenizers) -> Tokenizer:
    if (bundle, provider) not in known:
        known[bundle, provider] = Tokenizer(bundle, provider, threads=1)
    return known[bundle, provider]


@pytest.fixture
def tok(case: Case, provider: str, tokenizers: Tokenizers) -> Tokenizer:
    return tokenizer(case.bundle, provider, tokenizers)


@pytest.fixture(scope="module")
def table() -> Iterator[ModuleType]:
    """scripts/conformance_table.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import conformance_table

        yield conformance_table
    for name in ("conformance_table", "conformance_runners", "make_kit", "make_vectors"):
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def maker(table: ModuleType) -> ModuleType:
    """scripts/make_kit.py."""
    return sys.modules["make_kit"]


@pytest.fixture(scope="module")
def models(maker: ModuleType) -> dict[str, VideoTokenizer]:
    """The reference models of the bundles, made again from their seeds."""
    return {bundle: maker.find_model(spec) for bundle, spec in maker.BUNDLES.items()}


@every_case
def test_one_shot(case: Case, tok: Tokenizer) -> None:
    case.check_data(tok.encode(case.read_input()).data)
    case.check_video(tok.decode(case.read_tokens(), "float32"))
    case.check_video(tok.decode(case.read_tokens()))


@every_case
def test_streams(case: Case, tok: Tokenizer) -> None:
    for sizes in case.pushes:
        encoder = tok.encoder()
        case.check_data(
            np.concatenate([*(encoder.push(part) for part in pieces(case.read_input(), sizes)), encoder.finish()])
        )
    tokens = case.read_tokens()
    for sizes in case.pulls:
        decoder = tok.decoder(*case.size, "float32")
        case.check_video(
            np.concatenate([*(decoder.push(part) for part in pieces(tokens.data, sizes)), decoder.finish()])
        )


@pytest.mark.parametrize("bundle", sorted({case.bundle.name for case in read_cases()}))
def test_other_lengths_whole_and_in_the_smallest_pushes(
    bundle: str, provider: str, tokenizers: Tokenizers, maker: ModuleType, models: dict[str, VideoTokenizer]
) -> None:
    """One frame, a part of a call, and whole calls that are a whole window."""
    tok, model = tokenizer(KIT / bundle, provider, tokenizers), models[bundle]
    for length in (1, 6, 17):
        video = np.stack([synthetic_frame(i, 10, 14) for i in range(length)])
        wanted = maker.encode(model, video)
        close = {"rtol": 0, "atol": 0 if wanted.info.codebook_size else 2e-5}
        found = tok.encode(video, maker.FPS)
        assert replace(found.info, provider="reference") == wanted.info
        np.testing.assert_allclose(found.data, wanted.data, **close)
        encoder = tok.encoder()
        data = np.concatenate([*(encoder.push(frame[None]) for frame in video), encoder.finish()])
        np.testing.assert_allclose(data, wanted.data, **close)
        frames = maker.decode(model, wanted)
        np.testing.assert_allclose(tok.decode(wanted, "float32"), frames, rtol=0, atol=1e-4)
        decoder = tok.decoder(*video.shape[:3], "float32")
        parts = [*(decoder.push(latent[None]) for latent in wanted.data), decoder.finish()]
        np.testing.assert_allclose(np.concatenate(parts), frames, rtol=0, atol=1e-4)


@every_case
def test_token_file(case: Case, tok: Tokenizer, tmp_path: Path) -> None:
    tokens = tok.encode(case.read_input(), fps=case.fps)
    tokens.save(tmp_path / "made.safetensors")
    case.check_token_file(tmp_path / "made.safetensors")
    if case.tokens_exact:
        Tokens(tokens.data, replace(tokens.info, provider="reference"), tokens.pts).save(tmp_path / "same.safetensors")
        assert (tmp_path / "same.safetensors").read_bytes() == case.tokens.read_bytes()


@every_case
def test_checks_notice_what_is_wrong(case: Case, tmp_path: Path) -> None:
    tokens, video = case.read_tokens(), case.read_video()
    off = 1 if case.tokens_exact else 2 * case.latent_tolerance
    with pytest.raises(AssertionError, match="differ"):
        case.check_data(np.where(np.arange(tokens.data.size).reshape(tokens.data.shape) == 1, off, 0) + tokens.data)
    with pytest.raises(AssertionError, match="differ"):
        case.check_video(video + np.float32(2 * case.video_tolerance))
    with pytest.raises(AssertionError, match="not"):
        case.check_video(video[:, :-1])
    Tokens(tokens.data, replace(tokens.info, precision="fp16"), tokens.pts).save(tmp_path / "other.safetensors")
    with pytest.raises(AssertionError, match="precision"):
        case.check_token_file(tmp_path / "other.safetensors")


@every_case
def test_the_kit_can_be_made_again(case: Case, maker: ModuleType, models: dict[str, VideoTokenizer]) -> None:
    spec, model = maker.BUNDLES[case.bundle.name], models[case.bundle.name]
    assert read_manifest(case.bundle).weights_sha256 == weights_sha256(model)
    frames = maker.clip_of(case.name, spec.clips[case.name])
    np.testing.assert_array_equal(frames, case.read_input())
    tokens = maker.encode(model, frames)
    assert tokens.info == case.read_tokens().info
    # Two machines may round the last digit of float64 differently, hardly ever that of float32.
    np.testing.assert_allclose(tokens.data, case.read_tokens().data, atol=0 if case.tokens_exact else 1e-6)
    np.testing.assert_allclose(maker.decode(model, case.read_tokens()), case.read_video(), atol=1e-6)


@every_case
def test_the_reference_in_steps(case: Case, maker: ModuleType, models: dict[str, VideoTokenizer]) -> None:
    """A model that streams gives the same for every chunk."""
    model = models[case.bundle.name]
    if model.stream.groups is not None:
        pytest.skip("windows are no chunks")
    with torch.no_grad():
        encoded = model.encode(maker.network_input(model, case.read_input()), 1)
        video = model.decode(encoded.latent.double(), case.size[0], 1)
    data = encoded.latent[0].transpose(0, 1) if encoded.indices is None else encoded.indices[0]
    case.check_data(data.numpy())
    _, height, width = case.size
    case.check_video(video[0].permute(1, 2, 3, 0)[:, :height, :width].clamp(-1, 1).float().numpy())


def test_table(table: ModuleType, models: dict[str, VideoTokenizer]) -> None:
    """A runtime that is right, one with a wrong token, one that fails; all in docs/conformance.md."""
    cases = read_cases()
    codes = sum(case.read_tokens().data.size for case in cases if case.tokens_exact)

    def wrong(cases: list[Case], folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for case in cases:
            data = case.read_tokens().data
            if case.tokens_exact:
                data[0, 0, 0] ^= 1
            yield data, case.read_video()

    failing = sys.modules["conformance_runners"].program("false")
    runners = [table.Runner("wrong", None, wrong), table.Runner("none", None, failing)]
    lines = table.sections({"kit": cases}, models, runners).splitlines()
    assert lines[7].startswith(f"| reference, float32 | 0 of {codes:,} | ")
    assert lines[8].startswith(f"| wrong | {sum(case.tokens_exact for case in cases)} of {codes:,}, ")
    assert lines[8].endswith(" away | 0.0e+00 | 0.0e+00 |")
    assert lines[9].startswith("| none | failed")
    codes_only = [case for case in cases if case.tokens_exact and case.size[0] == 1]
    rows = table.sections({"codes": codes_only}, models, [table.Runner("wrong", None, wrong)]).splitlines()
    assert rows[3].startswith("| runtime ")  # no line about latents
    assert rows[-1].endswith(" away | no latents | 0.0e+00 |")
    page = table.TARGET.read_text()
    assert all(runner.name in page for runner in table.RUNNERS)


def test_the_kit_is_small_and_whole() -> None:
    files = [path for path in KIT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_700_000
    named = {*(KIT / f"{name}.json" for name in ("cases", "refusals", "tiles")), *(KIT / "version-2").iterdir()}
    for case in json.loads((KIT / "cases.json").read_text())["cases"]:
        named |= {KIT / case[key] for key in ("input", "tokens", "video")}
        manifest = read_manifest(KIT / case["bundle"])
        named |= {KIT / case["bundle"] / "manifest.json", *(KIT / case["bundle"] / name for name in manifest.files)}
        for graph in manifest.graphs:
            check_file(manifest, graph)
    assert named == set(files)
