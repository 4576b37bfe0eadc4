"""A Mask R-CNN of torchvision with a very small backbone and seeded weights."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign


def build(seed: int = 0) -> MaskRCNN:
    """Return the model; its scores are spread, so that thresholds matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 4, 1), nn.ReLU()
        )
        backbone.out_channels = 32
        model = MaskRCNN(
            backbone,
            num_classes=4,
            min_size=128,
            max_size=256,
            rpn_anchor_generator=AnchorGenerator(((24, 48, 96),), ((0.5, 1.0, 2.0),)),
            box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
            mask_roi_pool=MultiScaleRoIAlign(["0"], 14, 2),
            rpn_pre_nms_top_n_test=200,
            rpn_post_nms_top_n_test=80,
            box_score_thresh=0.05,
            box_detections_per_img=20,
        )
        nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.6)
        nn.init.normal_(model.roi_heads.mask_predictor.mask_fcn_logits.weight, std=0.5)
    model.categories = ["__background__", "person", "car", "dog"]
    return model


def build_light(seed: int = 0) -> MaskRCNN:
    """Return a model whose heads are small too: a file of it is written and read at once."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU())
        backbone.out_channels = 8
        model = MaskRCNN(
            backbone,
            min_size=64,
            max_size=128,
            rpn_anchor_generator=AnchorGenerator(((24, 48, 96),), ((0.5, 1.0, 2.0),)),
            box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
            box_head=TwoMLPHead(8 * 7 * 7, 16),
            box_predictor=FastRCNNPredictor(16, 4),
            mask_roi_pool=MultiScaleRoIAlign(["0"], 14, 2),
            mask_head=MaskRCNNHeads(8, (8, 8, 8, 8), 1),
            mask_predictor=MaskRCNNPredictor(8, 8, 4),
        )
    model.categories = ["__background__", "person", "car", "dog"]
    return model


def build_boxes_only() -> nn.Module:
    """Return a module of torchvision's form that gives boxes but no masks."""

    class Boxes(nn.Module):
        categories = ("__background__", "person")

        def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
            return [
                {
                    "boxes": torch.tensor([[10.0, 10, 30, 40]]),
                    "scores": torch.tensor([0.9]),
                    "labels": torch.tensor([1]),
                }
                for _ in images
            ]

    return Boxes()


def build_nan() -> MaskRCNN:
    """Return a model with one weight that is not a number."""
    model = build()
    with torch.no_grad():
        model.backbone[0].weight[0, 0, 0, 0] = float("nan")
    return model


def build_overflow() -> MaskRCNN:
    """Return a model of finite weights whose features overflow to infinity."""
    model = build()
    with torch.no_grad():
        for layer in (model.backbone[0], model.backbone[2]):
            layer.weight.mul_(1e30)
    return model


def build_large() -> MaskRCNN:
    """Return a sound model with features too large for float16."""
    model = build()
    with torch.no_grad():
        model.roi_heads.box_head.fc6.weight.mul_(1e7)
        model.roi_heads.box_head.fc7.weight.mul_(1e-7)
    return model


def build_without_categories() -> MaskRCNN:
    """Return a model that does not name its classes."""
    model = build()
    del model.categories
    return model


def build_broken() -> MaskRCNN:
    """Fail."""
    raise RuntimeError("no such file: weights.bin")
