"""Take a model's dense parts over: fused, in the device's number format, and seen to work there."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from tracker.detect.fast.canvas import statistics
from tracker.detect.fast.fuse import fuse, tensors_of
from tracker.detect.fast.layer import Layer, convert

_EXAMPLE = 128  # px: side of the picture on which the parts are tried
_EXACT = 1  # layers of the backbone in float32: bfloat16 would round the picture's own 8 bits
_MOST_LOSS = 0.15  # relative error of a part in half precision; good ones are below 0.03


class PrecisionError(ArithmeticError):
    """A part of the model does not work in the chosen number format."""


@dataclass(slots=True)
class Parts:
    """The layers of a Faster or Mask R-CNN; all take and give channels-last tensors."""

    backbone: nn.Module  # (N, 3, H, W) -> the levels
    levels: tuple[str, ...]  # their names
    rpn_head: nn.Module  # one level -> scores and box deltas
    box_head: nn.Module
    box_predictor: nn.Module  # float32
    mask_head: nn.Module | None = None
    # The mask predictor, whole, or in two halves of which only one class's logits are made.
    mask_predictor: nn.Module | None = None
    deconvolution: nn.Module | None = None
    mask_logits: Any = None  # a convolution of 1 x 1, float32


def take_parts(module: GeneralizedRCNN, device: torch.device, dtype: torch.dtype) -> Parts:
    """Return the parts of a model that lies on the CPU, on `device`; the module is left hollow.

    Raises FloatingPointError where a part answers a test picture with what is not finite, and
    PrecisionError where it does so, or answers something else, in `dtype`; whatever a part raises
    that cannot be tried so.
    """

    def place(part: nn.Module, example: torch.Tensor, name: str, exact: int = 0) -> nn.Module:
        return _place(part, example, name, device, dtype, exact)

    backbone: Any = module.backbone
    rpn: Any = module.rpn
    heads: Any = module.roi_heads
    width, height = module.transform.fixed_size or (_EXAMPLE, _EXAMPLE)
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    mean, std = statistics(module.transform, torch.device("cpu"))
    picture = (picture - mean) / std
    with torch.inference_mode():
        features = _as_dict(backbone(picture.clone()))
        if not all(torch.isfinite(level).all() for level in features.values()):
            raise FloatingPointError("on a test picture the backbone answers what is not finite")
        _check_levels(rpn.head, list(features.values()))
    level = next(iter(features.values()))
    regions = _regions_like(level, heads.box_roi_pool)
    parts = Parts(
        backbone=place(_Levels(backbone), picture, "the backbone", _EXACT),
        levels=tuple(features),
        rpn_head=place(_OneLevel(rpn.head), level, "the RPN's head"),
        box_head=place(heads.box_head, regions, "the box head"),
        box_predictor=heads.box_predictor.to(device),
    )
    if heads.has_mask():
        regions = _regions_like(level, heads.mask_roi_pool)
        with torch.inference_mode():
            hidden = heads.mask_head(regions.clone())
        parts.mask_head = place(heads.mask_head, regions, "the mask head")
        predictor = heads.mask_predictor
        if type(predictor) is MaskRCNNPredictor and _is_pointwise(predictor.mask_fcn_logits):
            first = nn.Sequential(predictor.conv5_mask, nn.ReLU())
            parts.deconvolution = place(first, hidden, "the mask predictor")
            parts.mask_logits = predictor.mask_fcn_logits.to(device)
        else:
            parts.mask_predictor = place(predictor, hidden, "the mask predictor")
    # What was taken over would else stay in memory twice.
    module.backbone, rpn.head, heads.box_head = nn.Identity(), nn.Identity(), nn.Identity()
    if heads.has_mask():
        heads.mask_head = nn.Identity()
    return parts


def _place(
    part: nn.Module,
    example: torch.Tensor,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    exact: int = 0,
) -> nn.Module:
    """Fuse a part, move it, all but its first `exact` layers in `dtype`, and see that it works.

    On the CPU fused activations turn NaN into 0, so a model that overflows must be found here.
    """
    with torch.inference_mode():
        expected = [tensor.clone() for tensor in tensors_of(part(example.clone()))]
    if not all(torch.isfinite(tensor).all() for tensor in expected):
        raise FloatingPointError(f"on a test picture {name} answers what is not finite")
    placed = fuse(part, example, expected, name)
    if isinstance(placed, fx.GraphModule):
        for layer in islice((m for m in placed.modules() if isinstance(m, Layer)), exact):
            layer.exact = True
    elif dtype != torch.float32:
        placed = _Converted(placed, dtype)
    placed = convert(placed.to(device), dtype).to(memory_format=torch.channels_last)
    if dtype != torch.float32:
        sample = example.to(device).contiguous(memory_format=torch.channels_last)
        _check_precision(placed, sample, expected, name, dtype)
    return placed


def _check_precision(
    placed: nn.Module,
    sample: torch.Tensor,
    expected: list[torch.Tensor],
    name: str,
    dtype: torch.dtype,
) -> None:
    """Raise PrecisionError where a part in `dtype` does not answer as it did in float32."""
    kind = str(dtype).removeprefix("torch.")
    try:
        with torch.inference_mode():
            found = tensors_of(placed(sample))
    except RuntimeError as exc:  # layers that do not take another format than their own
        raise PrecisionError(f"{name} does not run in {kind}") from exc
    for value, right in zip(found, expected, strict=True):
        error = (value.cpu().float() - right).norm() / right.norm().clamp(min=1e-12)
        if not error <= _MOST_LOSS:  # NaN too
            raise PrecisionError(f"{name} does not work in {kind}")


class _Converted(nn.Module):
    """A part that could not be fused, and so takes its own number format only."""

    def __init__(self, part: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.part, self.dtype = part, dtype

    def forward(self, x: torch.Tensor) -> Any:
        return self.part(x.to(self.dtype))


class _Levels(nn.Module):
    """A backbone whose result is a list of its levels."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return list(_as_dict(self.backbone(x)).values())


class _OneLevel(nn.Module):
    """An RPN head for one level; torchvision's takes a list of them."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, deltas = self.head([x])
        return logits[0], deltas[0]


def _as_dict(features: Any) -> dict[str, torch.Tensor]:
    return features if isinstance(features, dict) else {"0": features}


def _regions_like(level: torch.Tensor, pool: Any) -> torch.Tensor:
    """Return two regions of features, as the heads get them."""
    return F.interpolate(level, size=tuple(pool.output_size)).repeat(2, 1, 1, 1)


def _check_levels(head: nn.Module, levels: list[torch.Tensor]) -> None:
    """Raise ValueError where a head does not answer each level as if it were the only one."""
    together = head(levels)
    for k, level in enumerate(levels):
        for all_levels, one in zip(together, head([level]), strict=True):
            if not torch.allclose(all_levels[k], one[0], rtol=1e-3, atol=1e-4):
                raise ValueError("the RPN's head does not treat all levels alike")


def _is_pointwise(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and layer.groups == 1 and layer.bias is not None
