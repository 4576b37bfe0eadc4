"""A small Mask R-CNN for two CPU cores: MobileNetV3-small, a light FPN, light heads."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import mobilenet_v3_small
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import Conv2dNormActivation, MultiScaleRoIAlign

NAME = "maskrcnn_mobilenet_v3_small_fpn"
NAMES = ("__background__", "person", "vehicle")  # of the model in the package
MIN_SIZE, MAX_SIZE = 480, 864  # px
_CHANNELS = 96  # of every level of the pyramid
_TAPS = {1: 16, 3: 24, 8: 48, 12: 576}  # layer of MobileNetV3-small -> its channels
_LEVELS = ["4", "8", "16", "32"]  # named by their strides
_ANCHORS = ((16,), (32,), (64,), (128,), (256,))  # px, for strides 4, 8, 16, 32, 64
_ASPECTS = (0.5, 1.0, 2.0)  # height to width


def maskrcnn_mobilenet_v3_small_fpn(num_classes: int) -> MaskRCNN:
    """Build the model with random weights; `num_classes` counts the background.

    Backbone: MobileNetV3-small (arXiv:1905.02244), whose ImageNet weights fit `backbone.body`.
    """
    return MaskRCNN(
        MobileFPN(),
        min_size=MIN_SIZE,
        max_size=MAX_SIZE,
        rpn_anchor_generator=AnchorGenerator(_ANCHORS, (_ASPECTS,) * len(_ANCHORS)),
        rpn_head=LightRPNHead(_CHANNELS, len(_ASPECTS)),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=400,
        rpn_post_nms_top_n_test=200,
        box_roi_pool=MultiScaleRoIAlign(_LEVELS, 7, 2),
        box_head=TwoMLPHead(_CHANNELS * 7 * 7, 256),
        box_predictor=FastRCNNPredictor(256, num_classes),
        box_batch_size_per_image=64,
        mask_roi_pool=MultiScaleRoIAlign(_LEVELS, 14, 2),
        mask_head=MaskRCNNHeads(_CHANNELS, (64, 64, 64), 1),
        mask_predictor=MaskRCNNPredictor(64, 64, num_classes),
    )


class MobileFPN(nn.Module):
    """Give five maps of one width, at strides 4 to 64, of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = _CHANNELS
        self.body = mobilenet_v3_small(weights=None).features
        self.lateral = nn.ModuleList(
            Conv2dNormActivation(width, _CHANNELS, 1, activation_layer=None)
            for width in _TAPS.values()
        )
        self.smooth = nn.ModuleList(_separable(_CHANNELS) for _ in _TAPS)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Return maps by name, "4" to "64", finest first; the last is only for the RPN."""
        taps = []
        for number, layer in enumerate(self.body):
            x = layer(x)
            if number in _TAPS:
                taps.append(x)
        laterals = [lateral(tap) for lateral, tap in zip(self.lateral, taps, strict=True)]
        merged = laterals[-1]
        maps = [merged]
        for finer in laterals[-2::-1]:
            merged = finer + functional.interpolate(merged, size=finer.shape[-2:])
            maps.append(merged)
        smooth = [layer(one) for layer, one in zip(self.smooth, maps[::-1], strict=True)]
        named = OrderedDict(zip(_LEVELS, smooth, strict=True))
        named["pool"] = functional.max_pool2d(smooth[-1], 1, 2)
        return named


class LightRPNHead(nn.Module):
    """Tell for every anchor whether it holds an object and where: torchvision's, separable."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = _separable(channels)
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)
        for layer in (self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits and box changes of every level."""
        seen = [self.conv(one) for one in maps]
        return [self.cls_logits(one) for one in seen], [self.bbox_pred(one) for one in seen]


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(
        Conv2dNormActivation(channels, channels, 3, groups=channels, activation_layer=None),
        Conv2dNormActivation(channels, channels, 1),
    )
