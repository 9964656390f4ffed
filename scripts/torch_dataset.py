"""The peer of `vidtok-run dataset`: the same job as one writes it in PyTorch.

DataLoader workers read with PyAV and shrink with torch (or with PyAV, where RESIZE is `pyav`); the compiled reference
encodes a clip a call. python scripts/torch_dataset.py WEIGHTS FOLDER OUT SIDE THREADS RESIZE prints frames a second and
the cores in use, from the first clip's end to the last one's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil
import torch
import torch._inductor.config as inductor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset

from vidtok_ref import build
from vidtok_ref.families.weights_file import embedded_variant


class Clips(Dataset[torch.Tensor]):
    """Clips of a folder, `3 T H W` uint8."""

    def __init__(self, folder: Path, side: int, resize: str) -> None:
        self.paths = sorted(folder.iterdir())
        self.side, self.resize = side, resize

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with av.open(str(self.paths[index])) as container:
            frames = [self._picture(frame) for frame in container.decode(video=0)]
        return torch.stack(frames).permute(1, 0, 2, 3)

    def _picture(self, frame: av.VideoFrame) -> torch.Tensor:
        side = self.side
        if self.resize == "pyav":
            small = frame.to_ndarray(format="rgb24", width=side, height=side, interpolation="AREA")
            return torch.from_numpy(small).permute(2, 0, 1)
        whole = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)[None]
        return interpolate(whole, (side, side), mode="bilinear", antialias=True)[0]


def used() -> float:
    """CPU seconds of this process and those that read for it."""
    me = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (me, *me.children(recursive=True)))


def main(weights: str, folder: str, out: str, side: str, threads: str, resize: str) -> None:
    """Encode all clips and print the rate."""
    torch.set_num_threads(int(threads))
    inductor.freezing = True
    model = build(embedded_variant(weights) or "", weights).requires_grad_(False)
    encode = torch.compile(model.encode, dynamic=False)
    clips = Clips(Path(folder), int(side), resize)
    with torch.no_grad():
        encode(clips[0][None].float() / 127.5 - 1)  # compiles
        ends, frames = [], []
        for i, clip in enumerate(DataLoader(clips, batch_size=None, num_workers=int(threads))):
            np.save(Path(out) / f"{i}.npy", encode(clip[None].float() / 127.5 - 1).latent.numpy())
            frames.append(clip.shape[1])
            if i in (0, len(clips) - 1):
                ends.append((time.perf_counter(), used()))  # before those that read are gone
    seconds, cpu = (last - first for first, last in zip(ends[0], ends[-1], strict=True))
    print(sum(frames[1:]) / seconds, cpu / seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
