"""Box and mask mAP of a model on labelled pictures, as COCO measures it."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tracker.boxes import xyxy_to_xywh
from tracker.masks import mask_to_rle
from tracker.train.samples import Dataset, read_picture
from tracker.types import Detections, Frame
from tracker.types.stages import Detector

_ENOUGH = 10  # objects of a category, to tell which scores are good


@dataclass(frozen=True, slots=True)
class Scores:
    """Mean average precision in [0, 1]; COCO's, over IoU 0.50 to 0.95 where not said otherwise."""

    box: float
    mask: float
    mask_50: float  # at IoU 0.50
    mask_75: float
    categories: Mapping[str, float]  # mask mAP of those that have examples
    thresholds: Mapping[str, float]  # score with the best F1 at IoU 0.50, of those that have enough

    def to_json(self) -> dict[str, Any]:
        """Return plain values, rounded."""
        return {
            "box_map": round(self.box, 5),
            "mask_map": round(self.mask, 5),
            "mask_map_50": round(self.mask_50, 5),
            "mask_map_75": round(self.mask_75, 5),
            "categories": {name: round(value, 5) for name, value in self.categories.items()},
            "thresholds": {name: round(value, 5) for name, value in self.thresholds.items()},
        }


def find_all(
    detector: Detector, data: Dataset, rows: Sequence[int], kept: Collection[int] = ()
) -> tuple[list[dict[str, Any]], dict[int, Detections]]:
    """Return what a detector finds in some samples as COCO results, of those `kept` as it is."""
    results: list[dict[str, Any]] = []
    found: dict[int, Detections] = {}
    for row in rows:
        sample = data.samples[row]
        (one,) = detector.detect([Frame(0, 0.0, read_picture(sample))])
        if row in kept:
            found[row] = one
        boxes = xyxy_to_xywh(one.boxes).tolist()
        for k, mask in enumerate(one.masks):
            result = {
                "image_id": row + 1,
                "category_id": int(one.labels[k]),
                "bbox": boxes[k],
                "score": float(one.scores[k]),
            }
            if mask is not None:
                result["segmentation"] = mask_to_rle(mask, sample.width, sample.height)
            results.append(result)
    return results, found


def score(data: Dataset, results: Sequence[Mapping[str, Any]]) -> Scores:
    """Compare COCO results with the labels, by COCO's own evaluation."""
    truth = COCO()
    truth.dataset = _as_coco(data)
    with redirect_stdout(io.StringIO()):
        truth.createIndex()
        if not results or not truth.dataset["annotations"]:
            return Scores(0.0, 0.0, 0.0, 0.0, {}, {})
        found = truth.loadRes([dict(result) for result in results])
        box = _summary(truth, found, "bbox")
        mask = _summary(truth, found, "segm")
    precision = mask.eval["precision"][:, :, :, 0, -1]  # (IoU, recall, category)
    by_category = {}
    for k, label in enumerate(mask.params.catIds):
        values = precision[:, :, k]
        values = values[values > -1]
        if values.size:
            by_category[data.categories[label]] = float(values.mean())
    return Scores(
        box=_known(box.stats[0]),
        mask=_known(mask.stats[0]),
        mask_50=_known(mask.stats[1]),
        mask_75=_known(mask.stats[2]),
        categories=by_category,
        thresholds=_thresholds(data, mask),
    )


def _thresholds(data: Dataset, evaluation: Any) -> dict[str, float]:
    """Return the score of each category above which precision and recall together are best."""
    recall = np.asarray(evaluation.params.recThrs)
    found = {}
    for k, label in enumerate(evaluation.params.catIds):
        count = sum(
            one.label == label and not one.crowd for s in data.samples for one in s.instances
        )
        precision, scores = (
            evaluation.eval[name][0, :, k, 0, -1] for name in ("precision", "scores")
        )
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        if count >= _ENOUGH and f1.max() > 0:
            found[data.categories[label]] = float(scores[f1.argmax()])
    return found


def _summary(truth: Any, found: Any, kind: str) -> Any:
    evaluation = COCOeval(truth, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def _known(value: Any) -> float:
    """COCO says -1 where there is nothing to measure."""
    return max(0.0, float(np.asarray(value)))


def _as_coco(data: Dataset) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for row, sample in enumerate(data.samples):
        for one in sample.instances:
            mask = one.mask
            x1, y1, x2, y2 = mask.box
            labels = [one.label] if one.label else range(1, len(data.categories))
            annotations += [
                {
                    "id": len(annotations) + k,
                    "image_id": row + 1,
                    "category_id": label,
                    "segmentation": one.rle,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": mask.area,
                    "iscrowd": int(one.crowd),
                }
                for k, label in enumerate(labels, 1)
            ]
    return {
        "info": {},
        "images": [
            {"id": row + 1, "width": sample.width, "height": sample.height}
            for row, sample in enumerate(data.samples)
        ],
        "annotations": annotations,
        "categories": [
            {"id": label, "name": name} for label, name in enumerate(data.categories) if label
        ],
    }
