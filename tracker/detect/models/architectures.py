"""Which model a file of weights is for: told by the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import nn
from torchvision.models import detection, get_model_builder, list_models

from tracker.detect.models.cards import check_name
from tracker.detect.models.mobile import NAME, maskrcnn_mobilenet_v3_small_fpn
from tracker.detect.models.statedict import Fit, fit

_FIRST = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", NAME)  # looked at before the rest
# Builders whose models have the same tensors and other settings: by these alone they work worse.
_ALIKE = (("fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn"),)
_LEAST_SHARE = 0.5  # of a model's names; a file that has fewer is for something else
# Names of tensors, without their prefix, that only one kind of model has.
_FOREIGN = (
    (
        r"roi_heads\.mask_predictor\.conv5_mask\.",
        "torchvision's Mask R-CNN with another backbone or heads",
    ),
    (
        r"\brpn\.head\.(cls_logits|bbox_pred)\.",
        "torchvision's Faster R-CNN with another backbone or heads",
    ),
    (r"proposal_generator\.|backbone\.bottom_up\.|\bfpn_(lateral|output)\d", "Detectron2"),
    (r"roi_heads\.(box|mask)\.(feature_extractor|predictor)\.", "maskrcnn-benchmark"),
    (r"\b(bbox|mask|rpn|roi|panoptic)_head\.|\bneck\..*convs\.\d+\.conv\.", "MMDetection"),
    (r"(^|\bmodel\.)\d+\.(cv\d|m\.\d+|conv|dfl|bn|anchors?)\b", "YOLO"),
    (r"\bmodule_list\.\d+\.(\d|conv|Conv2d|conv_\d+)\.", "YOLO (Darknet)"),
    (r"\b(image_encoder|prompt_encoder|mask_decoder|vision_encoder)\.", "Segment Anything"),
    (r"\b(query_embed|class_embed|class_labels_classifier)\b", "DETR or one of its kin"),
    (r"\btransformer\.(encoder|decoder)\.", "DETR or one of its kin"),
    (r"\b(pixel_level_module|transformer_module)\.", "MaskFormer or Mask2Former"),
    (r"\b(patch_embed|patch_embeddings|cls_token)\b", "a vision transformer"),
    (r"\bfeatures\.", "a classifier of pictures, without the heads of a detector"),
    (r"\b(segmentation_head|aux_classifier|decode_head)\.", "a model of semantic segmentation"),
    (r"\b(decoder|up\d|upconv\d*)\.|^classifier\.\d\.", "a model of semantic segmentation"),
    (r"\blayer[1-4]\.\d+\.conv\d\.", "a bare ResNet, without the heads of a detector"),
    (r"exp_avg|momentum_buffer|param_groups", "the state of an optimizer"),
)


def build_module(name: str, num_classes: int) -> nn.Module:
    """Build a model of torchvision's or ours with random weights; raise ModelError."""
    check_name(name)
    if name == NAME:
        return cast(nn.Module, maskrcnn_mobilenet_v3_small_fpn(num_classes))
    build: Callable[..., nn.Module] = get_model_builder(name)
    return build(weights=None, weights_backbone=None, num_classes=num_classes)


@cache
def shapes_of(name: str, num_classes: int) -> Mapping[str, torch.Size]:
    """Return the shapes of a builder's tensors by their names; nothing is computed."""
    with torch.device("meta"):
        module = build_module(name, num_classes)
    return {key: value.shape for key, value in module.state_dict().items()}


def find_builder(tensors: Mapping[str, torch.Tensor], named: Sequence[str] = ()) -> str | None:
    """Return the builder whose model the tensors are; of two alike, one that the file names."""
    builders: list[str] = list_models(module=detection)
    likely = [name for name in (*named, *_FIRST) if name in builders or name == NAME]
    for name in dict.fromkeys((*likely, *builders[::-1])):
        if _fits(fit(tensors, shapes_of(name, 2)), shapes_of(name, 2)):
            return name
    return None


def builders_in(text: str) -> tuple[str, ...]:
    """Return the builders that a file's name tells, the longest first."""
    plain = text.casefold().replace("-", "_")
    known = [*list_models(module=detection), NAME]
    return tuple(sorted((name for name in known if name in plain), key=len, reverse=True))


def note_alike(name: str, named: Sequence[str]) -> list[str]:
    """Say which other builder's model has the same tensors, where nothing named this one."""
    if name in named:
        return []
    others = [other for pair in _ALIKE if name in pair for other in pair if other != name]
    return [
        f"the tensors fit two models: {name} is taken; --model {other} is the other"
        for other in others
    ]


def nearest_builder(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return the builder whose model has most in common with the tensors; None for another kind."""
    builders = (*_FIRST, *list_models(module=detection))
    name = max(builders, key=lambda name: _share(fit(tensors, shapes_of(name, 2)), name))
    return name if _share(fit(tensors, shapes_of(name, 2)), name) >= _LEAST_SHARE else None


def count_classes(found: Fit, name: str) -> int | None:
    """Return how many classes the heads of a builder's model know, the background counted.

    None where the weights have no such heads.
    """
    two, three = shapes_of(name, 2), shapes_of(name, 3)
    for key, shape in two.items():
        rows = three[key][:1].numel() - shape[:1].numel()
        if rows and key in found.tensors and found.tensors[key].ndim:
            return len(found.tensors[key]) // rows
    return None


def is_foreign(found: Fit, expected: Mapping[str, Any]) -> bool:
    """Whether weights have too little in common with a model to be called its own."""
    if len(found.tensors) >= _LEAST_SHARE * len(expected):
        return False
    return not found.tensors or _kind_of(found.extra) is not None


def describe_foreign(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return what weights of another kind look like, as a part of a sentence."""
    kind = _kind_of(tensors)
    if kind is not None:
        return f"looks like {kind}"
    return f"is none of a detector known here (it begins with {next(iter(tensors), 'nothing')})"


def _kind_of(names: Collection[str]) -> str | None:
    """Return the kind of another model that tensors are called as in; None for no known one."""
    for pattern, kind in _FOREIGN:
        if any(re.search(pattern, name) for name in names):
            return kind
    return None


def _fits(found: Fit, shapes: Mapping[str, torch.Size]) -> bool:
    """Whether weights fit a model whatever its number of classes: that is a first dimension."""
    parts = {name.partition(".")[0] for name in shapes}
    if found.missing(shapes) or any(name.partition(".")[0] in parts for name in found.extra):
        return False
    return all(shapes[key][1:] == tensor.shape[1:] for key, tensor in found.tensors.items())


def _share(found: Fit, name: str) -> float:
    """Return the share of a model's tensors that weights have, in the right form."""
    shapes = shapes_of(name, 2)
    same = sum(shapes[key][1:] == tensor.shape[1:] for key, tensor in found.tensors.items())
    return same / len(shapes)
