"""torchvision's Faster and Mask R-CNN, rewritten: the same detections several times faster."""

from tracker.detect.fast.network import FastRCNN, is_fast
from tracker.detect.fast.parts import PrecisionError

__all__ = ["FastRCNN", "PrecisionError", "is_fast"]
