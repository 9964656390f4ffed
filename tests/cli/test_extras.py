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
# Runs a program as its script does, with or without libraries; the last line names those that were loaded.
PROGRAM = """
import importlib.util, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent = sys.argv.pop(1).split()
sys.meta_path.insert(0, Absent())
from {module} import main
try:
    main(prog_name="{name}")
finally:
    print("LOADED", *sorted({engines} & sys.modules.keys()), file=sys.stderr)
"""
MODULES = {
    "vidtok-run": "vidtok_runtime.cli",
    "vidtok-export": "vidtok_export.cli",
    "vidtok-train": "vidtok_ref.train.cli",
}


def call(folder: Path, name: str, *args: object, absent: tuple[str, ...] = ()) -> tuple[int, str, list[str], list[str]]:
    """Exit code, stdout, lines on stderr, and which engines and libraries were loaded."""
    code = PROGRAM.replace("{module}", MODULES[name]).replace("{name}", name).replace("{engines}", repr(set(ENGINES)))
    command = [sys.executable, "-c", code, " ".join(absent), *map(str, args)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    *lines, loaded = done.stderr.splitlines()
    assert loaded.startswith("LOADED"), done.stderr
    return done.returncode, done.stdout, lines, loaded.split()[1:]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("vidtok-export", ["--list"]),
        ("vidtok-export", ["--help"]),
        ("vidtok-export", ["quantize", "--help"]),
        ("vidtok-export", ["metric", "fvd", "--help"]),
        ("vidtok-train", ["--help"]),
    ],
)
def test_lists_and_help_need_no_libraries(tmp_path: Path, name: str, args: list[str]) -> None:
    code, out, lines, _ = call(tmp_path, name, *args, absent=EXTRAS)
    assert (code, lines) == (0, [])
    assert len(out.splitlines()) > 10
    assert call(tmp_path, name, *args)[3] == []  # nor are they loaded where they are


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
    ("name", "args", "extra", "absent"),
    [
        *((*needing, EXTRAS) for needing in NEEDING),
        *((*needing, SOME) for needing in NEEDING[:2]),
        *(pytest.param(*needing, SOME, marks=pytest.mark.slow) for needing in NEEDING[2:]),
    ],
)
def test_one_line_names_the_extra(
    tmp_path: Path, name: str, args: list[str], extra: str, absent: tuple[str, ...]
) -> None:
    shutil.copytree(SHIPPED / "tiny-kl-16chn", tmp_path / "bundle")
    before = sorted(tmp_path.rglob("*"))
    code, _, lines, _ = call(tmp_path, name, *args, absent=(*absent, "openvino"))
    assert code == 1, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"{name}: error: this needs the extra `{extra}`")
    assert lines[0].endswith(f"pip install 'vidtok-onnx[{extra}]'")
    assert sorted(tmp_path.rglob("*")) == before


def test_models_for_the_python_backend_of_triton_need_no_extra(tmp_path: Path) -> None:
    command = ("triton", "tiny-kl-16chn", "models", "--backend", "python")
    code, out, lines, loaded = call(tmp_path, "vidtok-export", *command, absent=EXTRAS)
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


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("vidtok-run", "encode clip.mp4 -o out.safetensors"),
        ("vidtok-run", "decode tokens.safetensors -o out.mp4 --bundle bundle"),
        ("vidtok-run", "reconstruct clip.mp4 -o out.mp4"),
        ("vidtok-run", "view clip.mp4 -o out.html"),
        ("vidtok-run", "view tokens.safetensors -o out.html --bundle bundle"),
        ("vidtok-run", "bench --json out.json"),
        ("vidtok-run", "bench --plot out.png"),
        ("vidtok-run", "eval clip.mp4 --json out.json"),
        ("vidtok-run", "eval clip.mp4 --plot out.png"),
        ("vidtok-run", "eval clip.mp4 --baseline pca --pca-clips . --pca out.npz"),
        ("vidtok-run", "demo --out demo"),
        ("vidtok-export", "--variant kl-4chn --seed 1 --out bundle"),
        ("vidtok-export", "--variant kl-16chn --seed 1 --triton models"),
        ("vidtok-export", "convert clip.mp4 --variant kl-4chn -o out.safetensors"),
        ("vidtok-export", "quantize bundle --precision fp16 --precision int8 --calibrate ."),
        ("vidtok-export", "triton bundle models"),
        ("vidtok-export", "ovms bundle ovms"),
        ("vidtok-export", "metric lpips -o out.onnx"),
        ("vidtok-export", "metric fvd --weights w.pt -o out.onnx"),
    ],
)
def test_an_existing_output_is_found_before_an_engine_is_loaded(taken: Path, name: str, line: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in taken.rglob("*")}
    code, _, lines, loaded = call(taken, name, *line.split())
    assert (code, loaded) == (1, []), lines
    assert len(lines) == 1, lines
    assert "already" in lines[0]
    assert "--force" in lines[0]
    assert {path: path.stat().st_mtime_ns for path in taken.rglob("*")} == before
