"""Means over the channels as OpenVINO computes them fastest."""

from __future__ import annotations

import numpy as np

from vidtok_runtime.engines.telemetry import without_telemetry

with without_telemetry():
    import openvino as ov
    import openvino.opset13 as ops


def reduce_means(model: ov.Model) -> None:
    """Replace 1x1x1 convolutions that take the mean over the channels by reductions, in place.

    Bundles hold means as convolutions, which ONNX Runtime runs many times as fast. OpenVINO keeps channels innermost
    and reduces over them in a third of a convolution's time, and without a pass of its own for squares.
    """
    for node in model.get_ops():
        if node.get_type_name() != "Convolution":
            continue
        x, kernel = (port.get_source_output() for port in node.inputs())
        share = _share_of_each(kernel.get_node())
        if share is None:
            continue
        source = x.get_node()
        if source.get_type_name() == "Multiply" and source.input_value(0) == source.input_value(1):
            norm = ops.reduce_l2(source.input_value(0), np.array([1]), keep_dims=True)
            mean = ops.multiply(ops.multiply(norm, norm), np.float32(share))
        else:
            mean = ops.reduce_mean(x, np.array([1]), keep_dims=True)
        node.output(0).replace(mean.output(0))


def _share_of_each(kernel: ov.Node) -> float | None:
    """1 / C of a kernel `1 C 1 1 1` that takes the mean over C channels; None for every other."""
    if kernel.get_type_name() == "Convert":  # stored as float16
        kernel = kernel.input_value(0).get_node()
    if kernel.get_type_name() != "Constant" or kernel.shape[0] != 1 or kernel.data.size != kernel.shape[1]:
        return None
    share = 1 / kernel.shape[1]
    return share if share < 1 and np.allclose(kernel.data.astype(np.float32), share, rtol=1e-6, atol=0) else None
