"""What a model says about its streams, as data: the `stream` of a manifest, from which every call follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from vidtok_runtime.checked_json import Fields

FIRST_CALL, SECOND_CALL, FLUSH_CALL = "first call", "second call", "flush call"
CALLS = (FIRST_CALL, SECOND_CALL, FLUSH_CALL)
SURPLUS: Literal["surplus"] = "surplus"
MAX_TIME_FACTOR, MAX_SPATIAL_MULTIPLE, MAX_CHANNELS, MAX_LENGTH, MAX_FLUSH = 64, 256, 1024, 2**16, 64
MAX_PADDING_MULTIPLE = 4096
MAX_CODES = 2**31 - 1


@dataclass(frozen=True)
class Flush:
    """One more call at the end of a stream: `size` copies of the last item, of whose output the first `keep` count."""

    size: int
    keep: int


@dataclass(frozen=True)
class CallSpec:
    """How a stream is cut into calls of a role's graphs, in frames (encoder) or latents (decoder).

    first: exact size of the first call, None for none of its own. multiple: every call takes a multiple of it. max: at
    most so many; None: a whole group in one call. exact: every call but the first takes exactly `max`. The last call
    takes what is left. drop: what is thrown away of what the first calls give; "surplus": all that the calls of a
    stream give beyond its frames. flags: of each flag the calls in which it is true.
    """

    multiple: int
    max: int | None
    first: int | None = None
    exact: bool = False
    drop: int | Literal["surplus"] = 0
    flush: Flush | None = None
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def exact_sizes(self) -> Length | None:
        """What calls of exact sizes come to; None where sizes change nothing."""
        return Length(self.first or 0, self.max) if self.exact and self.max else None

    def sizes(self, length: int) -> list[int]:
        """Sizes of the calls of a stream of so many frames or latents, without the flush call."""
        sizes = [] if self.first is None or self.first > length else [self.first]
        left = length - sum(sizes)
        most = self.max or length
        while left >= self.multiple and not (self.exact and left < most):
            sizes.append(min(most, left - left % self.multiple))
            left -= sizes[-1]
        return [*sizes, left] if left else sizes


@dataclass(frozen=True)
class Groups:
    """How a clip is cut into groups of frames and latents that are streams of their own.

    shared_frames, shared_latents: what a group has in common with the one before. whole: the frames of a group need
    all of its latents. multiple: another length in frames may be asked for, a multiple of this; None: not.
    """

    frames: int
    latents: int
    shared_frames: int = 0
    shared_latents: int = 0
    whole: bool = True
    multiple: int | None = None


@dataclass(frozen=True)
class Length:
    """The padded length of a stream of frames: `first` plus a multiple of `multiple`."""

    first: int
    multiple: int

    def padded(self, frames: int) -> int:
        """The smallest such length that is not less than `frames`."""
        return self.first + max(0, -(-(frames - self.first) // self.multiple)) * self.multiple

    def within(self, frames: int) -> int:
        """The largest such length that is not more than `frames`, 0 if there is none."""
        return self.first + (frames - self.first) // self.multiple * self.multiple if frames >= self.first else 0


@dataclass(frozen=True)
class StreamSpec:
    """The streams of a model. Keys and rules: docs/format.md."""

    time_factor: int
    spatial_multiple: int
    latent_channels: int
    encoder: CallSpec
    decoder: CallSpec
    length: Length
    codebook_size: int | None = None
    levels: tuple[int, ...] = ()
    front_frames: int = 0
    groups: Groups | None = None
    square: bool = False
    padding_multiple: int | None = None
    pixel_range: tuple[float, float] = (-1.0, 1.0)
    latent_mean: tuple[float, ...] | None = None
    latent_std: tuple[float, ...] | None = None

    @property
    def side_multiple(self) -> int:
        """Pixels along H and W are padded to a multiple of it."""
        return self.padding_multiple or self.spatial_multiple

    @property
    def look_ahead(self) -> int:
        """Frames that a decoder lags behind."""
        return self.decoder.flush.keep if self.decoder.flush else 0

    def calls(self, role: str) -> CallSpec:
        """How the graphs of a role are called."""
        return self.encoder if role == "encoder" else self.decoder

    def latents(self, frames: int) -> int:
        """Latents of a stream (a clip, or one group) of so many frames, from 1."""
        return -(-self.length.padded(self.front_frames + frames) // self.time_factor)

    def frames(self, latents: int) -> int:
        """The most frames of a stream that so many latents hold; 0 where so many hold none."""
        return max(0, self.length.within(latents * self.time_factor) - self.front_frames)

    def dropped(self, frames: int) -> int:
        """Frames that a decoder gives before those of a stream of so many frames."""
        if self.decoder.drop != SURPLUS:
            return self.decoder.drop
        held = self.length.padded(self.front_frames + frames) - self.front_frames
        return self.time_factor * self.latents(frames) + self.look_ahead - held

    def allows(self, groups: Groups | None) -> bool:
        """Whether a clip may be cut into such groups: the model's own, or another length of these.

        If it has none: groups of any length that decode latent by latent and share nothing.
        """
        own = self.groups
        if own is None:
            return groups is None or not (groups.whole or groups.shared_frames or groups.shared_latents)
        if groups is None:
            return False
        if own.multiple and groups.frames % own.multiple == 0:
            own = replace(own, frames=groups.frames, latents=self.latents(groups.frames))
        return replace(own, multiple=None) == replace(groups, multiple=None)

    def group_length(self, role: str) -> int | None:
        """What the calls of a role take of a whole group, padded frames or latents; None without groups."""
        if self.groups is None:
            return None
        front = self.front_frames + self.groups.frames
        return self.length.padded(front) if role == "encoder" else self.groups.latents

    def unit(self, role: str) -> int:
        """What the calls of a role take a multiple of, or a whole group where they take that."""
        calls = self.calls(role)
        return calls.multiple if calls.max is not None else self.group_length(role) or calls.multiple

    def regrouped(self, frames: int) -> StreamSpec:
        """The same with groups of another length; `groups.multiple` says of which."""
        assert self.groups is not None
        groups = replace(self.groups, frames=frames, latents=self.latents(frames))
        return replace(self, groups=groups)


def stream_spec(raw: Fields) -> StreamSpec:
    """The `stream` of a manifest; raises ValueError for what docs/format.md refuses."""
    f = raw.integer("time_factor", 1, MAX_TIME_FACTOR)
    channels = raw.integer("latent_channels", 1, MAX_CHANNELS)
    length = raw.fields("length")
    spec = StreamSpec(
        time_factor=f,
        spatial_multiple=raw.integer("spatial_multiple", 1, MAX_SPATIAL_MULTIPLE),
        latent_channels=channels,
        encoder=_call_spec(raw.fields("encoder")),
        decoder=_call_spec(raw.fields("decoder")),
        length=Length(length.integer("first", 0, MAX_LENGTH), length.integer("multiple", 1, MAX_LENGTH)),
        codebook_size=raw.integer_or_none("codebook_size", 1, MAX_CODES),
        levels=raw.integers("levels", MAX_CHANNELS),
        front_frames=raw.integer("front_frames", 0, f - 1),
        groups=_groups(raw.fields_or_none("groups")),
        square=raw.boolean("square"),
        padding_multiple=raw.integer_or_none("padding_multiple", 1, MAX_PADDING_MULTIPLE)
        if "padding_multiple" in raw.names()
        else None,
        pixel_range=_range(raw),
        latent_mean=raw.numbers_or_none("latent_mean", MAX_CHANNELS),
        latent_std=raw.numbers_or_none("latent_std", MAX_CHANNELS),
    )
    _check(spec)
    return spec


def _range(raw: Fields) -> tuple[float, float]:
    found = raw.numbers("pixel_range", 2)
    if len(found) != 2 or not found[0] < found[1]:
        raise ValueError(f"pixel_range is {list(found)}, not two rising numbers")
    return found[0], found[1]


def _call_spec(raw: Fields) -> CallSpec:
    flush, flags = raw.fields_or_none("flush"), raw.fields("flags")
    for name in sorted(flags.names()):
        if unknown := set(flags.texts(name)) - set(CALLS):
            raise ValueError(f"the flag {name} is set in calls unknown to this runtime: {', '.join(sorted(unknown))}")
    return CallSpec(
        multiple=raw.integer("multiple", 1, MAX_LENGTH),
        max=raw.integer_or_none("max", 1, MAX_LENGTH),
        first=raw.integer_or_none("first", 1, MAX_LENGTH),
        exact=raw.boolean("exact"),
        drop=SURPLUS if raw.raw.get("drop") == SURPLUS else raw.integer("drop", 0, MAX_LENGTH),
        flush=Flush(flush.integer("size", 1, MAX_FLUSH), flush.integer("keep", 0, MAX_LENGTH)) if flush else None,
        flags={name: flags.texts(name) for name in flags.names()},
    )


def _groups(raw: Fields | None) -> Groups | None:
    if raw is None:
        return None
    return Groups(
        frames=raw.integer("frames", 1, MAX_LENGTH),
        latents=raw.integer("latents", 1, MAX_LENGTH),
        shared_frames=raw.integer("shared_frames", 0, MAX_LENGTH - 1),
        shared_latents=raw.integer("shared_latents", 0, MAX_LENGTH - 1),
        whole=raw.boolean("whole"),
        multiple=raw.integer_or_none("multiple", 1, MAX_LENGTH),
    )


def _check(spec: StreamSpec) -> None:
    channels, codes = spec.latent_channels, spec.codebook_size
    if spec.levels and (len(spec.levels) != channels or min(spec.levels) < 2 or math.prod(spec.levels) != codes):
        raise ValueError(f"levels {list(spec.levels)} do not make {codes} codes of {channels} channels")
    if spec.side_multiple % spec.spatial_multiple:
        raise ValueError(f"padding_multiple is {spec.padding_multiple}, no multiple of {spec.spatial_multiple}")
    scales = [scale for scale in (spec.latent_mean, spec.latent_std) if scale is not None]
    if len(scales) == 1 or any(len(scale) != channels for scale in scales) or min(spec.latent_std or (1,)) <= 0:
        raise ValueError(f"latent_mean and latent_std are not {channels} numbers each, or null")
    if spec.encoder.drop != 0 or spec.encoder.flush is not None:
        raise ValueError("the encoder drops or flushes, which only decoders do")
    if spec.look_ahead >= spec.time_factor:
        raise ValueError(f"the flush call keeps {spec.look_ahead} frames, a latent stands for {spec.time_factor}")
    for role, calls in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        if calls.max is None and (spec.groups is None or calls.exact):
            raise ValueError(f"max of the {role} is null, but there is no group that its calls could take whole")
        if calls.max is not None and calls.max % calls.multiple:
            raise ValueError(f"max of the {role} is {calls.max}, no multiple of {calls.multiple}")
    if (g := spec.groups) is None:
        return
    if g.latents != spec.latents(g.frames) or g.shared_frames >= g.frames or g.shared_latents >= g.latents:
        raise ValueError(
            f"groups of {g.frames} frames and {g.latents} latents do not fit each other or what they share"
        )
    if g.multiple and (g.multiple % spec.time_factor or g.frames % g.multiple or g.shared_frames or g.shared_latents):
        raise ValueError(f"groups of {g.frames} frames cannot have other lengths in multiples of {g.multiple}")
