"""One function on the type of a layer; every kind of layer registers its lowered form in a file of its own."""

from __future__ import annotations

from functools import singledispatch

from torch import nn


@singledispatch
def lower_layer(layer: nn.Module) -> nn.Module:
    """The lowered form of a layer, which may share its tensors; any other module has its children lowered in place."""
    for name, child in layer.named_children():
        setattr(layer, name, lower_layer(child))
    return layer
