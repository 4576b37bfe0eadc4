"""A plain table, one row per object and frame, as CSV; `COLUMNS` is also the Parquet schema."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tracker.errors import FormatError
from tracker.files import LONGEST_LINE, new_file, read_lines
from tracker.formats.rows import Row, check_frame, ids_from_one, to_rows, to_tracks, whole_number
from tracker.masks import mask_to_rle, rle_to_mask
from tracker.types import LoggedFrame, LogInfo, TrackLog

SUFFIX = ".csv"
COLUMNS: dict[str, type] = {
    "frame": int,  # index from 0
    "time": float,  # s
    "id": int,
    "label": int,
    "class": str,
    "score": float,
    "x1": float,  # px
    "y1": float,
    "x2": float,
    "y2": float,
    "predicted": bool,  # the box was not seen, only expected
    "width": int,  # px, of the frame; empty where it is not known
    "height": int,
    "mask": str,  # counts of COCO RLE, empty without a mask
}


def write(log: TrackLog, path: Path) -> list[str]:
    """Write a log as CSV with a header; frames without objects have no row."""
    with new_file(path) as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for values in table_rows(log):
            table.writerow([int(v) if isinstance(v, bool) else v for v in values])
    return []


def read(path: Path) -> TrackLog:
    """Read a log. Raises FormatError."""
    return frames_of_table(path, _values(path))


def table_rows(log: TrackLog) -> Iterator[tuple[Any, ...]]:
    """Yield one tuple per object and frame, in the order of `COLUMNS`."""
    names = log.info.categories
    for frame in log.frames:
        for row in to_rows(frame.tracks):
            mask = mask_to_rle(row.mask, frame.width, frame.height)["counts"] if row.mask else ""
            name = names[row.label] if row.label < len(names) else str(row.label)
            yield (
                frame.index,
                round(frame.time, 6),
                row.id,
                row.label,
                name,
                row.score,
                *row.box,
                row.source < 0,
                frame.width or None,
                frame.height or None,
                mask,
            )


def frames_of_table(path: Path, rows: Iterable[tuple[int, dict[str, Any]]]) -> TrackLog:
    """Build a log from numbered rows of plain values. Raises FormatError."""
    names: dict[int, str] = {}
    by_frame: dict[int, list[Row]] = defaultdict(list)
    facts: dict[int, tuple[float, int, int]] = {}  # of a frame: time, width, height
    for number, values in rows:
        try:
            fact = _time_and_size(values)
            row = _to_row(values, fact)
            index = check_frame(_whole(values, "frame"))
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
        if facts.setdefault(index, fact) != fact:
            raise FormatError(f"{path}: frame {index} has two times or sizes")
        by_frame[index].append(row)
        names[row.label] = "N/A" if _is_empty(values["class"]) else str(values["class"])
    notes = ids_from_one(by_frame.values())
    frames = []
    for index, members in sorted(by_frame.items()):  # tables may be sorted by id
        try:
            tracks = to_tracks(members)
        except ValueError as exc:
            raise FormatError(f"{path}: frame {index}: {exc}") from exc
        frames.append(LoggedFrame(index, *facts[index], tracks))
    size = (frames[0].width, frames[0].height) if frames else (0, 0)
    categories = tuple(names.get(label, "N/A") for label in range(max(names, default=-1) + 1))
    return TrackLog(LogInfo(*size, categories), frames, tuple(notes))


def _time_and_size(values: dict[str, Any]) -> tuple[float, int, int]:
    width = _whole(values, "width", empty=0)
    return _number(values, "time"), width, _whole(values, "height", empty=0)


def _to_row(values: dict[str, Any], fact: tuple[float, int, int]) -> Row:
    counts, (_, width, height) = values["mask"], fact
    x1, y1, x2, y2 = (_number(values, name) for name in ("x1", "y1", "x2", "y2"))
    has_mask = not _is_empty(counts)
    return Row(
        id=_whole(values, "id"),
        label=_whole(values, "label"),
        score=_number(values, "score", empty=1.0),
        box=(x1, y1, x2, y2),
        mask=rle_to_mask({"size": [height, width], "counts": str(counts)}) if has_mask else None,
        source=-1 if _flag(values, "predicted") else 0,
    )


def _is_empty(value: Any) -> bool:
    """Whether a field tells nothing: pandas writes and reads what is missing as NaN."""
    return value is None or value == "" or value != value


def _number(values: dict[str, Any], name: str, empty: float | None = None) -> float:
    """Return a field, or `empty` for one without a value; raise ValueError where it needs one."""
    if not _is_empty(values[name]):
        try:
            return float(values[name])
        except ValueError:
            raise ValueError(f"{name} must be a number, got {values[name]!r:.40}") from None
    if empty is None:
        raise ValueError(f"{name} is empty")
    return empty


def _whole(values: dict[str, Any], name: str, empty: int | None = None) -> int:
    """Return a whole number, which may be written as 3.0: so pandas writes columns with gaps."""
    if _is_empty(values[name]):
        return int(_number(values, name, empty))
    return whole_number(name, values[name])


def _flag(values: dict[str, Any], name: str) -> bool:
    text = str(values[name]).casefold()
    return text == "true" or (text != "false" and _number(values, name, empty=0.0) != 0)


def _values(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = read_lines(path)
    header = _fields(path, *next(lines, (1, "")))
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise FormatError(f"{path}:1: the column {missing[0]!r} is missing")
    for number, text in lines:
        values = _fields(path, number, text)
        if len(values) != len(header):
            raise FormatError(f"{path}:{number}: must have {len(header)} fields, got {len(values)}")
        yield number, dict(zip(header, values, strict=True))


def _fields(path: Path, number: int, text: str) -> list[str]:
    csv.field_size_limit(LONGEST_LINE)  # the default of 128 kB is less than a large mask takes
    try:
        return next(csv.reader([text]), [])
    except csv.Error as exc:
        raise FormatError(f"{path}:{number}: is not CSV: {exc}") from exc
