"""Who is whom: the stages in which tracks and detections find each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tracker.associate.cost import assign, move_to, similarity
from tracker.associate.kalman import KalmanFilter
from tracker.associate.track_table import TrackTable
from tracker.boxes import (
    box_area,
    box_intersection,
    box_iou,
    cxcywh_to_xyxy,
    expand,
    xyxy_to_cxcywh,
)
from tracker.config import TrackerConfig
from tracker.masks import intersection
from tracker.types import Detections

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def match(
    tracks: TrackTable,
    detections: Detections,
    config: TrackerConfig,
    kalman: KalmanFilter,
    time: float,
    step: float,
) -> IntArray:
    """Return for each track the row of its detection, or -1.

    Confident detections first; then weak ones, for trusted tracks seen a moment ago (ByteTrack's
    idea, arXiv 2110.06864); then lost tracks look for what is left in widened boxes. `time` is the
    frame's, s, and `step` since the detected frame before.
    """
    found = np.full(len(tracks), -1, np.int64)
    rows = np.flatnonzero(detections.scores >= config.weak_score)
    if not len(tracks) or not len(rows):
        return found
    confident = detections.scores[rows] >= config.confident_score
    boxes = detections.boxes[rows].astype(np.float64)
    free = np.ones(len(rows), np.bool_)

    def stage(alike: FloatArray, who: BoolArray, which: BoolArray) -> None:
        t, d = np.flatnonzero(who & (found < 0)), np.flatnonzero(which & free)
        for i, j in assign(alike[np.ix_(t, d)], 0.0):
            found[t[i]], free[d[j]] = rows[d[j]], False

    alike = _similarity(tracks, detections, rows, boxes, config, kalman)
    everyone = np.ones(len(tracks), np.bool_)
    stage(alike, everyone, confident)
    # At low frame rates the frame before this one is always recent.
    recent = time - tracks.seen <= max(config.weak_gap_s, step) + 1e-9
    close = np.where(alike >= config.weak_similarity, alike, 0.0)
    stage(close, recent & (tracks.trust >= config.weak_trust), ~confident)
    lost = (tracks.id > 0) & (found < 0)
    if lost.any() and (confident & free).any():
        wide = _widened(tracks, boxes, detections.labels[rows], lost, config)
        stage(wide, lost, confident)
    return found


def is_duplicate(detections: Detections, row: int, others: list[int], least: float) -> bool:
    """Whether the share `least` of a detection lies inside one of `others` of its class."""
    if not others:
        return False
    mask, box = detections.masks[row], detections.boxes[row : row + 1]
    same = [k for k in others if detections.labels[k] == detections.labels[row]]
    shared = box_intersection(box, detections.boxes[same])[0]
    for k, overlap in zip(same, shared.tolist(), strict=True):
        other = detections.masks[k]
        if mask is None or other is None:
            if overlap >= least * max(box_area(box)[0], 1e-9):
                return True
        # Masks share hardly more than their boxes do, which may be a pixel narrower.
        elif 1.2 * overlap + 40 >= least * mask.area and (
            intersection(mask, other) >= least * max(mask.area, 1)
        ):
            return True
    return False


def _similarity(
    tracks: TrackTable,
    detections: Detections,
    rows: IntArray,
    boxes: FloatArray,
    config: TrackerConfig,
    kalman: KalmanFilter,
) -> FloatArray:
    """Blended IoU of predicted tracks and detections, (T, N); 0 where too little."""
    part = tracks.seen_part
    predicted = cxcywh_to_xyxy(part)
    distance = kalman.centre_distance(
        tracks.mean, tracks.covariance, xyxy_to_cxcywh(boxes), part[:, :2]
    )
    moved = [
        move_to(mask, box, to) if mask is not None else None
        for mask, box, to in zip(tracks.masks, tracks.box, predicted, strict=True)
    ]
    same = tracks.label[:, None] == detections.labels[rows][None, :]
    alike = similarity(
        predicted,
        moved,
        boxes,
        [detections.masks[row] for row in rows.tolist()],
        gate=distance <= config.gate,
        mask_weight=config.mask_weight,
        minimum=np.where(same, config.min_similarity, config.class_change_similarity),
    )
    return np.asarray(alike, np.float64)


def _widened(
    tracks: TrackTable,
    boxes: FloatArray,
    labels: IntArray,
    lost: BoolArray,
    config: TrackerConfig,
) -> FloatArray:
    """IoU of widened boxes of lost tracks and detections of their class, (T, N)."""
    alike = np.zeros((len(tracks), len(boxes)))
    predicted = cxcywh_to_xyxy(tracks.mean[lost, :, 0])
    iou = box_iou(expand(predicted, config.recovery_scale), expand(boxes, config.recovery_scale))
    same = tracks.label[lost][:, None] == labels[None, :]
    alike[lost] = np.where(same & (iou >= config.recovery_similarity), iou, 0.0)
    return alike
