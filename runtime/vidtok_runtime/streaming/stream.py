"""Encoding and decoding as streams: any number of frames or latents a push, constant memory."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.arguments import as_array, whole
from vidtok_runtime.bundle.stream_spec import SURPLUS, StreamSpec
from vidtok_runtime.errors import InputError
from vidtok_runtime.streaming.geometry import FrameNotes, check_frames, from_network, padded_size, to_network
from vidtok_runtime.streaming.graph_calls import Calls
from vidtok_runtime.streaming.posterior import scale_of

Array = NDArray[Any]
# The graph calls of a stream of frames of a height and width, in so many clips, which only the first push tells.
Start = Callable[[int, int, int], Calls]
# The same for the latents of a stream that holds so many frames; 0 where that changes nothing.
DecoderStart = Callable[[int, int, int, int], Calls]


def clips_axis(clips: int | None) -> tuple[int, ...]:
    """The shape of the axis of clips, none where there is one clip without such an axis; raises InputError."""
    return () if clips is None else (whole("clips", clips, 1),)


class Stream:
    """What streams have in common: one that is finished or has failed takes nothing more."""

    def __init__(self) -> None:
        self._finished = False
        self._failed = False

    def _check_open(self) -> None:
        if self._finished:
            raise InputError("this stream is finished; ask the tokenizer for a new one")

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """Around all that changes the stream: if it fails, how much of it has happened is not known."""
        if self._failed:
            raise InputError("an earlier call of this stream failed; ask the tokenizer for a new one")
        self._failed = True
        yield
        self._failed = False


class EncoderStream(Stream):
    """Frames `[T, H, W, 3]` in, latents `[t, C, h, w]` float32 or indices `[t, h, w]` int32 out.

    The first frame is repeated in front and, by `finish`, the last one behind, as the manifest says. `both`: log
    variances come behind the channels of the latents. clips: so many side by side, as frames `[T, N, H, W, 3]`, which
    come out as `[t, N, ...]`.
    """

    def __init__(
        self,
        stream: StreamSpec,
        start: Start,
        notes: FrameNotes | None = None,
        *,
        both: bool = False,
        clips: int | None = None,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._channels = stream.latent_channels * (2 if both else 1)
        self._start = start
        self._notes = notes or FrameNotes()
        self._calls: Calls | None = None
        self._last: NDArray[np.float32] | None = None
        self._clips = clips_axis(clips)
        self._shape: tuple[int, ...] | None = None
        self._dtype: np.dtype[Any] | None = None
        self.num_frames = 0

    def push(self, frames: Any) -> Array:
        """Take any number of frames (an array, a sequence of frames, a tensor); returns every latent that is complete.

        Raises InputError.
        """
        self._check_open()
        frames = as_array(frames, "frames")
        self.check(frames)
        return self.take(frames)

    def check(self, frames: Array) -> None:
        """Refuse what is no frames of this stream, which stays as it is; raises InputError."""
        pictures = frames
        if self._clips:
            if frames.ndim != 5 or frames.shape[1:2] != self._clips:
                raise InputError(f"video must be [T, {self._clips[0]}, H, W, 3], got {list(frames.shape)}")
            pictures = frames.reshape(-1, *frames.shape[2:])
        check_frames(pictures)
        if self._shape is None:
            self._notes.look(pictures, self._stream)
        elif frames.shape[1:] != self._shape:
            raise InputError(f"frames of one stream are all {list(self._shape)}, got {list(frames.shape[1:])}")
        elif frames.dtype != self._dtype:  # groups join what they have in common with what comes
            raise InputError(f"frames of one stream are all {self._dtype}, got {frames.dtype}")

    def take(self, frames: Array) -> Array:
        """As `push`, of frames that were checked."""
        self._shape, self._dtype = frames.shape[1:], frames.dtype
        height, width = frames.shape[-3:-1]
        calls = self._calls = self._calls or self._start(height, width, math.prod(self._clips))
        stream, out = self._stream, []
        with self._working():
            # Piece by piece, so that a long push costs no more float memory than a short one.
            for start in range(0, len(frames), calls.longest):
                piece = self._laid_out(frames[start : start + calls.longest])
                if self.num_frames == 0 and stream.front_frames:
                    out += calls.push(piece[:, :, :1].repeat(stream.front_frames, axis=2))
                self.num_frames += piece.shape[2]
                self._last = piece[:, :, -1:].copy()
                out += calls.push(piece)
        return self._join(out)

    def finish(self) -> Array:
        """Repeat the last frame up to a whole latent; returns what is left, the second time nothing."""
        if self._finished:
            return self._nothing()
        with self._working():
            self._finished = True
            if self._calls is None or self._last is None:
                return self._nothing()
            length = self._stream.front_frames + self.num_frames
            missing, out = self._stream.length.padded(length) - length, []
            for start in range(0, missing, self._calls.longest):
                out += self._calls.push(self._last.repeat(min(missing - start, self._calls.longest), axis=2))
            return self._join(out + self._calls.finish())

    def _laid_out(self, frames: Array) -> NDArray[np.float32]:
        """As the graphs take them, `N 3 T H W`."""
        stream = self._stream
        clips = np.moveaxis(frames, 1, 0) if self._clips else frames[None]
        options: dict[str, Any] = {"square": stream.square, "pixel_range": stream.pixel_range}
        videos = [to_network(clip, stream.side_multiple, **options) for clip in clips]
        return videos[0] if len(videos) == 1 else np.concatenate(videos)  # one is not copied

    def _join(self, results: list[Array]) -> Array:
        in_time = (np.moveaxis(result, -3, 0) for result in results)
        return np.concatenate([self._nothing(), *(r if self._clips else r[:, 0] for r in in_time)])

    def _nothing(self) -> Array:
        multiple = self._stream.spatial_multiple
        height, width = self._shape[-3:-1] if self._shape else (0, 0)
        height, width = padded_size(height, width, self._stream.side_multiple, square=self._stream.square)
        size = (height // multiple, width // multiple)
        if self._stream.codebook_size is not None:
            return np.zeros((0, *self._clips, *size), np.int32)
        return np.zeros((0, *self._clips, self._channels, *size), np.float32)


class DecoderStream(Stream):
    """Latents or indices in, frames `[T, H, W, 3]` out.

    The frames of the front padding never come out; with `num_frames`, `height` and `width` the tail and the
    edge padding are cut off, too. Where the manifest names a look-ahead, as many frames wait for the next latent
    or for `finish`; where a surplus is dropped, all wait, since only the end tells how much that is. normalized: the
    latents are, with the release's mean and scale. clips: so many side by side, as latents `[t, N, C, h, w]` or indices
    `[t, N, h, w]`, which come out as `[T, N, H, W, 3]`.
    """

    def __init__(
        self,
        stream: StreamSpec,
        start: DecoderStart,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        dtype: str = "uint8",
        *,
        normalized: bool = False,
        clips: int | None = None,
    ) -> None:
        super().__init__()
        if dtype not in ("uint8", "float32"):
            raise InputError(f"frames are uint8 or float32, got {dtype!r:.60}")
        self._left = None if num_frames is None else whole("num_frames", num_frames, 0)
        self._height, self._width = (n if n is None else whole("height and width", n, 1) for n in (height, width))
        self._dtype = dtype
        self._stream = stream
        self._scale = scale_of(stream) if normalized else None
        self._start = start
        self._calls: Calls | None = None
        self._size: tuple[int, ...] | None = None
        self._clips = clips_axis(clips)
        self._waiting: list[Array] | None = [] if stream.decoder.drop == SURPLUS else None

    def push(self, data: Any) -> Array:
        """Take any number of latents (an array, a sequence, a tensor); returns every frame they complete.

        Raises InputError.
        """
        self._check_open()
        data = as_array(data, "latents")
        self.check(data)
        return self.take(data)

    def take(self, data: Array) -> Array:
        """As `push`, of latents that were checked."""
        if len(data) == 0:
            return self._nothing()
        self._size = data.shape[-2:]
        out = [self._nothing()]
        if self._waiting is not None:
            self._waiting.append(data.copy())  # the caller may fill its array anew
        else:
            out += self._run(data, 0)
        return np.concatenate(out)

    def finish(self, num_frames: int | None = None) -> Array:
        """End the stream and return what waited; raises InputError when fewer frames came out than were promised.

        num_frames: of a stream whose length was not known before.
        """
        out = [self._nothing()]
        if self._left != 0 and not self._finished:
            if self._waiting:
                data = np.concatenate(self._waiting)
                out += self._run(data, self._frames_of(len(data), self._left if num_frames is None else num_frames))
            if self._calls is not None:
                with self._working():
                    out += map(self._deliver, self._calls.finish())
        self._finished = True
        if self._left:
            raise InputError(f"the tokens end {self._left} frames too early; the stream is incomplete")
        return np.concatenate(out)

    def _run(self, data: Array, frames: int) -> list[Array]:
        """What latents of a stream of so many frames complete."""
        height, width = (n * self._stream.spatial_multiple for n in data.shape[-2:])
        calls = self._calls = self._calls or self._start(height, width, math.prod(self._clips), frames)
        out: list[Array] = []
        with self._working():
            for start in range(0, len(data), calls.longest):
                out += map(self._deliver, calls.push(self._taken(data[start : start + calls.longest])))
        return out

    def _frames_of(self, latents: int, told: int | None) -> int:
        """Frames that a stream of latents holds: those that are told, unless it was cut and they are fewer."""
        if told is not None and self._stream.latents(told) == latents:
            return told
        groups = self._stream.groups
        return min(self._stream.frames(latents), groups.frames if groups else sys.maxsize)

    def _taken(self, data: Array) -> Array:
        """In the layout and type of the graphs: `N t h w`, `N C t h w`."""
        data = data.astype(np.int32 if self._takes_indices else np.float32, copy=False)
        if self._scale is not None:
            mean, scale = self._scale
            data = data * scale + mean
        return np.moveaxis(data if self._clips else data[:, None], 0, -3)

    def _deliver(self, video: Array) -> Array:
        size = self._height, self._width
        clips = [from_network(one[None], *size, self._dtype, self._stream.pixel_range) for one in video]
        frames = clips[0][:, None] if len(clips) == 1 else np.stack(clips, axis=1)  # one is not copied
        if not self._clips:
            frames = frames[:, 0]
        if self._left is not None:
            frames = frames[: self._left]
            self._left -= len(frames)
        return frames

    @property
    def _takes_indices(self) -> bool:
        return self._stream.codebook_size is not None

    def check(self, data: Array) -> None:
        """Refuse what is no latents of this stream, which stays as it is; raises InputError."""
        front = "".join(f" {n}," for n in self._clips)
        inside = data.shape[len(self._clips) + 1 :]
        one = data.shape[1 : len(self._clips) + 1] == self._clips
        if self._takes_indices:
            if not one or len(inside) != 2 or not np.issubdtype(data.dtype, np.integer):
                raise InputError(f"tokens must be integers [t,{front} h, w], got {data.dtype} {list(data.shape)}")
            codes = self._stream.codebook_size
            if data.size and codes and not (data.min() >= 0 and data.max() < codes):
                raise InputError(f"tokens must lie in 0..{codes - 1}, got {data.min()}..{data.max()}")
        else:
            channels = self._stream.latent_channels
            if not one or len(inside) != 3 or inside[0] != channels or not np.issubdtype(data.dtype, np.floating):
                raise InputError(
                    f"latents must be float [t,{front} {channels}, h, w], got {data.dtype} {list(data.shape)}"
                )
            if not np.isfinite(data).all():
                raise InputError("latents hold NaN or infinite values")
        if len(data) == 0:
            return
        size = data.shape[-2:]
        if 0 in size or (self._size is not None and size != self._size):
            raise InputError(f"latents of one stream have one size, got {list(size)} after {list(self._size or ())}")
        multiple, square = self._stream.spatial_multiple, self._stream.square
        if square and size[0] != size[1]:
            raise InputError(f"latents of this model are squares, got {list(size)}")
        # What is not given may be as large as the latents say.
        height, width = (
            cells * multiple if n is None else n for n, cells in zip((self._height, self._width), size, strict=True)
        )
        needed = padded_size(height, width, self._stream.side_multiple, square=square)
        for what, pixels, cells, pad in zip(("height", "width"), (height, width), size, needed, strict=True):
            if cells * multiple != pad:
                raise InputError(f"a {what} of {pixels} pixels needs {pad // multiple} latents, got {cells}")

    def _nothing(self) -> Array:
        full = [n * self._stream.spatial_multiple for n in self._size or (0, 0)]
        height = full[0] if self._height is None else self._height
        width = full[1] if self._width is None else self._width
        return np.zeros((0, *self._clips, height, width, 3), self._dtype)
