"""Checkpoints of a run: complete under their name or not there, and never unpickled."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from vidtok_ref.errors import WeightsError
from vidtok_ref.weights import UNREADABLE
from vidtok_runtime.files import PartFile

LAST = "last.ckpt"


class RunCheckpoints(TorchCheckpointIO):
    """Written beside the target and renamed; read as tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises OutputError."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        PartFile(path, force=True).write_whole(content.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any = lambda storage, _: storage, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Raises WeightsError."""
        try:
            content: dict[str, Any] = torch.load(path, map_location, weights_only=True)
        except UNREADABLE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WeightsError(
                f"{path} cannot be resumed from: {reason}; remove it to start this run again, perhaps with "
                f"--init {Path(path).parent / 'best.safetensors'}"
            ) from error
        progress = content.get("progress") if isinstance(content, dict) else None
        if not isinstance(progress, dict) or not {"steps", "best", "variant"} <= progress.keys():
            raise WeightsError(f"{path} is not a checkpoint of vidtok-train; name another --run folder")
        return content
