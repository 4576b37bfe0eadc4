"""A plain table, one row per object and frame, as CSV; `COLUMNS` is also the Parquet schema."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tracker.errors import FormatError
from tracker.files import LONGEST_LINE, new_file, read_lines
from tracker.formats.rows import Row, check_frame, to_rows, to_tracks
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
    "width": int,  # px, of the frame
    "height": int,
    "mask": str,  # counts of COCO RLE, empty without a mask
}


def write(log: TrackLog, path: Path) -> None:
    """Write a log as CSV with a header; frames without objects have no row."""
    with new_file(path) as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for values in table_rows(log):
            table.writerow([int(v) if isinstance(v, bool) else v for v in values])


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
                frame.width,
                frame.height,
                mask,
            )


def frames_of_table(path: Path, rows: Iterable[tuple[int, dict[str, Any]]]) -> TrackLog:
    """Build a log from numbered rows of plain values. Raises FormatError."""
    names: dict[int, str] = {}
    by_frame: dict[int, list[tuple[float, int, int, Row]]] = defaultdict(list)
    for number, values in rows:
        try:
            height, width = int(values["height"]), int(values["width"])
            row = _to_row(values, height, width)
            index = check_frame(int(values["frame"]))
            by_frame[index].append((float(values["time"]), width, height, row))
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
        names[row.label] = str(values["class"])
    frames = []
    for index, members in sorted(by_frame.items()):  # tables may be sorted by id
        if len({member[:3] for member in members}) > 1:
            raise FormatError(f"{path}: frame {index} has two times or sizes")
        time, width, height, _ = members[0]
        try:
            tracks = to_tracks([row for *_, row in members])
        except ValueError as exc:
            raise FormatError(f"{path}: frame {index}: {exc}") from exc
        frames.append(LoggedFrame(index, time, width, height, tracks))
    size = (frames[0].width, frames[0].height) if frames else (0, 0)
    categories = tuple(names.get(label, "N/A") for label in range(max(names, default=-1) + 1))
    return TrackLog(LogInfo(*size, categories), frames)


def _to_row(values: dict[str, Any], height: int, width: int) -> Row:
    counts = values["mask"]
    return Row(
        id=int(values["id"]),
        label=int(values["label"]),
        score=float(values["score"]),
        box=(float(values["x1"]), float(values["y1"]), float(values["x2"]), float(values["y2"])),
        mask=rle_to_mask({"size": [height, width], "counts": counts}) if counts else None,
        source=-1 if int(values["predicted"]) else 0,
    )


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
