"""How far two detectors agree on the same frames: objects matched, scores and masks compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tracker.boxes import FloatArray, box_iou
from tracker.masks import mask_iou
from tracker.types import Detections, IntArray

_SAME = 0.5  # IoU from which two detections may be of one object


@dataclass(frozen=True, slots=True)
class Agreement:
    """What became of a reference's detections of a score or more in another's results."""

    total: int  # of the reference
    matched: int  # of them, one to one, same class, IoU of 0.5 or more
    extra: int  # of the other, of that score or more, that match nothing of the reference's
    score_errors: tuple[float, ...]  # of the matched, absolute
    overlaps: tuple[float, ...]  # of the matched: mask IoU, or box IoU where there are no masks

    @property
    def share(self) -> float:
        """Share of the reference's that are matched; 1 where there are none."""
        return self.matched / self.total if self.total else 1.0

    @property
    def overlap(self) -> float:
        """Mean IoU of the matched; 1 where there are none."""
        return float(np.mean(self.overlaps)) if self.overlaps else 1.0

    def share_within(self, overlap: float, score_error: float) -> float:
        """Share of the reference's that are matched this closely; 1 where there are none."""
        close = sum(
            iou >= overlap and error <= score_error
            for iou, error in zip(self.overlaps, self.score_errors, strict=True)
        )
        return close / self.total if self.total else 1.0


def agreement(
    found: Iterable[Detections], reference: Iterable[Detections], score: float = 0.5
) -> Agreement:
    """Compare frame by frame; a detection just below `score` may match, but is not counted extra.

    Raises ValueError where the two have different numbers of frames.
    """
    total = matched = extra = 0
    errors: list[float] = []
    overlaps: list[float] = []
    for ours, theirs in zip(found, reference, strict=True):
        rows = np.flatnonzero(theirs.scores >= score)
        free = np.ones(len(ours), np.bool_)
        likeness = _likeness(theirs, rows, ours)
        total += len(rows)
        for k, row in enumerate(rows):  # by descending score
            fits = np.where(free & (ours.labels == theirs.labels[row]), likeness[k], 0.0)
            best = int(fits.argmax()) if len(fits) else -1
            if best < 0 or fits[best] < _SAME:
                continue
            free[best] = False
            matched += 1
            errors.append(float(abs(ours.scores[best] - theirs.scores[row])))
            overlaps.append(float(fits[best]))
        extra += int((free & (ours.scores >= score)).sum())
    return Agreement(total, matched, extra, tuple(errors), tuple(overlaps))


def _likeness(a: Detections, rows: IntArray, b: Detections) -> FloatArray:
    """Return (len(rows), len(b)) IoUs, of masks where both have them."""
    masks = [mask for row in rows if (mask := a.masks[row]) is not None]
    others = [mask for mask in b.masks if mask is not None]
    if len(masks) == len(rows) and len(others) == len(b):
        return mask_iou(masks, others)
    return box_iou(a.boxes[rows], b.boxes)
