"""A limit on memory: what it means, what is predicted and chosen, and what tiles change."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.cli import main
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.engines.stateful import StatefulGraph
from vidtok_runtime.errors import BundleError, InputError
from vidtok_runtime.memory.planner import CallPlan, overlap_of
from vidtok_runtime.memory.predict import Counts, format_memory, parse_memory
from vidtok_runtime.streaming.tiles import Axis, Tiling
from vidtok_runtime.tools.demo import make_clip, synthetic_frame

SHIPPED = ("tiny-kl-16chn", "tiny-fsq-32768")
HD = (1080, 1920)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.stack([synthetic_frame(3 * i, 96, 128) for i in range(10)])


def in_tiles(tok: Tokenizer, tiles: Tiling, chunk: int = 1) -> Tokenizer:
    """The tokenizer with a plan of the test's own; real plans have tiles of 240 pixels and more."""
    tok.plan = lambda *_: CallPlan(chunk, {"encoder": tiles, "decoder": tiles})  # type: ignore[method-assign]
    return tok


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


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(48, 32, 12), (240, 40, 15), (33, 32, 8), (9, 9, 3), (5, 8, 3)]
)
def test_tiles_of_an_axis(length: int, tile: int, overlap: int) -> None:
    axis = Axis(length, tile, overlap)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.size == length
    assert all(a + axis.size - b >= overlap for a, b in zip(axis.starts, axis.starts[1:], strict=False))
    covered = np.concatenate([np.arange(length)[part] for part in axis.kept()])
    assert covered.tolist() == list(range(length))
    assert all(s <= part.start and part.stop <= s + axis.size for s, part in zip(axis.starts, axis.kept(), strict=True))
    total = np.zeros(4 * length)
    for start, weights in zip(axis.starts, axis.weights(4), strict=True):
        assert weights.min() > 0
        total[4 * start : 4 * start + len(weights)] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_reach_is_that_of_the_network(role: str, video: np.ndarray) -> None:
    # Beyond the reach only attention connects pixels, and that weakly; within it the convolutions do.
    tok = Tokenizer("tiny-kl-16chn", "cpu", threads=1)
    far = overlap_of(tok.manifest, tok.manifest.chain(role, "cpu", None))
    assert 8 <= far <= 20
    wide = np.repeat(np.full((1, 16, 8 * (2 * far + 8), 3), 90, np.uint8), 4, axis=0)
    other = wide.copy()
    other[:, :, :8] = 200
    if role == "encoder":
        change = np.abs(tok.encode(wide).data - tok.encode(other).data).max(axis=(0, 1, 2))
        near, beyond = change[:2].max(), change[far + 1 :].max()
    else:
        latents = tok.encode(wide)
        before = tok.decode(latents, "float32")
        latents.data[..., 0] += 3
        change = np.abs(tok.decode(latents, "float32") - before).max(axis=(0, 1, 3))
        near, beyond = change[:16].max(), change[8 * (far + 1) :].max()
    assert beyond < near / 20


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_shorter_calls_come_before_tiles(provider: str, role: str) -> None:
    limits = [10**8 * n for n in (1000, 90, 70, 40, 27)]
    tok, plans = limited("1GB", role, provider=provider), []
    for tok.max_memory in limits:
        tok._plans.clear()
        plans.append(tok.plan(role, 720, 1280))
    assert all(plan.peak <= limit for plan, limit in zip(plans, limits, strict=True))
    chunks = [plan.chunk for plan in plans]
    counts = [plan.tiles[role].count for plan in plans]
    assert chunks == sorted(chunks, reverse=True)
    assert chunks[0] == 4
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] > 1
    assert all(count == 1 or chunk == 1 for chunk, count in zip(chunks, counts, strict=True))


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
    with pytest.raises(InputError, match="too little for any size"):
        limited("50MB", "encoder").plan("encoder", *HD)


def test_no_prediction_where_nothing_was_measured() -> None:
    tok = limited("4GB", "encoder")
    tok.provider = "cuda"
    with pytest.raises(InputError, match="cpu, openvino, not on cuda"):
        tok.plan("encoder", 64, 64)


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
        ("cpu", (64, 64), "200MB"),
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


@pytest.mark.parametrize("bundle", SHIPPED)
def test_one_tile_is_the_whole_frame(bundle: str, video: np.ndarray) -> None:
    whole = Tokenizer(bundle, "cpu", threads=1)
    tiled = in_tiles(Tokenizer(bundle, "cpu", threads=1), Tiling.of(12, 16, 16, 4), chunk=4)
    tokens = whole.encode(video)
    assert np.array_equal(tiled.encode(video).data, tokens.data)
    assert np.array_equal(tiled.decode(tokens), whole.decode(tokens))


@pytest.mark.parametrize("bundle", SHIPPED)
def test_tiles_come_close_to_whole_frames(bundle: str, video: np.ndarray) -> None:
    whole = Tokenizer(bundle, "cpu", threads=1)
    tokens = whole.encode(video)
    tiled = in_tiles(Tokenizer(bundle, "cpu", threads=1), Tiling.of(12, 16, 9, 5))
    found = tiled.encode(video)
    assert found.data.shape == tokens.data.shape
    assert found.data.dtype == tokens.data.dtype
    if bundle == "tiny-fsq-32768":
        assert np.mean(found.data == tokens.data) > 0.8
    else:
        assert np.std(found.data - tokens.data) < 0.1 * np.std(tokens.data)
    ours, theirs = tiled.decode(tokens), whole.decode(tokens)
    assert ours.shape == theirs.shape == video.shape
    assert np.mean((ours.astype(float) - theirs) ** 2) < 255**2 / 10**4  # 40 dB
    assert not np.array_equal(ours, theirs)


def test_tiles_stream_with_one_state_each(video: np.ndarray) -> None:
    tok = in_tiles(Tokenizer("tiny-kl-16chn", "cpu", threads=1), Tiling.of(12, 16, 9, 5))
    wanted = tok.encode(video).data
    stream = tok.encoder()
    parts = [stream.push(video[a:b]) for a, b in ((0, 1), (1, 8), (8, 10))]
    np.testing.assert_allclose(np.concatenate([*parts, stream.finish()]), wanted, atol=1e-4)
    assert stream._calls is not None
    assert len(stream._calls._calls) == 2 * 3
    decoder = tok.decoder(10, 96, 128)
    frames = np.concatenate([*(decoder.push(wanted[i : i + 1]) for i in range(len(wanted))), decoder.finish()])
    assert frames.shape == video.shape


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_in_tiles_does_not_grow_with_the_clip() -> None:
    code = (
        "import numpy as np; from vidtok_runtime import Tokenizer; from vidtok_runtime.memory.planner import CallPlan\n"
        "from vidtok_runtime.streaming.tiles import Tiling; tiles = Tiling.of(4, 4, 3, 1)\n"
        "tok = Tokenizer('tiny-kl-16chn', 'cpu', threads=1)\n"
        "tok.plan = lambda *_: CallPlan(1, {'encoder': tiles, 'decoder': tiles})\n"
        "encoder, decoder, x = tok.encoder(), tok.decoder(), np.zeros((4, 32, 32, 3), np.uint8)\n"
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
        ("tiny-kl-16chn", "encoder", (64, 64), 154_497_542),
        ("tiny-kl-16chn", "decoder", (64, 64), 181_280_433),
        ("tiny-fsq-32768", "encoder", (256, 256), 583_630_829),
        ("tiny-fsq-32768", "decoder", (720, 1280), 14_486_894_863),
    ],
)
def test_predictions_are_those_that_were_measured(bundle: str, role: str, size: tuple[int, int], peak: int) -> None:
    assert limited("100GB", bundle=bundle).plan(role, *size).peak == peak


def without_stages(manifest: Manifest) -> Manifest:
    return replace(manifest, graphs=tuple(replace(graph, stages=()) for graph in manifest.graphs))


def test_graphs_that_tell_no_stages_run_as_the_manifest_says() -> None:
    manifest = without_stages(find_bundle(None))
    assert Tokenizer(manifest, "cpu").plan("encoder", *HD).chunk == 4
    with pytest.raises(BundleError, match="tells no stages"):
        Tokenizer(manifest, "cpu", max_memory="4GB").plan("encoder", *HD)


def test_parts_of_a_chain_are_counted_together() -> None:
    manifest = find_bundle(None)
    (graph,) = manifest.chain("encoder", "cpu", None)
    tiles = {"encoder": Tiling.of(8, 8)}
    half = len(graph.stages) // 2
    parts = [
        replace(graph, stages=graph.stages[:half], states=graph.states[:3], receptive_field=40),
        replace(graph, stages=graph.stages[half:], states=graph.states[3:], receptive_field=graph.receptive_field - 40),
    ]
    whole = Counts.of(manifest, [graph], tiles["encoder"], 4)
    assert Counts.of(manifest, parts, tiles["encoder"], 4) == whole
    assert overlap_of(manifest, parts) == overlap_of(manifest, [graph])
    plain = [replace(part, stages=tuple(replace(s, attention=False) for s in part.stages)) for part in parts]
    assert Counts.of(manifest, plain, tiles["encoder"], 4) == replace(whole, scores=0)
    assert whole.scores > 0
