"""What the graphs of `made_graphs.py` give for a clip, in numpy and straight from docs/format.md."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from made_streams import Made
from numpy.typing import NDArray

Array = NDArray[Any]


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
