"""I3D (Carreira and Zisserman 2017), whose Kinetics-400 logits FVD compares, under the names of common weight files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidtok_ref.errors import ShapeError, WeightsError
from vidtok_ref.weights import load_into, read_weights

SIZE = 224
CLASSES = 400
MIN_FRAMES = 9  # an eighth of them, rounded up, must fill the last pooling, which sees two
Triple = tuple[int, int, int]

# Outputs of the Inception blocks: 1x1x1; 1x1x1, 3x3x3; 1x1x1, 3x3x3; 1x1x1 behind a pooling.
_MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
# Kernel and stride of the pooling in front of a block.
_POOLED: dict[str, tuple[Triple, Triple]] = {
    "3b": ((1, 3, 3), (1, 2, 2)),
    "4b": ((3, 3, 3), (2, 2, 2)),
    "5b": ((2, 2, 2), (2, 2, 2)),
}


def _pad(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Zeros so that a stride leaves ceil(size / stride), as TensorFlow does: an odd one more goes behind."""
    pads: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max(0, (-(-size // s) - 1) * s + k - size)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads) if any(pads) else x


class Unit(nn.Module):
    """Convolution, batch norm, ReLU: `N C T H W` to `N C' T/s H/s W/s`, rounded up."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel, kernel, kernel), (stride, stride, stride)
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv3d(_pad(x, self.kernel, self.stride))))


class Pool(nn.Module):
    """Maximum; the zeros of the padding change nothing behind a ReLU."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool3d(_pad(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """Four branches, joined along C."""

    def __init__(self, inputs: int, outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = Unit(inputs, outputs[0])
        self.b1a = Unit(inputs, outputs[1])
        self.b1b = Unit(outputs[1], outputs[2], 3)
        self.b2a = Unit(inputs, outputs[3])
        self.b2b = Unit(outputs[3], outputs[4], 3)
        self.b3a = Pool((3, 3, 3), (1, 1, 1))
        self.b3b = Unit(inputs, outputs[5])

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x)))
        return torch.cat(branches, dim=1)


class _Logits(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.conv3d(x)
        return logits


class I3D(nn.Module):
    """Clips `N 3 T 224 224` in -1..1, T at least 9, to logits `N 400`, the mean over time. Raises ShapeError."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.pool_2a = Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        channels = 192
        for name, outputs in _MIXED.items():
            if name in _POOLED:
                self.add_module(f"pool_{name}", Pool(*_POOLED[name]))
            self.add_module(f"Mixed_{name}", Mixed(channels, outputs))
            channels = outputs[0] + outputs[2] + outputs[4] + outputs[5]
        self.trunk = [name for name, _ in self.named_children()]
        self.logits = _Logits(channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 5 or x.shape[1] != 3 or x.shape[2] < MIN_FRAMES or x.shape[3:] != (SIZE, SIZE):
            raise ShapeError(f"I3D takes N 3 T {SIZE} {SIZE} with T of at least {MIN_FRAMES}, got {list(x.shape)}")
        for name in self.trunk:
            x = self.get_submodule(name)(x)
        x = functional.avg_pool3d(x, (2, 7, 7), stride=1)
        logits: Tensor = self.logits(x)
        return logits.mean((2, 3, 4))


def _is_program(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any("/code/" in name for name in file.namelist())


def load_i3d(path: Path) -> I3D:
    """I3D with the weights of a state dict (`i3d_pretrained_400.pt`, `rgb_imagenet.pt`); raises WeightsError."""
    if _is_program(path):
        raise WeightsError(
            f"{path} is a TorchScript program, which must be run to be read; give a state dict of pytorch-i3d instead: "
            "i3d_pretrained_400.pt or rgb_imagenet.pt"
        )
    model = I3D().eval().requires_grad_(requires_grad=False)
    # Counters of training steps: old files lack them, and nothing here reads them.
    counters = {k: t for k, t in model.state_dict().items() if k.endswith("num_batches_tracked")}
    weights = {k.removeprefix("module."): t for k, t in read_weights(path).items()}
    load_into(model, counters | weights, f"I3D ({path}: a state dict of the pytorch-i3d kind is wanted)")
    return model
