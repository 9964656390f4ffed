"""Plans of memory in C++ beside Python's: one bundle, size, engine and limit give one plan, or one reason."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import random
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from cases import KIT
from click.testing import CliRunner
from cpp_program import ROOT, Build, environment
from made_kit import make_bundle
from made_streams import MADE

from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.errors import VidtokError
from vidtok_runtime.memory.plans import Plans
from vidtok_runtime.memory.predict import parse_memory

pytest_plugins = ["cpp_builds"]

KINDS = ["cogvideox-exact", "fsq-noncausal", "omnitokenizer-squares", "wan-causal"]
SIZES = [(64, 64), (37, 51), (360, 640), (720, 1280), (1280, 720), (1080, 1920)]
ROLES = ("encoder", "decoder")


def test_the_numbers_are_python_s() -> None:
    spec = importlib.util.spec_from_file_location("memory_script", ROOT / "scripts/memory.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    written = CliRunner().invoke(script.main, ["header"]).output
    assert (ROOT / "runtime/cpp/include/vidtok/memory_costs.hpp").read_text() == written


def plan_of(bundle: Path, provider: str, limit: int, role: str, height: int, width: int, other: str = "") -> str:
    """What `vidtok_tests plans` must print."""
    manifest = read_manifest(bundle)
    entries = partial(manifest.chain, provider=provider, precision=None)
    plans = Plans(manifest, provider, limit, entries)
    roles = (other, role) if other else (role,)
    try:
        with contextlib.redirect_stderr(said := io.StringIO()):
            plan = plans.plan(roles, role, manifest.stream, height, width)
    except VidtokError as error:
        return str(error)
    tiles = [
        f", {name}"
        + "".join(
            f" {len(t.rows.tiles)} of {t.rows.size} x {len(t.columns.tiles)} of {t.columns.size}" for t in tilings
        )
        for name, tilings in plan.tiles.items()
    ]
    text = said.getvalue().removeprefix("vidtok: ").strip()
    return f"{plan.peak} bytes, chunk {plan.chunk}{', sparing' * plan.sparing}{''.join(tiles)}; {text}"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of the kit, one that is shipped, one with a file of weights, one whose graphs tell no stages."""
    folder = tmp_path_factory.mktemp("made") / "par ts"
    make_bundle(folder, next(made for made in MADE if made.name == "parts"))
    manifest = folder / "manifest.json"
    raw = json.loads(manifest.read_text())
    found = [*(KIT / name for name in KINDS), find_bundle(None).folder, folder]
    for graph in raw["graphs"]:
        graph["stages"] = [{"channels": 2000, "space": 2, "time": 1, "attention": False}]
    manifest.write_text(json.dumps(raw))
    return found


def test_every_plan_is_python_s(plain: Build, bundles: list[Path]) -> None:
    chance = random.Random(0)
    cases = []
    for bundle, provider, role in product(bundles, ("cpu", "openvino", "cuda"), ROLES):
        if provider not in read_manifest(bundle).graphs[0].providers:
            continue
        size = chance.choice(SIZES)
        other = chance.choice(["", *({*ROLES} - {role})])
        whole = int(plan_of(bundle, provider, 10**15, role, *size, other).split()[0])
        limits = whole, whole - 1, int(whole * chance.uniform(0.3, 0.9)), int(whole * chance.uniform(0.02, 0.3))
        cases += [(bundle, provider, limit, role, *size, other) for limit in limits]
    lines = "".join(f'"{bundle}" {" ".join(map(str, rest))}\n' for bundle, *rest in cases)
    program = [plain.folder / "vidtok_tests", "plans"]
    done = subprocess.run(program, input=lines, capture_output=True, text=True, check=True)
    found = done.stdout.splitlines()
    assert found == [plan_of(*case) for case in cases]
    assert sum("tiles of" in line for line in found) > 20
    assert sum("does not fit into" in line for line in found) > 20


PEAK = """import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)"""


@pytest.mark.parametrize(
    ("engine", "size", "limit"),
    [
        ("plain", (64, 64), "300MB"),
        pytest.param("cpu", (320, 192), "500MB", marks=pytest.mark.slow),
        *(
            pytest.param(engine, (720, 1280), limit, marks=pytest.mark.slow)
            for engine in ("cpu", "openvino")
            for limit in ("1.5GB", "3GB")
        ),
    ],
)
def test_the_program_stays_below_its_limit(
    engine: str, size: tuple[int, int], limit: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    build: Build = request.getfixturevalue(engine)
    raw, tokens, back = (tmp_path / name for name in ("clip.rgb", "clip.safetensors", "back.rgb"))
    np.random.default_rng(0).integers(0, 256, (17, *size, 3), np.uint8).tofile(raw)
    bundle = find_bundle(None).folder
    for command in (
        ["encode", bundle, raw, tokens, "--size", f"{size[1]}x{size[0]}"],
        ["decode", bundle, tokens, back],
    ):
        words = [*command, "--provider", build.provider, "--threads", "2", "--max-memory", limit]
        # The peak of a process counts what it was forked from: a small one in between.
        program = [sys.executable, "-S", "-c", PEAK, build.folder / "vidtok", *words]
        done = subprocess.run(list(map(str, program)), env=environment(), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        role = "encoder" if command[0] == "encode" else "decoder"
        plan = plan_of(bundle, build.provider, parse_memory(limit), role, *size)
        assert done.stderr.splitlines()[0] == f"vidtok: {plan.rpartition('; ')[2]}"
        assert int(done.stdout) * 1024 <= parse_memory(limit)


def test_limits_that_cannot_be_kept(plain: Build, tmp_path: Path) -> None:
    raw, out = tmp_path / "clip.rgb", tmp_path / "clip.safetensors"
    np.zeros((3, 40, 56, 3), np.uint8).tofile(raw)
    bundle = find_bundle(None).folder
    words = ("encode", bundle, raw, out, "--size", "56x40")
    wanted = plan_of(bundle, plain.provider, 60_000_000, "encoder", 40, 56)
    assert plain.run(*words, "--max-memory", "60 MB", code=1) == f"vidtok: {wanted}\n"
    assert "leave max_tile out" in plain.run(*words, "--max-memory", "1GB", "--max-tile", 512, code=1)
    for text in ("plenty", "", "0", "-1GB", "1e9", "4GBB", "1 2GB", "1.GB", ".5GB", "99999999TB"):
        assert "such as 4GB" in plain.run(*words, "--max-memory", text, code=2)
    assert not out.exists()
