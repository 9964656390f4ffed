"""The public entry: a bundle on a provider."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.arguments import as_array, frame_rate, whole
from vidtok_runtime.bundle.graph_entry import ROLES
from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.bundle.stream_spec import SURPLUS, Groups, StreamSpec
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.engines.provider_options import engine_options
from vidtok_runtime.engines.registry import PROVIDERS, choose_provider
from vidtok_runtime.errors import InputError, MismatchError
from vidtok_runtime.memory.planner import CallPlan
from vidtok_runtime.memory.plans import Plans, shortened
from vidtok_runtime.memory.predict import parse_memory
from vidtok_runtime.streaming.geometry import FrameNotes, check_frames
from vidtok_runtime.streaming.graph_calls import Calls
from vidtok_runtime.streaming.grouping import groups_of, in_windows
from vidtok_runtime.streaming.groups import DecoderGroups, EncoderGroups
from vidtok_runtime.streaming.posterior import LatentForm, Posterior
from vidtok_runtime.streaming.stream import DecoderStream, EncoderStream
from vidtok_runtime.streaming.tiled_graph import sparing
from vidtok_runtime.tokens.tokens import TokenInfo, Tokens

# Of the process, since a lock of its own would keep a Tokenizer from being pickled.
_TURN = threading.RLock()  # a limit speaks of the process: what stays below one does so one after the other
# What clips whose tokens go through one stream have in common.
_OF_A_STREAM = ("num_frames", "skip", "height", "width", "groups", "normalized", "precision")
_BOOKS = threading.RLock()  # over what is loaded and planned
_log = logging.getLogger(__name__)


class Tokenizer:
    """Encode video to tokens and back.

    bundle: folder, shipped name, `Manifest`, or None for the default. provider: auto or one of `registry.PROVIDERS`.
    threads: CPU threads, None for one on each core that this process may use. precision: as listed in the manifest,
    None for its first. window: frames of a group, of a model that cuts clips into groups and lets their length be
    chosen (default: as published). Groups are independent, so a slight jump may show at a seam; tokens decode in the
    groups that they were made in. max_memory: bytes or text such as `4GB` that the process may take, as far as a
    prediction can tell: calls become shorter, and if need be frames are cut into tiles, which changes no result;
    threads that encode and decode take turns. None: the same where free memory would not do, but nobody waits.
    provider_options: the engine's own settings by name (see `engines.base.Options`), as text, numbers or booleans;
    token files name them beside the provider. A tokenizer can be copied and pickled, at any time: the copy loads the
    graphs anew; its streams cannot. Raises BundleError, ProviderError, InputError.
    """

    def __init__(
        self,
        bundle: str | PathLike[str] | Manifest | None = None,
        provider: str = "auto",
        threads: int | None = None,
        precision: str | None = None,
        window: int | None = None,
        device_id: int = 0,
        max_memory: int | str | None = None,
        provider_options: Mapping[str, str | float] | None = None,
    ) -> None:
        self.manifest = bundle if isinstance(bundle, Manifest) else find_bundle(bundle)
        self._asked_window = window
        self._stream = in_windows(self.manifest.stream, window, self.manifest.name)
        self.max_memory = None if max_memory is None else parse_memory(max_memory)
        self.options = Options(threads, device_id)
        self.provider = choose_provider(provider)
        self.options = replace(self.options, provider_options=engine_options(self.provider, provider_options))
        graphs = PROVIDERS[self.provider].listed_as
        self.precision = self.manifest.chain("encoder", graphs, precision)[0].precision
        self._entries = partial(self.manifest.chain, provider=graphs, precision=self.precision)
        self._said = {self.precision}  # precisions of tokens that need no (further) word
        self._loaded: dict[str, GraphChain] = {}
        self.plans = Plans(self.manifest, self.provider, self.max_memory, self._entries)
        self._notes = FrameNotes()

    def __reduce__(self) -> tuple[Any, ...]:
        """What makes the same one again; engines and their graphs stay with the process."""
        settings: dict[str, Any] = {
            "provider": self.provider,
            "threads": self.options.threads,
            "precision": self.precision,
            "window": self._asked_window,
            "device_id": self.options.device_id,
            "max_memory": self.max_memory,
            "provider_options": dict(self.options.provider_options),
        }
        return partial(type(self), **settings), (self.manifest,)

    def encode(
        self,
        video: Any,
        fps: Fraction | float | str | None = None,
        gop: int | None = None,
        *,
        sample: int | None = None,
        with_variance: bool = False,
        normalize: bool = False,
    ) -> Tokens:
        """Tokenize a clip `[T, H, W, 3]`, uint8 or float32 in -1..1, of any length and size; raises InputError.

        video: an array, a sequence of frames `[H, W, 3]`, or a tensor that NumPy can read.
        gop: start the state anew every so many latents, so that `Tokens.slice` gives parts that decode on their own;
        each such group is encoded as a clip of the frames that so many latents hold, `gop * f - (f - 1)` mostly.
        Of a model without codebook: sample: draw the latents from the posterior with this seed, 0..2^32 - 1, in place
        of its mean; equal clips get equal noise, in whatever pieces they come. with_variance: `Tokens.log_variance` is
        there, too. normalize: apply the release's mean and scale of latents; `decode` undoes it.
        """
        video = as_array(video, "frames")
        check_frames(video)
        form = LatentForm(sample, with_variance, normalize)
        return self._encode(video[:, None], frame_rate(fps), gop, form)[0]

    def encode_batch(
        self,
        videos: Any,
        fps: Fraction | float | str | None = None,
        gop: int | None = None,
        *,
        sample: int | None = None,
        with_variance: bool = False,
        normalize: bool = False,
    ) -> list[Tokens]:
        """As `encode` for clips of one length and size, `[N, T, H, W, 3]` or a sequence, in calls of all of them.

        Latents are those of single clips within rounding. With several threads small clips gain on a CPU, too.
        Raises InputError.
        """
        videos = as_array(videos, "clips")
        if videos.ndim != 5 or 0 in videos.shape:
            raise InputError(f"clips must be [N, T, H, W, 3] of one length and size, got {list(videos.shape)}")
        form = LatentForm(sample, with_variance, normalize)
        return self._encode(np.moveaxis(videos, 0, 1), frame_rate(fps), gop, form)

    def _encode(self, videos: NDArray[Any], fps: Fraction | None, gop: int | None, form: LatentForm) -> list[Tokens]:
        """Tokens of clips `[T, N, H, W, 3]`."""
        frames, _, height, width = videos.shape[:4]
        if frames == 0:
            raise InputError("the clip has no frames")
        with self._alone("encoder"):
            stream = self._encoder(gop, form, videos.shape[1])
            data = np.concatenate([stream.push(videos), stream.finish()])
        info = self.describe(frames, height, width, fps, gop=gop, form=form)
        clips = (form.parted(np.ascontiguousarray(data[:, i])) for i in range(data.shape[1]))
        return [Tokens(latents, info, np.arange(frames), variances) for latents, variances in clips]

    def decode(self, tokens: Tokens, dtype: str = "uint8") -> NDArray[Any]:
        """The clip back as `[N, H, W, 3]` uint8, or float32 in -1..1; raises MismatchError, InputError."""
        return self.decode_batch([tokens], dtype)[0]

    def decode_batch(self, tokens: Sequence[Tokens], dtype: str = "uint8") -> list[NDArray[Any]]:
        """As `decode` for clips of one length and size, in calls of all of them; raises MismatchError, InputError."""
        if not isinstance(tokens, (list, tuple)):
            raise InputError(f"decode_batch takes a list of Tokens, got {type(tokens).__name__}")
        for one in tokens:
            if not isinstance(one, Tokens):
                raise InputError(f"decode takes Tokens, got {type(one).__name__}; for arrays there is decoder()")
            one.info.check_bundle(self.manifest)
        if not tokens:
            raise InputError("there are no tokens to decode")
        kinds = {(one.data.shape, *map(vars(one.info).get, _OF_A_STREAM)) for one in tokens}
        if len(kinds) > 1:
            raise InputError("clips that are decoded together have one length, one size and one form of latents")
        with self._alone("decoder"):
            stream = self.decoder_of(tokens[0].info, dtype, clips=len(tokens))
            data = np.stack([one.data for one in tokens], axis=1)
            video = np.concatenate([stream.push(data), stream.finish()])
        return [np.ascontiguousarray(video[:, i]) for i in range(len(tokens))]

    def encoder(
        self,
        gop: int | None = None,
        *,
        sample: int | None = None,
        with_variance: bool = False,
        normalize: bool = False,
        clips: int | None = None,
    ) -> EncoderStream | EncoderGroups:
        """A new stream of frames to tokens; the options are those of `encode`.

        with_variance: log variances come behind the channels of the latents, `[t, 2C, h, w]`. clips: so many side by
        side, as frames `[T, N, H, W, 3]`, whose latents are `[t, N, ...]`.
        """
        return self._encoder(gop, LatentForm(sample, with_variance, normalize), clips)

    def _encoder(self, gop: int | None, form: LatentForm, clips: int | None) -> EncoderStream | EncoderGroups:
        stream = self._in_groups(gop)
        form.check(self.manifest, self._entries("encoder")[-1])

        def start() -> EncoderStream:
            chain = self._chain("encoder")

            def calls(height: int, width: int, together: int) -> Calls:
                return self._calls(chain, stream, height, width, together, beside=form.beside)

            return EncoderStream(stream, calls, self._notes, both=form.beside is not None, clips=clips)

        if stream.groups is None and form == LatentForm():
            return start()
        return EncoderGroups(start, stream.groups, Posterior(stream, form))

    def decoder(
        self,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        dtype: str = "uint8",
        gop: int | None = None,
        *,
        normalized: bool = False,
        clips: int | None = None,
    ) -> DecoderStream | DecoderGroups:
        """A new stream of tokens to frames; None keeps the tail and the edge padding.

        gop, normalized: as they were encoded. clips: so many side by side, as `encoder` gives them. Raises InputError.
        """
        LatentForm(normalize=normalized).check(self.manifest, self.manifest.graphs[-1])
        stream = self._in_groups(gop)
        return self._decoder(stream, num_frames, 0, height, width, dtype, normalized=normalized, clips=clips)

    def decoder_of(
        self, info: TokenInfo, dtype: str = "uint8", *, clips: int | None = None
    ) -> DecoderStream | DecoderGroups:
        """A new stream of the tokens that `info` describes, of so many clips, to frames; raises MismatchError."""
        info.check_bundle(self.manifest)
        self._say_precision(info.precision)
        own = self._stream.groups
        if self._asked_window is not None and own and info.groups and own.frames != info.groups.frames:
            raise MismatchError(
                f"these tokens were made in windows of {info.groups.frames} frames, windows of {own.frames} were "
                "asked for; leave the window out"
            )
        stream = replace(self.manifest.stream, groups=info.groups)
        size = info.height, info.width
        return self._decoder(stream, info.num_frames, info.skip, *size, dtype, normalized=info.normalized, clips=clips)

    def _decoder(
        self,
        stream: StreamSpec,
        num_frames: int | None,
        skip: int,
        height: int | None,
        width: int | None,
        dtype: str,
        *,
        normalized: bool,
        clips: int | None,
    ) -> DecoderStream | DecoderGroups:
        def start(count: int | None) -> DecoderStream:
            chain = self._chain("decoder")

            def calls(height: int, width: int, together: int, frames: int) -> Calls:
                return self._calls(chain, stream, height, width, together, frames)

            return DecoderStream(stream, calls, count, height, width, dtype, normalized=normalized, clips=clips)

        if stream.groups is None and not skip:
            return start(num_frames)
        if num_frames is not None:
            whole("num_frames", num_frames, 0)
        return DecoderGroups(start, stream.groups, num_frames, skip)

    def plan(self, role: str, height: int, width: int, groups: Groups | None = None, clips: int = 1) -> CallPlan:
        """How a stream of frames of a size in pixels is cut; raises InputError when the memory is too little.

        The streams of all graphs loaded so far are taken to run at the same time. Without `max_memory`, the memory is
        what is free; where that is not known, calls are as long as the manifest says, of whole frames.
        groups: those of the stream; None: the tokenizer's own. clips: side by side in it.
        """
        stream = self._stream if groups is None else replace(self._stream, groups=groups)
        with _BOOKS:
            try:
                roles = tuple(dict.fromkeys([*self._loaded, role]))
                return self.plans.plan(roles, role, stream, height, width, clips)
            except InputError:
                if not self._drop_others(role):
                    raise
                return self.plan(role, height, width, groups, clips)

    def fits_both(self, height: int, width: int) -> bool:
        """Whether frames of a size in pixels can be encoded and decoded at the same time within the memory."""
        try:
            with _BOOKS:
                for role in ROLES:
                    self.plans.plan(ROLES, role, self._stream, height, width)
        except InputError:
            return False
        return True

    def describe(
        self,
        num_frames: int,
        height: int,
        width: int,
        fps: Fraction | float | str | None = None,
        time_base: Fraction | None = None,
        gop: int | None = None,
        form: LatentForm | None = None,
    ) -> TokenInfo:
        """What a token file made by this tokenizer says about itself."""
        stream, form = self._stream, form or LatentForm()
        groups = groups_of(stream, gop, self.manifest.name)
        return TokenInfo(
            family=self.manifest.family,
            name=self.manifest.name,
            weights_sha256=self.manifest.weights_sha256,
            num_frames=num_frames,
            height=height,
            width=width,
            time_factor=stream.time_factor,
            front_frames=stream.front_frames,
            look_ahead=stream.look_ahead,
            length=stream.length,
            codebook_size=stream.codebook_size,
            groups=groups and replace(groups, multiple=None),
            exact=stream.decoder.exact_sizes,
            surplus=stream.decoder.drop == SURPLUS,
            fps=frame_rate(fps),
            time_base=time_base,
            precision=self.precision,
            provider=self.engine,
            sampled=form.sample,
            normalized=form.normalize,
        )

    @property
    def engine(self) -> str:
        """The provider and the settings of its own that were asked for, as token files name them."""
        return " ".join([self.provider, *map("=".join, self.options.provider_options)])

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls: as the manifest says it, in groups of the length that was asked for."""
        return self._stream

    def _in_groups(self, gop: int | None) -> StreamSpec:
        return replace(self._stream, groups=groups_of(self._stream, gop, self.manifest.name))

    def _say_precision(self, made_in: str) -> None:
        """Warn, once for each precision, that tokens are decoded in another one than they were made in."""
        if made_in not in self._said:
            self._said.add(made_in)
            _log.warning(
                f"tokens made in {made_in} are decoded in {self.precision}, which gives slightly other frames; "
                f"--precision {made_in} gives its own"
            )

    def _calls(
        self,
        chain: GraphChain,
        stream: StreamSpec,
        height: int,
        width: int,
        clips: int,
        frames: int = 0,
        beside: str | None = None,
    ) -> Calls:
        """The graph calls of a stream of clips of frames of a size, of which a decoder's holds so many."""
        plan = self.plan(chain.role, height, width, stream.groups, clips)
        calls, group = shortened(stream, chain.role, plan.chunk), stream.group_length(chain.role)
        if chain.role == "decoder":
            calls = replace(calls, drop=stream.dropped(frames))
        if plan.sparing:
            chain = sparing(chain, plan.tiles[chain.role], stream.spatial_multiple)
        return Calls(chain, calls, group, beside)

    @contextlib.contextmanager
    def _alone(self, role: str) -> Iterator[None]:
        """Under a limit, one clip and one direction at a time: the other's graph is dropped, unless it has streams."""
        if self.max_memory is None:
            yield
            return
        with _TURN:
            self._drop_others(role)
            yield

    def unload(self) -> None:
        """Drop the graphs that no stream uses; the next clip loads them again."""
        self._drop_others(None)

    def _drop_others(self, role: str | None) -> bool:
        """Drop the graphs of other roles that no stream uses; whether there were some."""
        with _BOOKS:
            others = [r for r, chain in self._loaded.items() if r != role and not chain.in_use]
            for other in others:
                del self._loaded[other]
            return bool(others)

    def _chain(self, role: str) -> GraphChain:
        with _BOOKS:
            if role in self._loaded:
                return self._loaded[role].fresh()
        chain = load_chain(self.manifest, role, self.provider, self.precision, self.options)
        with _BOOKS:
            return self._loaded.setdefault(role, chain).fresh()
