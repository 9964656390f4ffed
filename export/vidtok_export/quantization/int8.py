"""A float32 graph as one whose convolutions take 8-bit integers (QDQ form, which every engine reads)."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from vidtok_export.compact import is_norm, restore_float
from vidtok_export.lowering.doubling import transpose_doublings
from vidtok_export.lowering.winograd import take_back
from vidtok_runtime.engines.base import Array
from vidtok_runtime.engines.telemetry import without_telemetry

with without_telemetry():
    from onnxruntime import InferenceSession
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import create_calibrator
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

_CONV = ["Conv", "ConvTranspose"]
Feed = dict[str, Array]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def count_products(model: onnx.ModelProto, names: list[str], feed: Feed) -> dict[str, int]:
    """Multiplications that each of the named convolutions takes in a call of these inputs."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    kernels = {t.name: list(t.dims) for t in model.graph.initializer}
    found = [node for node in model.graph.node if node.name in names]
    for node in found:
        # Every input of a transposed convolution meets the whole kernel, and every output of any other.
        counted = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
        model.graph.node.append(helper.make_node("Size", [counted], [f"{node.name}.size"]))
        model.graph.output.append(helper.make_tensor_value_info(f"{node.name}.size", TensorProto.INT64, []))
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    sizes = session.run([f"{node.name}.size" for node in found], feed)
    return {
        node.name: int(size) * math.prod(kernels[node.input[1]][1:]) for node, size in zip(found, sizes, strict=True)
    }


class Quantizable:
    """A graph, the ranges of what its convolutions take, and copies with any of them quantized.

    feeds: inputs of calls from the middle of streams as from their start, states included.
    products: multiplications of each convolution in one of the calls. doublings: what is remembered otherwise now.
    """

    def __init__(self, model: onnx.ModelProto, feeds: list[Feed]) -> None:
        restore_float(model)
        take_back(model)
        for i, node in enumerate(model.graph.node):
            node.name = f"{node.op_type}.{i}"  # simplified graphs have no names
        weights = {t.name: t for t in model.graph.initializer}
        self.convolutions = [n.name for n in model.graph.node if n.op_type in _CONV and not is_norm(n, weights)]
        self.products = count_products(model, self.convolutions, feeds[-1])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph.onnx"
            path.write_bytes(model.SerializeToString())
            calibrator = create_calibrator(
                path,
                _CONV,
                augmented_model_path=str(Path(folder) / "ranges.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
            )
            calibrator.collect_data(_Reader(feeds))
            self._ranges: Any = calibrator.compute_data()
        self.doublings = transpose_doublings(model)
        self._ranges.data |= {now: self._ranges[before] for now, before in self.doublings.inputs.items()}
        self._transposed = {n.name: n.input[0] for n in model.graph.node if n.op_type == "ConvTranspose"}
        self._bytes = model.SerializeToString()

    def model(self, quantized: set[str]) -> onnx.ModelProto:
        """A copy in which the named convolutions take unsigned 8-bit inputs and signed 8-bit kernels by channel.

        Transposed ones take signed inputs around 0: OpenVINO leaves them in float32 with any other zero.
        """
        model: onnx.ModelProto = onnx.load_from_string(self._bytes)
        if not quantized:  # the quantizer takes none for all
            return model
        inputs = [tensor for name, tensor in self._transposed.items() if name in quantized]
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=sorted(quantized),
            nodes_to_exclude=[],
            op_types_to_quantize=_CONV,
            extra_options={
                "TensorQuantOverrides": {i: [{"quant_type": QuantType.QInt8, "symmetric": True}] for i in inputs},
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": _CONV,
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        made: onnx.ModelProto = quantizer.model.model
        return made
