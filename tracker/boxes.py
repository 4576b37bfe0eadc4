"""Convert and compare boxes: (N, 4) float arrays, xyxy unless the name says otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


def xyxy_to_xywh(boxes: FloatArray) -> FloatArray:
    """Convert corners to top-left corner and size, (N, 4)."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xywh_to_xyxy(boxes_xywh: FloatArray) -> FloatArray:
    """Convert top-left corner and size to corners, (N, 4)."""
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def xyxy_to_cxcywh(boxes: FloatArray) -> FloatArray:
    """Convert corners to centre and size, (N, 4)."""
    size = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] + size / 2, size], axis=1)


def cxcywh_to_xyxy(boxes_cxcywh: FloatArray) -> FloatArray:
    """Convert centre and size to corners, (N, 4)."""
    half = boxes_cxcywh[:, 2:] / 2
    return np.concatenate([boxes_cxcywh[:, :2] - half, boxes_cxcywh[:, :2] + half], axis=1)


def box_area(boxes: FloatArray) -> FloatArray:
    """Return areas in px², (N,); a box turned inside out has area 0."""
    area: FloatArray = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return area


def expand(boxes: FloatArray, factor: float) -> FloatArray:
    """Scale boxes about their centres, (N, 4)."""
    half = (boxes[:, 2:] - boxes[:, :2]) * (factor / 2)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def box_intersection(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return pairwise areas of overlap in px², (len(a), len(b))."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    area: FloatArray = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    return area


def box_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return pairwise intersection over union in [0, 1], (len(a), len(b))."""
    intersection = box_intersection(a, b)
    union = box_area(a)[:, None] + box_area(b)[None, :] - intersection
    return intersection / np.maximum(union, 1e-9)
