"""Saved detections, to be associated again without a model.

Written is detections.jsonl: a header as that of tracks.jsonl ("format": "mask-tracker-detections"),
then a line a frame that the detector saw, with "detections": label, class, score, box (xyxy px,
exact), mask (COCO RLE, or absent).

Read are that; MOTChallenge det.txt (frame,-1,x,y,w,h,score,...; frames from 1, boxes only, label 1
unless the eighth field is a class), MOTS-style text (mots_detections.py), COCO results JSON (a
list of image_id, category_id, bbox, score, segmentation as RLE; image ids count frames, from 0
where there is an image 0 and else from 1; a dictionary with "images" tells their order itself) and
a run's own tracks.jsonl. Masks stay compressed until their frame is asked for.
"""

from __future__ import annotations

import codecs
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tracker.errors import FormatError
from tracker.files import JsonObject, new_file, read_json_value, read_lines
from tracker.formats import jsonl, mot, mots_detections
from tracker.formats.coco import check_one_video
from tracker.formats.numbers import MOTS
from tracker.formats.seqinfo import SeqInfo, find_seqinfo
from tracker.masks import Rle, check_rle, mask_to_rle, rle_to_mask
from tracker.types import DetectionLog, Detections, LoggedDetections, LoggedFrame, LogInfo

FORMAT = "mask-tracker-detections"
LARGEST_LABEL = 10_000
LARGEST_PIXEL = 1e7  # of a box's coordinates; a larger number is a mistake
MOST_FRAMES = 10_000_000  # four days at 30 frames a second
LONGEST_HOLE = 100_000  # frames without a line between two that have some


@dataclass(frozen=True, slots=True)
class _Found:
    """One detection as a file tells it."""

    box: tuple[float, float, float, float]  # xyxy px
    score: float
    label: int
    rle: Rle | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (*self.box, self.score)):
            raise ValueError("box and score must be finite")
        if max(abs(v) for v in self.box) > LARGEST_PIXEL:
            raise ValueError(f"box must lie within {LARGEST_PIXEL:g} px, got {self.box}")
        if self.box[2] < self.box[0] or self.box[3] < self.box[1]:
            raise ValueError("width and height must not be negative")
        if not 0 <= self.score <= 1:
            raise ValueError(f"score must be in 0..1, got {self.score:g}; see --score-range")
        if not 0 <= self.label <= LARGEST_LABEL:
            raise ValueError(f"class must be in 0..{LARGEST_LABEL}, got {self.label}")
        if self.rle is not None:
            check_rle(self.rle)


@dataclass(frozen=True, slots=True)
class _Reader:
    """How one file is read: its name, its frame rate and what its scores mean."""

    path: Path
    fps: float | None
    lowest: float  # score that means 0
    highest: float  # score that means 1
    shift: int  # added to the numbers of the frames of text

    def score(self, text: Any) -> float:
        """Return a score in the range of the settings."""
        value = float(text)
        if (self.lowest, self.highest) == (0.0, 1.0):
            return value
        return min(max((value - self.lowest) / (self.highest - self.lowest), 0.0), 1.0)


def write(log: DetectionLog, path: Path) -> None:
    """Write saved detections as detections.jsonl."""
    with new_file(path) as file:
        file.write(header_line(log.info))
        for frame in log.frames:
            file.write(frame_line(frame, log.info))


def header_line(info: LogInfo) -> str:
    """Return the first line of detections.jsonl, with its end: that of a log by another name."""
    return jsonl.header_line(info).replace(jsonl.FORMAT, FORMAT, 1)


def frame_line(frame: LoggedDetections, info: LogInfo) -> str:
    """Return one frame's line of detections.jsonl, with its end; numbers are exact."""
    found = frame.detections
    items = []
    for row in range(len(found)):
        label, mask = int(found.labels[row]), found.masks[row]
        item: JsonObject = {
            "label": label,
            "class": info.categories[label] if label < len(info.categories) else str(label),
            "score": float(str(found.scores[row])),  # the shortest that gives the same float32
            "box": [float(str(value)) for value in found.boxes[row]],
        }
        if mask is not None:
            item["mask"] = mask_to_rle(mask, frame.width, frame.height)
        items.append(item)
    head: JsonObject = {"frame": frame.index, "time": round(frame.time, 6)}
    if (frame.width, frame.height) != (info.width, info.height):
        head |= {"width": frame.width, "height": frame.height}
    if frame.suspect:
        head["suspect"] = True
    return jsonl.dump({**head, "detections": items})


def read(
    path: Path,
    fps: float | None = None,
    score_range: tuple[float, float] = (0.0, 1.0),
    shift: int = 0,
) -> DetectionLog:
    """Read saved detections of any of the formats; what it is, its content tells.

    `fps` gives times to the formats that know none, by default that of a seqinfo.ini beside the
    file, which also tells the frames' size. `score_range` are the scores that mean 0 and
    1, for detectors that count otherwise; `shift` is added to the numbers of the frames of text.
    Raises FormatError that names file and line, also where `fps` is needed and missing.
    """
    head = _head(path)
    first_line = head.partition("\n")[0]
    if head.startswith("{") and '"format"' in first_line:
        is_own = f'"format":"{FORMAT}"' in first_line.replace(" ", "")
        return _from_log(path, FORMAT if is_own else jsonl.FORMAT)
    beside = find_seqinfo(path) or SeqInfo(path)
    fps = fps or beside.fps
    if fps is None:
        raise FormatError(f"{path}: tells no times; say how many frames a second it has (--fps)")
    reader = _Reader(path, fps, *score_range, shift)
    is_json = head.startswith(("[", "{"))
    is_mots = not is_json and mots_detections.holds_detections(path)
    if is_json:
        found = _from_coco(reader)
    elif is_mots:
        found = _from_mots(reader)
    else:
        found = _from_mot(reader)
    sizes = [item.rle["size"] for items in found.values() for item in items if item.rle]
    height, width = map(int, sizes[0]) if sizes else (beside.height or 0, beside.width or 0)
    names: tuple[str, ...] = ()
    if is_mots:  # the numbers of these files are those of MOTS
        names = MOTS.categories([item.label for items in found.values() for item in items])
    info = LogInfo(width, height, names, source=path.name)
    return DetectionLog(info, _frames(found, reader, height, width), has_masks=bool(sizes))


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            is_wide = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            text = head.decode("utf-16" if is_wide else "utf-8", "replace")
            return text.lstrip("\ufeff \t\r\n")
    except OSError as exc:
        raise FormatError(f"{path}: cannot be read: {exc.strerror}") from exc


def _from_mot(reader: _Reader) -> dict[int, list[_Found]]:
    found: dict[int, list[_Found]] = defaultdict(list)
    for number, line in mot.read_objects(reader.path, reader.shift):
        try:
            if line.fields < 7:
                raise ValueError(f"must be frame,id,x,y,w,h,score, got {line.fields} fields")
            if line.score is None:
                raise ValueError("score is empty")
            label = 1 if line.label is None else line.label
            found[_checked(line.frame)].append(_Found(line.box, reader.score(line.score), label))
        except ValueError as exc:
            raise FormatError(f"{reader.path}:{number}: {exc}") from exc
    return found


def _from_mots(reader: _Reader) -> dict[int, list[_Found]]:
    found: dict[int, list[_Found]] = defaultdict(list)
    for number, line in mots_detections.read_objects(reader.path):
        try:
            one = _Found(line.box, reader.score(line.score), line.label, line.rle)
            found[_checked(line.frame + reader.shift)].append(one)
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{reader.path}:{number}: {exc}") from exc
    return found


def _checked(frame: int) -> int:
    if not 0 <= frame <= MOST_FRAMES:
        raise ValueError(f"frame must be in 0..{MOST_FRAMES}, got {frame}")
    return frame


def _from_coco(reader: _Reader) -> dict[int, list[_Found]]:
    path, content = reader.path, read_json_value(reader.path)
    order: dict[int, int] = {}
    if isinstance(content, dict):
        order = _order_of(path, content)
        content = content.get("annotations")
    if not isinstance(content, list):
        raise FormatError(f"{path}: must hold a list of COCO results")
    by_image: dict[int, list[_Found]] = defaultdict(list)
    for number, item in enumerate(content):
        try:
            image = int(item["image_id"])
            if image < 0 or (order and image not in order):
                raise ValueError(f"image_id {image} is none of the images")
            by_image[image].append(_from_result(item, reader))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            why = f"has no {exc}" if isinstance(exc, KeyError) else str(exc)
            raise FormatError(f"{path}: result {number} (from 0): {why}") from exc
    first = 0 if 0 in by_image else 1
    return {order[k] if order else k - first: items for k, items in by_image.items()}


def _order_of(path: Path, content: JsonObject) -> dict[int, int]:
    """Return the index of each image of a COCO file; raise FormatError."""
    check_one_video(path, content)
    try:
        ids = sorted(int(image["id"]) for image in content.get("images") or ())
    except (KeyError, TypeError, ValueError) as exc:
        raise FormatError(f"{path}: images are malformed: {exc!r}") from exc
    return {image: index for index, image in enumerate(ids)}


def _from_result(item: JsonObject, reader: _Reader) -> _Found:
    x, y, w, h = (float(v) for v in item["bbox"])
    rle = item.get("segmentation") or None
    if rle is not None and not isinstance(rle, dict):
        raise ValueError("segmentation must be RLE, polygons are not read")
    score, label = reader.score(item.get("score", 1.0)), int(item["category_id"])
    return _Found((x, y, x + w, y + h), score, label, rle)


def _frames(
    found: dict[int, list[_Found]], reader: _Reader, height: int, width: int
) -> Iterator[LoggedDetections]:
    """Give every frame from the first to the last: one without detections has no line."""
    indices, path = sorted(found), reader.path
    for before, index in itertools.pairwise([-1, *indices]):
        if index - before > LONGEST_HOLE:
            raise FormatError(f"{path}: frames {before} and {index} lie too far apart")
    for index in range(indices[-1] + 1 if indices else 0):
        items = sorted(found.pop(index, []), key=lambda item: -item.score)
        sizes = {(int(r["size"][0]), int(r["size"][1])) for item in items if (r := item.rle)}
        if len(sizes) > 1:
            raise FormatError(f"{path}: masks of frame {index} (from 0) differ in size")
        height, width = sizes.pop() if sizes else (height, width)
        time = index / (reader.fps or 1.0)
        yield LoggedDetections(index, time, width, height, _to_detections(items))


def _to_detections(items: list[_Found]) -> Detections:
    return Detections(
        boxes=np.array([item.box for item in items], np.float32).reshape(-1, 4),
        scores=np.array([item.score for item in items], np.float32),
        labels=np.array([item.label for item in items], np.int64),
        masks=tuple(rle_to_mask(item.rle) if item.rle else None for item in items),
    )


def _from_log(path: Path, kind: str) -> DetectionLog:
    """Read detections.jsonl, or take a run's tracks as detections."""
    has_masks = any('"mask":' in text for _, text in read_lines(path, drop_cut=True))
    if kind == FORMAT:
        info, lines = jsonl.read_head(path, FORMAT)
        return DetectionLog(info, _saved(path, info, lines), has_masks)
    log = jsonl.read(path)
    return DetectionLog(log.info, map(partial(_observed, path), log.frames), has_masks)


def _saved(
    path: Path, info: LogInfo, lines: Iterator[tuple[int, str]]
) -> Iterator[LoggedDetections]:
    for line in jsonl.read_frames(path, info, lines):
        try:
            items = [
                _Found(
                    box=tuple(float(v) for v in item["box"]),  # type: ignore[arg-type]
                    score=float(item["score"]),
                    label=int(item["label"]),
                    rle=item.get("mask"),
                )
                for item in line.content["detections"]
            ]
            found = _to_detections(items)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as exc:
            raise FormatError(f"{path}:{line.number}: is malformed: {exc}") from exc
        yield LoggedDetections(line.index, line.time, line.width, line.height, found, line.suspect)


def _observed(path: Path, frame: LoggedFrame) -> LoggedDetections:
    """Take a frame's tracks as detections; boxes that were only predicted are left out."""
    tracks = frame.tracks
    rows = np.flatnonzero(tracks.observed)
    rows = rows[np.argsort(-tracks.scores[rows], kind="stable")]
    try:
        for row in rows.tolist():
            x1, y1, x2, y2 = (float(v) for v in tracks.boxes[row])
            _Found((x1, y1, x2, y2), float(tracks.scores[row]), int(tracks.labels[row]))
    except ValueError as exc:
        raise FormatError(f"{path}: frame {frame.index}: {exc}") from exc
    found = Detections(
        boxes=tracks.boxes[rows],
        scores=tracks.scores[rows],
        labels=tracks.labels[rows],
        masks=tuple(tracks.masks[row] for row in rows.tolist()),
    )
    return LoggedDetections(
        frame.index, frame.time, frame.width, frame.height, found, frame.suspect
    )
