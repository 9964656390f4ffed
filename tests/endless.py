"""A bundle whose encoder never returns from its first call, as one from a stranger may be made."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vidtok_runtime.bundles import SHIPPED


def replace_encoder(bundle: Path, model: onnx.ModelProto) -> None:
    """Another encoder, with its SHA-256 in the manifest."""
    content = model.SerializeToString()
    (bundle / "encoder.onnx").write_bytes(content)
    raw = json.loads((bundle / "manifest.json").read_text())
    raw["graphs"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(raw))


def endless_bundle(folder: Path) -> Path:
    """The shipped FSQ bundle, with a loop of 10^9 matrix products behind its encoder."""
    shutil.copytree(SHIPPED / "tiny-fsq-32768", folder)
    model = onnx.load(folder / "encoder.onnx")
    graph = model.graph
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["a", "a"], ["product"]),
            helper.make_node("Tanh", ["product"], ["a_next"]),
            helper.make_node("Identity", ["go"], ["go_next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [256, 256]),
        ],
        [
            helper.make_tensor_value_info("go_next", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a_next", TensorProto.FLOAT, [256, 256]),
        ],
    )
    constants = {
        "often": np.array([10**9], np.int64),
        "start": np.full((256, 256), 0.01, np.float32),
        "yes": np.array(True),
        "first": np.array([0], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    for node in graph.node:
        node.output[:] = ["own latent" if name == "latent" else name for name in node.output]
        node.input[:] = ["own latent" if name == "latent" else name for name in node.input]
    graph.node.extend(
        [
            helper.make_node("Shape", ["video"], ["sizes"]),
            helper.make_node("Gather", ["sizes", "first"], ["one"]),  # N, so that no engine can fold the loop
            helper.make_node("Mul", ["one", "often"], ["count"]),
            helper.make_node("Squeeze", ["count"], ["trips"]),
            helper.make_node("Loop", ["trips", "yes", "start"], ["end"], body=body),
            helper.make_node("ReduceMax", ["end"], ["most"], keepdims=0),
            helper.make_node("Add", ["own latent", "most"], ["latent"]),
        ]
    )
    onnx.checker.check_model(model)
    replace_encoder(folder, model)
    return folder
