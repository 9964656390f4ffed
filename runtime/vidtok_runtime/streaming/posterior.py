"""What leaves the encoder of a KL model: the mean of its posterior or a sample of it, as it is or normalized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.arguments import whole
from vidtok_runtime.bundle.graph_entry import GraphEntry
from vidtok_runtime.bundle.manifest import VARIANCE, Manifest
from vidtok_runtime.bundle.stream_spec import StreamSpec
from vidtok_runtime.errors import InputError

Array = NDArray[Any]
_MAX_SEED = 2**32 - 1
# Beyond these a variance is 0 or infinite for all purposes; models are trained within them.
_LOG_VARIANCES = (-30.0, 20.0)


@dataclass(frozen=True)
class LatentForm:
    """In which form latents are asked for; the default is the mean of the posterior, as the encoder gives it.

    sample: draw them with this seed, 0..2^32 - 1. with_variance: give the log variance, too. normalize: apply the
    release's mean and scale of latents. Raises InputError.
    """

    sample: int | None = None
    with_variance: bool = False
    normalize: bool = False

    def __post_init__(self) -> None:
        if self.sample is not None:
            object.__setattr__(self, "sample", whole("sample", self.sample, 0, _MAX_SEED))

    @property
    def beside(self) -> str | None:
        """Output of the encoder that is needed beside the latents."""
        return VARIANCE if self.with_variance or self.sample is not None else None

    def check(self, manifest: Manifest, encoder: GraphEntry) -> None:
        """Raise InputError where a bundle, whose encoder ends in this graph, has not what this form needs."""
        if self == LatentForm():
            return
        if manifest.stream.codebook_size is not None:
            raise InputError(
                f"{manifest.name} makes tokens of a codebook, which have no posterior and no scale; leave sample, "
                "with-variance and normalize out"
            )
        if self.beside and self.beside not in {port.name for port in encoder.outputs}:
            raise InputError(
                f"the encoder of {manifest.folder} gives no {VARIANCE}; leave sample and with-variance out, or export "
                "the bundle again"
            )
        if self.normalize and manifest.stream.latent_mean is None:
            raise InputError(f"{manifest.folder} has no mean and scale of latents; leave normalize out")

    def parted(self, data: Array) -> tuple[Array, Array | None]:
        """Latents, and log variances if they were asked for, out of what a stream of this form gives."""
        if not self.with_variance:
            return data, None
        latents, variances = np.split(data, 2, axis=-3)
        return latents, variances


class Posterior:
    """Brings the latents of one stream into a form, piece by piece."""

    def __init__(self, stream: StreamSpec, form: LatentForm) -> None:
        self._form = form
        self._channels = stream.latent_channels
        self._scale = scale_of(stream) if form.normalize else None
        self._index = 0

    def shaped(self, data: Array) -> Array:
        """`[t, C, h, w]`, or with log variances behind the channels `[t, 2C, h, w]`, as they follow each other.

        Of several clips `[t, N, C, h, w]`, which get equal noise.
        """
        if self._form == LatentForm():
            return data
        latents, variances = data[..., : self._channels, :, :], data[..., self._channels :, :, :]
        if self._form.sample is not None:
            deviations = np.exp(np.float32(0.5) * np.clip(variances, *_LOG_VARIANCES))
            latents = latents + deviations * self._noise(latents.shape)
        self._index += len(data)
        if self._scale is not None:
            mean, scale = self._scale
            latents = (latents - mean) / scale
            if variances.size:
                variances = variances - 2 * np.log(scale)
        return np.concatenate([latents, variances], axis=-3) if self._form.with_variance else latents

    def _noise(self, shape: tuple[int, ...]) -> Array:
        assert self._form.sample is not None
        drawn = [noise(self._form.sample, self._index + i, shape[-3:]) for i in range(shape[0])]
        return (
            np.stack(drawn).reshape(-1, *(1,) * (len(shape) - 4), *shape[-3:]) if drawn else np.zeros(shape, np.float32)
        )


def noise(seed: int, index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal numbers for the latent of this index in a clip, which depend on nothing but seed and index.

    Philox 4x64-10 with the key (seed, 0) and the counter (1, 0, 0, index) gives pairs of 64-bit numbers a, b for pairs
    of neighbours: with u = ((a >> 11) + 1) / 2^53 and v = (b >> 11) / 2^53 these are sqrt(-2 ln u) cos(2 pi v) and
    sqrt(-2 ln u) sin(2 pi v), in float64 and then rounded.
    """
    count = int(np.prod(shape))
    bits = np.random.Philox(key=[seed, 0], counter=[0, 0, 0, index])  # which counts before it draws
    draws = bits.random_raw(count + count % 2).reshape(-1, 2) >> np.uint64(11)
    radius = np.sqrt(-2 * np.log((draws[:, 0] + np.uint64(1)) * 2.0**-53))
    angle = draws[:, 1] * (2 * np.pi * 2.0**-53)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.ravel()[:count].reshape(shape).astype(np.float32)


def scale_of(stream: StreamSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The release's mean and scale of latents, `[C, 1, 1]` each."""
    assert stream.latent_mean is not None
    assert stream.latent_std is not None
    mean, scale = (np.array(values, np.float32)[:, None, None] for values in (stream.latent_mean, stream.latent_std))
    return mean, scale
