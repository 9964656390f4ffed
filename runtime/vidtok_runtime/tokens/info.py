"""What a token file says about itself, and what must agree in it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.lookup import find_bundle, shipped_names
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.bundle.stream_spec import MAX_LENGTH, Groups, Length
from vidtok_runtime.checked_json import Fields
from vidtok_runtime.errors import InputError, MismatchError
from vidtok_runtime.streaming.timing import Timing
from vidtok_runtime.video.display import Display

FORMAT = "vidtok-tokens"
FORMAT_VERSION = "3"
READ_VERSIONS = ("2", FORMAT_VERSION)
# Types of numbers in a file, little-endian.
DTYPES = {"F16": "<f2", "F32": "<f4", "U16": "<u2", "U32": "<u4", "I32": "<i4", "I64": "<i8"}
KINDS = {"latent": ("F16", "F32"), "indices": ("U16", "U32", "I32")}
# No clip comes near these; a header that goes beyond them must not cost memory.
_MAX_FRAMES, _MAX_PIXELS, _MAX_ROW = 2**40, 2**16, 2**28
_MAX = {"num_frames": _MAX_FRAMES, "skip": _MAX_FRAMES, "height": _MAX_PIXELS, "width": _MAX_PIXELS}
_MAX |= {"last_duration": 2**40, "sampled": 2**32 - 1, "normalized": 1, "surplus": 1}
_NUMBER = "([0-9]{1,13})"
_LENGTH = re.compile(f"first={_NUMBER} multiple={_NUMBER}")
_GROUPS = re.compile(
    f"frames={_NUMBER} latents={_NUMBER} shared_frames={_NUMBER} shared_latents={_NUMBER} whole=([01])"
)


def rising(pts: NDArray[Any]) -> NDArray[Any]:
    """Timestamps that rise, as int64; raises ValueError for others."""
    pts = np.asarray(pts)
    if pts.ndim != 1 or pts.dtype.kind not in "iu" or (pts.size and pts.max() > np.iinfo(np.int64).max):
        raise ValueError(f"timestamps are whole numbers, a list of int64, got {pts.dtype} {list(pts.shape)}")
    pts = pts.astype(np.int64, copy=False)
    if (pts[1:] <= pts[:-1]).any():
        raise ValueError("its timestamps do not rise")
    return pts


@dataclass(frozen=True)
class TokenInfo:
    """What a token file says about itself besides the numbers.

    length: which lengths of streams were padded to. groups: of what frames and latents the streams are; None: of the
    whole clip. exact, surplus: what a cut must keep, as Timing says it. skip: frames that decode before the first that
    counts (a cut). sampled: the seed that latents were drawn from the posterior with; None: they are its mean.
    normalized: the bundle's mean and scale of latents were applied.
    """

    family: str
    name: str
    weights_sha256: str
    num_frames: int
    height: int
    width: int
    time_factor: int
    front_frames: int
    look_ahead: int
    length: Length
    codebook_size: int | None = None
    groups: Groups | None = None
    exact: Length | None = None
    surplus: bool = False
    fps: Fraction | None = None
    time_base: Fraction | None = None
    precision: str = "fp32"
    provider: str = ""
    skip: int = 0
    sampled: int | None = None
    normalized: bool = False
    display: Display | None = None  # pixel shape and colours of the clip
    last_duration: int | None = None  # units of time_base that the last frame is shown; None: 1/fps
    resampling: str | None = None  # by which frames got their size, as `Selection` names it; None: they had it

    def to_metadata(self) -> dict[str, str]:
        """Strings for the safetensors header."""
        values = {"format": FORMAT, "format_version": FORMAT_VERSION}
        for name, value in vars(self).items():
            if value is not None and value is not False:
                values[name] = _text(value)
        return values

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object]) -> TokenInfo:
        """Inverse of `to_metadata`; raises ValueError for what is missing, of another form, or out of bounds."""
        values = Fields(dict(metadata), "its metadata")
        old = values.one_of("format_version", READ_VERSIONS) == "2"
        time_factor, front_frames = _integer(values, "time_factor", 1), _integer(values, "front_frames")
        info = cls(
            family="vidtok" if old else values.text("family"),
            name=values.text("variant" if old else "name"),
            weights_sha256=values.sha256("weights_sha256"),
            num_frames=_integer(values, "num_frames", 1),
            height=_integer(values, "height", 1),
            width=_integer(values, "width", 1),
            time_factor=time_factor,
            front_frames=front_frames,
            look_ahead=_integer(values, "look_ahead"),
            length=Length(0, time_factor) if old else _length(values, "length"),
            codebook_size=_integer(values, "codebook_size", 1) if "codebook_size" in metadata else None,
            groups=_old_groups(values, time_factor, front_frames) if old else _groups(values),
            exact=_length(values, "exact") if "exact" in metadata and not old else None,
            surplus="surplus" in metadata and not old and bool(_integer(values, "surplus", 1)),
            fps=_fraction(values, "fps") if "fps" in metadata else None,
            time_base=_fraction(values, "time_base") if "time_base" in metadata else None,
            precision=values.text("precision"),
            provider=values.text("provider"),
            skip=_integer(values, "skip"),
            sampled=_integer(values, "sampled") if "sampled" in metadata and not old else None,
            normalized="normalized" in metadata and not old and bool(_integer(values, "normalized", 1)),
            display=Display.parse(values.text("display")) if "display" in metadata else None,
            last_duration=_integer(values, "last_duration", 1) if "last_duration" in metadata else None,
            resampling=values.text("resampling") if "resampling" in metadata else None,
        )
        info._check()
        return info

    def _check(self) -> None:
        if max(self.front_frames, self.look_ahead) >= self.time_factor:
            raise ValueError("more frames in front, or looked ahead, than a latent holds")
        if self.codebook_size is not None and (self.sampled is not None or self.normalized):
            raise ValueError("tokens of a codebook are neither sampled nor normalized")
        if (groups := self.groups) is None:
            return
        if groups.shared_frames >= groups.frames or groups.shared_latents >= groups.latents:
            raise ValueError("groups that share all they have")
        if replace(self.timing, groups=None).latents(groups.frames) != groups.latents:
            raise ValueError(f"groups of {groups.frames} frames and {groups.latents} latents, which do not fit")

    def lasting(self, duration: int | None) -> TokenInfo:
        """The same with a last frame that is shown so long, in units of the time base; None: it is not known."""
        if self.fps and self.time_base and duration and abs(duration - 1 / (self.fps * self.time_base)) < 1:
            duration = None  # the usual time, rounded
        if duration is not None and not 1 <= duration <= _MAX["last_duration"]:
            duration = None  # no file can name it
        return replace(self, last_duration=duration)

    def durations(self, pts: NDArray[Any]) -> list[int | None]:
        """How long each frame is shown, in units of the time base; None for a last one of which it is not known."""
        return [*(pts[1:] - pts[:-1]).tolist(), self.last_duration]

    @property
    def timing(self) -> Timing:
        """How the frames fall into latents and groups."""
        return Timing(
            self.time_factor, self.front_frames, self.look_ahead, self.length, self.groups, self.exact, self.surplus
        )

    def find_bundle(self) -> Manifest:
        """Manifest of the shipped bundle whose weights made the tokens; raises MismatchError."""
        for name in shipped_names():
            manifest = find_bundle(name)
            if manifest.weights_sha256 == self.weights_sha256:
                return manifest
        raise MismatchError(
            f"these tokens were made by {self.name} with weights {self.weights_sha256[:12]}, which no shipped "
            "bundle has; give --bundle the one that made them"
        )

    def check_bundle(self, manifest: Manifest) -> None:
        """Raise MismatchError unless the bundle is that which made the tokens."""
        ours = (self.family, self.name, self.weights_sha256)
        theirs = (manifest.family, manifest.name, manifest.weights_sha256)
        if ours != theirs:
            raise MismatchError(
                f"these tokens were made by {ours[1]} ({ours[0]}) with weights {ours[2][:12]}, the bundle "
                f"{manifest.folder} is {theirs[1]} ({theirs[0]}) with weights {theirs[2][:12]}; give --bundle the one "
                "that made them"
            )
        stream = manifest.stream
        if (self.time_factor, self.front_frames, self.look_ahead, self.length, self.codebook_size) != (
            stream.time_factor,
            stream.front_frames,
            stream.look_ahead,
            stream.length,
            stream.codebook_size,
        ) or not stream.allows(self.groups):
            raise MismatchError(f"these tokens do not count frames or codes as the bundle {manifest.folder} does")
        if self.normalized and stream.latent_mean is None:
            raise MismatchError(
                f"these latents are normalized, but the bundle {manifest.folder} has no mean and scale of latents; "
                "export it again"
            )

    def check_shape(self, kind: str, dtype: str, shape: Sequence[int]) -> None:
        """Raise ValueError unless an array of the kind can hold the tokens of this clip; time first."""
        if dtype not in KINDS[kind] or (kind == "indices") != (self.codebook_size is not None):
            raise ValueError(f"{kind} of type {dtype} do not go with {self.codebook_size} codes")
        if len(shape) != (4 if kind == "latent" else 3) or min(shape) < 1 or math.prod(shape[1:]) > _MAX_ROW:
            raise ValueError(f"{kind} of shape {list(shape)}")
        # Frames may be padded to squares, of which latents are squares, too.
        height, width = (max(self.height, self.width),) * 2 if shape[-2] == shape[-1] else (self.height, self.width)
        if shape[-2] > height or shape[-1] > width:
            raise ValueError(f"more latents than pixels: {list(shape)} for {self.height}x{self.width}")
        frames = self.skip + self.num_frames
        needed = self.timing.latents(frames)
        if not needed <= shape[0] <= max(needed, self.timing.latents_to_decode(frames)):
            raise ValueError(f"it promises {frames} frames, which need {needed} latents, not {shape[0]}")

    def part(self, start: int, end: int | None, latents: int) -> tuple[TokenInfo, slice]:
        """Of `latents` those that frames `start..end` need, and what describes them; raises InputError."""
        end = self.num_frames if end is None else end
        if not (isinstance(start, Integral) and isinstance(end, Integral)) or not 0 <= start < end <= self.num_frames:
            raise InputError(f"frames {start}..{end} are not a part of 0..{self.num_frames}")
        if not self._can_end(end, latents):
            sooner = next((n for n in range(end - 1, start, -1) if self._can_end(n, latents)), None)
            later = self.end_from(end, latents)
            raise InputError(
                f"frames {start}..{end} cannot be cut out of these tokens: the last of them would decode otherwise "
                "without those that follow; the nearest "
                + (f"ends that work are {sooner}f and {later}f" if sooner else f"end that works is {later}f")
            )
        first, before = self.timing.group_before(self.skip + start)
        stop = min(latents, self.timing.latents_to_decode(self.skip + end))
        lasts = self.last_duration if end == self.num_frames else None
        part = replace(self, num_frames=end - start, skip=self.skip + start - before, last_duration=lasts)
        return part, slice(first, stop)

    def end_from(self, end: int, latents: int) -> int:
        """The first frame from `end` on before which a part can end, of so many latents."""
        return next(n for n in range(end, self.num_frames + 1) if self._can_end(n, latents))

    def _can_end(self, end: int, latents: int) -> bool:
        return self.timing.can_end(self.skip + end, self.skip + self.num_frames, latents)


def storage_dtype(codebook_size: int | None, half: bool) -> str:
    """Type in the file: F16/F32 latents, U16 indices up to 65,536 codes, else I32."""
    if codebook_size is None:
        return "F16" if half else "F32"
    return "U16" if codebook_size <= 65536 else "I32"


def _integer(values: Fields, name: str, low: int = 0) -> int:
    return _in_range(name, values.text(name), low, _MAX.get(name, 2**31))


def _in_range(name: str, text: str, low: int, high: int) -> int:
    if not re.fullmatch(_NUMBER, text) or not low <= int(text) <= high:
        raise ValueError(f"{name} is {text!r}")
    return int(text)


def _text(value: object) -> str:
    if isinstance(value, Length | Groups):
        words = {
            name: number for name, number in vars(value).items() if isinstance(value, Length) or name != "multiple"
        }
        return " ".join(f"{name}={int(number)}" for name, number in words.items())
    return str(int(value) if isinstance(value, bool) else value)


def _length(values: Fields, name: str) -> Length:
    match = _LENGTH.fullmatch(values.text(name))
    if match is None:
        raise ValueError(f"{name} is {values.text(name)!r}")
    return Length(_in_range("first", match[1], 0, MAX_LENGTH), _in_range("multiple", match[2], 1, MAX_LENGTH))


def _groups(values: Fields) -> Groups | None:
    if "groups" not in values.names():
        return None
    match = _GROUPS.fullmatch(values.text("groups"))
    if match is None:
        raise ValueError(f"groups are {values.text('groups')!r}")
    return Groups(
        frames=_in_range("frames", match[1], 1, MAX_LENGTH),
        latents=_in_range("latents", match[2], 1, MAX_LENGTH),
        shared_frames=_in_range("shared_frames", match[3], 0, MAX_LENGTH - 1),
        shared_latents=_in_range("shared_latents", match[4], 0, MAX_LENGTH - 1),
        whole=match[5] == "1",
    )


def _old_groups(values: Fields, time_factor: int, front_frames: int) -> Groups | None:
    """As files of version 2 say it: `window`, in frames, or `gop`, in latents."""
    has = values.names()
    if "window" in has:
        window = _integer(values, "window", 1)
        if "gop" in has or window % time_factor:
            raise ValueError("a window that is no multiple of the frames a latent, or one with a gop")
        return Groups(window, window // time_factor)
    if "gop" in has:
        gop = _integer(values, "gop", 1)
        return Groups(gop * time_factor - front_frames, gop, whole=False)
    return None


def _fraction(values: Fields, name: str) -> Fraction:
    text = values.text(name)
    match = re.fullmatch("([0-9]{1,10})(?:/([0-9]{1,10}))?", text)
    # What video libraries can hold: a quotient of positive 32-bit numbers.
    if not match or not all(1 <= int(n or 1) < 2**31 for n in match.groups()):
        raise ValueError(f"{name} is {text!r}")
    return Fraction(text)
