"""Build checked Tracks from rows of a log, one object each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from tracker.errors import SinkError
from tracker.masks import Mask
from tracker.types import Tracks

LARGEST_ID = 2**53  # what every tool that reads numbers as floats keeps exact
LARGEST_LABEL = 100_000
LARGEST_FRAME = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One object in one frame, as a file tells it."""

    id: int  # from 1; from 0 in a file that counts so, see `ids_from_one`
    label: int
    score: float
    box: tuple[float, float, float, float]  # xyxy px
    mask: Mask | None = None
    source: int = 0  # row of the detections; -1 = only predicted

    def __post_init__(self) -> None:
        if not 0 <= self.id <= LARGEST_ID:
            raise ValueError(f"id must be in 1..{LARGEST_ID}, got {self.id!s:.24}")
        if not 0 <= self.label <= LARGEST_LABEL:
            raise ValueError(f"class must be in 0..{LARGEST_LABEL}, got {self.label!s:.24}")
        if not -1 <= self.source <= LARGEST_FRAME:
            raise ValueError(f"detection must be a row or -1, got {self.source:.6g}")
        if not all(abs(v) < 1e9 for v in (*self.box, self.score)):  # float32 must hold it
            raise ValueError("box and score must be finite")


def whole_number(name: str, value: object) -> int:
    """Return a whole number, of text digit by digit; raise ValueError.

    It may be written as 3.0, but not where a float is too coarse for it.
    """
    try:
        return int(value) if isinstance(value, int) else int(str(value))
    except ValueError:
        pass
    try:
        number = float(str(value))
    except ValueError:
        raise ValueError(f"{name} must be a number, got {value!r:.40}") from None
    if not math.isfinite(number) or number != int(number):
        raise ValueError(f"{name} must be a whole number, got {number:g}")
    if abs(number) > LARGEST_ID:
        raise ValueError(f"{name} {value} is too large to be told exactly from its neighbours")
    return int(number)


def check_frame(index: int) -> int:
    """Return a frame's number; raise ValueError where no video has as many."""
    if not 0 <= index <= LARGEST_FRAME:
        raise ValueError(f"frame must be in 0..{LARGEST_FRAME}, got {index:.6g}")
    return index


def ids_from_one(frames: Iterable[list[Row]]) -> list[str]:
    """Count the ids of a whole file from 1, in place; return a sentence where that changed them."""
    frames = list(frames)
    if not any(row.id == 0 for rows in frames for row in rows):
        return []
    for rows in frames:
        rows[:] = [replace(row, id=row.id + 1) for row in rows]
    return ["its ids count from 0: each is taken one higher"]


def need_size(path: Path, width: int, height: int, title: str) -> None:
    """Raise SinkError where a format needs the frames' size and a log does not tell it."""
    if not width * height:
        raise SinkError(
            f"{path}: {title} needs the frames' size, and the log does not tell it; give --size "
            "WIDTHxHEIGHT"
        )


def to_tracks(rows: list[Row]) -> Tracks:
    """Return the rows of one frame by ascending id; raise ValueError for a wrong or double id."""
    rows = sorted(rows, key=lambda row: row.id)
    if rows and rows[0].id < 1:
        raise ValueError(f"id must be in 1..{LARGEST_ID}, got {rows[0].id}")
    for a, b in pairwise(rows):
        if a.id == b.id:
            raise ValueError(f"id {a.id} appears twice in one frame")
    return Tracks(
        ids=np.array([row.id for row in rows], np.int64),
        boxes=np.array([row.box for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row.score for row in rows], np.float32),
        labels=np.array([row.label for row in rows], np.int64),
        masks=tuple(row.mask for row in rows),
        sources=np.array([row.source for row in rows], np.int64),
    )


def to_rows(tracks: Tracks) -> list[Row]:
    """Return one Row per track; the box in plain floats, rounded to 0.01 px."""
    return [
        Row(
            id=int(tracks.ids[k]),
            label=int(tracks.labels[k]),
            score=round(float(tracks.scores[k]), 4),
            box=tuple(round(float(v), 2) for v in tracks.boxes[k]),  # type: ignore[arg-type]
            mask=tracks.masks[k],
            source=int(tracks.sources[k]),
        )
        for k in range(len(tracks))
    ]
