"""What of a machine a process may use: cores, memory, and what follows from them where nothing was asked for."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from dataset_runs import OPTIONS, content, dataset

from vidtok_runtime import Tokenizer, machine
from vidtok_runtime.dataset import local
from vidtok_runtime.dataset.job import EncodeRecipe
from vidtok_runtime.errors import InputError
from vidtok_runtime.machine import cores, free_memory
from vidtok_runtime.memory.predict import affordable

FakeSystem = Callable[[Mapping[str, str]], None]
V2 = {
    "proc/self/cgroup": "0::/pod/box\n",
    # A mount may come from nowhere, between two spaces.
    "proc/self/mountinfo": "34 24 0:28 / /x rw - tmpfs  rw\n36 24 0:30 / /y rw -\n"
    "35 24 0:29 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
}
V1 = {
    "proc/self/cgroup": "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
    "proc/self/mountinfo": (
        "24 1 0:20 / /proc rw - proc proc rw\n"
        "40 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n"
        "41 31 0:33 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    ),
}
MIB = 2**20
GROUP = "sys/fs/cgroup"


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    """Sets what the system's files say, and an affinity to 12 cores."""
    monkeypatch.setattr(machine, "_ROOT", tmp_path / "system")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(12)), raising=False)

    return partial(write, tmp_path / "system")


def meminfo(mib: int) -> dict[str, str]:
    return {"proc/meminfo": f"MemTotal: 99999999 kB\nMemFree: 7 kB\nMemAvailable:   {mib * 1024} kB\n"}


# Files of a system of 12 cores, and how many of those a process may use.
CORES = [
    ({}, 12),
    (V2, 12),
    (V2 | {f"{GROUP}/pod/box/cpu.max": "max 100000\n"}, 12),
    (V2 | {f"{GROUP}/pod/box/cpu.max": "250000 100000\n"}, 3),
    (V2 | {f"{GROUP}/pod/box/cpu.max": "max 100000\n", f"{GROUP}/pod/cpu.max": "50000 100000\n"}, 1),
    (V2 | {f"{GROUP}/pod/box/cpu.max": "6400000 100000\n"}, 12),
    (V2 | {"proc/self/cgroup": "0::/../other\n", f"{GROUP}/cpu.max": "350000 100000\n"}, 4),
    (
        V1 | {f"{GROUP}/cpu,cpuacct/cpu.cfs_quota_us": "-1\n", f"{GROUP}/cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        12,
    ),
    (
        V1 | {f"{GROUP}/cpu,cpuacct/cpu.cfs_quota_us": "20000\n", f"{GROUP}/cpu,cpuacct/cpu.cfs_period_us": "5000\n"},
        4,
    ),
]


@pytest.mark.parametrize(("files", "count"), CORES)
def test_cores(system: FakeSystem, files: Mapping[str, str], count: int) -> None:
    system(files)
    assert cores() == count


def test_cores_by_affinity_alone(monkeypatch: pytest.MonkeyPatch, system: FakeSystem) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {3, 9})
    assert cores() == 2
    monkeypatch.delattr(machine.os, "sched_getaffinity")  # macOS, Windows
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 7)
    assert cores() == 7


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        ({}, None),  # macOS, Windows
        (meminfo(900), 900),
        (V2 | meminfo(900), 900),
        (V2 | meminfo(900) | {f"{GROUP}/pod/box/memory.max": "max\n", f"{GROUP}/pod/box/memory.current": "5\n"}, 900),
        (
            V2
            | meminfo(900)
            | {
                f"{GROUP}/pod/box/memory.max": f"{500 * MIB}\n",
                f"{GROUP}/pod/box/memory.current": f"{300 * MIB}\n",
                f"{GROUP}/pod/box/memory.stat": f"anon 1\nfile 2\ninactive_file {100 * MIB}\nactive_file 3\n",
            },
            300,  # what files of nobody's interest take can be had
        ),
        (
            V2
            | meminfo(900)
            | {f"{GROUP}/pod/memory.max": f"{40 * MIB}", f"{GROUP}/pod/memory.current": f"{50 * MIB}"},
            0,
        ),
        (
            V1
            | meminfo(900)
            | {
                f"{GROUP}/memory/memory.limit_in_bytes": f"{500 * MIB}\n",
                f"{GROUP}/memory/memory.usage_in_bytes": f"{200 * MIB}\n",
                f"{GROUP}/memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {50 * MIB}\n",
            },
            350,
        ),
        (V1 | meminfo(900) | {f"{GROUP}/memory/memory.limit_in_bytes": f"{2**63 - 4096}\n"}, 900),
    ],
)
def test_free_memory(system: FakeSystem, files: Mapping[str, str], mib: int | None) -> None:
    system(files)
    assert free_memory() == (None if mib is None else mib * MIB)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_session_has_a_thread_for_each_core_of_its_quota(system: FakeSystem, provider: str) -> None:
    system(V2 | {f"{GROUP}/pod/cpu.max": "100000 100000\n"})
    session: Any = _session(Tokenizer("tiny-fsq-32768", provider))
    if provider == "cpu":
        assert session._session.get_session_options().intra_op_num_threads == 1
    else:
        assert session._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == 1


def test_openvino_pins_no_thread_unless_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTOK_CACHE", str(tmp_path))
    asked = {"ENABLE_CPU_PINNING": "YES"}
    for options, pinned in (({}, False), ({}, False), (asked, True), (asked, True)):  # compiled, then out of the cache
        session: Any = _session(Tokenizer("tiny-fsq-32768", "openvino", threads=1, provider_options=options))
        assert session._request.get_compiled_model().get_property("ENABLE_CPU_PINNING") is pinned
    assert len(list(tmp_path.iterdir())) == 2 * 2  # an encoder has two graphs


def _session(tok: Tokenizer) -> object:
    tok.encoder()
    return tok._loaded["encoder"].graphs[0].session


def test_workers_by_quota(system: FakeSystem, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def engine(workers: int, time_limit: float | None, readers: int, devices: tuple[int, ...]) -> None:
        asked.append((workers, readers))
        raise InputError("that was to be seen")

    monkeypatch.setattr(local, "LocalEngine", engine)
    for quota in ("150000", "300000", "900000"):
        system(V2 | {f"{GROUP}/pod/box/cpu.max": f"{quota} 100000"})
        assert "that was to be seen" in run("dataset", source, tmp_path / "out", *OPTIONS).output
    assert asked == [(2, 1), (3, 1), (4, 2)]


def test_calls_are_as_long_as_free_memory_allows(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    system(meminfo(10**6))
    clip = np.random.default_rng(0).integers(0, 256, (17, 96, 128, 3), np.uint8)
    roomy = Tokenizer("tiny-kl-16chn", "cpu", threads=1)
    wanted = roomy.encode(clip)
    longest = roomy.plan("encoder", 96, 128)
    assert (longest.chunk, capsys.readouterr().err) == (4, "")
    held = (affordable("cpu") or 0) - 10**6 * MIB
    system(meminfo(((longest.peak or 0) - held - 1) // MIB))
    tight = Tokenizer("tiny-kl-16chn", "cpu", threads=1)
    tokens = tight.encode(clip)
    assert tight.plan("encoder", 96, 128).chunk == 3
    assert not tight.plan("encoder", 96, 128).in_tiles
    np.testing.assert_allclose(tokens.data, wanted.data, atol=1e-4)
    tight.decode(tokens)
    tight.encode(clip[:, :80])
    line = capsys.readouterr().err
    assert line.startswith("vidtok: calls of 12 frames, since 16 would take more than the ")
    assert line.count("\n") == 1  # said once


def test_frames_are_cut_where_free_memory_is_too_little(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    system(meminfo(3000))
    plan = Tokenizer("tiny-kl-16chn", "cpu").plan("encoder", 1080, 1920)
    assert plan.in_tiles
    assert plan.peak <= (affordable("cpu") or 0)
    line = capsys.readouterr().err
    assert line.startswith("vidtok: calls of 4 frames, encoder in ")
    assert ", since whole frames would take more than the " in line
    system(meminfo(1))
    with pytest.raises(InputError, match=r"1920x1080 does not fit into the \d+MB that are free with cpu; it needs"):
        Tokenizer("tiny-kl-16chn", "cpu").plan("encoder", 1080, 1920)


def test_where_the_system_says_nothing_calls_stay_long(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    tok = Tokenizer("tiny-kl-16chn", "cpu", threads=1)
    assert tok.plan("encoder", 4320, 7680).chunk == 4
    assert capsys.readouterr().err == ""


def test_workers_share_what_is_free(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    system(meminfo(900))
    recipe = EncodeRecipe(lambda: Tokenizer("tiny-kl-16chn", "cpu"), {})
    assert recipe.shared(3).available == 300 * MIB
    assert recipe.shared(3, aside=300 * MIB).available == 200 * MIB
    assert recipe.shared(3, aside=1000 * MIB).available == 150 * MIB
    (machine._ROOT / "proc/meminfo").unlink()
    assert recipe.shared(3).available is None


def test_a_data_set_with_little_memory(
    system: FakeSystem, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    size = "--size", 64  # of smaller frames a call takes less than loading the graphs
    assert dataset(source, tmp_path / "roomy", "--workers", 2, *size).exit_code == 0
    peak = Tokenizer(None, "cpu", max_memory="1GB").plan("encoder", 64, 85).peak
    assert peak is not None
    system(meminfo(4 * peak // MIB - 1))  # half is for the readers: too little for two workers with whole calls
    result = run("dataset", source, tmp_path / "tight", "--workers", 2, *size, *OPTIONS)  # with readers as by default
    assert result.exit_code == 0, result.output
    assert re.search("vidtok: calls of (4|8|12) frames, since 16 would take more than the", capfd.readouterr().err)
    found, wanted = content(tmp_path / "tight"), content(tmp_path / "roomy")
    assert {n for n in found if n.endswith(".safetensors")} == {n for n in wanted if n.endswith(".safetensors")}


CPP = """
#include <cassert>
#include <iostream>
#include <sched.h>
#include "vidtok/machine.hpp"
int main(int, char** arguments) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    assert(vidtok::detail::cores() == 1);
    std::cout << vidtok::detail::core_quota(arguments[1]);
}
"""


@pytest.mark.skipif(not shutil.which("g++") or sys.platform != "linux", reason="affinity and quotas of Linux")
def test_cores_in_cpp(tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text(CPP)
    include = Path(__file__).parents[2] / "runtime/cpp/include"
    subprocess.run(["g++", "-std=c++17", f"-I{include}", tmp_path / "main.cpp", "-o", tmp_path / "main"], check=True)
    for i, (files, count) in enumerate(CORES):
        root = tmp_path / str(i)
        write(root, files)
        done = subprocess.run([tmp_path / "main", root], check=True, capture_output=True, text=True)
        assert min(12, math.ceil(float(done.stdout) or 12)) == count, files
