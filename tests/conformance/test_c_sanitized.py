"""The C API under sanitizers: the kit, what it promises about threads, and any bytes as a token file."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from c_program import CPP, Coder, headers, needs, onnxruntime
from cases import KIT, Case, every_case, read_cases
from cpp_program import bash
from filelock import FileLock

pytestmark = pytest.mark.slow
SOURCES = CPP / "c"


def compiled(shared: Path, name: str, sanitizers: str, program: Path, *sources: str) -> Path:
    """A program with these sources of libvidtok, or all of them, in it; built once for all processes of a run."""
    needs("clang")
    out = shared / name
    includes = next(headers().glob("include/**/onnxruntime_cxx_api.h")).parent
    flags = f"-g -O1 -fno-sanitize-recover=all -fsanitize={sanitizers} -I{CPP}/include -isystem {includes} -w"
    own = """-DVIDTOK_VERSION='"0.1.0"' -DVIDTOK_OPENVINO_MODULE='"none.so"' -DVIDTOK_ENGINE_NAME='"none"'"""
    files = sources or [file.name for file in SOURCES.glob("*.cpp") if file.name != "openvino_module.cpp"]
    with FileLock(f"{out}.lock"):
        if not out.exists():
            unit = out.with_suffix(".unit.cpp")
            unit.write_text("".join(f'#include "{SOURCES / file}"\n' for file in sorted(files)))
            language = "c++" if program.suffix == ".cpp" else "c"
            bash(f"clang -x {language} {flags} -c {program} -o {out}.o")
            bash(f"clang++ -std=c++17 {own} {flags} {unit} {out}.o -o {out} -pthread -ldl")
    return out


@pytest.fixture(scope="session")
def coder(shared: Path) -> Coder:
    program = compiled(shared, "coder-sanitized", "address,undefined", SOURCES / "examples/coder.c")
    return Coder([str(program)], {"VIDTOK_ONNXRUNTIME": str(onnxruntime())})


@every_case
def test_every_case(case: Case, coder: Coder, tmp_path: Path) -> None:
    coder.check(case, tmp_path)


def test_threads(shared: Path, tmp_path: Path) -> None:
    program = compiled(shared, "threads", "thread", SOURCES / "tests/threads.c")
    case = next(case for case in read_cases() if case.name == "fsq-causal")
    _, height, width = case.size
    # The engine was not built for this sanitizer, which so sees a part of how its locks are taken and let go.
    ignored = tmp_path / "ignored"
    ignored.write_text("called_from_lib:libonnxruntime\n")
    options = f"suppressions={ignored} halt_on_error=1 report_mutex_bugs=0"
    said = bash(
        f"{program} {case.bundle} {case.input} {width} {height}",
        TSAN_OPTIONS=options,
        VIDTOK_ONNXRUNTIME=str(onnxruntime()),
    )
    assert "the same in 4 threads" in said.stdout


def test_any_bytes_as_a_token_file(shared: Path, tmp_path: Path) -> None:
    fuzzer = compiled(
        shared,
        "fuzz",
        "fuzzer,address,undefined",
        SOURCES / "tests/fuzz_token_file.cpp",
        "border.cpp",
        "token_files.cpp",
    )
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for file in [*KIT.glob("*.safetensors"), *KIT.glob("version-2/*.safetensors")]:
        shutil.copy(file, corpus / f"{file.parent.name}-{file.name}")
    options = "-runs=20000 -seed=1 -max_len=8192 -timeout=60 -print_final_stats=1"
    said = bash(f"{fuzzer} {options} -artifact_prefix={tmp_path}/ {corpus}", tmp_path, TMPDIR=str(tmp_path)).stderr
    runs = re.search(r"number_of_executed_units: (\d+)", said)
    assert runs is not None
    assert int(runs[1]) >= 20000
