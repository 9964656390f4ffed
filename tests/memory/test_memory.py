"""A limit on memory: what it means, what is predicted, and what is chosen."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.graph_entry import Stage, shape_of
from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.bundle.manifest import Manifest, read_manifest
from vidtok_runtime.cli import main
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.engines.stateful import StatefulGraph
from vidtok_runtime.errors import BundleError, InputError
from vidtok_runtime.memory.planner import Planner
from vidtok_runtime.memory.plans import Plans
from vidtok_runtime.memory.predict import COSTS, DOUBLING, CallBytes, Counts, format_memory, parse_memory
from vidtok_runtime.pipeline.files import reconstruct_file
from vidtok_runtime.streaming.tiled_graph import margin_of
from vidtok_runtime.streaming.tiles import ALIGNED, Axis, Tiling, grids
from vidtok_runtime.tools.demo import make_clip, synthetic_frame
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.writer import Output

WAN = Path(__file__).parents[1] / "conformance/kit/wan-causal"
SHIPPED = ("tiny-kl-16chn", "tiny-fsq-32768")
HD = (1080, 1920)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.stack([synthetic_frame(3 * i, 96, 128) for i in range(10)])


def limited(limit: str | int, *roles: str, bundle: str = "tiny-kl-16chn", provider: str = "cpu") -> Tokenizer:
    tok = Tokenizer(bundle, provider, threads=1, max_memory=limit)
    for role in roles:
        getattr(tok, role)()
    return tok


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("1.5 GiB", 3 * 2**29), ("800m", 8 * 10**8), ("2000000", 2000000), (77, 77), ("64KiB", 65536)],
)
def test_amounts(text: str | int, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4 bananas", "0", "1e9", "4GBB"])
def test_no_amounts(text: str) -> None:
    with pytest.raises(InputError, match="such as 4GB"):
        parse_memory(text)


def test_amounts_as_text_are_enough() -> None:
    for size in (1, 999_999, 10**9, 1_234_567_890):
        assert size <= parse_memory(format_memory(size)) <= size + 10**8


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_shorter_calls_come_before_tiles(provider: str, role: str) -> None:
    manifest = find_bundle("tiny-kl-16chn")
    chains = {role: manifest.chain(role, provider, None)}
    limits = [10**8 * n for n in (1000, 90, 60, 45, 25, 21)]
    plans = [Planner(manifest, chains, provider, limit, range(1, 5)).choose(90, 160) for limit in limits]
    assert all(plan.peak <= limit for plan, limit in zip(plans, limits, strict=True))
    chunks = [plan.chunk for plan in plans]
    computed = [sum(tiling.computed for tiling in plan.tiles[role]) for plan in plans]
    assert chunks == sorted(chunks, reverse=True)
    assert chunks[0] == 4
    assert computed == sorted(computed)
    assert computed[0] == len(chains[role]) * 90 * 160 < computed[-1]
    assert all(chunk == 1 or not plan.in_tiles for chunk, plan in zip(chunks, plans, strict=True))
    for plan in plans:  # an arena that grows by doubling is given back as soon as calls cannot be shorter
        assert plan.sparing == (plan.in_tiles or (plan.chunk == 1 and provider == "cpu"))


def test_what_runs_at_the_same_time_is_counted_together() -> None:
    alone = limited("100GB", "encoder").plan("encoder", *HD)
    both = limited("100GB", "encoder", "decoder").plan("encoder", *HD)
    assert both.peak > 1.5 * alone.peak
    assert set(both.tiles) == {"encoder", "decoder"}


def test_too_little_says_what_would_fit(capsys: pytest.CaptureFixture[str]) -> None:
    tok = limited("400MB", "encoder")
    with pytest.raises(
        InputError, match=r"1920x1080 does not fit into 400MB with cpu; it needs \d.*tiles.*side to"
    ) as e:
        tok.plan("encoder", *HD)
    side = int(str(e.value).rsplit(" ", 1)[1])
    assert tok.plan("encoder", side, side * 16 // 9).peak <= 400 * 10**6
    assert "at the peak" in capsys.readouterr().err
    with pytest.raises(InputError, match="too little for any size of this shape"):
        limited("50MB", "encoder").plan("encoder", *HD)


def test_where_nothing_was_measured_the_prediction_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    measured, tok = limited("100GB", "encoder"), limited("100GB", "encoder")
    entries = partial(tok.manifest.chain, provider="cuda", precision=None)
    plan = Plans(tok.manifest, "cuda", tok.max_memory, entries).plan(("encoder",), "encoder", tok.stream, 64, 64)
    assert plan.peak == pytest.approx(1.5 * measured.plan("encoder", 64, 64).peak, abs=1)
    assert "at the peak (unmeasured on cuda): calls of 16 frames" in capsys.readouterr().err


def test_what_cannot_be_cut_says_so() -> None:
    manifest = find_bundle(None)
    one_piece = replace(manifest, graphs=tuple(replace(graph, part="global") for graph in manifest.graphs))
    tok = Tokenizer(one_piece, "cpu", max_memory="1GB")
    with pytest.raises(InputError, match=r"its encoder cannot be cut into tiles\. Allow more memory, or resize") as e:
        tok.plan("encoder", *HD)
    assert " tiles of " not in str(e.value)
    side = int(str(e.value).rsplit(" ", 1)[1])
    assert not tok.plan("encoder", side, side * 16 // 9).in_tiles


@pytest.mark.parametrize("bundle", SHIPPED)
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_limit_that_shortens_calls_changes_nothing(bundle: str, provider: str, video: np.ndarray) -> None:
    free = Tokenizer(bundle, provider, threads=1)
    wanted = free.encode(video)

    def tight(role: str) -> Tokenizer:
        longest = limited("100GB", role, bundle=bundle, provider=provider).plan(role, 96, 128)
        tok = limited(longest.peak - 1, role, bundle=bundle, provider=provider)
        assert tok.plan(role, 96, 128).chunk < longest.chunk == 4
        return tok

    assert np.mean(np.abs(tight("encoder").encode(video).data - wanted.data) > 1e-4) < 1e-3
    assert np.abs(tight("decoder").decode(wanted).astype(int) - free.decode(wanted)).max() <= 1


def test_a_stream_outlives_what_its_tokenizer_drops(video: np.ndarray) -> None:
    tok = limited("1GB")
    tokens, stream = tok.encode(video), tok.encoder()
    frames = tok.decode(tokens)  # leaves the encoder loaded, since a stream goes through it
    both = tok.plan("decoder", 96, 128).tiles
    assert set(both) == {"encoder", "decoder"}
    assert np.array_equal(np.concatenate([stream.push(video), stream.finish()]), tokens.data)
    del stream
    assert np.array_equal(tok.decode(tokens), frames)
    assert set(tok._loaded) == {"decoder"}
    grouped = tok.encode(video, gop=1)
    tok.decode(grouped)
    tok.encode(video)
    assert set(tok._loaded) == {"encoder"}


def test_threads_share_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidtok_runtime import tokenizer as module

    chains: dict[str, GraphChain] = {}

    def load(manifest: Manifest, role: str, *rest: object) -> GraphChain:
        time.sleep(0.001)  # others run meanwhile, as they do while a graph loads
        graphs = [StatefulGraph(graph.entry, graph.session) for graph in chains[role].graphs]
        return GraphChain(graphs, manifest.stream.calls(role).flags)

    tok = limited("1GB", "encoder", "decoder")
    chains |= tok._loaded
    clip = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    tokens = tok.encode(clip)
    frames = tok.decode(tokens)
    monkeypatch.setattr(module, "load_chain", load)

    def encode() -> bool:
        return np.array_equal(tok.encode(clip).data, tokens.data)

    def decode() -> bool:
        return np.array_equal(tok.decode(tokens), frames)

    def stream() -> bool:
        stream = tok.encoder()
        time.sleep(0.002)
        return np.array_equal(np.concatenate([stream.push(clip), stream.finish()]), tokens.data)

    def stream_back() -> bool:
        stream = tok.decoder(5, 16, 16)
        time.sleep(0.002)
        return np.array_equal(np.concatenate([stream.push(tokens.data), stream.finish()]), frames)

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(work) for _ in range(15) for work in (encode, decode, stream, stream_back, encode, decode)]
        assert all(job.result() for job in jobs)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("provider", "size", "limit"),
    [
        ("cpu", (64, 64), "145MB"),
        pytest.param("cpu", (64, 64), "200MB", marks=pytest.mark.slow),
        ("openvino", (64, 64), "300MB"),
        pytest.param("cpu", (320, 192), "500MB", marks=pytest.mark.slow),
        *(
            pytest.param(provider, (720, 1280), limit, marks=pytest.mark.slow)
            for provider in ("cpu", "openvino")
            for limit in ("1.5GB", "3GB", "4GB")
        ),
    ],
)
def test_whole_processes_stay_below_their_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, size: tuple[int, int], limit: str
) -> None:
    monkeypatch.setenv("VIDTOK_CACHE", "")  # compiling a graph counts, too
    clip, tokens, back = (tmp_path / name for name in ("clip.mp4", "clip.safetensors", "back.mp4"))
    make_clip(clip, 17, *size)
    options = ["--provider", provider, "--threads", "2", "--quiet", "--force", "--max-memory"]
    peaks = []
    for command in (["encode", clip, "-o", tokens], ["decode", tokens, "-o", back], ["reconstruct", clip, "-o", back]):
        peak, text = peak_of(*command, *options, limit)
        if "does not fit into" in text:
            peak_of(*command, *options, "20GB")  # so that there is something to decode
            continue
        assert peak <= parse_memory(limit), (command[0], text)
        peaks.append(peak)
    assert peaks


def peak_of(*arguments: str | Path) -> tuple[int, str]:
    """Bytes at the peak of a `vidtok-run`, and what it wrote to stderr."""
    code = (
        "import sys\nfrom vidtok_runtime.cli import main\n"
        "try: main(sys.argv[1:], standalone_mode=False)\n"
        "finally: print(next(s.split()[1] for s in open('/proc/self/status') if s[:5] == 'VmHWM'))"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return int(done.stdout.split()[-1]) * 1024, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_in_tiles_does_not_grow_with_the_clip() -> None:
    code = (
        "import numpy as np; from vidtok_runtime import Tokenizer; from vidtok_runtime.memory.planner import CallPlan\n"
        "from vidtok_runtime.streaming.tiles import Axis, Tiling\n"
        "whole, tiles = Tiling.whole(26, 4), Tiling(Axis(26, 24, 10), Axis(4, 4, 10))\n"
        "tok = Tokenizer('tiny-kl-16chn', 'cpu', threads=1)\n"
        "chains = {role: tok.manifest.chain(role, 'cpu', None) for role in ('encoder', 'decoder')}\n"
        "cut = {role: [tiles if g.part == 'local' else whole for g in chain] for role, chain in chains.items()}\n"
        "tok.plan = lambda *_: CallPlan(1, cut)\n"
        "encoder, decoder, x = tok.encoder(), tok.decoder(), np.zeros((4, 208, 32, 3), np.uint8)\n"
        "for call in range(120):\n"
        "    decoder.push(encoder.push(x))\n"
        "    if call in (19, 119): print(next(s.split()[1] for s in open('/proc/self/status') if s[:5] == 'VmHWM'))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    early, late = map(int, run.stdout.split())
    assert late < 1.02 * early


def test_command_line(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens.safetensors"
    common = ["encode", str(clip), "-o", str(out), "--provider", "cpu", "--threads", "1", "--quiet"]
    run = CliRunner().invoke(main, [*common, "--max-memory", "plenty"])
    assert run.exit_code == 2
    assert "such as 4GB" in run.output
    run = CliRunner().invoke(main, [*common, "--max-memory", "60MB"])
    assert run.exit_code == 1
    assert run.stderr.startswith("vidtok-run: error: 56x40 does not fit into 60MB with cpu; it needs ")
    assert run.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())
    run = CliRunner().invoke(main, [*common, "--max-memory", "1GB"])
    assert run.exit_code == 0
    assert "vidtok: " in run.stderr
    assert "at the peak: calls of 16 frames" in run.stderr
    assert out.exists()
    back = tmp_path / "back.mp4"
    run = CliRunner().invoke(main, ["decode", str(out), "-o", str(back), "--provider", "cpu", "--max-memory", "1GB"])
    assert run.exit_code == 0
    assert back.exists()


@pytest.mark.parametrize(
    ("bundle", "role", "size", "peak"),
    [
        ("tiny-kl-16chn", "encoder", (64, 64), 150_981_020),
        ("tiny-kl-16chn", "decoder", (64, 64), 169_280_892),
        ("tiny-fsq-32768", "encoder", (256, 256), 497_893_124),
        ("tiny-fsq-32768", "decoder", (720, 1280), 9_015_971_738),
    ],
)
def test_predictions_are_those_that_were_measured(
    bundle: str, role: str, size: tuple[int, int], peak: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidtok_runtime.memory.predict.cores", lambda: 2)
    assert limited("100GB", bundle=bundle).plan(role, *size).peak == pytest.approx(peak, rel=1e-3)


def test_where_both_directions_do_not_fit_a_clip_is_encoded_first(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    roomy, tight = (Tokenizer("tiny-kl-16chn", "cpu", threads=1, max_memory=limit) for limit in ("1GB", "10GB"))
    both = roomy.plan("encoder", 64, 64).peak
    assert both is not None
    assert roomy.fits_both(64, 64)
    assert not Tokenizer("tiny-kl-16chn", "cpu", max_memory=both).fits_both(1280, 720)
    monkeypatch.setattr(tight, "fits_both", lambda *_: False)
    found = [
        reconstruct_file(tok, clip, tmp_path / f"{i}.mkv", output=Output("ffv1"), quiet=True)
        for i, tok in enumerate((roomy, tight))
    ]
    assert (found[0].psnr, found[0].ssim) == (found[1].psnr, found[1].ssim)
    frames = [[frame.pixels for frame in VideoReader(tmp_path / f"{i}.mkv")] for i in range(2)]
    np.testing.assert_array_equal(*frames)
    assert not list((tmp_path / "temporary").iterdir())


def without_stages(manifest: Manifest) -> Manifest:
    return replace(manifest, graphs=tuple(replace(graph, stages=()) for graph in manifest.graphs))


def test_graphs_that_tell_no_stages_run_as_the_manifest_says() -> None:
    manifest = without_stages(find_bundle(None))
    assert Tokenizer(manifest, "cpu").plan("encoder", *HD).chunk == 4
    with pytest.raises(BundleError, match="tells no stages"):
        Tokenizer(manifest, "cpu", max_memory="4GB").plan("encoder", *HD)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_tiles_are_counted_where_they_are(role: str) -> None:
    manifest = find_bundle(None)
    chain = manifest.chain(role, "cpu", None)
    sizes = tuple(100 + i for i in range(len(chain)))
    frame = Tiling.whole(64, 64)
    whole = Counts.of(manifest, chain, [frame] * len(chain), 2, sizes)
    assert whole.weights == sizes
    own = [sum(4 * math.prod(shape_of(s.axes, {"N": 1, "H": 512, "W": 512})) for s in graph.states) for graph in chain]
    handed = sum(
        4 * math.prod(shape_of(graph.outputs[0].axes, {"N": 1, "T": 8, "H": 512, "W": 512})) for graph in chain[:-1]
    )
    pixels = {"encoder": 3, "decoder": 2}[role] * 4 * 3 * 8 * 512 * 512
    costs = COSTS["cpu", role]
    # Whole frames: all graphs keep what they take.
    assert [call.states for call in whole.calls] == own
    assert whole.beside == handed + pixels + sum(own)
    assert whole.running(costs) == (sum(call.widest for call in whole.calls), sum(own))
    for i, graph in enumerate(chain):
        margin = margin_of(graph, 8)
        if margin is None:
            continue
        cut = Tiling(Axis(64, 2 * margin + ALIGNED, margin), Axis(64, 64, margin))
        tiled = Counts.of(manifest, chain, [cut if j == i else frame for j in range(len(chain))], 2, sizes)
        # The graph that is cut takes less, if more for many tiles than for one; of the parts the one that takes most
        # counts in full, with all of its graphs.
        tile, times = own[i] * cut.rows.size // 64, 1 + DOUBLING * math.log2(cut.count)
        assert cut.count > 1
        assert tiled.calls[i].widest == pytest.approx(times * whole.calls[i].widest * cut.rows.size / 64)
        assert tiled.calls[i].states == round(times * tile)
        assert tiled.calls[:i] + tiled.calls[i + 1 :] == whole.calls[:i] + whole.calls[i + 1 :]
        parts = [
            [call for call, other in zip(tiled.calls, chain, strict=True) if other.part == part]
            for part in ("local", "global")
        ]
        sums = [CallBytes(sum(call.widest for call in some), sum(call.states for call in some)) for some in parts]
        low, high = sorted(call.peak(costs) for call in sums)
        assert tiled.running(costs).peak(costs) == pytest.approx(high + 0.4 * low)
        assert tiled.beside == pytest.approx(handed + pixels + sum(own) + tile + own[i] * cut.beside)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_tiles_of_that_graph_become_smaller_where_they_save_most_for_what_they_compute(role: str) -> None:
    manifest, stages = (
        read_manifest(WAN),
        iter(((Stage(64, 1, 1, attention=False),), (Stage(99, 2, 1, attention=False),))),
    )
    chain = [
        replace(graph, stages=next(stages)) if graph.part == "local" else graph
        for graph in manifest.chain(role, "cpu", None)
    ]
    works = [graph.work for graph in chain if graph.part == "local"]
    assert works == [64**2, 99**2 / 2**2]
    planner = Planner(manifest, {role: chain}, "cpu", 1, range(1, 2))
    plans = [plan for _, plan in planner._plans(45, 80)]
    tilings = [plan.tiles[role] for plan in plans][1:]
    frame = Tiling.whole(45, 80)
    assert [tiling.count for tiling in tilings[0]] == [1, 1, 1]
    for before, after in itertools.pairwise(tilings):
        (cut,) = (i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
        assert chain[cut].part == "local"
        assert after[cut].largest < before[cut].largest
        assert after[cut].computed > before[cut].computed
    # With the limit somewhere between, no other tiles of the same graphs would compute less by a half and fit.
    costs, middle = COSTS["cpu", role], len(tilings) // 2
    local = [i for i, graph in enumerate(chain) if graph.part == "local"]
    every = [list(grids(45, 80, margin_of(graph, 4) or 0)) if i in local else [frame] for i, graph in enumerate(chain)]

    def computed(some: Sequence[Tiling]) -> float:
        return sum(chain[i].work * some[i].computed for i in local)

    for some in itertools.product(*every):
        if computed(some) < computed(tilings[middle]) / 1.5:
            counts = Counts.of(manifest, chain, some, 1, (0,) * len(chain))
            assert counts.peak(costs) > Counts.of(manifest, chain, tilings[middle], 1, (0,) * len(chain)).peak(costs)
    assert {planner.text(plan).count(" tiles of ") for plan in plans} == {0, 1, 2}
