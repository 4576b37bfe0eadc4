"""Saved detections, to be associated again without a model.

Read are: MOTChallenge det.txt (frame,-1,x,y,w,h,score,...; frames from 1, boxes only, label 1
unless the eighth field is a class), MOTS-style text (frame x y w h score class H W rle; frames
from 0), COCO results JSON (a list of image_id, category_id, bbox, score, segmentation; images in
the order of their ids, which count from 0 or 1) and a run's own tracks.jsonl.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tracker.errors import FormatError
from tracker.formats import jsonl
from tracker.formats.text import read_json_value, read_lines
from tracker.masks import Mask, rle_to_mask
from tracker.types import DetectionLog, Detections, LoggedDetections, LogInfo, TrackLog

MOST_EMPTY_FRAMES = 1_000_000  # between two frames of a file; more is a mistake in it


@dataclass(frozen=True, slots=True)
class _Found:
    """One detection as a file tells it."""

    box: tuple[float, float, float, float]  # xyxy px
    score: float
    label: int
    mask: Mask | None = None
    size: tuple[int, int] = (0, 0)  # of the frame, height and width px; 0 = not told

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (*self.box, self.score)):
            raise ValueError("box and score must be finite")
        if self.box[2] < self.box[0] or self.box[3] < self.box[1]:
            raise ValueError("width and height must not be negative")
        if not 0 <= self.label <= 100_000:
            raise ValueError(f"class must be in 0..100000, got {self.label}")


def read(path: Path, fps: float | None = None) -> DetectionLog:
    """Read saved detections of any of the formats; what it is, its content tells.

    `fps` gives times to the formats that know none. Raises FormatError that names file and line,
    also where `fps` is needed and missing.
    """
    head = _head(path)
    if head.startswith("{") and '"format"' in head.partition("\n")[0]:
        return _from_tracks(jsonl.read(path))
    if fps is None:
        raise FormatError(f"{path}: tells no times; say how many frames a second it has (--fps)")
    if head.startswith(("[", "{")):
        return DetectionLog(LogInfo(0, 0, ()), _frames(_from_coco(path), path, fps))
    parse = _parse_mots if len(head.partition("\n")[0].replace(",", " ").split()) == 10 else None
    if parse is None or "," in head.partition("\n")[0]:
        parse = _parse_mot
    return DetectionLog(LogInfo(0, 0, ()), _frames(_from_text(path, parse), path, fps))


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("utf-8", "replace").lstrip()
    except OSError as exc:
        raise FormatError(f"{path}: cannot be read: {exc.strerror}") from exc


def _from_text(path: Path, parse: Any) -> dict[int, list[_Found]]:
    found: dict[int, list[_Found]] = defaultdict(list)
    for number, text in read_lines(path):
        if not text.strip():
            continue
        try:
            frame, item = parse(text)
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
        found[frame].append(item)
    return found


def _parse_mot(text: str) -> tuple[int, _Found]:
    fields = text.replace(",", " ").split()
    if len(fields) < 7:
        raise ValueError(f"must have frame, id, x, y, w, h, score, got {len(fields)} fields")
    frame, _, x, y, w, h, score = (float(field) for field in fields[:7])
    label = int(float(fields[7])) if len(fields) > 7 else -1
    if frame != int(frame) or frame < 1:
        raise ValueError(f"frame must be a whole number from 1, got {frame:g}")
    return int(frame) - 1, _Found((x, y, x + w, y + h), score, label if label >= 0 else 1)


def _parse_mots(text: str) -> tuple[int, _Found]:
    fields = text.split()
    if len(fields) != 10:
        raise ValueError(f"must be frame x y w h score class H W rle, got {len(fields)} fields")
    x, y, w, h, score = (float(field) for field in fields[1:6])
    frame, label, height, width = (int(fields[k]) for k in (0, 6, 7, 8))
    if frame < 0:
        raise ValueError(f"frame must not be negative, got {frame}")
    mask = rle_to_mask({"size": [height, width], "counts": fields[9]})
    return frame, _Found((x, y, x + w, y + h), score, label, mask, (height, width))


def _from_coco(path: Path) -> dict[int, list[_Found]]:
    content = read_json_value(path)
    if isinstance(content, dict):
        content = content.get("annotations")
    if not isinstance(content, list):
        raise FormatError(f"{path}: must hold a list of COCO results")
    by_image: dict[int, list[_Found]] = defaultdict(list)
    for number, item in enumerate(content):
        try:
            x, y, w, h = (float(v) for v in item["bbox"])
            rle = item.get("segmentation")
            mask = rle_to_mask(rle) if isinstance(rle, dict) else None
            size = tuple(int(v) for v in rle["size"]) if isinstance(rle, dict) else (0, 0)
            found = _Found(
                (x, y, x + w, y + h),
                float(item.get("score", 1.0)),
                int(item["category_id"]),
                mask,
                (size[0], size[1]),
            )
            by_image[int(item["image_id"])].append(found)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            raise FormatError(f"{path}: result {number} is malformed: {exc!r}") from exc
    first = 1 if 0 not in by_image else 0
    if min(by_image, default=first) < 0:
        raise FormatError(f"{path}: image_id must not be negative, got {min(by_image)}")
    return {image - first: items for image, items in by_image.items()}


def _frames(found: dict[int, list[_Found]], path: Path, fps: float) -> Iterator[LoggedDetections]:
    """Give every frame from the first to the last: one without detections has no line."""
    indices = sorted(found)
    for before, index in itertools.pairwise([-1, *indices]):
        if index - before > MOST_EMPTY_FRAMES:
            raise FormatError(f"{path}: frames {before} and {index} lie too far apart")
    sizes = [item.size for items in found.values() for item in items if item.size != (0, 0)]
    height, width = sizes[0] if sizes else (0, 0)
    for index in range(indices[-1] + 1 if indices else 0):
        items = sorted(found.pop(index, []), key=lambda item: -item.score)
        height, width = next((item.size for item in items if item.size[0]), (height, width))
        yield LoggedDetections(index, index / fps, width, height, _to_detections(items))


def _to_detections(items: list[_Found]) -> Detections:
    return Detections(
        boxes=np.array([item.box for item in items], np.float32).reshape(-1, 4),
        scores=np.array([item.score for item in items], np.float32),
        labels=np.array([item.label for item in items], np.int64),
        masks=tuple(item.mask for item in items),
    )


def _from_tracks(log: TrackLog) -> DetectionLog:
    """Take a run's tracks as detections; boxes that were only predicted are left out."""

    def frames() -> Iterator[LoggedDetections]:
        for frame in log.frames:
            tracks = frame.tracks
            rows = np.flatnonzero(tracks.observed)
            rows = rows[np.argsort(-tracks.scores[rows], kind="stable")]
            found = Detections(
                boxes=tracks.boxes[rows],
                scores=tracks.scores[rows],
                labels=tracks.labels[rows],
                masks=tuple(tracks.masks[row] for row in rows.tolist()),
            )
            yield LoggedDetections(frame.index, frame.time, frame.width, frame.height, found)

    return DetectionLog(log.info, frames())
