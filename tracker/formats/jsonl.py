"""The canonical track log, tracks.jsonl: a header line, then one line a frame.

Header: {"format": "mask-tracker-tracks", "version": 1, "width": px or null, "height": px or null,
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
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tracker.errors import FormatError
from tracker.files import JsonObject, new_file, read_lines
from tracker.formats.rows import Row, check_frame, to_rows, to_tracks
from tracker.masks import mask_to_rle, rle_to_mask
from tracker.types import LoggedFrame, LogInfo, TrackLog

SUFFIX = ".jsonl"
FORMAT = "mask-tracker-tracks"
VERSION = 1


def write(log: TrackLog, path: Path) -> list[str]:
    """Write a whole log; nothing of it is lost or needs a word."""
    with new_file(path) as file:
        file.write(header_line(log.info))
        for frame in log.frames:
            file.write(frame_line(frame, log.info))
    return []


@dataclass(frozen=True, slots=True)
class Line:
    """One frame's line, with what all of them tell."""

    number: int  # in the file, from 1
    index: int
    time: float  # s
    width: int  # px
    height: int
    suspect: bool
    content: JsonObject


def read(path: Path, numbers: Container[int] | None = None) -> TrackLog:
    """Read the header now and the frames as they are asked for; of these `numbers` alone, if given.

    A last line that was cut off by a crash is left out. Raises FormatError.
    """
    info, lines = read_head(path, FORMAT)
    return TrackLog(info, _frames(path, info, lines, numbers))


def read_head(path: Path, kind: str) -> tuple[LogInfo, Iterator[tuple[int, str]]]:
    """Return what the first line says, and the lines behind it; raise FormatError."""
    lines = read_lines(path, drop_cut=True)
    number, text = next(lines, (1, ""))
    header = _parse(path, number, text)
    if header.get("format") != kind:
        raise FormatError(f"{path}:1: is not a track log (its first line must say {kind!r})")
    if header.get("version") != VERSION:
        raise FormatError(f"{path}:1: version must be {VERSION}, got {header.get('version')!r}")
    try:
        info = LogInfo(
            width=int(header["width"] or 0),
            height=int(header["height"] or 0),
            categories=tuple(str(name) for name in header["categories"]),
            rate=Fraction(header["rate"]) if header.get("rate") else None,
            source=str(header.get("source", "")),
        )
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as exc:
        raise FormatError(f"{path}:1: the header is malformed: {exc!r}") from exc
    return info, lines


def read_frames(path: Path, info: LogInfo, lines: Iterator[tuple[int, str]]) -> Iterator[Line]:
    """Yield each frame's line, in order; raise FormatError."""
    last_index, last_time = -1, 0.0
    for number, text in lines:
        content = _parse(path, number, text)
        try:
            line = Line(
                number,
                index=check_frame(int(content["frame"])),
                time=float(content["time"]),
                width=int(content.get("width", info.width)),
                height=int(content.get("height", info.height)),
                suspect=bool(content.get("suspect", False)),
                content=content,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: is malformed: {exc}") from exc
        if line.index <= last_index or not last_time <= line.time < math.inf:
            raise FormatError(f"{path}:{number}: frames and times must ascend")
        last_index, last_time = line.index, line.time
        yield line


def header_line(info: LogInfo) -> str:
    """Return the first line of a log, with its end."""
    return dump(
        {
            "format": FORMAT,
            "version": VERSION,
            "width": info.width or None,
            "height": info.height or None,
            "rate": str(info.rate) if info.rate else None,
            "categories": list(info.categories),
            "source": info.source,
        }
    )


def frame_line(frame: LoggedFrame, info: LogInfo) -> str:
    """Return one frame's line of a log, with its end."""
    line: JsonObject = {"frame": frame.index, "time": round(frame.time, 6)}
    if (frame.width, frame.height) != (info.width, info.height):
        line |= {"width": frame.width, "height": frame.height}
    if frame.suspect:
        line["suspect"] = True
    line["tracks"] = [_to_json(row, frame, info.categories) for row in to_rows(frame.tracks)]
    return dump(line)


def _to_json(row: Row, frame: LoggedFrame, categories: Sequence[str]) -> JsonObject:
    item: JsonObject = {
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


def _frames(
    path: Path,
    info: LogInfo,
    lines: Iterator[tuple[int, str]],
    numbers: Container[int] | None,
) -> Iterator[LoggedFrame]:
    for line in read_frames(path, info, lines):
        if numbers is not None and line.index not in numbers:
            continue
        try:
            tracks = to_tracks([_from_json(item) for item in line.content["tracks"]])
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{line.number}: is malformed: {exc}") from exc
        yield LoggedFrame(line.index, line.time, line.width, line.height, tracks, line.suspect)


def _from_json(item: JsonObject) -> Row:
    x1, y1, x2, y2 = (float(v) for v in item["box"])
    return Row(
        id=int(item["id"]),
        label=int(item["label"]),
        score=float(item["score"]),
        box=(x1, y1, x2, y2),
        mask=rle_to_mask(item["mask"]) if "mask" in item else None,
        source=int(item["detection"]),
    )


def _parse(path: Path, number: int, text: str) -> JsonObject:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{path}:{number}: is not valid JSON") from exc
    if not isinstance(line, dict):
        raise FormatError(f"{path}:{number}: must be a JSON object")
    return line


def dump(content: JsonObject) -> str:
    """Return one line of JSON, with its end."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n"
