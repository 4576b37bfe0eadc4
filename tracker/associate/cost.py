"""How alike a track and a detection are, and who gets whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from tracker.boxes import box_intersection, box_iou
from tracker.masks import Mask, mask_iou

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]

COMPARED_ROWS = 32  # at least, of two large masks: measured to cost less than 0.03 of IoU


def similarity(
    track_boxes: FloatArray,
    track_masks: Sequence[Mask | None],
    boxes: FloatArray,
    masks: Sequence[Mask | None],
    *,
    gate: BoolArray,
    mask_weight: float,
    minimum: FloatArray | float = 0.0,
) -> FloatArray:
    """Blend mask IoU and box IoU of predicted tracks and detections, (T, N) in [0, 1].

    Where either side has no mask the box IoU stands alone. Pairs outside `gate` (T, N) are 0, and
    those whose box IoU or blend does not reach `minimum`; masks that cannot help are not compared.
    """
    blended = np.where(gate, box_iou(track_boxes, boxes), 0.0)
    mine, theirs = _with_pixels(track_masks), _with_pixels(masks)
    if mask_weight == 0 or not mine or not theirs:
        return np.where(blended >= minimum, blended, 0.0)
    rows, columns = list(mine), list(theirs)
    pairs = np.ix_(rows, columns)
    # Two masks share no more than their boxes do, and cover no less than the larger of them.
    areas = np.maximum(
        np.array([mask.area for mask in mine.values()])[:, None],
        np.array([mask.area for mask in theirs.values()])[None, :],
    )
    # Masks may reach a pixel beyond the detector's boxes: hence the margin.
    margin = np.array([-1, -1, 1, 1])
    shared = box_intersection(track_boxes[rows] + margin, boxes[columns] + margin)
    most = np.minimum(shared / np.maximum(areas, 1), 1.0)
    bound = mask_weight * most + (1 - mask_weight) * blended[pairs]
    least = np.broadcast_to(np.asarray(minimum, np.float64), blended.shape)[pairs]
    near = (blended[pairs] >= np.maximum(least, 1e-9)) & (bound >= least)
    of_masks = mask_iou(list(mine.values()), list(theirs.values()), near, rows=COMPARED_ROWS)
    blended[pairs] = np.where(
        near, mask_weight * of_masks + (1 - mask_weight) * blended[pairs], 0.0
    )
    return np.where(blended >= minimum, blended, 0.0)


def _with_pixels(masks: Sequence[Mask | None]) -> dict[int, Mask]:
    """Return the masks that are there and not empty, by their rows."""
    return {row: mask for row, mask in enumerate(masks) if mask is not None and mask.bits.size}


def assign(similarity: FloatArray, minimum: FloatArray | float) -> list[tuple[int, int]]:
    """Match rows to columns, maximising the total similarity; pairs below `minimum` never match.

    Returns (row, column) pairs by ascending row.
    """
    if not similarity.size:
        return []
    allowed = similarity >= np.maximum(minimum, 1e-9)
    rows = np.flatnonzero(allowed.any(axis=1))
    columns = np.flatnonzero(allowed.any(axis=0))
    if not len(rows):
        return []
    part = np.ix_(rows, columns)
    # A forbidden pair costs as much as leaving both alone, so it never pushes out a real match.
    cost = np.where(allowed[part], -similarity[part], 0.0)
    matched = zip(*linear_sum_assignment(cost), strict=True)
    return [(int(rows[i]), int(columns[j])) for i, j in matched if allowed[rows[i], columns[j]]]


def move_to(mask: Mask, box: FloatArray, new_box: FloatArray) -> Mask:
    """Shift a mask by whole pixels as far as its box's centre moved."""
    return mask.moved(*centre_shift(box, new_box))


def centre_shift(box: FloatArray, new_box: FloatArray) -> tuple[int, int]:
    """Return how far a box's centre moved, in whole px right and down."""
    dx, dy = (new_box[:2] + new_box[2:] - box[:2] - box[2:]) / 2
    return round(float(dx)), round(float(dy))
