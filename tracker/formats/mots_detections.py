"""MOTS-style text of detections, one a line: frame x y w h score class H W rle.

Frames count from 0. The four numbers of a box are x1 y1 x2 y2, as TrackR-CNN writes them, where the
masks say so. Numbers behind the mask tell how the object looks and are left out. Source:
github.com/VisualComputingInstitute/TrackR-CNN.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tracker.errors import FormatError
from tracker.files import read_rows
from tracker.masks import Rle, rle_to_mask

_FIELDS = 10  # up to the mask
_LOOKED_AT = 100  # lines, to tell what the numbers of the boxes are


class Line(NamedTuple):
    """One detection as the text tells it."""

    frame: int  # its number in the text
    box: tuple[float, float, float, float]  # xyxy px
    score: str
    label: int
    rle: Rle


def holds_detections(path: Path) -> bool:
    """Tell MOTS-style from MOTChallenge text by the tenth field of the first line."""
    fields = next((text for _, text in read_rows(path)), "").split()
    return len(fields) >= _FIELDS and not _is_number(fields[_FIELDS - 1])


def read_objects(path: Path) -> Iterator[tuple[int, Line]]:
    """Yield the number of each line and what it says; raise FormatError that names both."""
    has_corners = _has_corners(path)
    for number, text in read_rows(path):
        try:
            yield number, _parse(text.split(), has_corners=has_corners)
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc


def _parse(fields: list[str], *, has_corners: bool) -> Line:
    if len(fields) < _FIELDS or not all(map(_is_number, fields[_FIELDS:])):
        what = "frame x y w h score class H W rle"
        raise ValueError(f"must be {what}, got {len(fields)} fields")
    x, y, w, h = (float(field) for field in fields[1:5])
    box = (x, y, w, h) if has_corners else (x, y, x + w, y + h)
    frame, label, height, width = (int(fields[k]) for k in (0, 6, 7, 8))
    return Line(frame, box, fields[5], label, {"size": [height, width], "counts": fields[9]})


def _has_corners(path: Path) -> bool:
    """Whether the boxes' last two numbers are nearer to the masks' edges than to their sizes."""
    as_sizes = as_corners = 0.0
    for _, text in itertools.islice(read_rows(path), _LOOKED_AT):
        try:
            line = _parse(text.split(), has_corners=True)
            _, _, right, bottom = rle_to_mask(line.rle).box
        except (ValueError, OverflowError):
            continue  # it is refused by its line
        x, y, w, h = line.box
        as_sizes += abs(x + w - right) + abs(y + h - bottom)
        as_corners += abs(w - right) + abs(h - bottom)
    return as_corners < as_sizes


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
