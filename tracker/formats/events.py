"""The log of events of a run, events.jsonl: one line an event, in the order in which it was told.

{"event": "line", "line": name, "direction": "in" or "out", "id": of the track, "class": name,
"frame": index, "time": s, "point": [x, y] px}. Times need not ascend: what becomes sure late has
the time at which it happened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracker.errors import FormatError
from tracker.files import read_lines
from tracker.formats.rows import check_frame
from tracker.types import Event
from tracker.types.counts import Point


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event as a run's log tells it."""

    kind: str  # "line"
    line: str  # name
    direction: str  # "in" or "out"
    id: int
    category: str  # name of the object's class
    frame: int  # index
    time: float  # s
    point: Point  # px


def event_line(event: Event, categories: Sequence[str]) -> str:
    """Return one event's line of the log, with its end."""
    content = {
        "event": event.kind,
        "line": event.name,
        "direction": event.direction,
        "id": event.id,
        "class": categories[event.label],
        "frame": event.frame,
        "time": round(event.time, 6),
        "point": [round(value, 1) for value in event.point],
    }
    return json.dumps(content, ensure_ascii=False) + "\n"


def read(path: Path) -> Iterator[LoggedEvent]:
    """Yield the events of a log; a last line that a crash cut is left out. Raises FormatError."""
    for number, text in read_lines(path, drop_cut=True):
        try:
            yield _parse(text)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise FormatError(f"{path}:{number}: is no event of a run: {exc}") from exc


def _parse(text: str) -> LoggedEvent:
    content = json.loads(text)
    x, y = (float(value) for value in content["point"])
    return LoggedEvent(
        kind=str(content["event"]),
        line=str(content["line"]),
        direction=str(content["direction"]),
        id=int(content["id"]),
        category=str(content["class"]),
        frame=check_frame(int(content["frame"])),
        time=float(content["time"]),
        point=(x, y),
    )
