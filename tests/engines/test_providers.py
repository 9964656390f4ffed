"""Providers by name: what is said where one is missing, does nothing, or leaves nodes to the CPU."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.engines import ort as sessions
from vidtok_runtime.engines import registry
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.load import load_chain
from vidtok_runtime.engines.registry import PROVIDERS, choose_provider, unavailable
from vidtok_runtime.errors import BundleError, ProviderError
from vidtok_runtime.tools.demo import synthetic_frame

OTHERS = [name for name, row in PROVIDERS.items() if not row.tested]
GRAPH = Path("graph.onnx")


def session(first: str, nodes: dict[str, list[str]]) -> Any:
    """A stand-in for a loaded session, with what each provider took."""
    parts = [
        SimpleNamespace(ep_name=name, get_nodes=lambda kinds=kinds: [SimpleNamespace(op_type=kind) for kind in kinds])
        for name, kinds in nodes.items()
    ]
    return SimpleNamespace(get_providers=lambda: [first], get_provider_graph_assignment_info=lambda: parts)


@pytest.mark.parametrize("name", OTHERS)
def test_one_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(PROVIDERS, name, replace(PROVIDERS[name], plugin=None))
    with pytest.raises(ProviderError, match=f"^provider {name}: .* offers only CPUExecutionProvider; pip ") as failure:
        choose_provider(name)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("name", OTHERS)
def test_an_untested_one_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS[name].executions))
    monkeypatch.setattr(registry, "no_gpu", lambda: None)
    assert unavailable(name) is None
    assert choose_provider(name) == name
    assert f"provider {name} is untested" in capsys.readouterr().err


class Driver:
    """NVIDIA's management library, which gives a status and a number of GPUs."""

    def __init__(self, status: int, gpus: int) -> None:
        self.nvmlInit_v2 = lambda: status
        self.nvmlDeviceGetCount_v2 = lambda count: setattr(count._obj, "value", gpus)


@pytest.mark.parametrize(
    ("driver", "reason"),
    [(None, "no NVIDIA driver"), (Driver(100, 0), "no GPU"), (Driver(0, 0), "no GPU"), (Driver(0, 1), "")],
)
def test_auto_takes_no_gpu_that_is_not_there(
    driver: Driver | None, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime offers CUDA wherever its build for it is installed."""

    def load(_: str) -> Driver:
        if driver is None:
            raise OSError("no such file")
        return driver

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("ctypes.CDLL", load)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert choose_provider("auto") == ("openvino" if reason else "cuda")
    capsys.readouterr()
    if reason:
        with pytest.raises(ProviderError, match=f"^provider cuda: .*{reason}"):
            choose_provider("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_provider("auto") == "openvino"


@pytest.mark.parametrize("name", OTHERS)
def test_graphs_of_a_bundle(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes those of a provider that bundles name, with the nodes that it has no kernel for."""
    seen: list[Options] = []

    def load(_: Any, path: Path, options: Options) -> Any:
        seen.append(options)
        return PROVIDERS["cpu"].open(path, options)

    monkeypatch.setitem(PROVIDERS, name, replace(PROVIDERS[name], load=load))
    chain = load_chain(find_bundle("tiny-kl-16chn"), "decoder", name, None, Options(threads=1))
    assert [graph.entry.precision for graph in chain.graphs] == ["fp32", "fp32"]
    assert [len(options.left) for options in seen] == ([1, 3] if name == "webgpu" else [0, 0])


def test_one_that_gave_up() -> None:
    """ONNX Runtime goes on with the CPU, and says so on its own log only."""
    row = PROVIDERS["cuda"]
    with pytest.raises(ProviderError, match=r"CUDAExecutionProvider did not start on device 3; .*vidtok-onnx\[cuda\]"):
        sessions._check_taken(session("CPUExecutionProvider", {}), row, 3, GRAPH)


def test_one_that_takes_nothing() -> None:
    row = PROVIDERS["qnn"]
    idle = session("QNNExecutionProvider", {"CPUExecutionProvider": ["Conv", "Add"]})
    with pytest.raises(ProviderError, match=r"it takes no node of graph\.onnx"):
        sessions._check_taken(idle, row, 0, GRAPH)


def test_what_is_left_to_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    row = PROVIDERS["webgpu"]
    nodes = {row.executions[0]: ["Conv", "Conv", "Add"], "CPUExecutionProvider": ["Conv", "Shape"]}
    sessions._check_taken(session(row.executions[0], nodes), row, 0, GRAPH)
    assert capsys.readouterr().err == "vidtok: webgpu leaves 1 of 3 Conv of graph.onnx to the CPU\n"
    sessions._check_taken(session(row.executions[0], {row.executions[0]: ["Conv"]}), row, 0, GRAPH)
    assert capsys.readouterr().err == ""


def test_an_operator_with_wrong_results() -> None:
    row = PROVIDERS["webgpu"]
    nodes = {row.executions[0]: ["Conv", "MultiHeadAttention"]}
    with pytest.raises(BundleError, match="leaves MultiHeadAttention to webgpu, which computes it wrong; export"):
        sessions._check_taken(session(row.executions[0], nodes), row, 0, GRAPH)


def test_an_older_engine() -> None:
    """It does not tell who takes what."""
    sessions._check_taken(SimpleNamespace(get_providers=lambda: ["CUDAExecutionProvider"]), PROVIDERS["cuda"], 0, GRAPH)


def test_a_plug_in_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plug_in.py").write_text("get_library_path = lambda: '/nowhere.so'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PROVIDERS, "qnn", replace(PROVIDERS["qnn"], plugin="broken_plug_in", executions=("Absent",)))
    with pytest.raises(ProviderError, match="provider qnn: broken_plug_in does not load: "):
        choose_provider("qnn")


def test_a_plug_in_leaves_what_it_has_no_kernel_for(monkeypatch: pytest.MonkeyPatch) -> None:
    row, settings = PROVIDERS["webgpu"], ort.SessionOptions()
    given: list[Any] = []
    stand_in = SimpleNamespace(
        add_session_config_entry=settings.add_session_config_entry,
        add_provider_for_devices=lambda devices, own: given.append((devices, own)),
    )
    monkeypatch.setattr(sessions, "plugin_devices", lambda _: ["first", "second"])
    assert sessions._choices(row, stand_in, Options(left=("a", "b"), provider_options=(("x", "1"),))) == []
    assert given == [(["first"], {"x": "1"})]
    assert row.leaves is not None
    assert settings.get_session_config_entry(row.leaves) == "a\nb"


@pytest.mark.parametrize("bundle", ["tiny-kl-16chn", "tiny-fsq-32768"])
def test_webgpu(bundle: str) -> None:
    """The real one, where its package is the one that is found, on whatever Vulkan driver the machine has."""
    try:
        version("onnxruntime-webgpu")
    except PackageNotFoundError:
        pytest.skip("onnxruntime-webgpu is not the installed ONNX Runtime")
    if "VK_ICD_FILENAMES" not in os.environ:
        pytest.skip("VK_ICD_FILENAMES names no Vulkan driver")
    clip = np.stack([synthetic_frame(i, 64, 64) for i in range(9)])
    ours, theirs = (Tokenizer(bundle, provider=name) for name in ("cpu", "webgpu"))
    tokens = ours.encode(clip)
    np.testing.assert_allclose(theirs.encode(clip).data, tokens.data, atol=1e-4)
    np.testing.assert_allclose(theirs.decode(tokens, "float32"), ours.decode(tokens, "float32"), atol=1e-4)
