"""MOTS text, one mask a line: frame id class height width rle.

Frames count from 0 (frame = index), the mask is compressed COCO RLE, and no two masks of a frame
overlap: a pixel that several claim goes to the one that stands nearest, whose lower edge is the
lowest; what hardly keeps anything of itself is a double and left out. Objects without a mask,
times, scores and names have no place in it. Source: vision.rwth-aachen.de/page/mots.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tracker.errors import FormatError, SinkError
from tracker.files import new_file, read_rows
from tracker.formats.rows import Row, check_frame, to_tracks
from tracker.masks import Mask, Rle, mask_to_rle, rle_to_mask
from tracker.types import LoggedFrame, LogInfo, TrackLog, Tracks

SUFFIX = ".txt"
SHARE_LEFT = 0.3  # of its own pixels a mask must keep


class Line(NamedTuple):
    """One mask as the text tells it."""

    frame: int  # index, from 0
    id: int
    label: int  # 10 = a region to be ignored, in ground truth
    rle: Rle


def write(log: TrackLog, path: Path) -> None:
    """Write a log; frames without masks have no line."""
    with new_file(path) as file:
        for frame in log.frames:
            tracks = frame.tracks
            if any(mask is not None for mask in tracks.masks) and not frame.width * frame.height:
                raise SinkError(
                    f"{path}: MOTS needs the frames' size, and the log does not tell it"
                )
            masks = [mask and mask.clipped(frame.width, frame.height) for mask in tracks.masks]
            masks = [mask if mask and mask.area else None for mask in masks]
            for row, mask in without_overlap(replace(tracks, masks=tuple(masks))):
                rle = mask_to_rle(mask, frame.width, frame.height)
                file.write(
                    f"{frame.index} {frame.tracks.ids[row]} {frame.tracks.labels[row]} "
                    f"{frame.height} {frame.width} {rle['counts']}\n"
                )


def read(path: Path, fps: float = 25.0) -> TrackLog:
    """Read a log; the format knows no times, so they are made from `fps`. Raises FormatError."""
    return TrackLog(LogInfo(0, 0, ()), _frames(path, fps))


def without_overlap(tracks: Tracks) -> list[tuple[int, Mask]]:
    """Return (row, mask) of every mask that keeps enough of itself after nearer ones took theirs.

    On the ground, what has the lowest lower edge is nearest and hides the others: measured, this
    order agrees better with the truth than the order of the scores.
    """
    order = sorted(
        (row for row, mask in enumerate(tracks.masks) if mask is not None),
        key=lambda row: (-_foot(tracks, row), -float(tracks.scores[row]), int(tracks.ids[row])),
    )
    kept: list[tuple[int, Mask]] = []
    for row in order:
        mask = tracks.masks[row]
        if mask is None:
            continue
        bits = mask.bits.copy()
        x1, y1, x2, y2 = mask.box
        for _, other in kept:
            ox1, oy1, ox2, oy2 = other.box
            left, top, right, bottom = max(x1, ox1), max(y1, oy1), min(x2, ox2), min(y2, oy2)
            if left < right and top < bottom:
                mine = bits[top - y1 : bottom - y1, left - x1 : right - x1]
                mine &= ~other.bits[top - oy1 : bottom - oy1, left - ox1 : right - ox1]
        rest = Mask(mask.x, mask.y, bits).tight()
        if rest.area >= max(1, SHARE_LEFT * mask.area):
            kept.append((row, rest))
    return sorted(kept, key=lambda item: item[0])


def _foot(tracks: Tracks, row: int) -> int:
    mask = tracks.masks[row]
    return mask.box[3] if mask is not None else 0


def holds_masks(path: Path) -> bool:
    """Tell MOTS from MOTChallenge text by the first line: five whole numbers and no sixth."""
    first = next((text for _, text in read_rows(path)), "")
    return bool(re.fullmatch(r"(\d+\s+){5}(?![\d.,eE+-]+$)\S+", first))


def read_objects(path: Path) -> Iterator[tuple[int, Line]]:
    """Yield the number of each line and what it says; raise FormatError that names both."""
    for number, text in read_rows(path):
        fields = text.split()
        if len(fields) != 6 or not all(field.isdecimal() for field in fields[:5]):
            what = f"must be frame id class height width rle, got {text!r:.80}"
            raise FormatError(f"{path}:{number}: {what}")
        frame, id_, label, height, width = (int(field) for field in fields[:5])
        yield number, Line(frame, id_, label, {"size": [height, width], "counts": fields[5]})


def _frames(path: Path, fps: float) -> Iterator[LoggedFrame]:
    rows: list[tuple[int, list[int], Row]] = []
    for number, line in read_objects(path):
        try:
            mask = rle_to_mask(line.rle)
            x1, y1, x2, y2 = mask.box
            row = Row(line.id, line.label, 1.0, (x1, y1, x2, y2), mask)
            rows.append((check_frame(line.frame), line.rle["size"], row))
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
    rows.sort(key=lambda item: item[0])
    for index, group in groupby(rows, key=lambda item: item[0]):
        members = list(group)
        height, width = members[0][1]
        try:
            if any(size != [height, width] for _, size, _ in members):
                raise ValueError("masks of one frame must have one size")
            tracks = to_tracks([row for _, _, row in members])
        except ValueError as exc:
            raise FormatError(f"{path}: frame {index}: {exc}") from exc
        yield LoggedFrame(index, index / fps, width, height, tracks)
