"""`vidtok-run bench` and scripts/benchmark.py: every side has a whole row, failures have a line; no time is judged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from commands import run
from conftest import SHALLOW

from vidtok_export import export
from vidtok_export.operations import multiply_adds
from vidtok_ref import VideoTokenizer, build
from vidtok_ref.families import make_model
from vidtok_runtime.bench.interleaved import Side, interleave
from vidtok_runtime.bench.plan import Case, Peer, bundle_peers, cases, side_command
from vidtok_runtime.bench.process import example, graph_call
from vidtok_runtime.bench.run import Bench, Row, run_bench
from vidtok_runtime.bundle import information
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.engines.registry import usable_providers
from vidtok_runtime.errors import InputError, ProviderError

ENGINES = ["cpu", "openvino"]
SCRIPTS = Path(__file__).parents[2] / "scripts"
KIT = Path(__file__).parents[1] / "conformance/kit"


@pytest.fixture(autouse=True)
def _small_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a second of products tells does not matter here."""
    monkeypatch.setattr("vidtok_runtime.bench.run.MATRIX", 64)


def bench_command(*args: object) -> Result:
    return run("bench", *args)


def read_bench(text: str) -> Bench:
    figures = json.loads(text)
    return Bench(**figures | {"rows": [Row(**row | {"case": Case(**row["case"])}) for row in figures["rows"]]})


# Every row is a process that loads an engine.
@pytest.mark.parametrize("sizes", [(16,), pytest.param((16, 24), marks=pytest.mark.slow)])
@pytest.mark.parametrize("shallow", ["kl-4chn", pytest.param("fsq-32768", marks=pytest.mark.slow)], indirect=True)
def test_every_engine_has_whole_rows_on_the_command_line(bundle: Path, sizes: tuple[int, ...], tmp_path: Path) -> None:
    figures, picture = tmp_path / "f.json", tmp_path / "p.png"
    asked = [option for size in sizes for option in ("--size", size)]
    common = (bundle, *asked, "--frames", 8, "--threads", 1, "--repeats", 3, "--quiet")
    result = bench_command(*common, "--json", figures, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = figures.read_text()
    bench = read_bench(text)
    assert bench.to_json() == text
    assert bench.left_out == {}
    manifest = read_manifest(bundle)
    assert (bench.family, bench.name) == (manifest.family, manifest.name)
    assert bench.machine["numpy"] == np.__version__
    wanted = [(role, size, p) for size in sizes for role in ("encoder", "decoder") for p in usable_providers()]
    assert [(row.case.role, row.case.height, row.provider) for row in bench.rows] == wanted
    for row in bench.rows:
        assert (row.case.frames, row.case.threads, row.precision) == (8, 1, "fp32")
        assert len(row.calls_s) == 3
        assert row.call_s == sorted(row.calls_s)[1]
        assert row.frames_per_second == 8 / row.call_s
        assert row.first_s > 0
        assert row.matmul_rate is not None
        work = information.multiply_adds(manifest, row.case.role, 8, row.case.height, row.case.width)
        assert work is not None
        assert row.limit_share == pytest.approx(work / row.call_s / row.matmul_rate)
        if sys.platform == "linux":
            assert row.peak_mib is not None
            assert 10 < row.peak_mib < 10_000
    for rows in bench.by_case().values():
        assert rows[0].ratio == 1
        assert rows[1].ratio == pytest.approx(rows[0].call_s / rows[1].call_s)
    assert all(f"{row.call_s:.3f}" in result.stdout for row in bench.rows)
    assert bench.how in result.stdout
    again = bench_command(*common, "--json", figures)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert figures.read_text() == text


def test_bad_calls_are_one_line(bundle: Path, tmp_path: Path) -> None:
    for options, message in (
        ((bundle, "--frames", 7), "a multiple of 4 frames, got 7"),
        ((bundle, "--size", 21), "a multiple of 2 pixels, got 21"),
        ((bundle, "--precision", "fp3"), "has no fp3 encoder; it offers fp32"),
        ((bundle, "--plot", tmp_path / "p.gif"), ".png or .svg"),
        ((bundle, "--json", tmp_path / "no/f.json"), "does not exist"),
        ((tmp_path / "none",), "neither a bundle folder nor a shipped bundle"),
    ):
        result = bench_command(*options)
        assert result.exit_code == 1, result.output
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    for options in (("--repeats", "0"), ("--provider", "tpu"), ("--size", "big")):
        assert bench_command(bundle, *options).exit_code == 2


@pytest.mark.parametrize("shallow", ["kl-4chn", pytest.param("fsq-32768", marks=pytest.mark.slow)], indirect=True)
def test_a_side_that_fails_is_left_out(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "b")
    manifest = read_manifest(tmp_path / "b")
    (tmp_path / "b/encoder.local.onnx").write_bytes(b"something else")
    encode, decode = cases(manifest, [16], 4, 1)
    crash = Peer("crash", "cpu", "fp32", (sys.executable, "-c", "import sys; sys.exit(5)"))
    sides = {case: bundle_peers(manifest, case, ["cpu"]) for case in (encode, decode)}
    lines: list[str] = []
    plan = {encode: sides[encode], decode: [crash, *sides[decode]]}
    bench = run_bench(manifest, plan, 1, say=lines.append, quiet=True)
    assert [row.case for row in bench.rows] == [decode]
    assert bench.rows[0].ratio == 1
    assert "is altered" in bench.left_out["vidtok-onnx, cpu fp32, encode 16x16"]
    assert bench.left_out["crash, cpu fp32, decode 16x16"] == "its process ended with exit code 5"
    assert any(line.startswith("left out: crash") for line in lines)
    with pytest.raises(ProviderError, match=r"nothing could be measured.* is altered"):
        run_bench(manifest, {encode: sides[encode]}, 1, quiet=True)


def test_a_side_that_dies_between_calls() -> None:
    dies = (
        "from vidtok_runtime.bench.interleaved import serve; import itertools, os; n = itertools.count();"
        "serve(lambda: lambda: print('noise') if next(n) < 2 else os._exit(7))"
    )
    done: list[int] = []
    commands = {"dies": (sys.executable, "-c", dies), "lives": side_command(matmul=8)}
    times, failed = interleave(commands, 1, 2, done.append)
    assert failed == {"dies": "its process ended with exit code 7"}
    assert list(times) == ["lives"]
    assert len(times["lives"].calls_s) == 2
    assert sum(done) == 8


def test_each_side_has_its_own_threads() -> None:
    code = (
        "import os; from vidtok_runtime.bench.interleaved import serve; from vidtok_runtime import VidtokError\n"
        "def load(): raise VidtokError(os.environ['OPENBLAS_NUM_THREADS'] + os.environ['VECLIB_MAXIMUM_THREADS'])\n"
        "serve(load)"
    )
    with Side((sys.executable, "-c", code), 3) as side, pytest.raises(ProviderError, match="33"):
        side.answer()


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_a_stream_carries_its_state(bundle: Path, role: str) -> None:
    manifest = read_manifest(bundle)
    call = graph_call(str(bundle), role, "cpu", None, 4, 16, 16, 1, 0)
    chain = load_chain(manifest, role, "cpu", None, Options(1))
    x = example(manifest, role, 4, 16, 16)
    for _ in range(3):
        found, wanted = call(), chain.step(x)
        assert isinstance(found, dict)
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.slow
def test_the_first_call_of_version_1_1_is_one_latent(exported: Callable[[VideoTokenizer], Path]) -> None:
    folder = exported(build("fsq-32768-v1.1", **SHALLOW))
    call = graph_call(str(folder), "decoder", "cpu", None, 8, 8, 8, 1, 0)
    lengths = [call()["video"].shape[2] for _ in range(3)]  # type: ignore[index]
    assert lengths == [4, 8, 8]


def test_operations_of_the_manifest_are_those_of_the_model(
    bundle: Path, shallow: VideoTokenizer, tmp_path: Path
) -> None:
    manifest = read_manifest(bundle)
    with torch.device("meta"):
        bare = make_model(shallow.config)
    for role in ("encoder", "decoder"):
        wanted = multiply_adds(bare, role, 12, 40, 72)
        assert information.multiply_adds(manifest, role, 12, 40, 72) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("found", [None, [], {"encoder": {"pixel": "many", "pixel_squared": 0}}, {"encoder": 5}])
def test_operations_are_for_people_and_may_be_absent(found: object, tmp_path: Path) -> None:
    shutil.copytree(KIT / "fsq-causal", tmp_path / "b")
    raw = json.loads((tmp_path / "b/manifest.json").read_text())
    (tmp_path / "b/manifest.json").write_text(json.dumps({**raw, "operations": found}))
    manifest = read_manifest(tmp_path / "b")
    assert information.multiply_adds(manifest, "encoder", 4, 8, 8) is None


def test_without_operations_nothing_is_said_of_the_limit(tmp_path: Path) -> None:
    shutil.copytree(KIT / "fsq-causal", tmp_path / "b")
    raw = json.loads((tmp_path / "b/manifest.json").read_text())
    del raw["operations"]
    (tmp_path / "b/manifest.json").write_text(json.dumps(raw))
    manifest = read_manifest(tmp_path / "b")
    plan = {case: bundle_peers(manifest, case, ["cpu"]) for case in cases(manifest, [8], 4, 1)}
    bench = run_bench(manifest, plan, 1, say=lambda _: None, quiet=True)
    assert [row.limit_share for row in bench.rows] == [None, None]


def test_a_provider_takes_the_graphs_of_another(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidtok_runtime.bench.plan.choose_provider", lambda name: name)
    manifest = read_manifest(bundle)
    [case, _] = cases(manifest, [64], None, 1)
    [peer] = bundle_peers(manifest, case, ["directml"], ["fp32"])
    assert peer.provider == "directml"


def test_a_call_of_groups_is_a_whole_one() -> None:
    call = graph_call(str(KIT / "fsq-noncausal"), "decoder", "cpu", None, 8, 8, 8, 1, 0)
    assert [call()["video"].shape[2] for _ in range(2)] == [8, 8]  # type: ignore[index]
    manifest = read_manifest(KIT / "fsq-noncausal")
    assert [case.frames for case in cases(manifest, [8], None, 1)] == [8, 8]
    with pytest.raises(InputError, match="multiple of 4 frames"):
        cases(manifest, [8], 6, 1)


@pytest.mark.slow
def test_the_script_puts_pytorch_and_the_straight_export_beside_ours(tmp_path: Path) -> None:
    bundle = export(build("fsq-4096", **SHALLOW), tmp_path / "b")
    figures, work = tmp_path / "f.json", tmp_path / "work"
    options = ("--size", 8, "--frames", 4, "--threads", 1, "--repeats", 1, "--no-compile", "--json", figures)
    command = [sys.executable, SCRIPTS / "benchmark.py", "speed", "--bundle", bundle, "--work", work, *options]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bench = read_bench(figures.read_text())
    assert bench.left_out == {}
    peers = [("PyTorch eager", "cpu"), *((name, e) for name in ("straight export", "vidtok-onnx") for e in ENGINES)]
    assert [(row.peer, row.provider) for row in bench.rows] == 2 * peers
    assert bench.machine["torch"] == torch.__version__
    assert len(list(work.glob("straight-*.onnx"))) == 2
