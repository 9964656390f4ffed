"""C, Rust, Go and Java on the installed libvidtok: each codes the kit with its own streams."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from c_program import CPP, PAGE_C, Coder, build_library, needs, onnxruntime
from cases import KIT, Case, every_case, read_cases
from cpp_program import ROOT, bash
from filelock import FileLock

from vidtok_runtime.bundle.lookup import find_bundle

pytest_plugins = ["c_builds"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def paths(prefix: Path, shared: Path) -> dict[str, str]:
    """What programs need to be built with the installed library, and to find it and the engine."""
    needs("pkg-config")
    return {
        "PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig"),
        "LD_LIBRARY_PATH": str(prefix / "lib"),
        "VIDTOK_ONNXRUNTIME": str(onnxruntime()),
        "GOCACHE": str(shared / "go-cache"),  # Go's own remembers where pkg-config found the library of an earlier run
    }


@pytest.fixture(scope="session")
def c(paths: dict[str, str], shared: Path) -> Coder:
    needs("cc")
    program = shared / "coder"
    with FileLock(shared / "c.lock"):
        words = f"cc -std=c99 -pedantic -Wall -Wextra -Werror {CPP}/c/examples/coder.c -o coder"
        if not program.exists():  # another process may run it
            bash(f"{words} $(pkg-config --cflags --libs vidtok)", shared, **paths)
    return Coder([str(program)], paths)


@pytest.fixture(scope="session")
def c_openvino(c: Coder) -> Coder:
    """The same program with a library that has the module for OpenVINO beside it."""
    openvino = pytest.importorskip("openvino")
    folder = build_library("c-openvino", f"-DOpenVINO_DIR='{openvino.__path__[0]}/cmake'")
    own = {key: value for key, value in c.environment.items() if key != "VIDTOK_ONNXRUNTIME"}
    return Coder(c.command, {**own, "LD_LIBRARY_PATH": str(folder), "VIDTOK_PROVIDER": "openvino"})


@pytest.fixture(scope="session")
def rust(paths: dict[str, str], shared: Path) -> Coder:
    """By Debian's compiler where it is, which is the oldest that the crate promises."""
    needs("cargo")
    if Path("/usr/bin/cargo").is_file():
        paths = {**paths, "PATH": f"/usr/bin{os.pathsep}{os.environ['PATH']}"}
    with FileLock(shared / "rust.lock"):
        folder = ROOT / "runtime/rust"
        bash("cargo build --offline --locked --example coder", folder, **paths, CARGO_TARGET_DIR=str(shared / "rust"))
    return Coder([str(shared / "rust/debug/examples/coder")], paths)


@pytest.fixture(scope="session")
def go(paths: dict[str, str], shared: Path) -> Coder:
    needs("go", "cc")
    program = shared / "coder-go"
    with FileLock(shared / "go.lock"):
        if not program.exists():
            words = f"go vet ./... && go build -o {program} ./cmd/coder"
            bash(words, ROOT / "runtime/go", **paths, GOFLAGS="-mod=mod")
    return Coder([str(program)], paths)


@pytest.fixture(scope="session")
def java(paths: dict[str, str], shared: Path) -> Coder:
    """Built by the commands of runtime/java/README.md."""
    needs("javac", "java", "cc")
    work = shared / "java"
    with FileLock(shared / "java.lock"):
        if not work.exists():
            shutil.copytree(ROOT / "runtime/java", work)
            build = (work / "README.md").read_text().split("```bash\n")[1].split("```")[0]
            bash(build, work, **paths)
    words = ["java", "-Xshare:auto", f"-Djava.library.path={work}", "-cp", str(work / "classes"), "Coder"]
    return Coder(words, paths)


@pytest.fixture(params=["c", "c_openvino", "rust", "go", "java"])
def coder(request: pytest.FixtureRequest) -> Coder:
    return request.getfixturevalue(request.param)


@every_case
def test_every_case(case: Case, coder: Coder, tmp_path: Path) -> None:
    coder.check(case, tmp_path)


def test_errors_are_the_library_s(coder: Coder, tmp_path: Path) -> None:
    case = read_cases()[0]
    _, height, width = case.size
    out = tmp_path / "clip.safetensors"
    encode = ("encode", case.bundle, case.input, out, width, height, 25, 1)
    assert "manifest.json" in coder.run("encode", tmp_path, *encode[2:], code=1)
    other = KIT / "kl-causal-v1.1"
    assert "were made by" in coder.run("decode", other, case.tokens, tmp_path / "x.f32", 1, code=1)
    coder.run(*encode)
    before = out.read_bytes()
    assert "exists already" in coder.run(*encode, code=1)
    assert out.read_bytes() == before
    out.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert "checksum" in coder.run("decode", case.bundle, out, tmp_path / "y.f32", 1, code=1)


def test_a_limit_of_memory(coder: Coder, tmp_path: Path) -> None:
    case = read_cases()[0]
    frames, height, width = case.size
    words = ("encode", case.bundle, case.input, tmp_path / "clip.safetensors", width, height, 25, frames)
    tight, roomy = (
        replace(coder, environment={**coder.environment, "VIDTOK_MAX_MEMORY": limit})
        for limit in ("60000000", "3000000000")
    )
    padded = "x".join(str(-(-edge // 8) * 8) for edge in (width, height))
    assert f"{padded} does not fit into 60MB with " in tight.run(*words, code=1)
    roomy.run(*words)
    case.check_token_file(tmp_path / "clip.safetensors")


def test_the_program_of_the_page(paths: dict[str, str], prefix: Path, tmp_path: Path) -> None:
    needs("cc")
    (tmp_path / "app.c").write_text((ROOT / "docs/c-api.md").read_text().split("```c\n")[1].split("```")[0])
    (tmp_path / "tiny-kl-16chn").symlink_to(find_bundle("tiny-kl-16chn").folder)
    lines = PAGE_C[2].replace("/path/to/libonnxruntime.so.1", paths["VIDTOK_ONNXRUNTIME"])
    assert bash(lines, tmp_path, PREFIX=str(prefix)).stdout == "6 latents\n"


GO = """package main
import ("fmt"; "os"; "vidtok")
func run() error {{
{}}}
func main() {{ if run() != nil {{ os.Exit(1) }} }}
"""
# Frames of more bytes than a machine has, and than an integer counts.
GO_REFUSED = """tok, err := vidtok.Open("tiny-kl-16chn", vidtok.Options{Threads: 1})
if err != nil {
	return err
}
for _, chunk := range []int{1 << 28, 1 << 31} {
	if _, err = tok.Encode(os.Stdin, 65536, 65536, chunk); err == nil {
		break
	}
}
refused, ok := err.(*vidtok.Error)
fmt.Println(ok && refused.Kind == vidtok.InputError)
return nil
"""
JAVA = """import java.io.OutputStream;
import java.nio.file.Path;
import java.util.*;
import vidtok.*;
class Readme {{
    public static void main(String[] words) throws Exception {{
        Iterator<byte[]> clip = Collections.nCopies(5, new byte[4 * 36 * 60 * 3]).iterator();
        OutputStream out = System.out;
{}    }}
}}
"""


@pytest.mark.parametrize("name", ["rust", "go"])
def test_the_example_of_the_readme(
    name: str, paths: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(name)
    work = tmp_path / name
    shutil.copytree(ROOT / "runtime" / name, work)
    (work / "tiny-kl-16chn").symlink_to(find_bundle("tiny-kl-16chn").folder)
    code = (work / "README.md").read_text().split(f"```{name}\n")[1].split("```")[0]
    if name == "rust":
        (work / "examples/readme.rs").write_text(code)
        said = bash("cargo run -q --offline --example readme", work, **paths).stdout
        assert sum(int(line.split()[0]) for line in said.splitlines()) == 20
    else:
        for program, lines in (("readme", code), ("refused", GO_REFUSED)):
            (work / "cmd" / program).mkdir()
            (work / "cmd" / program / "main.go").write_text(GO.format(lines))
        said = bash("head -c 129600 /dev/zero | go run ./cmd/readme", work, **paths).stdout
        assert sum(map(int, said.split())) == 6  # latents of 20 frames
        assert bash("go run ./cmd/refused", work, **paths).stdout == "true\n"


def java_program(java: Coder, code: Path, *words: object) -> str:
    """Lines that build and run a program of one file."""
    classes = f"{java.command[-2]}:{code.parent}"
    command = [*java.command[:-2], classes, code.stem, *map(str, words)]
    return f"javac -Xlint:all -Werror -cp {classes} -d {code.parent} {code}\n{shlex.join(command)}"


def test_the_example_of_the_java_readme(java: Coder, tmp_path: Path) -> None:
    (tmp_path / "tiny-kl-16chn").symlink_to(find_bundle("tiny-kl-16chn").folder)
    code = (ROOT / "runtime/java/README.md").read_text().split("```java\n")[1].split("```")[0]
    (tmp_path / "Readme.java").write_text(JAVA.format(code))
    lines = java_program(java, tmp_path / "Readme.java")
    assert int(bash(f"{lines} | wc -c", tmp_path, **java.environment).stdout) == 20 * 36 * 60 * 3


def test_results_end_in_java(java: Coder, tmp_path: Path) -> None:
    shutil.copy(ROOT / "runtime/java/tests/Ends.java", tmp_path)
    case = read_cases()[0]
    bash(java_program(java, tmp_path / "Ends.java", case.bundle, case.tokens), tmp_path, **java.environment)


@pytest.mark.parametrize("name", ["rust", "go"])
def test_the_language_s_own_checks(
    name: str, paths: dict[str, str], shared: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(name)
    folder = ROOT / "runtime" / name
    if name == "go":
        needs("gofmt")
        assert subprocess.run(["gofmt", "-l", "."], cwd=folder, capture_output=True, text=True).stdout == ""
    else:
        unsafe = [file.name for file in folder.rglob("src/*.rs") if "unsafe {" in file.read_text()]
        assert unsafe == ["sys.rs"]
