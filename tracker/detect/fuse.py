"""Fuse the convolutions and linear layers of a module with what follows them, and pack weights."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn
from torchvision.ops import FrozenBatchNorm2d

from tracker.detect.hardware import has_onednn

log = logging.getLogger(__name__)
_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
_TOLERANCE = 1e-3  # of the largest value, float32: a fused module must answer as the original does


def fuse(
    module: nn.Module, example: torch.Tensor, expected: Sequence[torch.Tensor], name: str
) -> nn.Module:
    """Return an equivalent of `module` with one tensor as its input, rewritten to run fast.

    Batch norms go into the convolutions, which take the activations and additions behind them
    into their own loop; layers are packed for the CPU's kernels when they first run. The result
    must answer `example` (N, C, H, W) float32 as the original does, with `expected`; a module that
    cannot be traced or answers otherwise is returned as it is, and the log says so.
    """
    try:
        with torch.no_grad():
            graph = _Tracer().trace(module)
            fused = fx.GraphModule(module, graph)
            _fold_batch_norms(fused)
            _fuse_layers(fused, example)
            found = tensors_of(fused(example))
    except Exception as exc:  # whatever the user's module does that a trace cannot follow
        why = f"{type(exc).__name__}: {exc}".partition("\n")[0]
        log.info("%s runs as it is, for it cannot be traced (%s)", name, why)
        return module
    if len(found) != len(expected) or not all(map(_agree, found, expected)):
        log.info("%s runs as it is, for its fused form answers otherwise", name)
        return module
    return fused


class Layer(nn.Module):
    """A convolution or linear layer with bias, an optional addition and a clamp, in one call."""

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach(), requires_grad=False)
        bias = layer.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.low, self.high = -math.inf, math.inf  # bounds of the activation
        self.exact = False  # stays in float32 whatever the others are in
        self.kind = type(layer)
        self.geometry: tuple[Any, ...] = ()
        if not isinstance(layer, nn.Linear):
            padding = cast(tuple[int, ...], layer.padding)
            self.geometry = (padding, layer.stride, layer.dilation, layer.groups)
            self.output_padding = getattr(layer, "output_padding", (0, 0))
        self._packed: torch.Tensor | None = None
        self._packed_for: tuple[int, ...] = ()

    def clamp(self, low: float, high: float) -> None:
        """Add a clamp behind whatever clamp is already there."""
        self.low, self.high = (min(max(v, low), high) for v in (self.low, self.high))

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        x = x.to(self.weight.dtype)
        if other is not None:
            other = other.to(x.dtype)
        if _packs(x):
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
        size = tuple(x.shape[1:])
        if self._packed is None or (self._packed_for != size and self.kind is nn.Conv2d):
            kernels, weight = torch.ops.mkldnn, self.weight.detach()
            padding, stride, dilation, groups = self.geometry or ((), (), (), 1)
            if self.kind is nn.Linear:
                self._packed = kernels._reorder_linear_weight(weight, None)
            elif self.kind is nn.ConvTranspose2d:
                self._packed = kernels._reorder_convolution_transpose_weight(
                    weight, padding, self.output_padding, stride, dilation, groups, x.shape
                )
            else:
                self._packed = kernels._reorder_convolution_weight(
                    weight, padding, stride, dilation, groups, x.shape
                )
            self._packed_for = size
        return cast(torch.Tensor, self._packed)

    def _apply(self, fn: Any, recurse: bool = True) -> Layer:
        self._packed = None  # what moves the weights makes the packed ones stale
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


class _Tracer(fx.Tracer):
    """Look into every module but the layers that are fused as a whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FrozenBatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _fold_batch_norms(fused: fx.GraphModule) -> None:
    modules = dict(fused.named_modules())
    for node in list(fused.graph.nodes):
        norm = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, FrozenBatchNorm2d | nn.BatchNorm2d):
            continue
        before = node.args[0]
        layer = modules.get(before.target) if before.op == "call_module" else None
        if not isinstance(layer, nn.Conv2d) or len(before.users) > 1 or norm.running_var is None:
            continue
        scale = (cast(torch.Tensor, norm.running_var) + norm.eps).rsqrt()
        weight, shift = norm.weight, norm.bias
        scale = scale if weight is None else scale * weight
        bias = -cast(torch.Tensor, norm.running_mean) * scale
        bias = bias if shift is None else bias + shift
        folded = _copy_of(layer)
        folded.weight = nn.Parameter(layer.weight * scale[:, None, None, None], False)
        if layer.bias is not None:
            bias = bias + layer.bias * scale
        folded.bias = nn.Parameter(bias, False)
        fused.set_submodule(before.target, folded)
        modules[before.target] = folded
        node.replace_all_uses_with(before)
        fused.graph.erase_node(node)
    fused.recompile()


def _copy_of(layer: nn.Conv2d) -> nn.Conv2d:
    """Make an empty twin: the original module stays as it is."""
    return nn.Conv2d(
        layer.in_channels, layer.out_channels, cast(Any, layer.kernel_size),
        cast(Any, layer.stride), cast(Any, layer.padding), cast(Any, layer.dilation),
        layer.groups, device="meta",
    )  # fmt: skip


def _fuse_layers(fused: fx.GraphModule, example: torch.Tensor) -> None:
    graph, modules = fused.graph, dict(fused.named_modules())
    order = {node: k for k, node in enumerate(graph.nodes)}
    shapes = _Shapes(fused)
    shapes.run(example)
    for node in list(graph.nodes):
        source = modules.get(node.target) if node.op == "call_module" else None
        if not _fusible(source):
            continue
        layer = Layer(cast(Any, source))
        path = f"{str(node.target).replace('.', '_')}_{node.name}"
        fused.add_submodule(path, layer)
        node.target = path
        if isinstance(source, nn.Linear):
            _take_flatten(graph, node, layer, shapes.found)
        if isinstance(source, nn.Conv2d) and (addition := _addition(node, order, shapes.found)):
            (other,) = (arg for arg in addition.args if arg is not node)
            with graph.inserting_before(addition):
                call = graph.call_module(path, (node.args[0], other))
            order[call] = order[addition]
            shapes.found[call] = shapes.found[addition]
            addition.replace_all_uses_with(call)
            graph.erase_node(addition)
            graph.erase_node(node)
            node = call
        while len(node.users) == 1 and (bounds := _clamp(next(iter(node.users)), modules)):
            user = next(iter(node.users))
            layer.clamp(*bounds)
            user.replace_all_uses_with(node)
            graph.erase_node(user)
    fused.delete_all_unused_submodules()
    graph.lint()
    fused.recompile()


class _Shapes(fx.Interpreter):
    """Note the shape of every tensor in a graph."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[fx.Node, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node as ever."""
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.found[n] = value.shape
        return value


def _fusible(module: nn.Module | None) -> bool:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


def _addition(
    node: fx.Node, order: dict[fx.Node, int], shapes: dict[fx.Node, torch.Size]
) -> fx.Node | None:
    """Return the sum of this layer's result and one that is ready before it, if there is one."""
    if len(node.users) != 1:
        return None
    user = next(iter(node.users))
    if user.target not in _ADD or len(user.args) != 2 or user.kwargs:
        return None
    others = [arg for arg in user.args if isinstance(arg, fx.Node) and arg is not node]
    if len(others) != 1 or shapes.get(others[0]) != shapes.get(node) or user.args[0] is others[0]:
        return None if len(others) != 1 or shapes.get(others[0]) != shapes.get(node) else user
    # The layer moves to where the sum is, so its own input must not be changed until then.
    return user if order.get(others[0], math.inf) < order[user] else None


def _clamp(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[float, float] | None:
    """Return the bounds of a node that only clamps its input."""
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Hardtanh):  # ReLU6 too
        return module.min_val, module.max_val
    if isinstance(module, nn.ReLU) or node.target in (F.relu, torch.relu, "relu", "relu_"):
        return 0.0, math.inf
    if node.target in ("clamp", "clamp_", torch.clamp):
        names = ("min", "max")
        given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        low, high = given.get("min"), given.get("max")
        bounds = (-math.inf if low is None else low, math.inf if high is None else high)
        if all(isinstance(v, int | float) for v in bounds):
            return cast(tuple[float, float], tuple(map(float, cast(Any, bounds))))
    return None


def _take_flatten(
    graph: fx.Graph, node: fx.Node, layer: Layer, shapes: dict[fx.Node, torch.Size]
) -> None:
    """Let a linear layer behind `flatten` take channels-last pictures without a copy."""
    flat = node.args[0]
    if not isinstance(flat, fx.Node) or len(flat.users) != 1 or not flat.args:
        return
    source = flat.args[0]
    shape = shapes.get(cast(fx.Node, source), ())
    start = flat.kwargs.get("start_dim", flat.args[1] if len(flat.args) > 1 else 0)
    if flat.target not in ("flatten", torch.flatten) or start != 1 or len(shape) != 4:
        return
    channels, height, width = shape[1:]
    columns = layer.weight.view(-1, channels, height, width).permute(0, 2, 3, 1)
    layer.weight = nn.Parameter(columns.reshape(len(layer.weight), -1), requires_grad=False)
    with graph.inserting_before(flat):
        last = graph.call_method("permute", (source, 0, 2, 3, 1))
    flat.args = (last, *flat.args[1:])


def tensors_of(output: Any) -> list[torch.Tensor]:
    """Return the tensors in a module's output, whatever lists and dictionaries they lie in."""
    if isinstance(output, torch.Tensor):
        return [output]
    values: Iterable[Any] = output.values() if isinstance(output, dict) else output
    return [tensor for value in values for tensor in tensors_of(value)]


def _agree(found: torch.Tensor, expected: torch.Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * scale))
