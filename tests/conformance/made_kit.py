"""A kit of graphs made by hand, in the form of the conformance kit, for streams of every kind that the format allows.

Token files are written here, and what the graphs must give is computed in numpy, without any of the runtimes.
"""

from __future__ import annotations

import hashlib
import json
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from made_arithmetic import Arithmetic, Array
from made_graphs import Part, decoder, encoder
from made_streams import MADE, SIZE, Made
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.external_data_helper import set_external_data


def make_bundle(folder: Path, made: Made) -> None:
    """Graphs and manifest."""
    folder.mkdir()
    stream = made.stream
    f, s = stream["time_factor"], stream["spatial_multiple"]
    flags = list(stream["decoder"]["flags"])
    pairs = {
        "encoder": encoder(f, s, flags=list(stream["encoder"]["flags"]), told=made.told),
        "decoder": decoder(
            f,
            s,
            first_flags=[name for name in flags if name == "first"],
            second_flags=[name for name in flags if name != "first"],
            told=made.told,
        ),
    }
    rows, weights = [], bytearray()
    for role, (first, second) in pairs.items():
        for i, part in enumerate((first, second) if made.in_parts else (first.then(second),)):
            rows.append(_row(folder, role, f"{role}{i}.onnx", part, weights if made.in_parts else None))
    manifest = {
        "format": "vidtok-bundle",
        "format_version": 2,
        "family": "made",
        "name": made.name,
        "config": {},
        "weights": {"sha256": hashlib.sha256(made.name.encode()).hexdigest()},
        "licence": "MIT",
        "stream": stream,
        "weights_files": [],
        "graphs": rows,
    }
    if weights:
        (folder / "made.weights").write_bytes(weights)
        row = {"file": "made.weights", "sha256": hashlib.sha256(weights).hexdigest(), "size": len(weights)}
        manifest["weights_files"] = [row]
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def _row(folder: Path, role: str, file: str, part: Part, weights: bytearray | None) -> dict[str, Any]:
    model = part.model()
    if weights is not None:
        _move_weights(model, weights)
    content = model.SerializeToString()
    (folder / file).write_bytes(content)
    return {
        "role": role,
        "part": "local",
        "precision": "fp32",
        "providers": ["cpu", "openvino"],
        "file": file,
        "sha256": hashlib.sha256(content).hexdigest(),
        "inputs": part.inputs,
        "outputs": part.outputs,
        "states": part.states,
        "flags": part.flags,
        "stages": [],
        "receptive_field": 8,
        "missing_kernels": {},
    }


def _move_weights(model: ModelProto, weights: bytearray) -> None:
    """Every large tensor of a model to the end of a file."""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= 256:
            weights += bytes(-len(weights) % 64)
            set_external_data(tensor, "made.weights", offset=len(weights), length=len(tensor.raw_data))
            weights += tensor.raw_data
            tensor.ClearField("raw_data")


def write_tokens(path: Path, made: Made, latents: Array, frames: int, **metadata: str) -> None:
    """A token file of version 3, without any of the runtimes."""
    stream, (height, width) = made.stream, SIZE
    data = latents.astype("<f4").tobytes()
    padding = -len(data) % 8
    times = np.arange(frames, dtype="<i8").tobytes()
    body = data + bytes(padding) + times
    flush, given = stream["decoder"]["flush"], stream["groups"]
    fields = {
        "format": "vidtok-tokens",
        "format_version": "3",
        "family": "made",
        "name": made.name,
        "weights_sha256": hashlib.sha256(made.name.encode()).hexdigest(),
        "num_frames": frames,
        "height": height,
        "width": width,
        "time_factor": stream["time_factor"],
        "front_frames": stream["front_frames"],
        "look_ahead": flush["keep"] if flush else 0,
        "length": "first={first} multiple={multiple}".format(**stream["length"]),
        "fps": 25,
        "precision": "fp32",
        "provider": "numpy",
        "skip": 0,
        **metadata,
        "checksum": f"sha256:{hashlib.sha256(body).hexdigest()}",
    }
    if given is not None:
        names = ("frames", "latents", "shared_frames", "shared_latents", "whole")
        fields["groups"] = " ".join(f"{name}={int(given[name])}" for name in names)
    if stream["decoder"]["exact"]:
        fields["exact"] = f"first={stream['decoder']['first'] or 0} multiple={stream['decoder']['max']}"
    if stream["decoder"]["drop"] == "surplus":
        fields["surplus"] = "1"
    ends = [0, len(data), len(data) + padding, len(body)]
    arrays = {"latent": ("F32", latents.shape), "padding": ("U8", (padding,)), "pts": ("I64", (frames,))}
    header: dict[str, Any] = {"__metadata__": {name: str(value) for name, value in fields.items()}}
    for (name, (dtype, shape)), (start, end) in zip(arrays.items(), pairwise(ends), strict=True):
        if start < end:
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def make_clip(frames: int) -> NDArray[np.uint8]:
    """Frames `[T, H, W, 3]` of which no two are alike."""
    return np.random.default_rng(frames).integers(0, 256, (frames, *SIZE, 3), np.uint8)


def pieces_of(count: int, chance: np.random.Generator) -> list[list[int]]:
    """Lists of sizes that make up `count`: all at once, one by one, at random."""
    cuts = sorted({0, count, *chance.integers(0, count + 1, 4).tolist()})
    return [[count], [1] * count, [end - start for start, end in pairwise(cuts)]]


def make_kit(folder: Path) -> Path:
    """Bundles, clips, and what must become of them; gives the path of `cases.json`."""
    cases = []
    chance = np.random.default_rng(0)
    for made in MADE:
        make_bundle(folder / made.name, made)
        arithmetic = Arithmetic(made)
        for frames in made.lengths:
            name = f"{made.name}-{frames}"
            clip = make_clip(frames)
            latents = arithmetic.encode(clip)
            clip.tofile(folder / f"{name}.rgb")
            write_tokens(folder / f"{name}.tokens.safetensors", made, latents, frames)
            arithmetic.decode(latents, frames, *SIZE).tofile(folder / f"{name}.f32")
            cases.append(
                {
                    "name": name,
                    "bundle": made.name,
                    "frames": frames,
                    "height": SIZE[0],
                    "width": SIZE[1],
                    "fps": "25/1",
                    "input": f"{name}.rgb",
                    "tokens": f"{name}.tokens.safetensors",
                    "video": f"{name}.f32",
                    "pushes": pieces_of(frames, chance),
                    "pulls": pieces_of(len(latents), chance),
                    "latent_tolerance": 1e-5,
                    "video_tolerance": 1e-5,
                    "tokens_exact": False,
                }
            )
    path = folder / "cases.json"
    path.write_text(json.dumps({"format": "vidtok-conformance", "version": 1, "cases": cases}))
    return path
