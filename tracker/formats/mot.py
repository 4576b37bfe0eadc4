"""MOTChallenge text, one object a line: frame,id,x,y,w,h,score,class,visibility.

Frames count from 1 (frame = index + 1), boxes are px, class is the label, visibility is 1 where the
object was seen and 0 where its box is only predicted. Times, masks and names have no place in it.
Commas, blanks and tabs part the fields; lines that begin with # are left out. Source:
motchallenge.net, the layout of MOT16 ground truth (arXiv 1603.00831, table 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tracker.errors import FormatError
from tracker.files import new_file, read_rows
from tracker.formats.rows import Row, check_frame, to_rows, to_tracks
from tracker.types import LoggedFrame, LogInfo, TrackLog

SUFFIX = ".txt"


class Line(NamedTuple):
    """One object as the text tells it."""

    frame: int  # index, from 0
    id: int  # -1 = a detection of nobody's
    box: tuple[float, float, float, float]  # xyxy px
    score: float = 1.0  # of ground truth: 0 = not to be considered
    label: int | None = None  # the eighth field; None where there is none, or a negative one
    has_class: bool = False  # in ten fields the last three may be a place in the world (MOT15)
    visible: bool = True
    fields: int = 6  # that the line has


def write(log: TrackLog, path: Path) -> None:
    """Write a log; frames without objects have no line."""
    with new_file(path) as file:
        for frame in log.frames:
            for row in to_rows(frame.tracks):
                x1, y1, x2, y2 = row.box
                file.write(
                    f"{frame.index + 1},{row.id},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},"
                    f"{row.score:g},{row.label},{int(row.source >= 0)}\n"
                )


def read(path: Path, fps: float = 25.0) -> TrackLog:
    """Read a log; the format knows no times, so they are made from `fps`. Raises FormatError."""
    return TrackLog(LogInfo(0, 0, ()), _frames(path, fps))


def read_objects(path: Path) -> Iterator[tuple[int, Line]]:
    """Yield the number of each line and what it says; raise FormatError that names file and line.

    Ground truth, results and detections alike.
    """
    for number, text in read_rows(path):
        try:
            yield number, _parse(text)
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc


def _parse(text: str) -> Line:
    fields = text.replace(",", " ").split()
    try:
        frame, id_, x, y, w, h, *rest = (float(field) for field in fields[:7])
    except ValueError:
        raise ValueError(
            f"must be numbers: frame,id,x,y,w,h and so on, got {text.strip()!r:.80}"
        ) from None
    if not all(map(math.isfinite, (x, y, w, h, *rest[:1]))):
        raise ValueError("box and score must be finite")
    if frame != int(frame) or frame < 1:
        raise ValueError(f"frame must be a whole number from 1, got {frame:g}")
    if id_ != int(id_):
        raise ValueError(f"id must be a whole number, got {id_:g}")
    if w < 0 or h < 0:
        raise ValueError(f"width and height must not be negative, got {w:g} x {h:g}")
    rest += [_number(field) for field in fields[7:]]
    classes = len(rest) in (2, 3) or (len(rest) == 4 and rest[2:] == [-1, -1])
    return Line(
        frame=check_frame(int(frame) - 1),
        id=int(id_),
        box=(x, y, x + w, y + h),
        score=rest[0] if rest else 1.0,
        label=int(rest[1]) if len(rest) > 1 and rest[1] >= 0 else None,
        has_class=classes,
        visible=len(rest) < 3 or bool(rest[2]),
        fields=len(fields),
    )


def _number(text: str) -> float:
    """Return a field behind the score; -1 for what is no number, as the name of a class."""
    try:
        value = float(text)
    except ValueError:
        return -1.0
    return value if math.isfinite(value) else -1.0


def _frames(path: Path, fps: float) -> Iterator[LoggedFrame]:
    rows: list[tuple[int, Row]] = []
    for number, line in read_objects(path):
        try:
            source = 0 if line.visible else -1
            row = Row(line.id, line.label or 0, line.score, line.box, source=source)
        except ValueError as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
        rows.append((line.frame, row))
    rows.sort(key=lambda item: item[0])  # files need not be in order
    for index, group in groupby(rows, key=lambda item: item[0]):
        try:
            tracks = to_tracks([row for _, row in group])
        except ValueError as exc:
            raise FormatError(f"{path}: frame {index + 1}: {exc}") from exc
        yield LoggedFrame(index, index / fps, 0, 0, tracks)
