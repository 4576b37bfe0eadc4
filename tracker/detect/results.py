"""Check what a model answered and turn it into detections with cropped masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from tracker.config import DetectorConfig
from tracker.detect.paste import THRESHOLD, paste_masks, place_masks
from tracker.masks import Mask
from tracker.types import Detections


class AnswerError(Exception):
    """What a model answered cannot be used; the message says why."""


@dataclass(slots=True)
class Found:
    """What the device made of one picture, on the CPU."""

    boxes: torch.Tensor  # (N, 4) float32, px of the picture
    scores: torch.Tensor  # (N,) float32
    labels: torch.Tensor  # (N,) int64
    maps: torch.Tensor | None = None  # (N, M, M), in the boxes
    whole: torch.Tensor | None = None  # (N, H, W): full-frame masks of a foreign model
    embeddings: torch.Tensor | None = None  # (N, D)


def found_in(output: Mapping[str, torch.Tensor]) -> Found:
    """Take what torchvision's own forward gives for one picture; raise KeyError, TypeError."""
    boxes, scores, labels = (output[key].cpu() for key in ("boxes", "scores", "labels"))
    masks = output.get("masks")
    return Found(
        boxes.to(torch.float32),
        scores.to(torch.float32),
        labels.to(torch.int64),
        whole=None if masks is None else masks[:, 0].cpu(),
    )


def to_detections(
    found: Found,
    width: int,
    height: int,
    config: DetectorConfig,
    kept: torch.Tensor | None,
    classes: int,
    *,
    exact: bool = False,
) -> Detections:
    """Return what passes the threshold and is of a `kept` class, by descending score.

    `exact` puts masks where training cut them out, not where torchvision pastes them. Raises
    AnswerError that says what is not finite, of another size, or beyond the number of `classes`.
    """
    boxes, scores, labels = found.boxes, found.scores, found.labels
    if not (torch.isfinite(boxes).all() and torch.isfinite(scores).all()):
        raise AnswerError("boxes or scores are not finite")
    keep = scores >= config.score_threshold
    if kept is not None:
        keep &= torch.isin(labels, kept)
    order = torch.argsort(scores[keep], descending=True, stable=True)
    rows = torch.nonzero(keep).flatten()[order]
    if config.max_detections:
        rows = rows[: config.max_detections]
    embeddings = np.zeros((len(rows), 0), np.float32)
    if found.embeddings is not None:
        embeddings = found.embeddings[rows].numpy()
        if not np.isfinite(embeddings).all():
            raise AnswerError("embeddings are not finite")
    boxes, scores, labels = boxes[rows], scores[rows], labels[rows]
    if len(labels) and int(labels.max()) >= classes:
        raise AnswerError(f"label {int(labels.max())} is beyond its {classes} categories")
    return Detections(
        boxes=boxes.numpy(),
        scores=scores.clamp(0, 1).numpy(),
        labels=labels.numpy(),
        masks=_to_masks(found, rows, boxes, width, height, exact),
        embeddings=embeddings,
    )


def _to_masks(
    found: Found, rows: torch.Tensor, boxes: torch.Tensor, width: int, height: int, exact: bool
) -> tuple[Mask | None, ...]:
    maps = found.maps if found.maps is not None else found.whole
    if maps is None:
        return (None,) * len(rows)
    maps = maps[rows]
    if not torch.isfinite(maps).all():
        raise AnswerError("masks are not finite")
    if found.maps is not None:
        return tuple((place_masks if exact else paste_masks)(maps, boxes, width, height))
    if len(rows) and maps.shape[1:] != (height, width):
        size = "x".join(map(str, reversed(maps.shape[1:])))
        raise AnswerError(f"masks are {size} px and the picture {width}x{height}")
    return tuple(Mask(0, 0, m.numpy()).tight() for m in maps >= THRESHOLD)
