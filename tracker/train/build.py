"""The model that is trained: where it starts, its new heads, and what of it may change when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from tracker.config import DetectorConfig
from tracker.detect.models.architectures import build_module
from tracker.detect.models.builders import load_model, model_name
from tracker.detect.models.statedict import fit
from tracker.detect.models.weights import read_weights
from tracker.errors import ConfigError, ModelError
from tracker.train.settings import TrainConfig

_PREDICTORS = (
    "roi_heads.box_predictor.cls_score.",
    "roi_heads.box_predictor.bbox_pred.",
    "roi_heads.mask_predictor.mask_fcn_logits.",
)
_BODY = "backbone.body."
_STEPS = 4  # in which the backbone's layers are unfrozen


@dataclass(frozen=True, slots=True, eq=False)
class StartedModel:
    """A model at the start of its training."""

    module: GeneralizedRCNN
    architecture: str
    start: str  # where its weights came from
    kept: tuple[str, ...]  # categories that the start knew already
    stages: tuple[tuple[nn.Module, ...], ...]  # of the backbone, in the order of unfreezing
    norms: tuple[nn.Module, ...]  # batch norms whose statistics stay those of the start


def build_model(config: TrainConfig, categories: Sequence[str]) -> StartedModel:
    """Build the model with heads for `categories` and the weights that the settings name.

    What the starting weights know of a category, by its name, is kept. Raises ModelError and
    ConfigError.
    """
    torch.manual_seed(config.seed)
    detector = DetectorConfig(model=config.model, weights=_detector_weights(config))
    name = model_name(detector)
    module = _build_mask_rcnn(name, len(categories))
    state: Mapping[str, Tensor] = {}
    known: Sequence[str] = ()
    start = "random weights"
    if config.weights != "none":
        loaded = load_model(detector)
        state = loaded.module.state_dict()
        known = loaded.categories
        start = loaded.weights
        _copy_settings(loaded.module, module)
    if config.backbone is not None:
        if state:
            raise ConfigError("a file for the backbone needs --weights none")
        path = Path(config.backbone)
        state = _backbone_state(read_weights(path).tensors, module, path)
        start = f"{path.name} (backbone)"
    loaded_names = _load(module, state, known, categories, start)
    _set_sizes(module.transform, config)
    return StartedModel(
        module,
        name,
        start,
        tuple(c for c in categories if c in known),
        _freeze(module, config.frozen if state else 0.0),
        tuple(
            part
            for path, part in module.named_modules()
            if isinstance(part, nn.BatchNorm2d) and f"{path}.running_mean" in loaded_names
        ),
    )


def _build_mask_rcnn(name: str, num_classes: int) -> GeneralizedRCNN:
    """Build a Mask R-CNN with random weights; raise ModelError, ConfigError for another model."""
    if ":" in name:
        raise ConfigError(f"{name}: give a builder by name, as maskrcnn_resnet50_fpn_v2")
    if not name.startswith("maskrcnn"):
        raise ConfigError(f"{name}: finds boxes only; train a Mask R-CNN (`tracker models`)")
    module = build_module(name, num_classes)
    if not isinstance(module, GeneralizedRCNN) or not hasattr(module.roi_heads, "mask_head"):
        raise ConfigError(f"{name}: is no Mask R-CNN of torchvision's form")
    return module


def _set_sizes(transform: Any, config: TrainConfig) -> None:
    """Set the sizes of pictures in the model where the settings name them; raise ConfigError."""
    transform.min_size = (config.min_size or transform.min_size[-1],)
    transform.max_size = config.max_size or transform.max_size
    if transform.min_size[0] > transform.max_size:
        raise ConfigError(
            f"min_size ({transform.min_size[0]}) must not exceed max_size ({transform.max_size})"
        )


def _detector_weights(config: TrainConfig) -> str:
    """Return the settings' weights as the detector's: to find the architecture by."""
    return "default" if config.weights == "none" else config.weights


def _copy_settings(source: nn.Module, target: nn.Module) -> None:
    """Copy what a model has beside its weights: sizes, normalization, epsilons of batch norms."""
    theirs: Any = source.transform
    ours: Any = target.transform
    ours.min_size, ours.max_size = theirs.min_size, theirs.max_size
    ours.image_mean, ours.image_std = theirs.image_mean, theirs.image_std
    there = dict(source.named_modules())
    for path, part in target.named_modules():
        if isinstance(part, nn.BatchNorm2d) and path in there:
            part.eps = there[path].eps


def keep_coordinates_exact(module: GeneralizedRCNN) -> None:
    """Let mixed precision end where coordinates begin: torchvision's anchors and boxes take the
    features' type, and bfloat16 rounds them to whole pixels and more.
    """
    heads: Any = module.roi_heads
    for part in (module.backbone, module.rpn.head, heads.box_predictor, heads.mask_predictor):
        part.register_forward_hook(_to_float)


def _to_float(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return type(output)((name, value.float()) for name, value in output.items())
    return type(output)(_to_float(_module, _inputs, one) for one in output)


def _backbone_state(
    tensors: Mapping[str, Tensor], module: GeneralizedRCNN, path: Path
) -> dict[str, Tensor]:
    """Return a classifier's weights (ImageNet) under the names they have in the detector."""
    own = module.state_dict()
    body = [k for k in own if k.startswith(_BODY) and not k.endswith("tracked")]
    held = fit(tensors, {key.removeprefix(_BODY) for key in body}).tensors
    named = {_BODY + key: value for key, value in held.items()}
    found = {key: value for key, value in named.items() if own[key].shape == value.shape}
    missing = [key for key in body if key not in found]
    if missing:
        raise ModelError(
            f"{path}: does not fit the backbone: {len(missing)} of {len(body)} tensors are "
            f"missing ({missing[0]})"
        )
    return found


def _load(
    module: nn.Module,
    state: Mapping[str, Tensor],
    known: Sequence[str],
    categories: Sequence[str],
    source: str,
) -> set[str]:
    """Copy the weights; the last layers' category by category. Returns the names that were set."""
    own, done = module.state_dict(), set()
    for key, value in state.items():
        if key.startswith(_PREDICTORS) and key in own:
            _copy_categories(own[key], value, known, categories)
        elif key not in own or own[key].shape != value.shape:
            raise ModelError(f"{source}: does not fit the model: {key} {tuple(value.shape)}")
        else:
            own[key].copy_(value)
        done.add(key)
    return done


def _copy_categories(
    target: Tensor, value: Tensor, known: Sequence[str], categories: Sequence[str]
) -> None:
    """Copy the rows of the categories that both sides have; boxes have four rows a category."""
    rows = len(target) // len(categories)
    for new, name in enumerate(categories):
        if name in known:
            old = list(known).index(name)
            target[new * rows : (new + 1) * rows] = value[old * rows : (old + 1) * rows]


def _freeze(module: GeneralizedRCNN, share: float) -> tuple[tuple[nn.Module, ...], ...]:
    """Freeze the lowest layers of the backbone for ever; return the others in groups, top first."""
    body: nn.Module = getattr(module.backbone, "body", module.backbone)
    layers = [layer for layer in body.children() if any(True for _ in layer.parameters())]
    frozen = round(share * len(layers))
    for layer in layers[:frozen]:
        layer.requires_grad_(False)
    rest = layers[frozen:][::-1]
    size = max(1, -(-len(rest) // _STEPS))
    return tuple(tuple(rest[k : k + size]) for k in range(0, len(rest), size))
