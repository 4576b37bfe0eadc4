"""Prepare a result for scoring as the benchmarks do: what is matched, and what is left out.

Results lose what TrackEval's datasets take from them: boxes matched to a distractor
(MotChallenge2DBox) and unmatched masks that lie in an ignore region (KittiMOTS).
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from tracker.boxes import box_iou
from tracker.errors import FormatError
from tracker.masks import Mask, intersection, rle_to_mask
from tracker.measure.truth import Object, Sequence

FloatArray = npt.NDArray[np.float64]
_HALF = 0.5 - float(np.finfo("float").eps)  # as TrackEval compares
_FORBIDDEN = {True: -10_000.0, False: 0.0}  # worth of a pair below that, of masks and of boxes


@dataclass(slots=True)
class Prepared:
    """One class of one sequence: of each frame the ids of truth and result, and their IoU."""

    truth: list[list[int]] = field(default_factory=list)
    found: list[list[int]] = field(default_factory=list)
    iou: list[FloatArray] = field(default_factory=list)

    def for_trackeval(self) -> dict[str, Any]:
        """Return what TrackEval's metrics take: ids count from 0."""
        data: dict[str, Any] = {"similarity_scores": self.iou, "num_timesteps": len(self.iou)}
        for side, frames in (("gt", self.truth), ("tracker", self.found)):
            number = {id_: k for k, id_ in enumerate(sorted({i for ids in frames for i in ids}))}
            data[f"{side}_ids"] = [np.array([number[i] for i in ids], int) for ids in frames]
            data[f"num_{side}_ids"], data[f"num_{side}_dets"] = len(number), sum(map(len, frames))
        return data


def prepare(
    truth: Sequence, found: Sequence, label: int, mine: Set[int], distractors: Set[int]
) -> Prepared:
    """Return one class, of the results the labels in `mine`; raise FormatError for another size."""
    _check_size(truth, found)
    prepared = Prepared()
    for index in sorted(truth.frames.keys() | found.frames.keys()):
        objects = _objects(truth, index, {label} if truth.masks else None)
        results = _objects(found, index, mine)
        iou = _similarity(objects, results)
        gone = _left_out(truth, index, objects, results, iou, distractors)
        rows = [i for i, one in enumerate(objects) if one.label == label and one.counted]
        columns = [j for j in range(len(results)) if j not in gone]
        prepared.truth.append([objects[i].id for i in rows])
        prepared.found.append([results[j].id for j in columns])
        prepared.iou.append(iou[rows][:, columns])
    return prepared


def _check_size(truth: Sequence, found: Sequence) -> None:
    if truth.masks and found.size not in (None, truth.size or found.size):
        raise FormatError(f"{found.path}: frames are {found.size} px, of the truth {truth.size}")


def _objects(sequence: Sequence, index: int, labels: Set[int] | None) -> list[Object]:
    """Return a frame's objects of these labels, None for all."""
    objects = sequence.frames.get(index, {}).values()
    return [one for one in objects if labels is None or one.label in labels]


def _left_out(
    truth: Sequence,
    index: int,
    objects: list[Object],
    results: list[Object],
    iou: FloatArray,
    distractors: Set[int],
) -> set[int]:
    """Return the columns of results that the benchmarks do not count."""
    rows, columns = _match(iou, _FORBIDDEN[truth.masks])
    unmatched = set(range(len(results))) - set(columns)
    if unmatched and index in truth.ignored:
        regions = [rle_to_mask(rle) for rle in truth.ignored[index]]
        return {j for j in unmatched if (m := results[j].mask) and _lies_in(regions, m)}
    pairs = zip(rows, columns, strict=True)
    return {j for i, j in pairs if objects[i].label in distractors}


def _similarity(truth: list[Object], found: list[Object]) -> FloatArray:
    """Return pairwise IoU, (len(truth), len(found)); of masks from whole numbers of pixels."""
    boxes = [np.array([o.box for o in part], float).reshape(-1, 4) for part in (truth, found)]
    iou = np.array(box_iou(*boxes), float)
    for i, j in np.argwhere(iou > 0).tolist():  # the box of a mask is its window
        if (a := truth[i].mask) and (b := found[j].mask):
            both = intersection(a, b)
            iou[i, j] = both / (a.area + b.area - both)
    return iou


def _match(iou: FloatArray, forbidden: float) -> tuple[list[int], list[int]]:
    """Return rows and columns paired at IoU 0.5, by the very matrix of TrackEval's datasets."""
    worth = np.where(iou < _HALF, forbidden, iou)
    rows, columns = linear_sum_assignment(-worth)
    real = worth[rows, columns] > 0
    return rows[real].tolist(), columns[real].tolist()


def _lies_in(regions: list[Mask], mask: Mask) -> bool:
    """Tell whether more than half of a mask lies in the regions, which may overlap."""
    inside = np.zeros_like(mask.bits)
    for region in regions:
        part = region.moved(-mask.x, -mask.y).clipped(mask.bits.shape[1], mask.bits.shape[0])
        inside[part.y : part.box[3], part.x : part.box[2]] |= part.bits
    return int(np.count_nonzero(inside & mask.bits)) > mask.area / 2
