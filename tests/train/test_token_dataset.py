"""Token files as a data set of PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vidtok_ref.errors import DataError
from vidtok_ref.token_dataset import TokenDataset, TokenSampler, frame_range
from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.errors import InputError
from vidtok_runtime.tools.demo import synthetic_frame


def _frames(count: int, first: int = 0, height: int = 32, width: int = 48) -> np.ndarray:
    return np.stack([synthetic_frame(first + i, height, width) for i in range(count)])


@pytest.fixture(scope="module")
def fsq() -> Tokenizer:
    return Tokenizer("tiny-fsq-32768", provider="cpu", threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, fsq: Tokenizer) -> Path:
    """Token files of 13, 17 and 21 frames in groups of two latents, and one that is too short."""
    folder = tmp_path_factory.mktemp("tokens")
    for i, count in enumerate((13, 17, 21, 2)):
        fsq.encode(_frames(count, 30 * i), gop=2).save(folder / f"{i}.safetensors")
    return folder


@pytest.fixture(scope="module")
def latents() -> Tokens:
    """Three latents of a KL model."""
    return Tokenizer("tiny-kl-16chn", provider="cpu", threads=1).encode(_frames(9))


def test_windows_are_parts_of_the_files(folder: Path) -> None:
    data = TokenDataset(folder, latents=3)
    assert len(data.readers) == 3
    sampler, starts = TokenSampler(data), set()
    for _ in range(6):
        for batch in DataLoader(data, batch_size=2, sampler=sampler):
            for tokens, file, start in zip(batch["tokens"], batch["file"], batch["start"], strict=True):
                whole = Tokens.load(data.readers[file].path).data
                assert torch.equal(tokens, torch.from_numpy(whole[start : start + 3]).long())
                assert start % 2 == 0  # groups
                starts.add((int(file), int(start)))
    assert len(starts) > 3  # not always the same
    assert [data[i]["start"] for i in range(len(data))] == [start for _, start in data.windows]
    assert (data[np.int64(-1)]["file"], data[np.int64(-1)]["start"]) == data.windows[-1]


def test_latents_have_their_channels_first(tmp_path: Path, latents: Tokens) -> None:
    latents.save(tmp_path / "kl.safetensors")
    sample = TokenDataset(tmp_path, latents=2)[0, 1]
    assert sample["tokens"].dtype == torch.float32
    assert np.array_equal(sample["tokens"].numpy(), latents.data[1:3].transpose(1, 0, 2, 3))


def test_ranks_share_an_epoch_and_epochs_differ(folder: Path) -> None:
    data = TokenDataset(folder, latents=2)
    ranks = [list(TokenSampler(data, rank=rank, world=2)) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1]) > 2
    assert not set(ranks[0]) & set(ranks[1])
    sampler = TokenSampler(data)
    epochs = [list(sampler) for _ in range(4)]
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert sampler.epoch == 4
    for epoch in epochs:
        for file in range(3):
            starts = sorted(start for f, start in epoch if f == file)
            assert np.all(np.diff(starts) >= 2)
            assert starts[0] <= 2


@pytest.mark.parametrize("workers", [0, 1])
def test_goes_on_at_a_batch(folder: Path, workers: int) -> None:
    data = TokenDataset(folder, latents=1)

    def batches(sampler: TokenSampler) -> list[list[tuple[int, int]]]:
        found = DataLoader(data, batch_size=3, sampler=sampler, num_workers=workers)
        return [list(zip(batch["file"].tolist(), batch["start"].tolist(), strict=True)) for batch in found]

    whole = TokenSampler(data, seed=7)
    whole.resume(5)
    expected = batches(whole)
    assert len(expected) > 3
    again = TokenSampler(data, seed=7)
    again.resume(5, 2 * 3)
    assert len(again) == sum(map(len, expected)) - 6
    assert batches(again) == expected[2:]
    assert batches(again) == batches(whole)  # both are in the next epoch


def test_numbers_that_mean_nothing(folder: Path) -> None:
    for latents in (0, -1, 1.5):
        with pytest.raises(InputError, match="latents must be a whole number of at least 1"):
            TokenDataset(folder, latents=latents)  # type: ignore[arg-type]
    data = TokenDataset(folder, latents=2)
    for ranks in ({"rank": 2, "world": 2}, {"rank": -1}, {"world": 0}):
        with pytest.raises(InputError, match=r"(rank|world) must be a whole number"):
            TokenSampler(data, **ranks)
    with pytest.raises(DataError, match=f"{len(data)} windows cannot be shared by 1000 ranks"):
        TokenSampler(data, world=1000)
    sampler = TokenSampler(data)
    sampler.resume(0, 1000)
    assert len(sampler) == 0
    assert list(sampler) == []
    with pytest.raises(InputError, match="samples must be a whole number"):
        sampler.resume(0, -1)


def test_a_store(folder: Path) -> None:
    pytest.importorskip("fsspec", reason="stores need the extra `remote`")
    from vidtok_runtime.remote import RemotePath

    for path in folder.iterdir():
        (RemotePath("memory://windows") / path.name).send(path)
    local, remote = TokenDataset(folder, latents=2), TokenDataset("memory://windows", latents=2)
    assert remote.windows == local.windows
    assert all(torch.equal(remote[i]["tokens"], local[i]["tokens"]) for i in range(len(local)))


def test_a_window_decodes_to_its_frames(folder: Path, fsq: Tokenizer) -> None:
    tokens = Tokens.load(folder / "1.safetensors")
    whole = fsq.decode(tokens)
    for start, expected in ((0, (0, 5)), (2, (5, 10)), (3, (6, 15)), (6, (15, 17))):
        count = 3 if start == 3 else 2
        assert frame_range(tokens.info, start, count) == expected
        assert np.array_equal(fsq.decode(tokens.slice(*expected)), whole[slice(*expected)])
    ungrouped = fsq.encode(_frames(11)).info
    assert frame_range(ungrouped, 0, 1) == (0, 1)
    assert frame_range(ungrouped, 2, 2) == (5, 11)


def test_files_that_do_not_fit_together(folder: Path, fsq: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none with 99 latents"):
        TokenDataset(folder, latents=99)
    fsq.encode(_frames(5)).save(tmp_path / "a.safetensors")
    fsq.encode(_frames(5, height=64)).save(tmp_path / "b.safetensors")
    with pytest.raises(
        DataError, match=r"b\.safetensors does not fit a\.safetensors: size 8x6, not 4x6; make one folder"
    ):
        TokenDataset(tmp_path, latents=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"normalized": True}, "normalized True, not False;"),
        ({"sampled": 7}, "sampled True, not False;"),
        ({"precision": "int8"}, "precision int8, not fp32;"),
        ({"weights_sha256": "0" * 64, "name": "other"}, "model other, not kl-16chn; weights 000000000000, not "),
    ],
)
def test_latents_of_several_kinds(latents: Tokens, change: dict[str, Any], said: str, tmp_path: Path) -> None:
    latents.save(tmp_path / "a.safetensors")
    replace(latents, info=replace(latents.info, **change)).save(tmp_path / "b.safetensors")
    with pytest.raises(DataError) as caught:
        TokenDataset(tmp_path, latents=1)
    assert said in str(caught.value)


def test_latents_sampled_with_different_seeds_fit_together(latents: Tokens, tmp_path: Path) -> None:
    for seed in (1, 2):
        replace(latents, info=replace(latents.info, sampled=seed)).save(tmp_path / f"{seed}.safetensors")
    assert len(TokenDataset(tmp_path, latents=3)) == 2
