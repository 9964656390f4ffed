"""The public entry: a bundle on a provider."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.arguments import as_array, frame_rate, whole
from vidtok_runtime.bundle.graph_entry import GraphEntry
from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.load import load_graph
from vidtok_runtime.engines.provider_options import engine_options
from vidtok_runtime.engines.registry import choose_provider
from vidtok_runtime.engines.stateful import StatefulGraph
from vidtok_runtime.errors import InputError, MismatchError
from vidtok_runtime.memory.planner import CallPlan, Planner
from vidtok_runtime.memory.predict import COMMAND, affordable, parse_memory
from vidtok_runtime.streaming.geometry import RangeNote
from vidtok_runtime.streaming.gop import DecoderGroups, EncoderGroups
from vidtok_runtime.streaming.graph_calls import Calls
from vidtok_runtime.streaming.stream import DecoderStream, EncoderStream, Start
from vidtok_runtime.streaming.tiles import TiledCalls, Tiling, make_calls
from vidtok_runtime.streaming.timing import Timing
from vidtok_runtime.tokens.tokens import TokenInfo, Tokens

# Of the process, since a lock of its own would keep a Tokenizer from being pickled.
_TURN = threading.RLock()  # a limit speaks of the process: what stays below one does so one after the other
_BOOKS = threading.RLock()  # over what is loaded and planned
_log = logging.getLogger(__name__)


class Tokenizer:
    """Encode video to tokens and back.

    bundle: folder, shipped name, `Manifest`, or None for the default. provider: auto, cpu, cuda, openvino.
    threads: CPU threads, None for one on each core that this process may use. precision: as listed in the manifest,
    None for its first. window: frames a window of a non-causal variant, a multiple of the manifest's (default: 16, as
    published). Its windows are independent, so a slight jump may show at a seam; tokens decode in the windows that they
    were made in. max_memory: bytes or text such as `4GB` that the process may take, as far as a prediction can tell:
    calls become shorter, which changes no result, and if need be frames are cut into tiles, which changes it a little;
    threads that encode and decode take turns. None: calls become shorter, no more, where free memory would not do.
    provider_options: the engine's own settings by name (see `session.Options`), as text, numbers or booleans; token
    files name them beside the provider. A tokenizer can be copied and pickled, at any time: the copy loads the graphs
    anew; its streams cannot. Raises BundleError, ProviderError, InputError.
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
        self._asked_window = None if window is None else self._checked_window(window)
        self.max_memory = None if max_memory is None else parse_memory(max_memory)
        self.available: int | None = None  # bytes without a limit; None: what is free at the first call
        self.options = Options(threads, device_id)
        self.provider = choose_provider(provider)
        self.options = replace(self.options, provider_options=engine_options(self.provider, provider_options))
        self.precision = self.manifest.graph("encoder", self.provider, precision).precision
        self._said = {self.precision}  # precisions of tokens that need no (further) word
        self._loaded: dict[str, StatefulGraph] = {}
        self._plans: dict[object, CallPlan] = {}
        self._told = False
        self._note = RangeNote()

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

    def encode(self, video: Any, fps: Fraction | float | str | None = None, gop: int | None = None) -> Tokens:
        """Tokenize a clip `[T, H, W, 3]`, uint8 or float32 in -1..1, of any length and size; raises InputError.

        video: an array, a sequence of frames `[H, W, 3]`, or a tensor that NumPy can read.
        gop: start the state anew every so many latents, so that `Tokens.slice` gives parts that decode on their own;
        each such group is encoded as a clip of `gop * f - (f - 1)` frames.
        """
        video = as_array(video, "frames")
        if len(video) == 0:
            raise InputError("the clip has no frames")
        rate = frame_rate(fps)
        with self._alone("encoder"):
            stream = self.encoder(gop)
            data = np.concatenate([stream.push(video), stream.finish()])
        info = self.describe(len(video), video.shape[1], video.shape[2], rate, gop=gop)
        return Tokens(data, info, np.arange(len(video)))

    def decode(self, tokens: Tokens, dtype: str = "uint8") -> NDArray[Any]:
        """The clip back as `[N, H, W, 3]` uint8, or float32 in -1..1; raises MismatchError, InputError."""
        if not isinstance(tokens, Tokens):
            raise InputError(f"decode takes Tokens, got {type(tokens).__name__}; for arrays there is decoder()")
        with self._alone("decoder"):
            stream = self.decoder_of(tokens.info, dtype)
            return np.concatenate([stream.push(tokens.data), stream.finish()])

    def encoder(self, gop: int | None = None) -> EncoderStream | EncoderGroups:
        """A new stream of frames to tokens; with `gop` its state starts anew every so many latents."""

        def start() -> EncoderStream:
            graph = self._graph("encoder")
            return EncoderStream(self.manifest, graph, self._start(graph, self.window), self._note)

        return start() if gop is None else EncoderGroups(start, self._timing(gop))

    def decoder(
        self,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        dtype: str = "uint8",
        gop: int | None = None,
    ) -> DecoderStream | DecoderGroups:
        """A new stream of tokens to frames; None keeps the tail and the edge padding. `gop`: as they were encoded."""

        def start(count: int | None) -> DecoderStream:
            graph = self._graph("decoder")
            return DecoderStream(self.manifest, graph, self._start(graph, self.window), count, height, width, dtype)

        return start(num_frames) if gop is None else DecoderGroups(start, self._timing(gop), num_frames)

    def decoder_of(self, info: TokenInfo, dtype: str = "uint8") -> DecoderStream | DecoderGroups:
        """A new stream of the tokens that `info` describes to their frames; raises MismatchError."""
        info.check_bundle(self.manifest)
        self._say_precision(info.precision)
        if self._asked_window not in (None, info.window):
            raise MismatchError(
                f"these tokens were made in windows of {info.window} frames, windows of {self._asked_window} were "
                "asked for; leave the window out"
            )

        def start(count: int | None) -> DecoderStream:
            graph = self._graph("decoder")
            calls = self._start(graph, info.window)
            return DecoderStream(self.manifest, graph, calls, count, info.height, info.width, dtype)

        if info.gop is None and not info.skip:
            return start(info.num_frames)
        # Windows follow each other in one stream, which needs no cutting.
        timing = info.timing if info.window is None else replace(info.timing, group=None)
        return DecoderGroups(start, timing, info.num_frames, info.skip)

    def plan(self, role: str, height: int, width: int, window: int | None = None) -> CallPlan:
        """How a stream of frames of a size in pixels is cut; raises InputError when `max_memory` is too little.

        The streams of all graphs loaded so far are taken to run at the same time. Without `max_memory`, calls are as
        long as the manifest says, or shorter so as to fit into the memory that is free; frames are never cut.
        """
        manifest = self.manifest
        size = (-(-height // manifest.spatial_multiple), -(-width // manifest.spatial_multiple))
        window = window or self.window
        longest = manifest.encoder_chunk // manifest.time_factor if role == "encoder" else manifest.decoder_chunk
        longest = window // manifest.time_factor if window else longest
        chunks = range(longest if window else 1, longest + 1)  # windows cannot be cut
        with _BOOKS:
            roles = tuple(dict.fromkeys([*self._loaded, role]))
            key = (size, chunks, roles)
            if key not in self._plans:
                graphs = tuple(manifest.graph(r, self.provider, self.precision) for r in roles)
                self._plans[key] = self._choose(graphs, chunks, *size)
            return self._plans[key]

    def _choose(self, graphs: tuple[GraphEntry, ...], chunks: range, height: int, width: int) -> CallPlan:
        """The plan for frames of a size in latents, and a line about it."""
        if self.max_memory is not None:
            plan = Planner(self.manifest, graphs, self.provider, self.max_memory, chunks).choose(height, width)
            print(f"vidtok: {plan.text(self.manifest)}", file=sys.stderr)
            return plan
        if self.available is None:
            self.available = affordable(self.provider)
        if self.available is None or self.provider not in COMMAND:
            return CallPlan(chunks[-1], {graph.role: Tiling.of(height, width) for graph in graphs})
        planner = Planner(self.manifest, graphs, self.provider, self.available, chunks)
        plan = planner.shorten(height, width)
        if plan.chunk < chunks[-1] and not self._told:
            print(f"vidtok: {planner.why(plan)}", file=sys.stderr)
            self._told = True
        return plan

    def describe(
        self,
        num_frames: int,
        height: int,
        width: int,
        fps: Fraction | float | str | None = None,
        time_base: Fraction | None = None,
        gop: int | None = None,
    ) -> TokenInfo:
        """What a token file made by this tokenizer says about itself."""
        return TokenInfo(
            variant=self.manifest.variant,
            weights_sha256=self.manifest.weights_sha256,
            num_frames=num_frames,
            height=height,
            width=width,
            time_factor=self.manifest.time_factor,
            front_frames=self.manifest.front_frames,
            look_ahead=self.manifest.look_ahead,
            codebook_size=self.manifest.codebook_size,
            fps=frame_rate(fps),
            time_base=time_base,
            precision=self.precision,
            provider=self.engine,
            window=self.window,
            gop=gop,
        )

    @property
    def engine(self) -> str:
        """The provider and the settings of its own that were asked for, as token files name them."""
        return " ".join([self.provider, *map("=".join, self.options.provider_options)])

    @property
    def window(self) -> int | None:
        """Frames a window; None for a causal variant."""
        return self._asked_window or self.manifest.window

    def _timing(self, gop: int) -> Timing:
        m = self.manifest
        if m.window is not None:
            raise InputError(f"{m.variant} encodes windows that stand on their own already; leave gop out")
        return Timing(m.time_factor, m.front_frames, m.look_ahead, whole("gop", gop, 1), False)

    def _checked_window(self, window: int) -> int:
        f = self.manifest.time_factor
        if self.manifest.window is None:
            raise InputError(f"{self.manifest.variant} is causal and has no windows; leave window out")
        window = whole("window", window, -(2**31))
        if window < f or window % f:
            raise InputError(f"a window of {self.manifest.variant} is a multiple of {f} frames, got {window}")
        return window

    def _say_precision(self, made_in: str) -> None:
        """Warn, once for each precision, that tokens are decoded in another one than they were made in."""
        if made_in not in self._said:
            self._said.add(made_in)
            _log.warning(
                f"tokens made in {made_in} are decoded in {self.precision}, which gives slightly other frames; "
                f"--precision {made_in} gives its own"
            )

    def _start(self, graph: StatefulGraph, window: int | None) -> Start:
        """What begins the graph calls of a stream as soon as the size of its frames is known."""

        def start(height: int, width: int) -> Calls | TiledCalls:
            role = graph.entry.role
            plan = self.plan(role, height, width, window)
            unit = self.manifest.time_factor if role == "encoder" else 1
            rule = replace(self.manifest.rule(role, window), most=plan.chunk * unit)
            return make_calls(graph, rule, plan.tiles[role], self.manifest.spatial_multiple)

        return start

    @contextlib.contextmanager
    def _alone(self, role: str) -> Iterator[None]:
        """Under a limit, one clip and one direction at a time: the other's graph is dropped, unless it has streams."""
        if self.max_memory is None:
            yield
            return
        with _TURN:
            with _BOOKS:
                for other in [r for r, graph in self._loaded.items() if r != role and not graph.in_use]:
                    del self._loaded[other]
            yield

    def _graph(self, role: str) -> StatefulGraph:
        with _BOOKS:
            if role in self._loaded:
                return self._loaded[role].fresh()
        graph = load_graph(self.manifest, role, self.provider, self.precision, self.options)
        with _BOOKS:
            return self._loaded.setdefault(role, graph).fresh()
