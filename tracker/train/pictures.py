"""What is looked at rather than read: the curves of a training, and a sheet of predictions."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from tracker.boxes import box_iou
from tracker.config import OutputConfig
from tracker.drawing import Annotator
from tracker.errors import MissingExtraError
from tracker.files import new_file
from tracker.masks import Mask
from tracker.train.records import Epoch
from tracker.train.samples import Dataset, Sample, read_picture
from tracker.types import Detections, FloatArray, Frame, FrameResult, Image, IntArray, Tracks

_WIDTH = 640  # px of one picture of the sheet
_SHOWN = 0.5  # least score of a prediction that is drawn


def check_matplotlib() -> None:
    """Raise MissingExtraError without matplotlib: before a training, not after its first epoch."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("drawing curves", "train")


def draw_curves(path: Path, epochs: Sequence[Epoch]) -> None:
    """Draw losses and mAP by epoch as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # no screen is needed
    left, right = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in epochs]
    for name in epochs[0].losses:
        left.plot(numbers, [epoch.losses[name] for epoch in epochs], label=name[5:], marker=".")
    total = [sum(epoch.losses.values()) for epoch in epochs]
    left.plot(numbers, total, label="all", color="black", marker=".")
    left.set(title="Losses", xlabel="epoch", yscale="log")
    right.plot(numbers, [epoch.scores.mask for epoch in epochs], label="mask mAP", marker=".")
    right.plot(numbers, [epoch.scores.box for epoch in epochs], label="box mAP", marker=".")
    right.plot(numbers, [epoch.scores.mask_50 for epoch in epochs], label="mask mAP 50", marker=".")
    for name in epochs[-1].scores.categories:
        values = [epoch.scores.categories.get(name, 0.0) for epoch in epochs]
        right.plot(numbers, values, label=name.replace("$", r"\$"), linestyle=":", linewidth=1)
    best = max(epochs, key=lambda epoch: epoch.scores.mask)
    right.axvline(best.number, color="grey", linewidth=0.8)
    right.set(title="Validation", xlabel="epoch", ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, ncols=2)
    with new_file(path, "wb") as file:
        figure.savefig(file, format="png")


def draw_sheet(path: Path, data: Dataset, found: Mapping[int, Detections]) -> None:
    """Draw labels (left) beside predictions (right) of the pictures in `found`, as PNG."""
    style = OutputConfig(panel=False, trail_s=0)
    strips = []
    for row in sorted(found):
        sample = data.samples[row]
        frame = Frame(0, 0.0, read_picture(sample))
        one = found[row]
        pair = []
        labels = _labels(sample)
        for tracks in (labels, _numbered_like(labels, _predictions(one))):
            painter = Annotator(data.categories, style)
            pair.append(_scaled(painter.draw(FrameResult(frame, one, tracks))))
        gap = np.full((len(pair[0]), 8, 3), 255, np.uint8)
        strips.append(np.concatenate([pair[0], gap, pair[1]], axis=1))
    Pillow.fromarray(np.concatenate(strips, axis=0)).save(path)


def _labels(sample: Sample) -> Tracks:
    things = [one for one in sample.instances if not one.crowd]
    masks = tuple(one.mask for one in things)
    return _as_tracks(
        np.array([mask.box for mask in masks], np.float32).reshape(-1, 4),
        np.ones(len(things), np.float32),
        np.array([one.label for one in things], np.int64),
        masks,
    )


def _predictions(found: Detections) -> Tracks:
    keep = np.flatnonzero(found.scores >= _SHOWN)
    return _as_tracks(
        found.boxes[keep],
        found.scores[keep],
        found.labels[keep],
        tuple(found.masks[k] for k in keep.tolist()),
    )


def _numbered_like(labels: Tracks, found: Tracks) -> Tracks:
    """Give predictions the numbers, and so the colours, of the labels that they lie on."""
    iou = box_iou(labels.boxes, found.boxes)
    numbers = np.arange(len(found), dtype=np.int64) + len(labels) + 1
    while iou.size and iou.max() > 0:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        numbers[column] = labels.ids[row]
        iou[row], iou[:, column] = 0, 0
    return dataclasses.replace(found, ids=numbers)


def _as_tracks(
    boxes: FloatArray, scores: FloatArray, labels: IntArray, masks: tuple[Mask | None, ...]
) -> Tracks:
    numbers = np.arange(len(scores), dtype=np.int64)
    return Tracks(numbers + 1, boxes, scores, labels, masks, numbers)


def _scaled(image: Image) -> Image:
    height = max(1, round(image.shape[0] * _WIDTH / image.shape[1]))
    return np.asarray(Pillow.fromarray(image).resize((_WIDTH, height)))
