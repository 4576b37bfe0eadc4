"""Turn the 28 x 28 probability maps of Mask R-CNN into masks cropped to their boxes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812

from tracker.masks import BoolArray, Mask

FloatArray = npt.NDArray[np.float32]

THRESHOLD = 0.5  # a pixel belongs to the object from this probability on
_PADDING = 1  # torchvision pads each map by one pixel before it is resized
_ROUNDING = np.float32(1e-6)  # more than two float32 orders of the same bilinear sum can differ


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
        left, top = max(x1, 0), max(y1, 0)
        right, bottom = max(min(x2 + 1, width), left), max(min(y2 + 1, height), top)
        bits = _resized(prob, max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        pasted.append(Mask(left, top, bits[top - y1 : bottom - y1, left - x1 : right - x1]).tight())
    return pasted


def place_masks(
    probabilities: torch.Tensor, boxes: torch.Tensor, width: int, height: int
) -> list[Mask]:
    """Put each map exactly where training cut it out: arguments as of `paste_masks`.

    Training samples the truth at x1 + (i + 0.5) (x2 - x1) / M, in whole pixels at whole numbers
    (RoIAlign, not aligned); this is the inverse, at the pixels whose middles lie in the half-open
    box. torchvision's own paste rounds the box and adds a pixel, which costs small masks an IoU of
    0.07.
    """
    placed = []
    for prob, box in zip(probabilities.float().numpy(), boxes.double().tolist(), strict=True):
        (left, columns), (top, rows) = (
            _samples(box[axis], box[axis + 2], length, prob.shape[-1])
            for axis, length in enumerate((width, height))
        )
        placed.append(Mask(left, top, rows @ prob @ columns.T >= THRESHOLD).tight())
    return placed


def _samples(low: float, high: float, length: int, side: int) -> tuple[int, FloatArray]:
    """Return the first pixel of a box along one axis, and the weights (pixels, M) of the map."""
    first, end = (min(max(math.ceil(edge - 0.5), 0), length) for edge in (low, high))
    end = max(end, first)
    place = (np.arange(first, end) - low) / max(high - low, 1e-6) * side - 0.5
    place = np.clip(place, 0, side - 1)
    before = np.minimum(place.astype(np.int64), side - 2)
    weights = np.zeros((end - first, side), np.float32)
    pixels = np.arange(end - first)
    weights[pixels, before] = 1 - (place - before)
    weights[pixels, before + 1] = place - before
    return first, weights


def _resized(prob: torch.Tensor, height: int, width: int) -> BoolArray:
    """Return `interpolate(prob) >= 0.5`, (height, width), at a third of its cost.

    Columns first, then rows with the columns as channels, which torch's kernel does many at a
    time. Where the order of the sums could tell, the plain call decides.
    """
    side = prob.shape[0]
    wide = F.interpolate(prob[None, None], (side, width), mode="bilinear", align_corners=False)
    rows = wide.as_strided((1, width, side, 1), (side * width, 1, width, width))
    tall = F.interpolate(rows, (height, 1), mode="bilinear", align_corners=False)
    values = tall.permute(0, 2, 3, 1).reshape(height, width).numpy()
    surely: BoolArray = values >= THRESHOLD + _ROUNDING
    if np.count_nonzero(surely) == np.count_nonzero(values >= THRESHOLD - _ROUNDING):
        return surely
    plain = F.interpolate(prob[None, None], (height, width), mode="bilinear", align_corners=False)
    return (plain[0, 0] >= THRESHOLD).numpy()


def _windows(boxes: torch.Tensor, side: int) -> torch.Tensor:
    """Widen boxes by the padding's share and round them as torchvision's expand_boxes does."""
    scale = float(side + 2 * _PADDING) / side
    half_w = (boxes[:, 2] - boxes[:, 0]) * 0.5 * scale
    half_h = (boxes[:, 3] - boxes[:, 1]) * 0.5 * scale
    x, y = (boxes[:, 2] + boxes[:, 0]) * 0.5, (boxes[:, 3] + boxes[:, 1]) * 0.5
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=1).to(torch.int64)
