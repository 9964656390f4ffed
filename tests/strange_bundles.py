"""Bundles as strangers may make them: an encoder that never returns, one that gives other sizes than it promises."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vidtok_runtime.bundle.lookup import SHIPPED


def replace_graph(bundle: Path, file: str, content: bytes) -> None:
    """Another graph in the place of `file`, with its SHA-256 in the manifest."""
    (bundle / file).write_bytes(content)
    raw = json.loads((bundle / "manifest.json").read_text())
    (row,) = (row for row in raw["graphs"] if row["file"] == file)
    row["sha256"] = hashlib.sha256(content).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(raw))


def rename(model: onnx.ModelProto, name: str, other: str) -> None:
    """Another name for a value inside the graph, so that its own is free for another output."""
    for node in model.graph.node:
        node.output[:] = [other if found == name else found for found in node.output]
        node.input[:] = [other if found == name else found for found in node.input]


def lying_bundle(folder: Path, output: str, axis: int) -> Path:
    """The shipped FSQ bundle, whose encoder gives an output twice as long along an axis."""
    shutil.copytree(SHIPPED / "tiny-fsq-32768", folder)
    file = "encoder.global.onnx" if output in ("indices", "latent") else "encoder.local.onnx"
    model = onnx.load(folder / file)
    rename(model, output, "own")
    model.graph.node.append(helper.make_node("Concat", ["own", "own"], [output], axis=axis))
    (told,) = (port for port in model.graph.output if port.name == output)
    told.type.tensor_type.shape.dim[axis].dim_param = "any"
    replace_graph(folder, file, model.SerializeToString())
    return folder


def listing_bundle(folder: Path) -> Path:
    """The shipped FSQ bundle, whose encoder gives a list of latents, under the name that the manifest tells."""
    shutil.copytree(SHIPPED / "tiny-fsq-32768", folder)
    file = "encoder.global.onnx"
    model = onnx.load(folder / file)
    rename(model, "latent", "own")
    model.graph.node.append(helper.make_node("SequenceConstruct", ["own"], ["latent"]))
    (told,) = (port for port in model.graph.output if port.name == "latent")
    told.CopyFrom(helper.make_tensor_sequence_value_info("latent", TensorProto.FLOAT, None))
    replace_graph(folder, file, model.SerializeToString())
    return folder


def endless_bundle(folder: Path) -> Path:
    """The shipped FSQ bundle, with a loop of 10^9 matrix products behind its encoder."""
    shutil.copytree(SHIPPED / "tiny-fsq-32768", folder)
    file = "encoder.global.onnx"
    model = onnx.load(folder / file)
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
    rename(model, "latent", "own latent")
    graph.node.extend(
        [
            helper.make_node("Shape", ["features"], ["sizes"]),
            helper.make_node("Gather", ["sizes", "first"], ["one"]),  # N, so that no engine can fold the loop
            helper.make_node("Mul", ["one", "often"], ["count"]),
            helper.make_node("Squeeze", ["count"], ["trips"]),
            helper.make_node("Loop", ["trips", "yes", "start"], ["end"], body=body),
            helper.make_node("ReduceMax", ["end"], ["most"], keepdims=0),
            helper.make_node("Add", ["own latent", "most"], ["latent"]),
        ]
    )
    onnx.checker.check_model(model)
    replace_graph(folder, file, model.SerializeToString())
    return folder
