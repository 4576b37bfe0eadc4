"""MOTChallenge text, one object a line: frame,id,x,y,w,h,score,class,visibility.

Frames count from 1 (frame = index + 1), boxes are px, classes have MOTChallenge's numbers by their
names (person is 1, car 3; see numbers.py), visibility is 1 where the object was seen and 0 where
its box is only predicted. Times, masks and names have no place in it.
Commas, tabs or blanks part the fields, which may be quoted; lines that begin with # and a header of
these names are left out. A field behind the box may be empty: then it tells nothing. The class may
be one of MOTChallenge's by its name. Source: motchallenge.net, the layout of MOT16 ground truth
(arXiv 1603.00831, table 3).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tracker.errors import FormatError
from tracker.files import new_file, read_rows
from tracker.formats.numbers import MOT, Numbering, find_class
from tracker.formats.rows import Row, check_frame, ids_from_one, to_rows, to_tracks, whole_number
from tracker.types import LoggedFrame, LogInfo, TrackLog

SUFFIX = ".txt"
_BOX = ("frame", "id", "x", "y", "width", "height")  # what every line must tell
# What a header may call the first fields, without marks and in small letters.
_HEADER = (
    {"frame", "frameid", "framenumber", "framenum"},
    {"id", "trackid", "trackerid", "objectid", "targetid"},
    {"x", "x1", "xmin", "left", "bbleft", "bboxleft"},
    {"y", "y1", "ymin", "top", "bbtop", "bboxtop"},
    {"w", "width", "bbwidth", "bboxwidth"},
    {"h", "height", "bbheight", "bboxheight"},
    {"score", "conf", "confidence", "considered", "flag"},
    {"class", "classid", "label", "category", "x", "worldx", "wx"},
)
_PEDESTRIAN = 1
_MOST_FIELDS = 10  # of MOT15 and VisDrone
_NO_CLASS = {"", "nan", "none", "null", "na", "n/a", "-"}
_NUMBERS = {name: number for number, name in MOT.names.items() if number >= 0}


class Line(NamedTuple):
    """One object as the text tells it."""

    frame: int  # index, from 0
    id: int  # -1 = a detection of nobody's
    box: tuple[float, float, float, float]  # xyxy px
    score: float | None = None  # of ground truth: 0 = not to be considered
    label: int | None = None  # None where there is none: in MOT15 its field is a place in the world
    visible: bool = True
    fields: int = 6  # that the line has


def write(log: TrackLog, path: Path) -> list[str]:
    """Write a log; frames without objects have no line. Return what must be known of classes."""
    numbering = Numbering(MOT, log.info.categories)
    with new_file(path) as file:
        for frame in log.frames:
            for row in to_rows(frame.tracks):
                x1, y1, x2, y2 = row.box
                file.write(
                    f"{frame.index + 1},{row.id},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},"
                    f"{row.score:g},{numbering[row.label]},{int(row.source >= 0)}\n"
                )
    return [*numbering.notes(), *_for_trackeval(numbering)]


def read(path: Path, fps: float = 25.0, shift: int = 0) -> TrackLog:
    """Read a log; the format knows no times, so they are made from `fps`. Raises FormatError.

    `shift` is added to the numbers of the frames: 1 where they count from 0.
    """
    rows: dict[int, list[Row]] = defaultdict(list)
    for number, line in read_objects(path, shift):
        score = 1.0 if line.score is None else line.score
        source = 0 if line.visible else -1
        try:
            rows[line.frame].append(Row(line.id, line.label or 0, score, line.box, source=source))
        except ValueError as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
    notes = ids_from_one(rows.values())
    frames = []
    for index, members in sorted(rows.items()):  # files need not be in order
        try:
            tracks = to_tracks(members)
        except ValueError as exc:
            raise FormatError(f"{path}: frame {index + 1 - shift}: {exc}") from exc
        frames.append(LoggedFrame(index, index / fps, 0, 0, tracks))
    categories = MOT.categories([row.label for members in rows.values() for row in members])
    return TrackLog(LogInfo(0, 0, categories), frames, tuple(notes))


def read_objects(path: Path, shift: int = 0) -> Iterator[tuple[int, Line]]:
    """Yield the number of each line and what it says; raise FormatError that names file and line.

    Ground truth, results and detections alike.
    """
    for position, (number, text) in enumerate(read_rows(path, keep_tabs=True)):
        try:
            fields = _split(text)
            if position == 0 and _is_header(fields):
                continue
            yield number, _parse(fields, text, shift)
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc


def names_fields(text: str) -> bool:
    """Whether a line is a header that this format takes."""
    try:
        return _is_header(_split(text))
    except ValueError:
        return False


def _split(text: str) -> list[str]:
    """Part a line at its commas, else its tabs, else its blanks; only the last may be too many."""
    mark = next((mark for mark in (",", "\t") if mark in text), None)
    fields = [field.strip().strip("\"'").strip() for field in text.split(mark)]
    while fields and not fields[-1]:
        fields.pop()
    return fields


def _is_header(fields: list[str]) -> bool:
    names = ["".join(c for c in field.casefold() if c.isalnum()) for field in fields]
    if not names or names[0] not in _HEADER[0]:
        return False
    if len(names) < len(_BOX) or any(n not in k for n, k in zip(names, _HEADER, strict=False)):
        raise ValueError(
            "the header must name frame,id,x,y,w,h,score,class,visibility in this order, got "
            f"{','.join(fields)!r:.80}"
        )
    return True


def _parse(fields: list[str], text: str, shift: int) -> Line:
    for name, field in zip(_BOX, fields, strict=False):
        if not field:
            raise ValueError(f"{name} is empty")
    try:
        frame, _, x, y, w, h = (float(field) for field in fields[:6])
        score = float(fields[6]) if fields[6:] and fields[6] else None
    except ValueError:
        raise ValueError(f"must be numbers: frame,id,x,y,w,h and so on, got {text!r:.80}") from None
    if len(fields) > _MOST_FIELDS:
        raise ValueError(f"must be an object with {_MOST_FIELDS} fields at most, got {len(fields)}")
    if not all(map(math.isfinite, (x, y, w, h, score or 0.0))):
        raise ValueError("box and score must be finite")
    if w < 0 or h < 0:
        raise ValueError(f"width and height must not be negative, got {w:g} x {h:g}")
    label, visible = _class_and_visibility(fields[7:])
    index = _index(frame, shift)
    id_ = whole_number("id", fields[1])
    return Line(index, id_, (x, y, x + w, y + h), score, label, visible, len(fields))


def _index(frame: float, shift: int) -> int:
    first = 1 - shift
    if frame != int(frame) or frame < first:
        remedy = " (--shift 1 where they count from 0)" if frame == 0 and not shift else ""
        raise ValueError(f"frame must be a whole number from {first}, got {frame:g}{remedy}")
    return check_frame(int(frame) - first)


def _class_and_visibility(fields: list[str]) -> tuple[int | None, bool]:
    """Read what stands behind the score: class, class and visibility, or a place in the world.

    Three fields are a class with VisDrone's truncation (0, 1) and occlusion (0, 1, 2) or with
    two times -1; else they are MOT15's place. The name of the class may stand behind its number.
    """
    if len(fields) == 2 and not _is_number(fields[1]):
        fields = fields[:1] if _class(fields[0]) >= 0 else fields[1:]
    rest = [_class(field) for field in fields[:1]] + [_number(field) for field in fields[1:]]
    is_place = len(rest) == 3 and not (rest[1] in (-1, 0, 1) and rest[2] in (-1, 0, 1, 2))
    if not rest or len(rest) > 3 or is_place or (len(rest) == 3 and not rest[0].is_integer()):
        return None, True
    if rest[0] != int(rest[0]):
        raise ValueError(f"class must be a whole number, got {rest[0]:g}")
    label = int(rest[0]) if rest[0] >= 0 else None
    return label, len(rest) != 2 or rest[1] != 0


def _class(text: str) -> float:
    """Return the number of a class, which may be named; -1 where none is told."""
    try:
        return _number(text)
    except ValueError:
        number = find_class(text, _NUMBERS)
    if number is None:
        known = ", ".join(sorted(_NUMBERS, key=lambda name: _NUMBERS[name]))
        raise ValueError(f"class {text!r:.40} has no number in MOTChallenge; it knows {known}")
    return float(number)


def _is_number(text: str) -> bool:
    try:
        _number(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    """Return a field behind the score; -1 for one that tells nothing."""
    if text.casefold() in _NO_CLASS:
        return -1.0
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"must have numbers behind the score, got {text!r:.40}") from None
    return value if math.isfinite(value) else -1.0


def _for_trackeval(numbering: Numbering) -> Iterator[str]:
    """Say where TrackEval refuses a file: it knows no classes but pedestrians."""
    used = {numbering.name(label): number for label, number in numbering.used.items()}
    others = [f"{name} {number}" for name, number in used.items() if number > _PEDESTRIAN]
    if others:
        people = [name for name, number in used.items() if number == _PEDESTRIAN]
        only = f"; --classes {people[0]} leaves them out" if people else ""
        yield (
            f"TrackEval's MOTChallenge scores pedestrians (1) alone and refuses a file with other "
            f"classes ({', '.join(sorted(others))}){only}"
        )
