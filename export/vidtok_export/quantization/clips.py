"""Clips that calibrate and judge another precision, and what passes through a graph meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vidtok_export.bundle import in_chunks
from vidtok_export.errors import ExportError
from vidtok_ref.train.clips import Pixels
from vidtok_ref.train.material import HELD_OUT, VIDEO, list_files
from vidtok_ref.train.recipe import DataPart
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.bundle.stream_spec import StreamSpec
from vidtok_runtime.engines.base import Array, Session
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.errors import VideoError
from vidtok_runtime.evaluation.protocol import Excerpt, Protocol
from vidtok_runtime.streaming.graph_calls import Calls
from vidtok_runtime.streaming.groups import DecoderGroups, EncoderGroups
from vidtok_runtime.streaming.posterior import LatentForm, Posterior
from vidtok_runtime.streaming.stream import DecoderStream, EncoderStream

PROTOCOL = Protocol(9, 128, None)
MAX_CLIPS = 8  # clips of either kind


def clip_protocol(spec: StreamSpec) -> Protocol:
    """What is taken of a clip: enough for a whole group, or for two calls of exact sizes, so that states count."""
    frames, calls = PROTOCOL.frames or 0, spec.encoder
    if spec.groups:
        frames = max(frames, spec.groups.frames)
    elif calls.exact and calls.max:
        frames = max(frames, (calls.first or calls.max) + calls.max)
    return replace(PROTOCOL, frames=frames)


def read_clips(spec: StreamSpec, data: Path, skip_notes: tuple[str, ...]) -> tuple[list[Pixels], list[Pixels]]:
    """Clips `T H W 3` to calibrate on and held-out ones to judge by; raises ExportError, DataError.

    data: a folder or list as `vidtok-train` takes it; files with one of `skip_notes` in their note stay out.
    """
    entries, protocol = list_files(data, DataPart(skip_notes=skip_notes)), clip_protocol(spec)
    found: tuple[list[Pixels], list[Pixels]] = ([], [])
    for entry in entries:
        clips = found[entry.split == HELD_OUT]
        if entry.path.suffix.lower() in VIDEO and len(clips) < MAX_CLIPS:
            try:
                clips.append(np.stack([frame.pixels for frame in Excerpt(entry.path, protocol)]))
            except VideoError:
                continue  # too short, or no video at all
    if not all(found):
        raise ExportError(
            f"{data} has {len(found[0])} clips to calibrate on and {len(found[1])} held out, counting those of "
            f"{protocol.frames} frames or more; give a folder with at least two such clips"
        )
    return found


def in_short_calls(manifest: Manifest) -> Manifest:
    """The bundle with calls of two latents, so that short clips pass through a graph's memory, too."""
    stream = manifest.stream
    return manifest if stream.groups else replace(manifest, stream=in_chunks(stream, 2))


class Recorder:
    """A session that remembers its inputs."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.inputs = session.inputs
        self.outputs = session.outputs
        self.feeds: list[dict[str, Array]] = []

    def run(
        self, inputs: Mapping[str, Any], into: Mapping[str, Any] | None = None, *, release: bool = False
    ) -> dict[str, Any]:
        """Outputs by name, none in the memory that is offered: the inputs recorded here may lie in it."""
        self.feeds.append({k: v.numpy() if hasattr(v, "numpy") else np.asarray(v) for k, v in inputs.items()})
        return self._session.run(inputs)


def encoder_stream(spec: StreamSpec, encoder: GraphChain) -> EncoderGroups:
    """A stream of frames through a chain."""

    def start() -> EncoderStream:
        return EncoderStream(spec, lambda *_: Calls(encoder.fresh(), spec.encoder, spec.group_length("encoder")))

    return EncoderGroups(start, spec.groups, Posterior(spec, LatentForm()))


def decoder_stream(spec: StreamSpec, decoder: GraphChain, num_frames: int, height: int, width: int) -> DecoderGroups:
    """A stream of latents or tokens through a chain, to float32 frames in -1..1."""

    def start(count: int | None) -> DecoderStream:
        def calls(_: int, __: int, ___: int, held: int) -> Calls:
            own = replace(spec.decoder, drop=spec.dropped(held))
            return Calls(decoder.fresh(), own, spec.group_length("decoder"))

        return DecoderStream(spec, calls, count, height, width, "float32")

    return DecoderGroups(start, spec.groups, num_frames)


def encode(manifest: Manifest, encoder: GraphChain, clip: Pixels) -> Array:
    """Latents or tokens of a clip."""
    stream = encoder_stream(manifest.stream, encoder)
    return np.concatenate([stream.push(clip), stream.finish()])


def decode(manifest: Manifest, decoder: GraphChain, data: Array, clip: Pixels) -> Array:
    """The clip's frames in 0..255 as float32, unrounded."""
    frames, height, width, _ = clip.shape
    stream = decoder_stream(manifest.stream, decoder, frames, height, width)
    return (np.concatenate([stream.push(data), stream.finish()]) + 1) * np.float32(127.5)
