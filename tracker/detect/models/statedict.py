"""Weights as people save them: found in whatever holds them, and called as the model calls them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tracker.detect.models.pickled import StandIn, children
from tracker.errors import ModelError

_DEEPEST = 12  # levels of dictionaries in dictionaries
# What wraps a module, or a part of it, without being one: torch.compile, FSDP, checkpointing.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?)([._\d]|$)", re.IGNORECASE)
# Tensors that tell how the weights were made or measured, and are none.
_COUNTERS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")
# How torchvision called its layers before 0.13, and since: its own `_load_from_state_dict`.
_RENAMED = (
    (re.compile(r"((?:^|\.)rpn\.head\.conv)\.(\w+)$"), r"\1.0.0.\2"),
    (re.compile(r"((?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
)
_MASK_LAYER = re.compile(r"((?:^|\.)mask_head)\.mask_fcn(\d+)\.(\w+)$")  # counted from 1
_DENSE_LAYER = re.compile(r"(_head\.conv)\.(\d+)\.(weight|bias)$")  # activations counted too


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The part of a file that fits a model best."""

    prefix: str  # of the names in the file; "" or with a dot at its end
    tensors: dict[str, torch.Tensor]  # by the model's own names
    extra: tuple[str, ...]  # names beside them, without the prefix, that the model does not have
    rivals: tuple[str, ...]  # other prefixes under which as much fits

    def missing(self, expected: Container[str] | Mapping[str, Any]) -> list[str]:
        """Return the names that the model has and the file has not."""
        names: Any = expected
        return [n for n in names if n not in self.tensors and not n.endswith(_COUNTERS)]


def find_tensors(content: Any) -> dict[str, torch.Tensor]:
    """Return all tensors and arrays of nested dictionaries, by their names joined with dots.

    What a pickled torch module holds is left out: it is code.
    """
    return dict(_walk(content, "", set(), _DEEPEST))


def _walk(
    content: Any, name: str, seen: set[int], levels: int
) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(content, torch.Tensor):
        if not content.is_meta:  # which has no values
            yield name, (content.dequantize() if content.is_quantized else content).detach()
    elif isinstance(content, np.ndarray) and content.dtype.kind in "fiub":
        yield name, torch.from_numpy(content.astype(content.dtype.newbyteorder("="), copy=True))
    elif levels and id(content) not in seen:
        if isinstance(content, StandIn) and content.is_module:
            return
        seen.add(id(content))
        for own, value in children(content):
            yield from _walk(value, f"{name}.{own}" if name else own, seen, levels - 1)


def fit(tensors: Mapping[str, torch.Tensor], expected: Container[str]) -> Fit:
    """Find the prefix under which most of the expected names are, old names and wrappers told.

    Of two prefixes that fit as well, averaged weights are taken, else those that come first.
    """
    places = _places(tensors, expected)
    if not places:
        return Fit("", {}, tuple(tensors), ())
    most = max(map(len, places.values()))
    best = [prefix for prefix, found in places.items() if len(found) == most]
    averaged = [prefix for prefix in best if _AVERAGED.search(prefix)]
    prefix = (averaged or best)[0]
    chosen = places[prefix]
    return Fit(
        prefix,
        {name: tensors[key] for name, key in chosen.items()},
        tuple(_extra(tensors, prefix, set(chosen.values()))),
        tuple(other for other in best if other != prefix),
    )


def _places(tensors: Iterable[str], expected: Container[str]) -> dict[str, dict[str, str]]:
    """Return for each prefix in a file the expected names under it, and their keys."""
    places: dict[str, dict[str, str]] = {}
    for key in tensors:
        for prefix, own in _splits(_unwrapped(key)):
            name = known_name(own, expected)
            if name is not None:
                places.setdefault(prefix, {}).setdefault(name, key)
    return places


def known_name(name: str, expected: Container[str]) -> str | None:
    """Return what a model calls a tensor that may have an older or a wrapped name."""
    for form in (name, name.replace(".module.", ".")):  # DDP around a part
        for own in (form, modern_name(form)):
            if own in expected:
                return own
    return None


def modern_name(name: str) -> str:
    """Return today's name of a layer that torchvision called otherwise before 0.13."""
    for old, new in _RENAMED:
        name = old.sub(new, name)
    name = _MASK_LAYER.sub(lambda m: f"{m[1]}.{int(m[2]) - 1}.0.{m[3]}", name)
    return _DENSE_LAYER.sub(lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}", name)


def _splits(key: str) -> Iterator[tuple[str, str]]:
    """Yield every way to cut a name into a prefix and the rest."""
    yield "", key
    for dot in re.finditer(r"\.", key):
        yield key[: dot.end()], key[dot.end() :]


def _unwrapped(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _extra(tensors: Mapping[str, Any], prefix: str, used: set[str]) -> Iterator[str]:
    for key in tensors:
        own = _unwrapped(key)
        if key not in used and own.startswith(prefix) and not own.endswith(_COUNTERS):
            yield own.removeprefix(prefix)


def load_state(module: nn.Module, found: Fit, source: str, name: str) -> list[str]:
    """Load weights into a module, whatever their precision.

    Returns notes on what was left out; raises ModelError that says where they do not fit.
    """
    faults = misfits(found, {key: value.shape for key, value in module.state_dict().items()})
    if faults:
        raise ModelError(f"{source}: does not fit {name}: {', '.join(faults)}")
    try:
        module.load_state_dict(found.tensors, strict=False)
    except (RuntimeError, NotImplementedError) as exc:  # of a layout that cannot be copied
        why = str(exc).strip().rpartition("\n")[2].strip()
        raise ModelError(f"{source}: cannot be loaded into {name} ({why})") from exc
    return _notes(found)


def misfits(found: Fit, shapes: Mapping[str, torch.Size]) -> list[str]:
    """Say what keeps weights from fitting a model of these shapes; nothing where they fit."""
    other = [k for k, tensor in found.tensors.items() if shapes[k] != tensor.shape]
    missing = found.missing(shapes)
    parts = {name.partition(".")[0] for name in shapes}
    # What stands beside the parts of the model (a loss, an optimizer) is nothing of it.
    unknown = [n for n in found.extra if missing or other or n.partition(".")[0] in parts]
    faults = []
    if other:
        want, got = tuple(shapes[other[0]]), tuple(found.tensors[other[0]].shape)
        faults.append(
            f"{len(other)} tensors have another shape ({other[0]}: {want} needed, got {got})"
        )
    if missing:
        faults.append(f"{len(missing)} are missing ({missing[0]})")
    if unknown:
        faults.append(f"{len(unknown)} are unknown ({unknown[0]})")
    return faults


def _notes(found: Fit) -> list[str]:
    notes = []
    if found.rivals:
        others = ", ".join(f"`{_shown(prefix)}`" for prefix in found.rivals)
        notes.append(f"the weights are those under `{_shown(found.prefix)}`, not under {others}")
    return notes


def _shown(prefix: str) -> str:
    return prefix.removesuffix(".") or "the file itself"
