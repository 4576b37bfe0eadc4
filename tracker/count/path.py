"""The way of one object past one line: on which side it is, and when it has surely crossed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tracker.count.place import BORDER_SHARE, Size
from tracker.types.counts import Point

HOLD_S = 0.5  # who stays just beyond a line for so long has crossed it, farther off sooner
SMALLEST_MARGIN = 2.0  # px: jitter of a box that no object's size explains


@dataclass(frozen=True, slots=True)
class Line:
    """A finite segment in px. Looking from start to end, `in` is from the left to the right side.

    Drawn from left to right, that is downwards in the picture.
    """

    name: str
    start: Point
    end: Point

    def side(self, point: Point) -> float:
        """Return the signed distance to the infinite line, px; positive is the right side."""
        (x1, y1), (x2, y2) = self.start, self.end
        dx, dy = x2 - x1, y2 - y1
        return (dx * (point[1] - y1) - dy * (point[0] - x1)) / math.hypot(dx, dy)

    def holds(self, point: Point, picture: Size | None = None) -> bool:
        """Whether a point of the infinite line lies between the ends.

        A line that ends at the border of the picture goes on beyond it, where objects go on too.
        """
        (x1, y1), (x2, y2) = self.start, self.end
        dx, dy = x2 - x1, y2 - y1
        along = ((point[0] - x1) * dx + (point[1] - y1) * dy) / (dx * dx + dy * dy)
        if 0.0 <= along <= 1.0 or picture is None:
            return 0.0 <= along <= 1.0
        near = BORDER_SHARE * max(picture) / math.hypot(dx, dy)
        way = 1.0 + near if along > 1.0 else -near
        return not _inside((x1 + way * dx, y1 + way * dy), picture)

    def reach(self, width: float, height: float) -> float:
        """Return how far a box of this size reaches along the line's normal, px."""
        (x1, y1), (x2, y2) = self.start, self.end
        dx, dy = abs(x2 - x1), abs(y2 - y1)
        return (dy * width + dx * height) / math.hypot(dx, dy)


@dataclass(frozen=True, slots=True)
class Sighting:
    """How one line sees an object in one frame."""

    frame: int
    time: float  # s
    margin: float  # px: so far beyond the line is surely beyond
    reach: float  # px, of the object on the line's normal


@dataclass(slots=True)
class Stay:
    """How long and how far an object has been beyond a line that it is not known to have crossed.

    A box that trembles or flickers over the line comes back before the stay is over.
    """

    met: Point | None  # where the object went over the infinite line
    since: float  # s, when the object was last on the line
    share: float = 0.0  # of its own size on the line's normal: so far it went beyond
    frame: int | None = None  # in which it was beyond the margin; None before
    time: float = 0.0  # s, of that frame

    def is_over(self, time: float, returns: int) -> bool:
        """Whether at `time` the object has crossed: none is back from a whole size beyond.

        One that has been over the line and back, `returns` times, must stay longer.
        """
        held = time - self.since + 1e-9
        return self.frame is not None and held >= HOLD_S * (1 - self.share) * (1 + returns)


@dataclass(slots=True)
class Path:
    """What one line knows of one object."""

    side: int  # on which it is known to be: -1 or 1; 0 = not known yet
    last: Point
    start: Point | None = None  # of one that enters the picture: its place then
    stay: Stay | None = None  # beyond the line
    returns: int = 0  # over the line, since the object was a whole size from it

    @property
    def is_open(self) -> bool:
        """Whether the object was surely beyond the line, and only time makes that a crossing."""
        return self.stay is not None and self.stay.frame is not None

    @classmethod
    def begin(cls, line: Line, point: Point) -> Path:
        """Begin where an object is first seen: born within the margin, it has a side too."""
        return cls(_side(line, point), point, start=point)

    def shift_start(self, line: Line, placed: Point) -> None:
        """Take in that an object that enters the picture was so far from where it was thought."""
        if self.start is None:
            return
        self.start = (self.start[0] + placed[0], self.start[1] + placed[1])
        side = _side(line, self.start)
        if side and side != self.side:
            self.side, self.stay = side, None

    def go(self, line: Line, point: Point, seen: Sighting, *, enters: bool = False) -> None:
        """Move on to where the object was seen next.

        While it `enters` the picture all of its way is one step: where it began is not known yet.
        """
        last = self.start or self.last
        was, now = line.side(last), line.side(point)
        self.last, self.start = point, self.start if enters else None
        if not self.side:
            self.side = _sign(now) if abs(now) >= seen.margin else 0
            return
        beyond = -self.side * now
        passes = was * now < 0 or (not was and now)
        met = _between(last, point, was / (was - now)) if passes else None
        if self.stay is None and beyond > 0:
            self.stay = Stay(met, seen.time)
        elif self.stay:
            self.stay.met = met or self.stay.met
        self._extend(beyond, seen)

    def _extend(self, beyond: float, seen: Sighting) -> None:
        """Let the stay go on, or end where the object is back."""
        is_sure = self.is_open
        if beyond <= 0:
            self.returns = 0 if -beyond >= seen.reach else self.returns + is_sure
        if beyond <= (-seen.margin if is_sure else 0.0):
            self.stay = None
        elif self.stay:
            self.stay.since = seen.time if beyond <= 0 else self.stay.since
            self.stay.share = max(self.stay.share, beyond / max(seen.reach, 1.0))
            if not is_sure and beyond >= seen.margin:
                self.stay.frame, self.stay.time = seen.frame, seen.time

    def settle(
        self, line: Line, time: float, picture: Size | None, *, is_gone: bool
    ) -> Stay | None:
        """Change sides where the stay beyond the line is over; return it if that is a crossing.

        It is over, too, where the object is gone.
        """
        stay = self.stay
        if stay is None or not ((self.is_open and is_gone) or stay.is_over(time, self.returns)):
            return None
        self.returns = 0 if stay.share >= 1 else self.returns + 1
        self.side, self.stay, self.start = -self.side, None, None
        return stay if stay.met and line.holds(stay.met, picture) else None


def _side(line: Line, point: Point) -> int:
    distance = line.side(point)
    return 0 if abs(distance) < SMALLEST_MARGIN else _sign(distance)


def _inside(point: Point, picture: Size) -> bool:
    return 0 < point[0] < picture[0] and 0 < point[1] < picture[1]


def _sign(number: float) -> int:
    return 1 if number > 0 else -1


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
