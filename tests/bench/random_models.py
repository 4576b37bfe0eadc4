"""torchvision's big models with random weights that act like trained ones, for speed and agreement.

Batch norms are fitted to a picture, so that features neither die nor explode, and the last layers
are scaled, so that scores, boxes and masks spread. Use as `--model random_models.py:resnet50_fpn`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d


def resnet50_fpn() -> nn.Module:
    """Build maskrcnn_resnet50_fpn."""
    return _fitted("maskrcnn_resnet50_fpn")


def resnet50_fpn_v2() -> nn.Module:
    """Build maskrcnn_resnet50_fpn_v2."""
    return _fitted("maskrcnn_resnet50_fpn_v2")


def _fitted(name: str) -> nn.Module:
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        model: Any = getattr(detection, name)(weights=None, weights_backbone=None).eval()
        weights = detection.MaskRCNN_ResNet50_FPN_Weights.DEFAULT
        model.categories = list(weights.meta["categories"])
        picture = _picture(320, 512)
        hooks = [
            module.register_forward_pre_hook(_fit_norm)
            for module in model.modules()
            if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d)
        ]
        features = model.backbone(model.transform([picture])[0].tensors)
        model.roi_heads.box_head(model.roi_heads.box_roi_pool(*_regions(features, 300)))
        model.roi_heads.mask_head(model.roi_heads.mask_roi_pool(*_regions(features, 20)))
        for hook in hooks:
            hook.remove()
        _scale_last_layers(model, picture)
    return model


def _scale_last_layers(model: Any, picture: torch.Tensor) -> None:
    """Spread objectness, boxes, scores and masks; a few per cent of the regions are objects."""
    features = model.backbone(model.transform([picture])[0].tensors)
    heads, rpn = model.roi_heads, model.rpn.head
    rpn.cls_logits.weight.mul_(2.0 / rpn([features["0"]])[0][0].std())
    seen: dict[str, Any] = {}
    hook = heads.box_predictor.register_forward_hook(
        lambda _module, inputs, outputs: seen.update(hidden=inputs[0], outputs=outputs)
    )
    model([picture])
    hook.remove()
    logits, deltas = seen["outputs"]
    classes = heads.box_predictor.cls_score
    classes.weight.mul_(4.0 / logits.std(dim=0).mean())
    heads.box_predictor.bbox_pred.weight.mul_(0.3 / deltas.std(dim=0).mean())
    objects = classes(seen["hidden"])[:, 1:].logsumexp(dim=1)
    classes.bias[0] = float(objects.quantile(0.97) - classes(seen["hidden"])[:, 0].mean())
    maps = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(*_regions(features, 20))))
    heads.mask_predictor.mask_fcn_logits.weight.mul_(2.0 / maps.std())


def _fit_norm(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    (x,) = inputs
    module.running_mean.copy_(x.mean(dim=(0, 2, 3)))
    module.running_var.copy_(x.var(dim=(0, 2, 3)).clamp(min=1e-6))


def _picture(height: int, width: int) -> torch.Tensor:
    """Return a picture of rectangles with texture: edges and plains, as in the world."""
    random = np.random.default_rng(0)
    picture = np.full((height, width, 3), 120.0)
    for _ in range(60):
        y, x = random.integers(0, height), random.integers(0, width)
        h, w = random.integers(10, 120, 2)
        picture[y : y + h, x : x + w] = random.uniform(0, 255, 3)
    picture += random.normal(0, 8, picture.shape)
    return torch.tensor(picture.clip(0, 255) / 255, dtype=torch.float32).permute(2, 0, 1)


def _regions(features: dict[str, torch.Tensor], count: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(1)
    height, width = (4 * side for side in features["0"].shape[-2:])
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width - 40.0, height - 40.0])
    size = 20 + torch.rand(count, 2, generator=generator) * 200
    return features, [torch.cat([corner, corner + size], dim=1)], [(height, width)]
