"""Nodes that WebGPU has no kernel for, or a wrong one, are listed in the manifest; loaders leave them to the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from vidtok_export.bundle import missing_kernels

KIT = Path(__file__).parents[1] / "conformance/kit"


@pytest.mark.parametrize("bundle", ["cosmos-windows", "fsq-causal", "omnitokenizer-squares", "open-sora-plan-shared"])
def test_manifests_of_the_kit_list_them(bundle: str) -> None:
    for entry in json.loads((KIT / bundle / "manifest.json").read_text())["graphs"]:
        model = onnx.load(KIT / bundle / entry["file"], load_external_data=False)
        found = missing_kernels(model)
        assert {engine: list(names) for engine, names in found.items()} == entry["missing_kernels"]
        kinds = {node.name: node.op_type for node in model.graph.node}
        assert {kinds[name] for names in found.values() for name in names} <= {
            "Conv",
            "ConvTranspose",
            "Cos",
            "MultiHeadAttention",
            "Sin",
        }


def test_grouped_convolutions_and_sines_are_among_them() -> None:
    model = onnx.load(KIT / "omnitokenizer-squares/encoder.global.onnx", load_external_data=False)
    kinds = {node.name: node.op_type for node in model.graph.node}
    found = [kinds[name] for name in missing_kernels(model)["webgpu"]]
    assert sorted(found) == ["Conv"] * 4 + ["Cos", "MultiHeadAttention", "Sin"]
