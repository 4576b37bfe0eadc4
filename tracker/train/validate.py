"""Measure a model in training on the pictures held back, as `tracker run` would run it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from tracker.config import DetectorConfig
from tracker.detect.maskrcnn import MaskRCNNDetector
from tracker.detect.models.builders import LoadedModel, set_limits
from tracker.detect.models.weights import describe
from tracker.errors import ModelError
from tracker.train.samples import Dataset
from tracker.train.score import Scores, find_all, score
from tracker.types import Detections

_SCORE_THRESHOLD = 0.05  # of what mAP is measured on: torchvision's
_KEPT = 6  # pictures whose predictions are kept to be drawn


def validate(
    fabric: Fabric, module: GeneralizedRCNN, name: str, data: Dataset
) -> tuple[Scores, dict[int, Detections]]:
    """Return the scores, and what was found in a few pictures spread over the data.

    Each process looks at its share of the pictures; all score them together. `module` stays as it
    is. Raises ModelError where its answers are not finite.
    """

    def load(config: DetectorConfig) -> LoadedModel:
        own = copy.deepcopy(module)
        set_limits(own, config)
        info = describe(own, name, data.categories, {})
        return LoadedModel(own, data.categories, name, "", None, info)

    settings = DetectorConfig(
        score_threshold=_SCORE_THRESHOLD,
        device=str(fabric.device) if fabric.device.type == "cuda" else fabric.device.type,
        precision="float32",
        threads=torch.get_num_threads(),
    )
    count = len(data.samples)
    rows = range(fabric.global_rank, count, fabric.world_size)
    kept = set(np.linspace(0, count - 1, min(_KEPT, count), dtype=int).tolist())
    try:
        results, found = find_all(MaskRCNNDetector(settings, load=load), data, rows, kept)
    except ModelError as exc:
        raise ModelError(f"{exc}; take a lower learning rate (--lr)") from exc
    if fabric.world_size > 1:
        parts: list[Any] = [None] * fabric.world_size
        torch.distributed.all_gather_object(parts, (results, found))
        results = [one for part, _ in parts for one in part]
        found = {row: one for _, part in parts for row, one in part.items()}
    return score(data, results), found
