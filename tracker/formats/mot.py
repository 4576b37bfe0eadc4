"""MOTChallenge text, one object a line: frame,id,x,y,w,h,score,class,visibility.

Frames count from 1 (frame = index + 1), boxes are px, class is the label, visibility is 1 where the
object was seen and 0 where its box is only predicted. Times, masks and names have no place in it.
Source: motchallenge.net, the layout of MOT16 ground truth (arXiv 1603.00831, table 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tracker.errors import FormatError
from tracker.files import new_file, read_lines
from tracker.formats.rows import Row, check_frame, to_rows, to_tracks
from tracker.types import LoggedFrame, LogInfo, TrackLog

SUFFIX = ".txt"


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


def _frames(path: Path, fps: float) -> Iterator[LoggedFrame]:
    rows = sorted(_rows(path), key=lambda item: item[0])  # files need not be in order
    for index, group in groupby(rows, key=lambda item: item[0]):
        try:
            tracks = to_tracks([row for _, row in group])
        except ValueError as exc:
            raise FormatError(f"{path}: frame {index + 1}: {exc}") from exc
        yield LoggedFrame(index, index / fps, 0, 0, tracks)


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    for number, text in read_lines(path):
        if not text.strip():
            continue
        fields = [float(v) for v in _split(path, number, text)]
        frame, id_, x, y, w, h = fields[:6]
        score, label, visible = (*fields[6:9], *(1.0, 0.0, 1.0)[len(fields) - 6 :])[:3]
        try:
            if frame != int(frame) or frame < 1:
                raise ValueError(f"frame must be a whole number from 1, got {frame:g}")
            if w < 0 or h < 0:
                raise ValueError(f"width and height must not be negative, got {w:g} x {h:g}")
            box = (x, y, x + w, y + h)
            check_frame(int(frame))
            row = Row(int(id_), max(0, int(label)), score, box, source=0 if visible else -1)
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
        yield int(frame) - 1, row


def _split(path: Path, number: int, text: str) -> list[float]:
    fields = text.replace(",", " ").split()
    if len(fields) < 6:
        raise FormatError(f"{path}:{number}: must have at least 6 fields, got {len(fields)}")
    try:
        return [float(field) for field in fields]
    except ValueError as exc:
        raise FormatError(f"{path}:{number}: must be numbers: {exc}") from exc
