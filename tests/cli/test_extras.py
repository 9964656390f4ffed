"""Programs whose libraries are not installed, and what is said before any library is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.tools.demo import make_clip

EXTRAS = ("torch", "onnx", "onnxscript", "onnxsim", "safetensors", "lightning", "vector_quantize_pytorch")
ENGINES = ("torch", "onnx", "onnxruntime", "openvino", "lightning")
# Runs a program as its script does, with or without libraries, once for each list of arguments: a process takes a
# second to start. What each said is a line of JSON, with the libraries that are loaded after it.
PROGRAM = """
import contextlib, importlib.util, io, json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent, asked = map(json.loads, sys.argv[1:])
sys.meta_path.insert(0, Absent())
from {module} import main
for args in asked:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            main(args, "{name}")
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, out.getvalue(), errors.getvalue().splitlines(), sorted({engines} & sys.modules.keys())]))
"""
MODULES = {
    "vidtok-run": "vidtok_runtime.cli",
    "vidtok-export": "vidtok_export.cli",
    "vidtok-train": "vidtok_ref.train.cli",
}


Said = tuple[int, str, list[str], list[str]]  # exit code, stdout, lines on stderr, which of ENGINES are loaded


def calls(folder: Path, name: str, asked: list[list[str]], absent: tuple[str, ...] = ()) -> list[Said]:
    """What a program says to each list of arguments, one after the other in one process."""
    code = PROGRAM.replace("{module}", MODULES[name]).replace("{name}", name).replace("{engines}", repr(set(ENGINES)))
    command = [sys.executable, "-c", code, json.dumps(absent), json.dumps(asked)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(asked)
    return [(code, out, lines, loaded) for code, out, lines, loaded in said]


HELP = {
    "vidtok-export": [["--list"], ["--help"], ["quantize", "--help"], ["metric", "fvd", "--help"]],
    "vidtok-train": [["--help"]],
}


@pytest.mark.parametrize("name", HELP)
def test_lists_and_help_need_no_libraries(tmp_path: Path, name: str) -> None:
    for args, (code, out, lines, _) in zip(HELP[name], calls(tmp_path, name, HELP[name], EXTRAS), strict=True):
        assert (args, code, lines) == (args, 0, [])
        assert len(out.splitlines()) > 10, args
    for args, said in zip(HELP[name], calls(tmp_path, name, HELP[name]), strict=True):
        assert (args, said[3]) == (args, [])  # nor are they loaded where they are


NEEDING = [
    ("vidtok-export", ["--variant", "kl-4chn", "--seed", "1"], "export"),
    ("vidtok-train", ["tiny-kl-16chn", "--data", ".", "--run", "run"], "train"),
    ("vidtok-export", ["--checkpoint", "w.safetensors"], "export"),
    ("vidtok-export", ["verify", "tiny-kl-16chn"], "export"),
    ("vidtok-export", ["convert", "w.safetensors"], "export"),
    ("vidtok-export", ["quantize", "bundle", "--precision", "fp16", "--calibrate", "."], "export"),
    ("vidtok-export", ["triton", "tiny-kl-16chn", "models"], "export"),
    ("vidtok-export", ["ovms", "tiny-kl-16chn", "models"], "export"),
    ("vidtok-export", ["metric", "lpips", "--weights", "w.pth"], "export"),
]
SOME = ("onnx", "lightning", "safetensors")  # PyTorch is there, and takes its time to load


@pytest.mark.parametrize(
    ("needing", "absent"),
    [(NEEDING, EXTRAS), (NEEDING[:2], SOME), pytest.param(NEEDING[2:], SOME, marks=pytest.mark.slow)],
    ids=["all", "some of the first", "some of the others"],
)
def test_one_line_names_the_extra(
    tmp_path: Path, needing: list[tuple[str, list[str], str]], absent: tuple[str, ...]
) -> None:
    shutil.copytree(SHIPPED / "tiny-kl-16chn", tmp_path / "bundle")
    before = sorted(tmp_path.rglob("*"))
    for name in dict.fromkeys(name for name, _, _ in needing):
        own = [(args, extra) for program, args, extra in needing if program == name]
        said = calls(tmp_path, name, [args for args, _ in own], (*absent, "openvino"))
        for (args, extra), (code, _, lines, _) in zip(own, said, strict=True):
            assert (args, code) == (args, 1), lines
            assert len(lines) == 1, (args, lines)
            assert lines[0].startswith(f"{name}: error: this needs the extra `{extra}`"), args
            assert lines[0].endswith(f"pip install 'vidtok-onnx[{extra}]'"), args
    assert sorted(tmp_path.rglob("*")) == before


def test_models_for_the_python_backend_of_triton_need_no_extra(tmp_path: Path) -> None:
    command = ["triton", "tiny-kl-16chn", "models", "--backend", "python"]
    ((code, out, lines, loaded),) = calls(tmp_path, "vidtok-export", [command], EXTRAS)
    assert (code, lines, loaded) == (0, [], [])
    assert out == "models: kl-16chn_encoder, kl-16chn_decoder\n"


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, tokens of which only the head is read, and outputs that exist."""
    folder = tmp_path_factory.mktemp("taken")
    make_clip(folder / "clip.mp4", 3, 16, 16)
    tokens = Path(__file__).parents[1] / "conformance/kit/kl-causal-v1.1.tokens.safetensors"
    shutil.copyfile(tokens, folder / "tokens.safetensors")
    shutil.copytree(SHIPPED / "tiny-kl-16chn", folder / "bundle")
    for name in ("out.safetensors", "out.mp4", "out.html", "out.json", "out.png", "out.npz", "out.onnx"):
        (folder / name).write_text("mine")
    (folder / "models/kl-16chn_encoder").mkdir(parents=True)
    (folder / "ovms").mkdir()
    (folder / "ovms/config.json").write_text(json.dumps({"model_config_list": []}))
    (folder / "ovms/kl-16chn.md").write_text("mine")
    (folder / "demo").mkdir()
    (folder / "demo/side-by-side.png").write_text("mine")
    return folder


TAKEN = {
    "vidtok-run": [
        "encode clip.mp4 -o out.safetensors",
        "decode tokens.safetensors -o out.mp4 --bundle bundle",
        "reconstruct clip.mp4 -o out.mp4",
        "view clip.mp4 -o out.html",
        "view tokens.safetensors -o out.html --bundle bundle",
        "bench --json out.json",
        "bench --plot out.png",
        "eval clip.mp4 --json out.json",
        "eval clip.mp4 --plot out.png",
        "eval clip.mp4 --baseline pca --pca-clips . --pca out.npz",
        "demo --out demo",
    ],
    "vidtok-export": [
        "--variant kl-4chn --seed 1 --out bundle",
        "--variant kl-16chn --seed 1 --triton models",
        "convert clip.mp4 --variant kl-4chn -o out.safetensors",
        "quantize bundle --precision fp16 --precision int8 --calibrate .",
        "triton bundle models",
        "ovms bundle ovms",
        "metric lpips -o out.onnx",
        "metric fvd --weights w.pt -o out.onnx",
    ],
}


@pytest.mark.parametrize("name", TAKEN)
def test_an_existing_output_is_found_before_an_engine_is_loaded(taken: Path, name: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in taken.rglob("*")}
    for line, (code, _, lines, loaded) in zip(
        TAKEN[name], calls(taken, name, [line.split() for line in TAKEN[name]]), strict=True
    ):
        assert (line, code, loaded) == (line, 1, []), lines
        assert len(lines) == 1, (line, lines)
        assert "already" in lines[0], line
        assert "--force" in lines[0], line
    assert {path: path.stat().st_mtime_ns for path in taken.rglob("*")} == before
