"""A kit of graphs made by hand, in the form of the conformance kit, for streams of every kind that the format allows.

What the graphs must give is computed here in numpy, straight from docs/format.md, without any of the runtimes.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from made_graphs import Part, decoder, encoder
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.external_data_helper import set_external_data

Array = NDArray[Any]
SIZE = 12, 20  # pixels of a clip


def calls(multiple: int = 1, longest: int | None = None, **other: Any) -> dict[str, Any]:
    """`encoder` or `decoder` of a `stream`."""
    usual = {"first": None, "exact": False, "drop": 0, "flush": None, "flags": {}}
    return {**usual, "multiple": multiple, "max": longest, **other}


def groups(frames: int, latents: int, shared: int = 0, **other: Any) -> dict[str, Any]:
    usual = {"whole": True, "multiple": None}
    return {**usual, "frames": frames, "latents": latents, "shared_frames": shared, "shared_latents": shared, **other}


@dataclass(frozen=True)
class Made:
    """A bundle: what is not usual of its `stream`, and numbers of frames to try.

    told: its latents and frames show sizes and numbers of calls. in_parts: two graphs a role, with weights in a file.
    """

    name: str
    unusual: dict[str, Any]
    lengths: tuple[int, ...] = ()
    told: bool = False
    in_parts: bool = False

    @property
    def stream(self) -> dict[str, Any]:
        """As manifests have it."""
        usual = {
            "spatial_multiple": 4,
            "square": False,
            "latent_channels": 3 * self.unusual["time_factor"] + 2,
            "codebook_size": None,
            "levels": [],
            "pixel_range": [-1.0, 1.0],
            "latent_mean": None,
            "latent_std": None,
            "front_frames": 0,
            "length": {"first": 0, "multiple": 1},
            "groups": None,
        }
        return {**usual, **self.unusual}


FIRST = {"first": ["first call"]}
MADE = (
    # Calls of 9, 8, 8 ... frames and 3, 2, 2 ... latents, on which the result depends, with flags.
    Made(
        "exact",
        {
            "time_factor": 4,
            "length": {"first": 1, "multiple": 8},
            "encoder": calls(8, 8, first=9, exact=True, flags=FIRST),
            "decoder": calls(2, 2, first=3, exact=True, drop=3, flags={"later": ["second call"]}),
        },
        (1, 2, 9, 10, 26),
        told=True,
    ),
    # Windows of one call each, whose latents hold more frames than the window has; frames of 0..1.
    Made(
        "surplus",
        {
            "time_factor": 4,
            "pixel_range": [0.0, 1.0],
            "groups": groups(17, 5),
            "encoder": calls(),
            "decoder": calls(drop="surplus"),
        },
        (1, 5, 16, 17, 18, 34, 40),
        told=True,
    ),
    # Windows that share a frame and a latent with the one before, padded to 1 + 4k; an odd latent is a call of its own.
    Made(
        "shared",
        {
            "time_factor": 4,
            "length": {"first": 1, "multiple": 4},
            "groups": groups(17, 5, 1),
            "encoder": calls(flags=FIRST),
            "decoder": calls(2, drop=3),
        },
        (1, 16, 17, 18, 33, 34, 40),
        told=True,
    ),
    # The same in short calls of a chain of two graphs, whose weights lie in a file.
    Made(
        "parts",
        {
            "time_factor": 4,
            "length": {"first": 1, "multiple": 4},
            "groups": groups(13, 4, 1),
            "encoder": calls(4, 8, first=1, flags=FIRST),
            "decoder": calls(1, 2, first=1, drop=3, flags={**FIRST, "last": ["flush call"]}),
        },
        (1, 12, 13, 14, 30),
        in_parts=True,
    ),
    # Squares of -0.5..0.5, windows padded to their full length.
    Made(
        "squares",
        {
            "time_factor": 4,
            "square": True,
            "pixel_range": [-0.5, 0.5],
            "length": {"first": 17, "multiple": 16},
            "groups": groups(17, 5),
            "encoder": calls(1, 17, exact=True),
            "decoder": calls(5, 5, exact=True, drop=3),
        },
        (3, 17, 20),
        told=True,
    ),
    # Look-ahead: a flush call after calls of one latent, which is the second one of the shortest clip.
    Made(
        "flush",
        {
            "time_factor": 3,
            "front_frames": 2,
            "length": {"first": 0, "multiple": 3},
            "latent_mean": [0.25 * i for i in range(11)],
            "latent_std": [0.5 + i for i in range(11)],
            "encoder": calls(3, 6),
            "decoder": calls(
                1,
                1,
                first=1,
                exact=True,
                drop=4,
                flush={"size": 2, "keep": 2},
                flags={"boundary": ["second call", "flush call"]},
            ),
        },
        (1, 2, 4, 11),
    ),
    # Windows that may be asked for in another length.
    Made(
        "windows",
        {
            "time_factor": 4,
            "length": {"first": 0, "multiple": 4},
            "groups": groups(8, 2, multiple=4),
            "encoder": calls(4),
            "decoder": calls(),
        },
        (1, 8, 9, 19),
        told=True,
    ),
)


# What the graphs compute, and how docs/format.md says that they are called.


def sizes(calls: dict[str, Any], length: int) -> list[int]:
    """Of the calls of a stream."""
    found = [calls["first"]] if calls["first"] is not None and calls["first"] <= length else []
    while (left := length - sum(found)) > 0:
        size = min(calls["max"] or left, left)
        if size >= calls["multiple"] and not calls["exact"]:
            size -= size % calls["multiple"]
        found.append(size)
    return found


def padded(length: dict[str, int], frames: int) -> int:
    return length["first"] + max(0, math.ceil((frames - length["first"]) / length["multiple"])) * length["multiple"]


def starts(count: int, size: int, shared: int) -> Iterator[tuple[int, int]]:
    """First and last but one of each group of `count` items."""
    start = 0
    while start == 0 or start + shared < count:
        yield start, min(count, start + size)
        start += size - shared


def flagged(calls: dict[str, Any], number: int, *, flush: bool = False) -> dict[str, float]:
    now = {1: ["first call"], 2: ["second call"]}.get(number, []) + ["flush call"] * flush
    return {name: float(any(call in now for call in when)) for name, when in calls["flags"].items()}


class Arithmetic:
    """What the graphs of a bundle give for a clip."""

    def __init__(self, made: Made) -> None:
        self.made, self.stream = made, made.stream
        self.f, self.s = self.stream["time_factor"], self.stream["spatial_multiple"]
        self.scale = (self.stream["pixel_range"][1] - self.stream["pixel_range"][0]) / 2
        self.offset = (self.stream["pixel_range"][1] + self.stream["pixel_range"][0]) / 2
        whole = {"frames": 2**40, "latents": 2**40, "shared_frames": 0, "shared_latents": 0}
        self.groups = self.stream["groups"] or whole

    def encode(self, clip: Array) -> Array:
        """Latents `[t, C, h, w]` of a clip `[T, H, W, 3]`."""
        groups, found = self.groups, []
        for i, (start, end) in enumerate(starts(len(clip), groups["frames"], groups["shared_frames"])):
            found.append(self._encode_stream(clip[start:end])[groups["shared_latents"] if i else 0 :])
        return np.concatenate(found).astype(np.float32)

    def _encode_stream(self, clip: Array) -> Array:
        front = self.stream["front_frames"]
        behind = padded(self.stream["length"], front + len(clip)) - front - len(clip)
        clip = np.concatenate([clip[:1].repeat(front, 0), clip, clip[-1:].repeat(behind, 0)])
        height, width = (-(-n // self.s) * self.s for n in clip.shape[1:3])
        if self.stream["square"]:
            height = width = max(height, width)
        edges = (0, 0), (0, height - clip.shape[1]), (0, width - clip.shape[2]), (0, 0)
        video = (np.pad(clip, edges, "edge") / 127.5 - 1) * self.scale + self.offset
        h, w = height // self.s, width // self.s
        colours = video.reshape(-1, h, self.s, w, self.s, 3).mean((2, 4)).transpose(0, 3, 1, 2)
        total, found, start = np.zeros((h, w)), [], 0
        for number, size in enumerate(sizes(self.stream["encoder"], len(clip)), 1):
            t = math.ceil(size / self.f)
            frames = np.concatenate([np.zeros((t * self.f - size, 3, h, w)), colours[start : start + size]])
            start += size
            call = 0.75 * sum(flagged(self.stream["encoder"], number).values())
            call += (0.01 * number + 0.001 * t) * self.made.told
            for latent in frames.reshape(t, 3 * self.f, h, w):
                total = total + latent[0]
                found.append(np.concatenate([latent, 0.01 * total[None], np.full((1, h, w), call)]))
        return np.stack(found)

    def decode(self, latents: Array, frames: int, height: int, width: int) -> Array:
        """Frames `[T, H, W, 3]` in -1..1."""
        groups, found = self.groups, []
        for i, (start, end) in enumerate(starts(len(latents), groups["latents"], groups["shared_latents"])):
            shared = groups["shared_frames"] if i else 0
            count = min(groups["frames"], frames - i * (groups["frames"] - groups["shared_frames"]))
            found.append(self._decode_stream(latents[start:end], count)[shared:count])
        video = (np.concatenate(found) - self.offset) / self.scale
        return np.clip(video, -1, 1).transpose(0, 2, 3, 1)[:, :height, :width].astype(np.float32)

    def _decode_stream(self, latents: Array, frames: int) -> Array:
        spec, found, start, total = self.stream["decoder"], [], 0, np.zeros(latents.shape[2:])
        told = sizes(spec, len(latents))
        for number, size in enumerate([*told, *([0] if spec["flush"] else [])], 1):
            some = latents[start : start + size] if size else latents[-1:].repeat(spec["flush"]["size"], 0)
            start += size
            parts = self._flags_of_parts(flagged(spec, number, flush=size == 0))
            call = (0.01 * number + 0.001 * len(some)) * self.made.told + 0.25 * parts[0] + 0.125 * parts[1]
            given = []
            for latent in some:
                total = total + latent[0]
                rest = 0.01 * total, np.full_like(total, call)
                given += [np.stack([red, *rest]) for red in latent[: 3 * self.f : 3]]
            found += given if size else given[: spec["flush"]["keep"]]
        held = padded(self.stream["length"], self.stream["front_frames"] + frames) - self.stream["front_frames"]
        drop = len(found) - held if spec["drop"] == "surplus" else spec["drop"]
        return np.stack(found)[drop:].repeat(self.s, 2).repeat(self.s, 3)

    def _flags_of_parts(self, flags: dict[str, float]) -> tuple[float, float]:
        first = sum(value for name, value in flags.items() if name == "first")
        return first, sum(flags.values()) - first


# Bundles, token files and cases.


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
