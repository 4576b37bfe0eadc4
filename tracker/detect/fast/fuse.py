"""Rewrite a module: batch norms folded, additions and activations taken into the layers."""

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

from tracker.detect.fast.layer import Layer

log = logging.getLogger(__name__)
_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
_LARGE = 1e30  # values on a test picture that may overflow on another
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
            _watch_large_values(fused, example)
            found = tensors_of(fused(example.clone()))  # parts may work in place
    except Exception as exc:  # whatever the user's module does that a trace cannot follow
        why = f"{type(exc).__name__}: {exc}".partition("\n")[0]
        log.info("%s runs as it is, for it cannot be traced (%s)", name, why)
        return module
    if len(found) != len(expected) or not all(map(_agree, found, expected)):
        log.info("%s runs as it is, for its fused form answers otherwise", name)
        return module
    return fused


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
        if sum(other.target == before.target for other in fused.graph.nodes) > 1:
            continue  # the layer is used elsewhere without this norm
        folded = _folded(layer, norm)
        fused.set_submodule(before.target, folded)
        modules[before.target] = folded
        node.replace_all_uses_with(before)
        fused.graph.erase_node(node)
    fused.recompile()


def _folded(layer: nn.Conv2d, norm: FrozenBatchNorm2d | nn.BatchNorm2d) -> nn.Conv2d:
    """Return a copy of the layer that does the norm's work too."""
    scale = (cast(torch.Tensor, norm.running_var) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    bias = -cast(torch.Tensor, norm.running_mean) * scale
    if norm.bias is not None:
        bias = bias + norm.bias
    if layer.bias is not None:
        bias = bias + layer.bias * scale
    folded = _copy_of(layer)
    folded.weight = nn.Parameter(layer.weight * scale[:, None, None, None], False)
    folded.bias = nn.Parameter(bias, False)
    return folded


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
    shapes.run(example.clone())
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
        addition = None
        if isinstance(source, nn.Conv2d):
            addition = _addition(node, order, shapes.found, modules)
        if addition is not None:
            node = _take_addition(graph, node, addition)
            order[node] = order[addition]
            shapes.found[node] = shapes.found[addition]
        _take_clamps(graph, node, layer, modules, joined=addition is not None)
    fused.delete_all_unused_submodules()
    graph.lint()
    fused.recompile()


def _take_addition(graph: fx.Graph, node: fx.Node, addition: fx.Node) -> fx.Node:
    """Let the layer add the other addend, where the sum was; return its new call."""
    (other,) = (arg for arg in addition.args if arg is not node)
    with graph.inserting_before(addition):
        call = graph.call_module(str(node.target), (node.args[0], other))
    addition.replace_all_uses_with(call)
    graph.erase_node(addition)
    graph.erase_node(node)
    return call


def _take_clamps(
    graph: fx.Graph, node: fx.Node, layer: Layer, modules: dict[str, nn.Module], *, joined: bool
) -> None:
    """Take the activations behind a layer into it; a `joined` layer also adds."""
    while len(node.users) == 1:
        user = next(iter(node.users))
        bounds = _clamp(user, modules)
        # Behind an addition the kernels know no other activation than relu.
        if bounds is None or (joined and bounds != (0.0, math.inf)):
            return
        layer.clamp(*bounds)
        user.replace_all_uses_with(node)
        graph.erase_node(user)


def _watch_large_values(fused: fx.GraphModule, example: torch.Tensor) -> None:
    """Run layers with very large results by plain kernels: packed ones turn NaN into 0."""

    def look(layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        cast(Layer, layer).careful |= not float(output.abs().max()) < _LARGE

    layers = [module for module in fused.modules() if isinstance(module, Layer)]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    fused(example.clone())
    for hook in hooks:
        hook.remove()


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
    node: fx.Node,
    order: dict[fx.Node, int],
    shapes: dict[fx.Node, torch.Size],
    modules: dict[str, nn.Module],
) -> fx.Node | None:
    """Return the sum of this layer's result and another of its shape, if that is its only use."""
    if len(node.users) != 1:
        return None
    user = next(iter(node.users))
    other = _other_addend(user, node)
    if other is None or shapes.get(other) != shapes.get(node):
        return None
    if user.args[0] is other and _changes_its_input(user, modules):
        return None  # it changes the other one, which somebody may still look at
    # The layer moves to where the sum is, so its input must not be changed until then.
    source = cast(fx.Node, node.args[0])
    for reader in source.users:
        between = order[node] < order.get(reader, -1) < order[user]
        if between and _changes_its_input(reader, modules):
            return None
    return user


def _other_addend(user: fx.Node, node: fx.Node) -> fx.Node | None:
    """Return what is added to a node's result; None where its user is no sum of two tensors."""
    if user.op == "call_module" or user.target not in _ADD or len(user.args) != 2 or user.kwargs:
        return None
    others = [arg for arg in user.args if isinstance(arg, fx.Node) and arg is not node]
    return others[0] if len(others) == 1 else None


def _changes_its_input(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return bool(getattr(modules.get(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    return node.target is operator.iadd or bool(node.kwargs.get("inplace", False))


def _clamp(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[float, float] | None:
    """Return the bounds of a node that only clamps its input."""
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Hardtanh):  # ReLU6 too
        return module.min_val, module.max_val
    if isinstance(module, nn.ReLU):
        return 0.0, math.inf
    if node.op == "call_module":  # which may bear any name
        return None
    if node.target in (F.relu, torch.relu, "relu", "relu_"):
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
