"""What was counted, and all that is known about one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tracker.types.detections import Detections
from tracker.types.frames import Frame
from tracker.types.tracks import Tracks

Point = tuple[float, float]  # px


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one moment: an object went over a line."""

    kind: str  # "line"
    name: str  # of the line
    direction: str  # of a line: "in" or "out"
    id: int  # of the track
    label: int
    frame: int  # index, of the first in which the object was surely beyond the line
    time: float  # s, of that frame; the event may be told half a second later
    point: Point  # where it happened

    @property
    def line(self) -> str:
        """Name of the line."""
        return self.name


@dataclass(frozen=True, slots=True)
class LineCount:
    """A counting line in the frame, and how many went over it so far."""

    name: str
    start: Point
    end: Point
    entered: int
    left: int


@dataclass(frozen=True, slots=True)
class Counts:
    """The running totals after a frame."""

    unique: Mapping[int, int] = field(default_factory=dict)  # label -> different objects so far
    lines: tuple[LineCount, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """All that is known about one frame: what every sink receives."""

    frame: Frame
    detections: Detections
    tracks: Tracks
    detected: bool = True  # False where the tracks were carried over a frame nobody looked at
    events: tuple[Event, ...] = ()  # what this frame made sure
    counts: Counts | None = None  # after this frame; None until it is counted
