"""Windows of token files for PyTorch's DataLoader, map-style and iterable.

python docs/examples/token_windows.py tokens/
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from vidtok_runtime.tokens.info import TokenInfo
from vidtok_runtime.tokens.tokens import TokenReader

Sample = dict[str, Any]


class TokenWindows(Dataset[Sample]):
    """One random window of every token file of a folder, map-style.

    A sample is a dict of `tokens` (KL: float32 `C t h w`; FSQ: int64 `t h w`), `file` (index into `readers`) and
    `start` (first latent). Where tokens have groups (`--gop`, non-causal windows) a window starts at a group, so that
    it decodes on its own. The start comes from torch's generator, which a DataLoader seeds anew for each epoch and
    worker.
    Files shorter than a window are left out. Raises ValueError when no file is left or files do not fit together.
    """

    def __init__(self, folder: str | PathLike[str], latents: int = 4) -> None:
        self.latents = latents
        readers = [TokenReader(path) for path in sorted(Path(folder).rglob("*.safetensors"))]  # reads headers only
        self.readers = [reader for reader in readers if reader.shape[0] >= latents]
        if not self.readers:
            raise ValueError(f"{folder} holds {len(readers)} token files, none with {latents} latents or more")
        kinds = {(r.info.name, r.info.weights_sha256, r.shape[1:]) for r in self.readers}
        if len(kinds) > 1:
            raise ValueError(f"{folder} holds tokens of several sizes or models; make one folder of each")

    def __len__(self) -> int:
        return len(self.readers)

    def __getitem__(self, file: int) -> Sample:
        starts = _starts(self.readers[file], self.latents)
        return self.window(file, starts[int(torch.randint(len(starts), ()))])

    def window(self, file: int, start: int) -> Sample:
        """The window of a file that begins with a latent."""
        reader = self.readers[file]
        data = torch.from_numpy(reader.read(start, start + self.latents))
        tokens = data.long() if reader.kind == "indices" else data.movedim(1, 0)
        return {"tokens": tokens, "file": file, "start": start}


class TokenStream(IterableDataset[Sample]):
    """All windows of all token files, one file after another in random order.

    Every file belongs to one worker of one process: give `rank` and `world` in distributed training, and `set_epoch`
    before every epoch, so that all agree on the order. Windows follow each other from a random offset.
    """

    def __init__(
        self, folder: str | PathLike[str], latents: int = 4, *, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.windows = TokenWindows(folder, latents)
        self.seed, self.rank, self.world = seed, rank, world
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Another order, the same in all processes."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        generator = torch.Generator().manual_seed(self.seed + self._epoch)
        order = torch.randperm(len(self.windows), generator=generator).tolist()
        latents = self.windows.latents
        for file in order[self.rank * workers + number :: self.world * workers]:
            starts = _starts(self.windows.readers[file], latents)
            offset = int(torch.randint(min(latents, len(starts)), (), generator=generator))
            end = starts[offset]
            for start in starts[offset:]:
                if start >= end:
                    yield self.windows.window(file, start)
                    end = start + latents


def frame_range(info: TokenInfo, start: int, latents: int) -> tuple[int, int]:
    """First frame that latents hold and the one behind their last, as `Tokens.slice` takes them."""
    first, behind = (min(info.num_frames, info.timing.first_frame(latent)) for latent in (start, start + latents))
    return first, behind


def _starts(reader: TokenReader, latents: int) -> range:
    groups = reader.info.groups
    return range(0, reader.shape[0] - latents + 1, groups.latents - groups.shared_latents if groups else 1)


if __name__ == "__main__":
    windows = TokenWindows(sys.argv[1], latents=2)
    for batch in DataLoader(windows, batch_size=2, shuffle=True):
        print(tuple(batch["tokens"].shape), batch["tokens"].dtype, batch["start"].tolist())
