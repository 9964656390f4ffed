"""A baseline: the best linear transform of f x s x s blocks, with as many numbers a block as a model has channels."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.errors import InputError, VideoError
from vidtok_runtime.evaluation.protocol import Excerpt, Protocol
from vidtok_runtime.files import PartFile, is_file
from vidtok_runtime.streaming.geometry import from_network, to_network
from vidtok_runtime.video.source import Frame

Array = NDArray[np.float32]
_MAX_KEPT = 64  # components in a file, more than any variant has channels


@dataclass(frozen=True)
class Grid:
    """How a clip is cut into blocks: `frames` x `side` x `side` pixels, `front` copies of the first frame in front.

    As text `4x8x8+3`.
    """

    frames: int
    side: int
    front: int

    @classmethod
    def of(cls, manifest: Manifest) -> Grid:
        """The blocks that one latent of a bundle stands for."""
        return cls(manifest.stream.time_factor, manifest.stream.spatial_multiple, manifest.stream.front_frames)

    def __str__(self) -> str:
        return f"{self.frames}x{self.side}x{self.side}" + (f"+{self.front}" if self.front else "")

    def cut(self, frames: Iterable[Frame]) -> Iterator[tuple[list[Frame], int, Array]]:
        """Frames, where in their blocks the first of them is, and the blocks `n (3 f s s)` in -1..1.

        The padding is the model's: the first frame in front, the last one behind, edges on the right and below.
        """
        group: list[Frame] = []
        padding = self.front
        for frame in frames:
            group.append(frame)
            if padding + len(group) == self.frames:
                yield group, padding, self._blocks([group[0]] * padding + group)
                group, padding = [], 0
        if group:
            whole = [group[0]] * padding + group
            yield group, padding, self._blocks(whole + [group[-1]] * (self.frames - len(whole)))

    def _blocks(self, group: list[Frame]) -> Array:
        video = to_network(np.stack([frame.pixels for frame in group]), self.side)[0]
        c, f, height, width = video.shape
        s = self.side
        cells = video.reshape(c, f, height // s, s, width // s, s).transpose(2, 4, 0, 1, 3, 5)
        return np.ascontiguousarray(cells).reshape(-1, c * f * s * s)

    def join(self, blocks: Array, height: int, width: int) -> NDArray[np.uint8]:
        """Blocks `n (3 f s s)` of frames to uint8 `f H W 3`."""
        s = self.side
        rows, columns = -(-height // s), -(-width // s)
        cells = blocks.reshape(rows, columns, 3, self.frames, s, s).transpose(2, 3, 0, 4, 1, 5)
        return from_network(cells.reshape(1, 3, self.frames, rows * s, columns * s), height, width, "uint8")


@dataclass(frozen=True)
class BlockTransform:
    """Principal components of blocks, `components` the strongest first (`k (3 f s s)`), and where they come from."""

    grid: Grid
    mean: Array
    components: Array
    source: str

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write an .npz file; raises OutputError."""

        def fill(file: BinaryIO) -> None:
            np.savez(
                file,
                grid=np.array([self.grid.frames, self.grid.side, self.grid.front]),
                mean=self.mean,
                components=self.components,
                source=np.array(self.source),
            )

        PartFile(path, force=force).write_through(fill)

    @classmethod
    def load(cls, path: Path) -> BlockTransform:
        """Read what `save` wrote; raises InputError."""
        if not is_file(path):
            raise InputError(f"{path} is no file; make one with --pca-clips")
        try:
            with np.load(path, allow_pickle=False) as file:
                grid = Grid(*(int(n) for n in file["grid"]))
                transform = cls(grid, file["mean"], file["components"], str(file["source"]))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} holds no block transform ({error}); make one with --pca-clips") from error
        size = 3 * grid.frames * grid.side**2
        if transform.mean.shape != (size,) or transform.components.shape[1:] != (size,):
            raise InputError(f"{path} is damaged: its arrays are not those of blocks {grid}; make it again")
        return transform

    def check(self, count: int) -> None:
        """Raise InputError when there are fewer than `count` components."""
        if count > len(self.components):
            raise InputError(f"a block transform has {len(self.components)} components, {count} were asked for")

    def apply(self, blocks: Array, count: int) -> Array:
        """What `count` coefficients a block bring back."""
        used = self.components[:count]
        return np.asarray((blocks - self.mean) @ used.T @ used + self.mean, np.float32)


def fit_blocks(clips: Iterable[Path], grid: Grid, protocol: Protocol) -> BlockTransform:
    """Principal components of all blocks of the clips; raises InputError when no clip can be read."""
    size = 3 * grid.frames * grid.side**2
    total, products = np.zeros(size), np.zeros((size, size))
    count = used = 0
    for path in clips:
        try:
            for _, _, blocks in grid.cut(Excerpt(path, protocol)):
                x = blocks.astype(np.float64)
                total += x.sum(0)
                products += x.T @ x
                count += len(x)
        except VideoError:
            continue  # no video, or too short
        used += 1
    if not used:
        raise InputError(f"no clip to fit the block transform on ({protocol}); name a folder of training clips")
    mean = total / count
    _, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    components = np.ascontiguousarray(vectors[:, ::-1].T[:_MAX_KEPT])
    return BlockTransform(
        grid, mean.astype(np.float32), components.astype(np.float32), f"fitted on {used} clips, {protocol}"
    )
