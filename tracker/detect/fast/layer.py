"""One convolution or linear layer with all that follows it, packed for the CPU's own kernels."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tracker.detect.hardware import has_onednn

_MOST_SIZES = 8  # for which a layer keeps packed weights: the levels of a pyramid


class Layer(nn.Module):
    """A convolution or linear layer with bias, an optional addition and a clamp, in one call."""

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach(), requires_grad=False)
        bias = layer.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.low, self.high = -math.inf, math.inf  # bounds of the activation
        self.careful = False  # runs by plain kernels, which pass NaN and infinity on
        self.exact = False  # stays in float32 whatever the others are in
        self.kind = type(layer)
        self.geometry: tuple[Any, ...] = ()
        if not isinstance(layer, nn.Linear):
            padding = cast(tuple[int, ...], layer.padding)
            self.geometry = (padding, layer.stride, layer.dilation, layer.groups)
            self.output_padding = getattr(layer, "output_padding", (0, 0))
        self._packed: dict[tuple[int, ...], torch.Tensor] = {}  # by the size of what comes in

    def clamp(self, low: float, high: float) -> None:
        """Add a clamp behind whatever clamp is already there."""
        self.low, self.high = (min(max(v, low), high) for v in (self.low, self.high))

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        x = x.to(self.weight.dtype)
        if other is not None:
            other = other.to(x.dtype)
        if not self.careful and _packs(x):
            return self._packed_call(x, other)
        y = self._plain_call(x)
        if other is not None:
            y = y + other
        return y.clamp(self.low, self.high) if self._bounded else y

    @property
    def _bounded(self) -> bool:
        return (self.low, self.high) != (-math.inf, math.inf)

    def _plain_call(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind is nn.Linear:
            return F.linear(x, self.weight, self.bias)
        padding, stride, dilation, groups = self.geometry
        if self.kind is nn.ConvTranspose2d:
            return F.conv_transpose2d(
                x, self.weight, self.bias, stride, padding, self.output_padding, groups, dilation
            )
        return F.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)

    def _packed_call(self, x: torch.Tensor, other: torch.Tensor | None) -> torch.Tensor:
        kernels = torch.ops.mkldnn
        weight = self._pack(x)
        activation: tuple[str, list[float]] = ("none", [])
        if (self.low, self.high) == (0.0, math.inf):
            activation = ("relu", [])
        elif self._bounded:
            activation = ("hardtanh", [self.low, self.high])
        if self.kind is nn.Linear:
            y = kernels._linear_pointwise(x, weight, self.bias, *activation, "")
        elif self.kind is nn.ConvTranspose2d:
            padding, stride, dilation, groups = self.geometry
            y = kernels._convolution_transpose_pointwise(
                x, weight, self.bias, padding, self.output_padding, stride, dilation, groups,
                *activation, "",
            )  # fmt: skip
        elif other is None:
            y = kernels._convolution_pointwise(
                x, weight, self.bias, *self.geometry, *activation, ""
            )
        else:
            unary, scalars = activation
            name = None if unary == "none" else unary
            y = kernels._convolution_pointwise.binary(
                x, other, weight, self.bias, *self.geometry, "add", 1.0, name, scalars, ""
            )
        return cast(torch.Tensor, y)

    def _pack(self, x: torch.Tensor) -> torch.Tensor:
        """Lay the weights out for the kernel that suits this size of picture."""
        size = tuple(x.shape[1:]) if self.kind is nn.Conv2d else ()
        if size not in self._packed:
            if len(self._packed) >= _MOST_SIZES:
                self._packed.clear()
            kernels, weight = torch.ops.mkldnn, self.weight.detach()
            padding, stride, dilation, groups = self.geometry or ((), (), (), 1)
            if self.kind is nn.Linear:
                packed = kernels._reorder_linear_weight(weight, None)
            elif self.kind is nn.ConvTranspose2d:
                packed = kernels._reorder_convolution_transpose_weight(
                    weight, padding, self.output_padding, stride, dilation, groups, x.shape
                )
            else:
                packed = kernels._reorder_convolution_weight(
                    weight, padding, stride, dilation, groups, x.shape
                )
            self._packed[size] = packed
        return self._packed[size]

    def _apply(self, fn: Any, recurse: bool = True) -> Layer:
        self._packed.clear()  # what moves the weights makes the packed ones stale
        return cast(Layer, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]


def convert(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Bring a module into a number format, but for the layers that stay exact."""
    for part in module.modules():
        if not (isinstance(part, Layer) and part.exact):
            part._apply(  # type: ignore[no-untyped-call]
                lambda t: t.to(dtype) if t.is_floating_point() else t, recurse=False
            )
    return module


def _packs(x: torch.Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and has_onednn()
    )
