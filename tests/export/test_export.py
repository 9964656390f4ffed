"""The bundle: what is written, measured, and refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from conftest import SHALLOWEST
from onnx import TensorProto, helper, numpy_helper

from vidtok_export import ExportError, export
from vidtok_export.bundle import _write_graph
from vidtok_export.cli import main
from vidtok_export.compact import TWO_GB, graph_bytes, store_half
from vidtok_export.graph import make_graphs
from vidtok_export.verify import require, verify
from vidtok_ref import VideoTokenizer, build
from vidtok_ref.families import all_families
from vidtok_runtime.bundle.manifest import read_manifest


def test_manifest_tells_what_was_written(bundle: Path, shallow: VideoTokenizer) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    assert raw["weights"]["trained"] is False
    assert raw["weights"]["source"] == "untrained, seed 0"
    assert {row["provider"] for row in raw["parity"]["rows"]} == {"cpu", "openvino"}
    assert all(row["passed"] for row in raw["parity"]["rows"])
    for graph in raw["graphs"]:
        names = [state["input"] for state in graph["states"]]
        assert names == sorted(names)
        assert [s["output"] for s in graph["states"]] == [f"new_{n}" for n in names]
        loaded = onnx.load(bundle / graph["file"])
        flags = [flag["name"] for flag in graph["flags"]]
        assert [i.name for i in loaded.graph.input] == [graph["inputs"][0]["name"], *flags, *names]
    assert raw["stream"] == json.loads(json.dumps(asdict(shallow.stream)))
    assert (raw["family"], raw["name"], raw["config"]) == ("vidtok", shallow.config.name, shallow.config.to_dict())


def test_verification_notices_other_weights(bundle: Path, shallow: VideoTokenizer) -> None:
    manifest = read_manifest(bundle)
    require(verify(manifest, shallow, ("cpu",)))
    other = build(shallow.config, seed=1)
    with pytest.raises(ExportError, match="does not compute"):
        require(verify(manifest, other, ("cpu",)))


@pytest.mark.slow
def test_without_simplification(tmp_path: Path) -> None:
    folder = export(build("kl-4chn", **SHALLOWEST), tmp_path / "plain", simplify=False)
    assert all(row["passed"] for row in read_manifest(folder).raw["parity"]["rows"])


def test_an_existing_bundle_stays(bundle: Path, shallow: VideoTokenizer) -> None:
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(ExportError, match="--force"):
        export(shallow, bundle)
    assert (bundle / "manifest.json").read_bytes() == before


def test_calls_that_no_manifest_can_name(tmp_path: Path, shallow: VideoTokenizer) -> None:
    with pytest.raises(ExportError, match="at most 65,536 frames; give a chunk of at most 16384 latents"):
        export(shallow, tmp_path / "bundle", chunk=16385)


def test_a_failed_export_leaves_nothing(tmp_path: Path, model: VideoTokenizer) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        export(model, blocked / "bundle")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_size_of_a_graph_counts_weights_wherever_they_are() -> None:
    raw = numpy_helper.from_array(np.ones(9000, "f4"), "raw")
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [9000], [0.5] * 9000)
    inside = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(9000, "f4")))
    model = helper.make_model(helper.make_graph([inside], "g", [], [], [raw, typed]))
    assert graph_bytes(model) == pytest.approx(model.ByteSize(), rel=0.01)


@pytest.mark.slow
def test_a_graph_beyond_two_gb_has_a_size() -> None:
    model = helper.make_model(helper.make_graph([], "g", [], []))
    for name in "ab":
        model.graph.initializer.add(name=name, data_type=TensorProto.INT8, dims=[2**30], raw_data=bytes(2**30))
    assert graph_bytes(model) > TWO_GB


def test_weights_beyond_the_limit_of_a_file_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = make_graphs(build("kl-4chn", **SHALLOWEST), "encoder", simplify=False)
    sizes = [graph_bytes(graph.model) for graph in graphs]
    monkeypatch.setattr("vidtok_export.bundle.TWO_GB", min(sizes))
    for graph, size in zip(graphs, sizes, strict=True):
        row, beside = _write_graph(graph, tmp_path, weights_file=False)
        loaded = onnx.load(tmp_path / row["file"], load_external_data=False)
        outside = {t.name for t in loaded.graph.initializer if t.data_location == TensorProto.EXTERNAL}
        assert bool(outside) == bool(beside) == (size > min(sizes))
    assert len(set(sizes)) > 1


def test_half_storage_is_lossless() -> None:
    exact = np.arange(512, dtype=np.float32)
    inexact = exact + np.float32(1e-4)
    names = {"exact": exact, "inexact": inexact}
    y = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [512])]
    x = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [512])]
    nodes = [helper.make_node("Mul", ["x", "exact"], ["m"]), helper.make_node("Add", ["m", "inexact"], ["y"])]
    tensors = [numpy_helper.from_array(v, k) for k, v in names.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", x, y, tensors), opset_imports=[helper.make_opsetid("", 20)])
    store_half(model)
    onnx.checker.check_model(model)
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert kinds == {"exact.float16": TensorProto.FLOAT16, "inexact": TensorProto.FLOAT}


def test_command_line() -> None:
    runner = CliRunner()
    listed = runner.invoke(main, ["--list"])
    assert listed.exit_code == 0
    headings = [i for i, line in enumerate(listed.output.splitlines()) if not line.startswith(" ")]
    for family in all_families().values():
        (start,) = (i for i in headings if listed.output.splitlines()[i].startswith(f"{family.title}:"))
        rows = listed.output.splitlines()[start + 1 : start + 1 + len(family.configs)]
        assert [row.split()[0] for row in rows] == list(family.configs)
    assert runner.invoke(main, []).exit_code == 2
    assert runner.invoke(main, ["--variant", "kl-4chn", "--seed", "0", "--checkpoint", "a.ckpt"]).exit_code == 2
    unknown = runner.invoke(main, ["--variant", "kl-5chn", "--seed", "0"])
    assert unknown.exit_code == 1
    assert "did you mean" in unknown.output
    absent = runner.invoke(main, ["--variant", "kl-4chn", "--checkpoint", "none.ckpt"])
    assert absent.exit_code == 1
    assert "none.ckpt is neither a file nor a folder" in absent.output


@pytest.mark.slow
def test_full_width_from_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "full.ckpt"
    torch.save({"state_dict": build("kl-4chn", seed=3).state_dict()}, checkpoint)
    done = CliRunner().invoke(
        main, ["--variant", "kl-4chn", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "b")]
    )
    assert done.exit_code == 0, done.output
    assert read_manifest(tmp_path / "b").raw["weights"]["trained"] is True
