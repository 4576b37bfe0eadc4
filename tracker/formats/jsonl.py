"""The canonical track log, tracks.jsonl: a header line, then one line a frame.

Header: {"format": "mask-tracker-tracks", "version": 1, "width": px, "height": px,
"rate": "30000/1001" or null, "categories": [name of label 0, ...], "source": name}.
Frame: {"frame": index, "time": s, "tracks": [...]}; "width" and "height" only where they differ
from the header's, "suspect": true only where the picture came from damaged data.
Track: {"id": 1.., "label": index into categories, "class": name, "score": 0..1,
"box": [x1, y1, x2, y2] px, "detection": row in the frame's detections or -1 where the box is only
predicted, "mask": COCO RLE {"size": [height, width], "counts": str} or absent}.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from tracker.errors import FormatError
from tracker.files import new_file, read_lines
from tracker.formats.rows import Row, check_frame, to_rows, to_tracks
from tracker.masks import mask_to_rle, rle_to_mask
from tracker.types import LoggedFrame, LogInfo, TrackLog

SUFFIX = ".jsonl"
FORMAT = "mask-tracker-tracks"
VERSION = 1


def write(log: TrackLog, path: Path) -> None:
    """Write a whole log."""
    with new_file(path) as file:
        file.write(header_line(log.info))
        for frame in log.frames:
            file.write(frame_line(frame, log.info))


def read(path: Path) -> TrackLog:
    """Read the header now and the frames as they are asked for.

    A last line that was cut off by a crash is left out. Raises FormatError.
    """
    lines = read_lines(path, drop_cut=True)
    number, text = next(lines, (1, ""))
    header = _parse(path, number, text)
    if header.get("format") != FORMAT:
        raise FormatError(f"{path}:1: is not a track log (its first line must say {FORMAT!r})")
    if header.get("version") != VERSION:
        raise FormatError(f"{path}:1: version must be {VERSION}, got {header.get('version')!r}")
    try:
        info = LogInfo(
            width=int(header["width"]),
            height=int(header["height"]),
            categories=tuple(str(name) for name in header["categories"]),
            rate=Fraction(header["rate"]) if header.get("rate") else None,
            source=str(header.get("source", "")),
        )
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as exc:
        raise FormatError(f"{path}:1: the header is malformed: {exc!r}") from exc
    return TrackLog(info, _frames(path, lines, info))


def header_line(info: LogInfo) -> str:
    """Return the first line of a log, with its end."""
    return _dump(
        {
            "format": FORMAT,
            "version": VERSION,
            "width": info.width,
            "height": info.height,
            "rate": str(info.rate) if info.rate else None,
            "categories": list(info.categories),
            "source": info.source,
        }
    )


def frame_line(frame: LoggedFrame, info: LogInfo) -> str:
    """Return one frame's line of a log, with its end."""
    line: dict[str, Any] = {"frame": frame.index, "time": round(frame.time, 6)}
    if (frame.width, frame.height) != (info.width, info.height):
        line |= {"width": frame.width, "height": frame.height}
    if frame.suspect:
        line["suspect"] = True
    line["tracks"] = [_to_json(row, frame, info.categories) for row in to_rows(frame.tracks)]
    return _dump(line)


def _to_json(row: Row, frame: LoggedFrame, categories: Sequence[str]) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": row.id,
        "label": row.label,
        "class": categories[row.label] if row.label < len(categories) else str(row.label),
        "score": row.score,
        "box": list(row.box),
        "detection": row.source,
    }
    if row.mask is not None:
        item["mask"] = mask_to_rle(row.mask, frame.width, frame.height)
    return item


def _frames(path: Path, lines: Iterator[tuple[int, str]], info: LogInfo) -> Iterator[LoggedFrame]:
    last_index, last_time = -1, 0.0
    for number, text in lines:
        line = _parse(path, number, text)
        try:
            frame = LoggedFrame(
                index=check_frame(int(line["frame"])),
                time=float(line["time"]),
                width=int(line.get("width", info.width)),
                height=int(line.get("height", info.height)),
                tracks=to_tracks([_from_json(item) for item in line["tracks"]]),
                suspect=bool(line.get("suspect", False)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: is malformed: {exc}") from exc
        if frame.index <= last_index or not last_time <= frame.time < math.inf:
            raise FormatError(f"{path}:{number}: frames and times must ascend")
        last_index, last_time = frame.index, frame.time
        yield frame


def _from_json(item: dict[str, Any]) -> Row:
    x1, y1, x2, y2 = (float(v) for v in item["box"])
    return Row(
        id=int(item["id"]),
        label=int(item["label"]),
        score=float(item["score"]),
        box=(x1, y1, x2, y2),
        mask=rle_to_mask(item["mask"]) if "mask" in item else None,
        source=int(item["detection"]),
    )


def _parse(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{path}:{number}: is not valid JSON") from exc
    if not isinstance(line, dict):
        raise FormatError(f"{path}:{number}: must be a JSON object")
    return line


def _dump(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n"
