"""Windows of token files for PyTorch's DataLoader (extra `torch`), from a folder or a store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, SupportsIndex

from vidtok_ref.errors import DataError, needs_extra
from vidtok_runtime.arguments import whole
from vidtok_runtime.errors import TokenFileError
from vidtok_runtime.remote import Place, RemotePath, place_of
from vidtok_runtime.tokens.info import TokenInfo
from vidtok_runtime.tokens.reader import TokenReader

with needs_extra("torch"):
    import torch
    from torch.utils.data import Dataset, Sampler

Sample = dict[str, Any]
Window = tuple[int, int]  # a file, by its number, and the first latent
_AT_ONCE = 16  # headers read at the same time


class TokenDataset(Dataset[Sample]):
    """Windows of so many latents of the token files below a folder or URL, map-style; headers are read at once.

    An index is (file, first latent), as `TokenSampler` gives them, or a whole number: that window of `windows`, which
    follow each other. A sample is a dict of `tokens` (KL: float32 `C t h w`; FSQ: int64 `t h w`), `file` (index into
    `readers`) and `start` (first latent). Where tokens have groups (`--gop`, windows of a model), a window starts at a
    group, so that it decodes on its own. Of a store only the window is read.
    Files shorter than a window are left out. Raises DataError when no file is left or files do not fit together,
    TokenFileError, InputError.
    """

    def __init__(self, place: str | PathLike[str] | RemotePath, latents: int = 4) -> None:
        self.latents = whole("latents", latents, 1)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            readers = list(pool.map(TokenReader, _files(place_of(place))))
        self.readers = [reader for reader in readers if reader.shape[0] >= latents]
        if not self.readers:
            raise DataError(f"{place} holds {len(readers)} token files, none with {latents} latents or more")
        first, *others = self.readers
        for other in others:
            _require_alike(first, other)
        self.windows = [(file, start) for file in range(len(self.readers)) for start in self.starts(file, 0)]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: SupportsIndex | Window) -> Sample:
        file, start = index if isinstance(index, tuple) else self.windows[index]
        reader = self.readers[file]
        data = torch.from_numpy(reader.read(start, start + self.latents))
        tokens = data.long() if reader.kind == "indices" else data.movedim(1, 0)
        return {"tokens": tokens, "file": file, "start": start}

    def possible(self, file: int) -> range:
        """First latents of all windows of a file."""
        reader = self.readers[file]
        groups = reader.info.groups
        return range(0, reader.shape[0] - self.latents + 1, groups.latents - groups.shared_latents if groups else 1)

    def starts(self, file: int, skipped: int) -> list[int]:
        """First latents of windows that follow each other, from the possible start of that number on."""
        found: list[int] = []
        for start in self.possible(file)[skipped:]:
            if not found or start >= found[-1] + self.latents:
                found.append(start)
        return found


class TokenSampler(Sampler[Window]):
    """Every epoch all windows of a `TokenDataset` in random order, each file from a random latent on.

    The order depends on `seed` and epoch only, not on the workers of a DataLoader. Ranks of distributed training take
    turns and get equally many. `resume` goes on behind samples that a rank has had; without it, a new iteration is the
    next epoch. Raises InputError, and DataError where a rank would get none.
    """

    def __init__(self, data: TokenDataset, *, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        self._data, self._seed, self._world = data, seed, whole("world", world, 1)
        self._rank = whole("rank", rank, 0, world - 1)
        if len(data) < world:
            raise DataError(f"{len(data)} windows cannot be shared by {world} ranks; give more clips or fewer latents")
        self._epoch, self._had = 0, 0

    def resume(self, epoch: int, samples: int = 0) -> None:
        """Go on in an epoch, behind so many samples of this rank: batches times their size. Raises InputError."""
        self._epoch, self._had = epoch, whole("samples", samples, 0)

    @property
    def epoch(self) -> int:
        """That of the next iteration."""
        return self._epoch

    def __len__(self) -> int:
        """Samples of the next iteration."""
        return max(0, len(self._order()) - self._had)

    def __iter__(self) -> Iterator[Window]:
        order = self._order()[self._had :]
        self._epoch, self._had = self._epoch + 1, 0
        return iter(order)

    def _order(self) -> list[Window]:
        generator = torch.Generator().manual_seed(hash((self._seed, self._epoch)) % 2**63)
        windows: list[Window] = []
        for file in range(len(self._data.readers)):
            offsets = sum(start < self._data.latents for start in self._data.possible(file))
            skipped = int(torch.randint(offsets, (), generator=generator))
            windows += ((file, start) for start in self._data.starts(file, skipped))
        order = torch.randperm(len(windows), generator=generator).tolist()
        each = len(windows) // self._world
        return [windows[number] for number in order[self._rank :: self._world][:each]]


def frame_range(info: TokenInfo, start: int, latents: int) -> tuple[int, int]:
    """First frame that latents hold and the one behind their last, as `Tokens.slice` takes them."""
    first, behind = (min(info.num_frames, info.timing.first_frame(latent)) for latent in (start, start + latents))
    return first, behind


def _kind(reader: TokenReader) -> dict[str, Any]:
    """What tokens have in common that a network can learn together."""
    info = reader.info
    return {
        "model": info.name,
        "weights": info.weights_sha256[:12],
        "size": "x".join(map(str, reader.shape[1:])),
        "normalized": info.normalized,
        "sampled": info.sampled is not None,
        "precision": info.precision,
    }


def _require_alike(first: TokenReader, other: TokenReader) -> None:
    """Raise DataError that says what differs."""
    wanted, found = _kind(first), _kind(other)
    differing = [f"{what} {found[what]}, not {wanted[what]}" for what in wanted if found[what] != wanted[what]]
    if differing:
        raise DataError(
            f"{other.path} does not fit {first.path.name}: {'; '.join(differing)}; make one folder of each kind"
        )


def _files(place: Place) -> list[Place]:
    if isinstance(place, Path):
        return [*sorted(place.rglob("*.safetensors"))]
    try:
        return [path for path in place.files() if path.suffix == ".safetensors"]
    except OSError as error:
        raise TokenFileError(f"{place} cannot be read: {error.strerror}") from error
