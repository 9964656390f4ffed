"""`vidtok-run doctor`: what works here, and what is said about what does not."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.cli import main
from vidtok_runtime.tools import doctor as module


def doctor(*args: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *args])


def test_a_healthy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    result = doctor("--json")
    assert result.exit_code == 0, result.output
    findings = json.loads(result.stdout)
    assert findings["versions"]["numpy"]
    assert findings["machine"]["usable_cores"] >= 1
    assert findings["video"]["decoders"]["h264"] is True
    assert findings["self_test"]["passed"] is True
    tested = findings["self_test"]["providers"]
    assert set(tested) == {name for name, reason in findings["providers"].items() if reason is None}
    assert all(row["psnr"] > 30 and row["difference"] < 1e-4 for row in tested.values())
    monkeypatch.setattr(module, "_self_test", lambda _: findings["self_test"])  # once is enough
    text = doctor()
    assert text.exit_code == 0
    assert "self-test               tiny-kl-16chn: passed" in text.stdout


def test_it_needs_no_torch() -> None:
    code = "import sys, vidtok_runtime.tools.doctor as d; d.diagnose(); assert not {'torch', 'onnx'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "onnxruntime" else found(name, *a)
    )
    result = doctor()
    assert result.exit_code == 0, result.output  # OpenVINO is left
    assert "provider cpu            not usable: onnxruntime is not installed; pip install 'vidtok-onnx[cpu]'" in (
        result.stdout
    )


def test_libraries_of_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="stores need the extra `remote`")
    registry = pytest.importorskip("fsspec.registry")
    monkeypatch.setattr(module, "_self_test", lambda _: {"bundle": "x", "passed": True, "providers": defaultdict(dict)})
    monkeypatch.setattr(module, "_outcome", lambda _: "")
    assert f"files of s3://          s3fs {metadata.version('s3fs')}\n" in doctor().stdout
    for scheme, library in (("s3", "s3fs"), ("gs", "gcsfs")):
        monkeypatch.delitem(registry._registry, scheme, raising=False)
        monkeypatch.setitem(sys.modules, library, None)
    text = doctor().stdout
    assert "files of s3://          not usable: s3:// needs s3fs; pip install 'vidtok-onnx[remote]'\n" in text
    assert "files of gs://          not usable: gs:// needs gcsfs; pip install gcsfs\n" in text
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert "s3:// needs fsspec; pip install 'vidtok-onnx[remote]'" in doctor().stdout


def test_a_bundle_that_is_altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(SHIPPED, tmp_path / "bundles")
    with (tmp_path / "bundles/tiny-kl-16chn/encoder.local.onnx").open("ab") as file:
        file.write(b"more")
    monkeypatch.setattr("vidtok_runtime.bundle.lookup.SHIPPED", tmp_path / "bundles")
    result = doctor()
    assert result.exit_code == 1
    assert "encoder.local.onnx is altered" in result.stdout
    assert "tiny-kl-16chn: FAILED" in result.stdout


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.missing_cuda_library() is None  # the installed engine has no CUDA provider at all
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi/libonnxruntime_providers_cuda.so").write_bytes(b"")
    spec = ModuleSpec("onnxruntime", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    load = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda _: load("libcublasLt.so.77"))
    assert module.missing_cuda_library() == "libcublasLt.so.77"
