"""Means over the channels on OpenVINO: reductions in the place of convolutions, with the same results."""

import collections

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from vidtok_runtime.engines.openvino_means import reduce_means


def kinds(model: ov.Model) -> collections.Counter[str]:
    return collections.Counter(node.get_type_name() for node in model.get_ops())


def network(kernel: np.ndarray, squares: bool) -> ov.Model:
    """A convolution with a kernel `O C 1 1 1`, of a video or of its squares."""
    x = ops.parameter([1, kernel.shape[1], -1, -1, -1], np.float32)
    weights = ops.constant(kernel)
    weights = weights if kernel.dtype == np.float32 else ops.convert(weights, "f32")
    source = ops.multiply(x, x) if squares else x
    y = ops.convolution(source, weights, [1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1])
    return ov.Model([ops.result(y)], [x], "means")


def run(model: ov.Model, x: np.ndarray) -> np.ndarray:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(x)[0])


@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_mean_is_reduced(squares: bool, dtype: type) -> None:
    model = network(np.full((1, 32, 1, 1, 1), 1 / 32, dtype), squares)
    x = np.random.default_rng(0).normal(0.3, 2, (1, 32, 2, 3, 5)).astype(np.float32)
    reduce_means(model)
    assert not kinds(model)["Convolution"]
    assert kinds(model)["ReduceL2" if squares else "ReduceMean"] == 1
    expected = (x * x if squares else x).mean(1, keepdims=True)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", [np.full((1, 4, 1, 1, 1), 0.5), np.full((2, 4, 1, 1, 1), 0.25), np.eye(4)[:1]])
def test_other_convolutions_stay(kernel: np.ndarray) -> None:
    model = network(kernel.reshape(*kernel.shape[:2], 1, 1, 1).astype(np.float32), False)
    reduce_means(model)
    assert kinds(model)["Convolution"] == 1
