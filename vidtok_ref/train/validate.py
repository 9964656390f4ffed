"""Held-out clips: PSNR, and pictures to look at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vidtok_ref.tokenizer import VideoTokenizer
from vidtok_ref.train.clips import Pixels
from vidtok_ref.train.pixels import from_network, to_network, to_tensor
from vidtok_runtime.files import PartFile


@torch.no_grad()
def reconstruct(model: VideoTokenizer, clip: Pixels, device: torch.device) -> Pixels:
    """A clip uint8 `T H W 3` there and back, rounded to 8 bits."""
    pixel_range = model.stream.pixel_range
    recon: Tensor = model(to_network(to_tensor(torch.from_numpy(clip[None]).to(device)), pixel_range))[0]
    pixels = ((from_network(recon, pixel_range).clamp(-1, 1) + 1) * 127.5).round()
    return pixels[0].permute(1, 2, 3, 0).to(torch.uint8).cpu().numpy()


def psnr(clip: Pixels, recon: Pixels) -> float:
    """PSNR in dB of two uint8 arrays; equal ones count as half a level apart somewhere, 100 dB or so."""
    error = np.square(clip.astype(np.float64) - recon).mean()
    return float(20 * np.log10(255 / np.sqrt(max(error, 1e-5))))


def write_pictures(path: Path, pairs: list[tuple[Pixels, Pixels]]) -> None:
    """PNG of the middle frames of some clips side by side, original above reconstruction. Raises OutputError."""
    columns = [np.concatenate([clip[len(clip) // 2] for clip in pair]) for pair in pairs]
    picture = cv2.imencode(".png", cv2.cvtColor(np.concatenate(columns, axis=1), cv2.COLOR_RGB2BGR))[1]
    path.parent.mkdir(exist_ok=True)
    PartFile(path, force=True).write_whole(picture.tobytes())
