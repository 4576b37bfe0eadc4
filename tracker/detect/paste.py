"""Turn the 28 x 28 probability maps of Mask R-CNN into masks cropped to their boxes."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from tracker.masks import Mask

THRESHOLD = 0.5  # a pixel belongs to the object from this probability on
_PADDING = 1  # torchvision pads each map by one pixel before it is resized


def paste_masks(
    probabilities: torch.Tensor, boxes: torch.Tensor, width: int, height: int
) -> list[Mask]:
    """Resize each map into its box's window: (N, M, M) maps, (N, 4) xyxy boxes in px, on the CPU.

    The pixels equal those of torchvision's `paste_masks_in_image(...) >= 0.5` bit for bit (the
    same rounding of the window, the same bilinear kernel), but no full-frame array is made.
    """
    maps = F.pad(probabilities.float(), (_PADDING,) * 4)
    windows = _windows(boxes, probabilities.shape[-1]).tolist()
    pasted = []
    for prob, (x1, y1, x2, y2) in zip(maps, windows, strict=True):
        size = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        resized = F.interpolate(prob[None, None], size=size, mode="bilinear", align_corners=False)
        left, top = max(x1, 0), max(y1, 0)
        right, bottom = min(x2 + 1, width), min(y2 + 1, height)
        visible = resized[0, 0, top - y1 : max(bottom, top) - y1, left - x1 : max(right, left) - x1]
        pasted.append(Mask(left, top, (visible >= THRESHOLD).numpy()).tight())
    return pasted


def _windows(boxes: torch.Tensor, side: int) -> torch.Tensor:
    """Widen boxes by the padding's share and round them as torchvision's expand_boxes does."""
    scale = float(side + 2 * _PADDING) / side
    half_w = (boxes[:, 2] - boxes[:, 0]) * 0.5 * scale
    half_h = (boxes[:, 3] - boxes[:, 1]) * 0.5 * scale
    x, y = (boxes[:, 2] + boxes[:, 0]) * 0.5, (boxes[:, 3] + boxes[:, 1]) * 0.5
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=1).to(torch.int64)
