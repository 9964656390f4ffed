"""libvidtok on other systems: cross-built, run under wine and qemu-user, held to the kit with that system's engine.

For macOS it is built, too, with all programs; nothing here runs them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_header import HEADER, Header
from c_program import CPP, NATIVE, Coder, build_library, needs
from cases import KIT, Case, every_case, read_cases
from cpp_program import bash, leftovers
from filelock import FileLock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # emulated, and by a compiler that builds its C++ library
CODER = CPP / "c/examples/coder.c"
# qemu-user shows the CPU files of this machine, in which ONNX Runtime looks for an ARM core and crashes.
ARM_CPU = """processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd07
CPU revision\t: 0
"""


def engine(system: str, name: str) -> Path:
    """ONNX Runtime for a system, out of the package onnxruntime-node; skips where it is not installed."""
    file = NATIVE / system / name
    if not file.is_file():
        pytest.skip("onnxruntime-node is not installed: ONNXRUNTIME_NODE_INSTALL=skip npm ci in runtime/web")
    return file


def cross_build(name: str, compiler: str) -> Path:
    """A folder with libvidtok and the program coder for a system of runtime/cpp/cmake."""
    needs(compiler)
    folder = build_library(name, "-DVIDTOK_OPENVINO=OFF", f"-DCMAKE_TOOLCHAIN_FILE='{CPP}/cmake/{name}.cmake'")
    unicode = "-municode" if "mingw" in compiler else ""
    with FileLock(f"{folder}.lock"):
        bash(f"{compiler} -std=c99 -Wall -Werror {unicode} -I{CPP}/include {CODER} -o coder.bin -L. -lvidtok", folder)
    return folder


@pytest.fixture(scope="session")
def windows(shared: Path) -> Coder:
    folder = cross_build("windows-x64", "x86_64-w64-mingw32-gcc-posix")
    dll = engine("win32/x64", "onnxruntime.dll")
    wine = shutil.which("wine64") or "/usr/lib/wine/wine64"
    if not Path(wine).is_file():
        pytest.skip("wine64 is not installed")
    own = {"WINEPREFIX": str(shared / "wine"), "WINEDEBUG": "-all", "VIDTOK_ONNXRUNTIME": in_wine(dll)}
    with FileLock(shared / "wine.lock"):
        if not (shared / "wine").exists():
            subprocess.run([wine, "wineboot", "-i"], env={**os.environ, **own}, capture_output=True, timeout=300)
    return Coder([wine, str(folder / "coder.bin")], own, in_wine)


def in_wine(path: Path) -> str:
    return "Z:" + str(path).replace("/", "\\")


@pytest.fixture(scope="session")
def arm64(shared: Path) -> Coder:
    folder = cross_build("linux-arm64", "aarch64-linux-gnu-gcc")
    needs("qemu-aarch64")
    so, root = engine("linux/arm64", "libonnxruntime.so.1"), shared / "arm64"
    with FileLock(shared / "arm64.lock"):
        if not root.exists():
            (root / "proc").mkdir(parents=True)
            (root / "proc/cpuinfo").write_text(ARM_CPU)
            (root / "lib").symlink_to("/usr/aarch64-linux-gnu/lib")
    own = {"VIDTOK_ONNXRUNTIME": str(so)}
    words = ["qemu-aarch64", "-L", str(root), "-E", f"LD_LIBRARY_PATH={folder}", str(folder / "coder.bin")]
    return Coder(words, own)


@pytest.fixture(params=["windows", "arm64"])
def coder(request: pytest.FixtureRequest) -> Coder:
    return request.getfixturevalue(request.param)


@every_case
def test_every_case(case: Case, coder: Coder, tmp_path: Path) -> None:
    coder.check(case, tmp_path)


def test_names_and_refusals(coder: Coder, tmp_path: Path) -> None:
    case = read_cases()[0]
    _, height, width = case.size
    folder, bundle = tmp_path / "küche 漢", tmp_path / "bündel 😀"
    folder.mkdir()
    shutil.copytree(case.bundle, bundle)
    clip, tokens, video = (folder / f"ä.{suffix}" for suffix in ("rgb", "safetensors", "f32"))
    shutil.copy(case.input, clip)
    words = ("encode", bundle, clip, tokens, width, height, 25)
    coder.run(*words)
    case.check_token_file(tokens)
    before = tokens.read_bytes()
    said = coder.run(*words, code=1)
    assert "error 6" in said
    assert "küche 漢" in said
    assert "ä.safetensors exists already" in said
    assert tokens.read_bytes() == before
    coder.run("decode", bundle, tokens, video)
    case.check_video(np.fromfile(video, "<f4").reshape(*case.size, 3))
    (bundle / "encoder.local.onnx").unlink()
    assert "bündel 😀 is incomplete" in coder.run(*words, code=1)
    absent = {**coder.environment, "VIDTOK_ONNXRUNTIME": coder.name_of(folder / "absent")}
    assert "küche 漢" in replace(coder, environment=absent).run(*words, code=1)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in (clip, tokens, video))
    assert not leftovers(folder)


@pytest.mark.parametrize(
    ("compiler", "option"), [("x86_64-w64-mingw32-g++-posix", "-static"), ("aarch64-linux-gnu-g++", "-static")]
)
def test_readers_judge_every_refusal_alike(
    compiler: str, option: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    needs(compiler)
    coder: Coder = request.getfixturevalue("windows" if "mingw" in compiler else "arm64")
    for name in ("refusals", "tiles"):
        main = tmp_path / f"{name}.cpp"  # vidtok_tests itself has an engine
        main.write_text(
            f'#include "programs.hpp"\nint main(int n, char** words) {{ return {name}({{words + 1, words + n}}); }}'
        )
        files = f"-I{CPP}/include -I{CPP}/tests {main} {CPP}/tests/{name}.cpp"
        bash(f"{compiler} -std=c++17 -O1 {option} {files} -o {tmp_path}/{name}.exe")
    words = [word for word in coder.command[:-1] if not word.startswith("LD_LIBRARY_PATH")]
    judge = Coder(
        [*(word for word in words if word != "-E"), str(tmp_path / "refusals.exe")], coder.environment, coder.name_of
    )
    judge.run(KIT)
    tiles = Coder([*judge.command[:-1], str(tmp_path / "tiles.exe")], coder.environment, coder.name_of)
    tiles.run(KIT / "tiles.json")


def test_the_dll_exports_the_header_s_functions(windows: Coder) -> None:
    dump = "x86_64-w64-mingw32-objdump"
    needs(dump)
    dll = Path(windows.command[-1]).parent / "libvidtok.dll"
    text = subprocess.run([dump, "-p", dll], capture_output=True, text=True, check=True).stdout
    names = text.split("[Ordinal/Name Pointer] Table")[1].split("\n\n")[0]
    found = {line.split()[-1] for line in names.splitlines() if line.startswith("\t[")}
    assert found == set(Header(HEADER.read_text()).functions)
    needed = {line.split()[-1].lower() for line in text.splitlines() if "DLL Name" in line}
    assert needed <= {"kernel32.dll", "msvcrt.dll", "advapi32.dll"}


# All that ONNX Runtime's library exports, for a linker that lacks the library.
ONNXRUNTIME_STUB = """--- !tapi-tbd
tbd-version: 4
targets: [ arm64-macos, x86_64-macos ]
install-name: '@rpath/libonnxruntime.1.dylib'
exports:
  - targets: [ arm64-macos, x86_64-macos ]
    symbols: [ _OrtGetApiBase ]
...
"""


@pytest.mark.parametrize(("name", "cpu"), [("macos-arm64", "ARM64"), ("macos-x64", "X86_64")])
def test_macos_is_compiled_and_linked(name: str, cpu: str, shared: Path) -> None:
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        pytest.skip("no compiler for macOS is here: python -m pip install ziglang")
    needs("llvm-nm", "llvm-objdump")
    (shared / "libonnxruntime.tbd").write_text(ONNXRUNTIME_STUB)
    folder = build_library(
        name,
        "-DVIDTOK_OPENVINO=OFF -DVIDTOK_PROGRAMS=ON -DVIDTOK_ONNXRUNTIME=ON",
        f"-DONNXRUNTIME_LIBRARY='{shared}/libonnxruntime.tbd'",
        f"-DCMAKE_TOOLCHAIN_FILE='{CPP}/cmake/{name}.cmake'",
        PATH=f"{Path(spec.origin).parent}{os.pathsep}{os.environ['PATH']}",
    )

    def said(*words: str | Path) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    library = folder / "libvidtok.0.dylib"
    for file, kind in ((library, "DYLIB"), (folder / "vidtok", "EXECUTE"), (folder / "vidtok_tests", "EXECUTE")):
        numbers = said("llvm-objdump", "--macho", "-p", file).splitlines()[3].split()
        assert (numbers[0], numbers[1], numbers[4]) == ("MH_MAGIC_64", cpu, kind)
    exported = {line.split()[-1] for line in said("llvm-nm", "-g", "--defined-only", library).splitlines()}
    # The compiler links its C++ library into ours, and exports what replaces the system's there.
    own = {symbol for symbol in exported if not symbol.startswith(("__Zn", "__Zd", "___dso_handle", "__mh_"))}
    assert own == {f"_{function}" for function in Header(HEADER.read_text()).functions}
    names = [line.split()[0] for line in said("llvm-objdump", "--macho", "--dylibs-used", library).splitlines()[1:]]
    assert names == ["@rpath/libvidtok.0.dylib", "/usr/lib/libSystem.B.dylib"]
