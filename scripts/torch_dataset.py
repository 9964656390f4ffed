"""The peer of `vidtok-run dataset`: the same job as one writes it in PyTorch.

DataLoader workers read with PyAV, which makes the small picture at once, and the compiled reference encodes a clip a
call. python scripts/torch_dataset.py WEIGHTS FOLDER OUT SIDE THREADS; prints frames a second, from the first clip's end
to the last one's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import av
import numpy as np
import torch
import torch._inductor.config as inductor
from torch.utils.data import DataLoader, Dataset

from vidtok_ref import build
from vidtok_ref.families.weights_file import embedded_variant


class Clips(Dataset[torch.Tensor]):
    """Clips of a folder, `3 T H W` uint8."""

    def __init__(self, folder: Path, side: int) -> None:
        self.paths = sorted(folder.iterdir())
        self.side = side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with av.open(str(self.paths[index])) as container:
            frames = [
                frame.to_ndarray(format="rgb24", width=self.side, height=self.side, interpolation="AREA")
                for frame in container.decode(video=0)
            ]
        return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)


def main(weights: str, folder: str, out: str, side: str, threads: str) -> None:
    """Encode all clips and print the rate."""
    torch.set_num_threads(int(threads))
    inductor.freezing = True
    model = build(embedded_variant(weights) or "", weights).requires_grad_(False)
    encode = torch.compile(model.encode, dynamic=False)
    clips = Clips(Path(folder), int(side))
    with torch.no_grad():
        encode(clips[0][None].float() / 127.5 - 1)  # compiles
        ends, frames = [], []
        for i, clip in enumerate(DataLoader(clips, batch_size=None, num_workers=int(threads))):
            np.save(Path(out) / f"{i}.npy", encode(clip[None].float() / 127.5 - 1).latent.numpy())
            ends.append(time.perf_counter())
            frames.append(clip.shape[1])
    print(sum(frames[1:]) / (ends[-1] - ends[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
