"""Build a detection model by name, with its weights and the names of its classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

import torch
from torch import nn
from torchvision.models import get_model_builder, get_model_weights
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from tracker.config import DetectorConfig
from tracker.detect.models.cards import card_of, check_name, fetched
from tracker.detect.models.factory import call_factory
from tracker.detect.models.mobile import NAME, NAMES, maskrcnn_mobilenet_v3_small_fpn
from tracker.detect.models.weights import (
    ModelInfo,
    apply_info,
    find_weights,
    read_info,
    read_weights,
    sha256,
)
from tracker.errors import ConfigError, ModelError

DEFAULT = "maskrcnn_resnet50_fpn_v2"
_CLASSIFIER = "roi_heads.box_predictor.cls_score.weight"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to be run."""

    module: nn.Module
    categories: tuple[str, ...]  # name of each label
    name: str
    weights: str  # where they came from
    sha256: str | None  # of the weights' file; None where a factory brings its own
    info: ModelInfo | None = None  # what a file of ours says of itself


def load_model(config: DetectorConfig) -> LoadedModel:
    """Build `config.model` with `config.weights` and its limits, in evaluation mode on the CPU.

    Raises ModelError for an unknown name, a factory that fails, weights that cannot be had, do
    not fit, hold code, or are not finite; ConfigError for a size where the model's is fixed.
    """
    name = model_name(config)
    loaded = _from_factory(name, config) if ":" in name else _from_builder(name, config)
    broken = [n for n, p in loaded.module.state_dict().items() if not _is_finite(p)]
    if broken:
        raise ModelError(
            f"{loaded.weights}: {len(broken)} tensors hold NaN or infinity, as {broken[0]}"
        )
    set_limits(loaded.module, config)
    return LoadedModel(
        loaded.module.eval().requires_grad_(False),
        loaded.categories,
        loaded.name,
        loaded.weights,
        loaded.sha256,
        loaded.info,
    )


def set_limits(module: nn.Module, config: DetectorConfig) -> None:
    """Set sizes, thresholds and numbers where the settings name them."""
    if config.min_size or config.max_size:
        _set_sizes(transform_of(module), config)
    if not isinstance(module, GeneralizedRCNN):
        return
    heads: Any = module.roi_heads
    rpn: Any = module.rpn
    if hasattr(heads, "score_thresh"):
        heads.score_thresh = config.score_threshold
    if config.max_detections and hasattr(heads, "detections_per_img"):
        heads.detections_per_img = config.max_detections
    if config.proposals and hasattr(rpn, "_post_nms_top_n"):
        rpn._post_nms_top_n["testing"] = config.proposals


def _set_sizes(transform: Any, config: DetectorConfig) -> None:
    """Set the sizes that are named; raise ConfigError where the model's is fixed."""
    if transform is None or getattr(transform, "fixed_size", None):
        raise ConfigError("the model has a fixed size; leave out min_size and max_size")
    transform.min_size = (config.min_size,) if config.min_size else transform.min_size
    transform.max_size = config.max_size or transform.max_size


def transform_of(module: nn.Module) -> Any:
    """Return what resizes pictures in a model as torchvision's does; None for no such thing."""
    transform = getattr(module, "transform", None)
    return transform if hasattr(transform, "min_size") and hasattr(transform, "max_size") else None


def kept_labels(classes: Sequence[str], categories: Sequence[str]) -> torch.Tensor | None:
    """Return the labels of the named classes, (L,), None for all; raise ConfigError."""
    if not classes:
        return None
    labels = []
    for name in classes:
        if name not in categories:
            near = get_close_matches(name, categories, n=1)
            known = [c for c in categories if c not in ("__background__", "N/A")]
            hint = "`tracker models NAME` lists them" if len(known) > 12 else ", ".join(known)
            hint = f"did you mean {near[0]!r}?" if near else hint
            raise ConfigError(f"{name!r} is none of the model's classes; {hint}")
        labels.append(list(categories).index(name))
    return torch.tensor(labels)


def model_name(config: DetectorConfig) -> str:
    """Return the model that the settings mean; where they name none, the weights' file tells.

    Raises ModelError.
    """
    if config.model is not None:
        return config.model
    if config.weights == "default":
        return DEFAULT
    info = read_info(find_weights(config.weights))
    if info is None:
        return DEFAULT
    if ":" in info.architecture:  # no file makes this program run code that the user did not name
        raise ModelError(f"{config.weights}: is for a model of one's own; give --model again")
    return info.architecture


def build_module(name: str, num_classes: int) -> nn.Module:
    """Build a model of torchvision's or ours with random weights; raise ModelError."""
    check_name(name)
    if name == NAME:
        return cast(nn.Module, maskrcnn_mobilenet_v3_small_fpn(num_classes))
    build: Callable[..., nn.Module] = get_model_builder(name)
    return build(weights=None, weights_backbone=None, num_classes=num_classes)


def _from_builder(name: str, config: DetectorConfig) -> LoadedModel:
    check_name(name)
    if config.weights == "default" and name != NAME:
        # By the builder itself: with its own weights it also sets their batch norms' epsilon.
        build: Callable[..., nn.Module] = get_model_builder(name)
        module = fetched(name, lambda: build(weights=get_model_weights(name).DEFAULT))
        card = card_of(name)
        digest = sha256(card.cached) if card.cached else None
        return LoadedModel(module, card.categories, name, card.weights, digest)
    path = find_weights("embedded" if config.weights == "default" else config.weights)
    file = read_weights(path)
    if file.info is not None and file.info.architecture != name:
        raise ModelError(
            f"{config.weights}: is a {file.info.architecture}; leave out detector.model ({name})"
        )
    default = NAMES if name == NAME else card_of(name).categories
    classes = len(file.tensors[_CLASSIFIER]) if _CLASSIFIER in file.tensors else len(default)
    categories = _categories(file.categories, classes, default)
    module = build_module(name, len(categories))
    if file.info is not None:
        apply_info(module, file.info)
    load_state(module, file.tensors, str(path), name)
    return LoadedModel(module, categories, name, str(path), sha256(path), file.info)


def _from_factory(name: str, config: DetectorConfig) -> LoadedModel:
    module = call_factory(name)
    own = getattr(module, "categories", None)
    if config.weights == "default":
        file, source, digest = None, name, None
    else:
        path = find_weights(config.weights)
        file = read_weights(path)
        if file.info is not None and isinstance(module, GeneralizedRCNN):
            apply_info(module, file.info)
        load_state(module, file.tensors, str(path), name)
        source, digest = str(path), sha256(path)
    categories = (file.categories if file else None) or own
    if not categories:
        raise ModelError(f"{name}: the model must have a `categories` list of class names")
    info = file.info if file else None
    return LoadedModel(module, tuple(map(str, categories)), name, source, digest, info)


def _categories(
    stored: tuple[str, ...] | None, classes: int, default: tuple[str, ...]
) -> tuple[str, ...]:
    if stored and len(stored) == classes:
        return stored
    if len(default) == classes:
        return default
    return ("__background__", *(f"class {i}" for i in range(1, classes)))


def load_state(
    module: nn.Module, state: Mapping[str, torch.Tensor], source: str, name: str
) -> None:
    """Load weights into a module; raise ModelError that says where they do not fit."""
    expected = module.state_dict()
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unknown = [k for k in state if k not in expected]
    other = [k for k in expected if k in state and expected[k].shape != state[k].shape]
    if missing or unknown or other:
        faults = []
        if other:
            want, got = tuple(expected[other[0]].shape), tuple(state[other[0]].shape)
            faults.append(
                f"{len(other)} tensors have another shape ({other[0]}: {want} needed, got {got})"
            )
        if missing:
            faults.append(f"{len(missing)} are missing ({missing[0]})")
        if unknown:
            faults.append(f"{len(unknown)} are unknown ({unknown[0]})")
        raise ModelError(f"{source}: does not fit {name}: {', '.join(faults)}")
    module.load_state_dict(state, strict=False)


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
