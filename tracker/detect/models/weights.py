"""Files of weights: tensors, and with them what the model is, what it knows and how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from tracker.detect.models.classnames import Names, find_names
from tracker.detect.models.contents import check_contents, is_safetensors
from tracker.detect.models.pickled import (
    StandIn,
    children,
    code_refusal,
    find_stand_ins,
    read_pickled,
)
from tracker.detect.models.statedict import find_tensors
from tracker.errors import ModelError
from tracker.files import new_file

FORMAT = "mask-tracker-model"
VERSION = 1
_BUILDER_KEYS = ("model", "model_name", "arch", "architecture", "builder")
EMBEDDED = Path(__file__).with_name("embedded.safetensors")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model of ours says of itself: the metadata of its file.

    Its training cut masks out by half-open boxes, so they are placed so, not as torchvision does.
    """

    architecture: str  # name of a builder
    categories: tuple[str, ...]  # label -> name; 0 is the background
    min_size: int  # shorter side of pictures in the model, px
    max_size: int  # longer side, px
    image_mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of RGB in [0, 1], taken off
    image_std: tuple[float, ...] = (0.229, 0.224, 0.225)  # then divided by
    norm_epsilon: float | None = None  # of all batch norms, where it is not the builder's
    card: dict[str, Any] = field(default_factory=dict)  # how it was made, how good it is


@dataclass(frozen=True, slots=True, eq=False)
class WeightsFile:
    """What a file holds."""

    tensors: Mapping[str, torch.Tensor]  # all of them, by names joined with dots
    names: tuple[Names, ...] = ()  # every list in it that may be that of its classes
    info: ModelInfo | None = None  # where the file is one of ours
    builders: tuple[str, ...] = ()  # names of models in it
    pickled: StandIn | None = None  # an object in it that was not read, a torch module before all

    @property
    def categories(self) -> Names | None:
        """The first list of names in it."""
        return self.names[0] if self.names else None


def find_weights(name: str) -> Path:
    """Return the file of `embedded`, or of a path."""
    return EMBEDDED if name == "embedded" else Path(name)


def read_weights(path: Path) -> WeightsFile:
    """Read a file of weights, whatever saved it; run no code of it. Raises ModelError."""
    try:
        check_contents(path)
        if is_safetensors(path):
            info, names = _read_metadata(path)
            return WeightsFile(safetensors.torch.load_file(path), names, info)
        content = read_pickled(path)
    except ModelError:
        raise
    except Exception as exc:
        why = str(exc).partition("\n")[0] or "it ends too early"
        raise ModelError(f"{path}: is not a file of weights ({why})") from exc
    tensors = find_tensors(content)
    objects = find_stand_ins(content)
    if not tensors and objects:
        raise code_refusal(path, objects[0])
    if "" in tensors or (not tensors and not isinstance(content, dict)):
        raise ModelError(f"{path}: must hold a dictionary of tensors")
    pickled = objects[0] if objects and objects[0].is_module else None
    return WeightsFile(tensors, find_names(content), None, _builders_named(content), pickled)


def _builders_named(content: Any) -> tuple[str, ...]:
    """Return what a checkpoint calls its model, at its top or among the settings it was made by."""
    parts = [content, *(value for _, value in children(content))]
    held = [pair for part in parts if isinstance(part, Mapping) for pair in children(part)]
    return tuple(value for key, value in held if key in _BUILDER_KEYS and isinstance(value, str))


def read_info(path: Path) -> ModelInfo | None:
    """Return what a file of ours says of itself, None of any other; tensors are not read.

    Raises ModelError.
    """
    try:
        if not path.is_file() or not is_safetensors(path):
            return None
        return _read_metadata(path)[0]
    except ModelError:
        raise
    except Exception as exc:
        why = str(exc).partition("\n")[0]
        raise ModelError(f"{path}: is not a file of weights ({why})") from exc


def save_model(
    path: Path,
    state: Mapping[str, torch.Tensor],
    info: ModelInfo,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model with all that is needed to run it; the name appears only when it is whole.

    Raises SinkError.
    """
    tensors = {
        name: (value.to(dtype) if value.is_floating_point() else value)
        .detach()
        .cpu()
        .contiguous()
        .clone()
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "architecture": info.architecture,
        "categories": json.dumps(info.categories),
        "sizes": json.dumps([info.min_size, info.max_size]),
        "normalization": json.dumps([info.image_mean, info.image_std]),
        "norm_epsilon": json.dumps(info.norm_epsilon),
        "card": json.dumps(info.card),
    }
    with new_file(path, "wb") as file:
        file.write(safetensors.torch.save(tensors, metadata))


def apply_info(module: nn.Module, info: ModelInfo) -> None:
    """Set sizes, normalization and batch norms of a freshly built model as its file says."""
    transform: Any = module.transform
    transform.min_size, transform.max_size = (info.min_size,), info.max_size
    transform.image_mean, transform.image_std = list(info.image_mean), list(info.image_std)
    if info.norm_epsilon is not None:
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d | FrozenBatchNorm2d):
                part.eps = info.norm_epsilon


def describe(
    module: nn.Module,
    architecture: str,
    categories: tuple[str, ...],
    card: Mapping[str, Any],
) -> ModelInfo:
    """Return what a file must say for `module` to be built again from it."""
    transform: Any = module.transform
    norms = [m.eps for m in module.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d)]
    return ModelInfo(
        architecture=architecture,
        categories=categories,
        min_size=int(transform.min_size[-1]),
        max_size=int(transform.max_size),
        image_mean=tuple(transform.image_mean),
        image_std=tuple(transform.image_std),
        norm_epsilon=norms[0] if norms and len(set(norms)) == 1 else None,
        card=dict(card),
    )


def sha256(path: Path) -> str:
    """Return the hash of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_metadata(path: Path) -> tuple[ModelInfo | None, tuple[Names, ...]]:
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        return None, find_names({key: _parsed(text) for key, text in metadata.items()})
    stored = json.loads(metadata["categories"]) if "categories" in metadata else None
    categories = tuple(map(str, stored)) if stored else None
    if metadata.get("version") != str(VERSION):
        raise ModelError(
            f"{path}: is of version {metadata.get('version')}; this program reads {VERSION}"
        )
    try:
        sizes, normalization = (json.loads(metadata[k]) for k in ("sizes", "normalization"))
        info = ModelInfo(
            architecture=metadata["architecture"],
            categories=categories or (),
            min_size=int(sizes[0]),
            max_size=int(sizes[1]),
            image_mean=tuple(float(v) for v in normalization[0]),
            image_std=tuple(float(v) for v in normalization[1]),
            norm_epsilon=json.loads(metadata["norm_epsilon"]),
            card=json.loads(metadata["card"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as exc:
        raise ModelError(f"{path}: its metadata is malformed ({exc!r})") from exc
    fits = isinstance(info.card, dict) and isinstance(info.norm_epsilon, float | int | None)
    if not fits or len(info.image_mean) != 3 or len(info.image_std) != 3:
        raise ModelError(f"{path}: its metadata is malformed (card or normalization)")
    if len(info.categories) < 2 or not 32 <= info.min_size <= info.max_size <= 8192:
        raise ModelError(f"{path}: its metadata is malformed (categories or sizes)")
    return info, (info.categories,)


def _parsed(text: str) -> Any:
    """Return a value of metadata, which are texts, some of them JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text
