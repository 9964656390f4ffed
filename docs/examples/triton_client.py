"""A clip through a tokenizer on Triton and back, eight frames a request.

python triton_client.py clip.mp4 fsq-32768 http://localhost:8000    # or grpc://localhost:8001
"""

import importlib
import sys
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np
from tritonclient.utils import np_to_triton_dtype


def sequence(library: Any, client: Any, model: str, pieces: Iterable[np.ndarray], **options: Any) -> Iterator[Any]:
    """Send frames or tokens as one sequence, and yield what comes back; library: tritonclient.http or .grpc."""
    takes, gives = ("frames", "tokens") if model.endswith("encoder") else ("tokens", "frames")
    key = str(uuid.uuid4())  # or a number other than 0 that no other clip has at that time

    def ask(piece: np.ndarray, **more: Any) -> Any:
        given = library.InferInput(takes, list(piece.shape), np_to_triton_dtype(piece.dtype))
        given.set_data_from_numpy(piece)
        return client.infer(model, [given], sequence_id=key, **more).as_numpy(gives)

    first = {"sequence_start": True, "parameters": options}
    for piece in pieces:
        answer, first = ask(piece, **first), {}
        if len(answer):  # often nothing is complete yet
            yield answer
    answer = ask(piece[:0], sequence_end=True)
    if len(answer):
        yield answer


if __name__ == "__main__":
    clip, name, address = sys.argv[1:]
    library = importlib.import_module(f"tritonclient.{address.partition('://')[0]}")
    client = library.InferenceServerClient(address.partition("://")[2])
    frames = np.stack([frame.to_ndarray(format="rgb24") for frame in av.open(clip).decode(video=0)])
    pieces = (frames[i : i + 8] for i in range(0, len(frames), 8))
    tokens = np.concatenate([*sequence(library, client, f"{name}_encoder", pieces)])
    size = {"num_frames": len(frames), "height": frames.shape[1], "width": frames.shape[2]}
    video = np.concatenate([*sequence(library, client, f"{name}_decoder", [tokens], **size)])
    decibels = 10 * np.log10(255**2 / np.mean((video.astype(np.float32) - frames) ** 2))
    print(f"{frames.shape} -> {tokens.dtype} {tokens.shape} -> {video.shape}, {decibels:.2f} dB")
