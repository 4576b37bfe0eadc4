"""Count objects that cross a line, in which direction, once per crossing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tracker.config import CountConfig
from tracker.errors import ConfigError
from tracker.snapshot import LinesState, PathState
from tracker.types import Event, LineCount, Tracks
from tracker.types.counts import Point

_SMALLEST_MARGIN = 2.0  # px: jitter of a box that no object's size explains
_SHORTEST_LINE = 3.0  # px: shorter ones are fractions with a slip
_RECENT = 256  # frames: none that is told late lies further back
_FORGET_S = 60.0  # an object unseen for so long crosses nothing any more


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
        cross: float = dx * (point[1] - y1) - dy * (point[0] - x1)
        return cross / float(np.hypot(dx, dy))

    def holds(self, point: Point) -> bool:
        """Whether a point of the infinite line lies between the ends."""
        (x1, y1), (x2, y2) = self.start, self.end
        dx, dy = x2 - x1, y2 - y1
        along = ((point[0] - x1) * dx + (point[1] - y1) * dy) / (dx * dx + dy * dy)
        return 0.0 <= along <= 1.0


@dataclass(slots=True)
class _Path:
    """What one line knows of one object."""

    side: int  # the side it was surely on last: -1 or 1; 0 = not sure yet
    last: Point
    met: Point | None = None  # where the path last met the infinite line
    seen: float = 0.0


class LineCounter:
    """Follow the anchor point of each object over all lines.

    A crossing counts when the point is farther than a margin beyond the line (hysteresis), so
    that an object that trembles on it counts once, and when its path met the finite segment.
    """

    def __init__(
        self, lines: list[Line], *, anchor: Literal["center", "bottom"], hysteresis: float
    ) -> None:
        self.lines = lines
        self.counts: dict[tuple[str, str, int], int] = {}  # line, direction, label -> number
        self._anchor = anchor
        self._hysteresis = hysteresis
        self._paths: dict[tuple[str, int], _Path] = {}
        self._next_clean_up = _FORGET_S
        self._size: tuple[int, int] | None = None  # px, of the frames so far
        self._recent: deque[int] = deque(maxlen=_RECENT)  # indices of the latest frames

    def resize(self, width: int, height: int) -> None:
        """Say how large the next frames are, px; lines and paths are scaled where that changes."""
        if self._size not in (None, (width, height)):
            sx, sy = width / self._size[0], height / self._size[1]

            def scaled(point: Point) -> Point:
                return point[0] * sx, point[1] * sy

            self.lines = [Line(li.name, scaled(li.start), scaled(li.end)) for li in self.lines]
            for path in self._paths.values():
                path.last = scaled(path.last)
                path.met = scaled(path.met) if path.met else None
        self._size = (width, height)

    def update(self, tracks: Tracks, frame: int, time: float) -> list[Event]:
        """Take in one frame and return the crossings that are sure by it.

        A track that the frame confirms brings its earlier boxes: who crossed before that is counted
        too, at the time of crossing.
        """
        self._recent.append(frame)
        labels = dict(zip(tracks.ids.tolist(), tracks.labels.tolist(), strict=True))
        events: list[Event] = []
        for one in tracks.earlier:
            number = self._recent[max(-1 - one.frames_ago, -len(self._recent))]
            label = labels.get(one.id, one.label)
            events += self._move(one.id, label, one.box, number, one.time)
        for row in np.flatnonzero(tracks.observed).tolist():
            id_, label = int(tracks.ids[row]), int(tracks.labels[row])
            events += self._move(id_, label, tracks.boxes[row].tolist(), frame, time)
        if time >= self._next_clean_up:
            self._paths = {k: p for k, p in self._paths.items() if time - p.seen <= _FORGET_S}
            self._next_clean_up = time + _FORGET_S
        return events

    def totals(self) -> tuple[LineCount, ...]:
        """Return how many went over each line so far."""
        sums: Counter[tuple[str, str]] = Counter()
        for (line, direction, _), number in self.counts.items():
            sums[line, direction] += number
        return tuple(
            LineCount(li.name, li.start, li.end, sums[li.name, "in"], sums[li.name, "out"])
            for li in self.lines
        )

    def state(self) -> LinesState:
        """Return all that `restore` needs."""
        paths = (
            PathState(
                line=line, id=id_, side=path.side, last=path.last, met=path.met, seen=path.seen
            )
            for (line, id_), path in self._paths.items()
        )
        return LinesState(
            lines=tuple((line.name, line.start, line.end) for line in self.lines),
            counts=tuple((*key, number) for key, number in self.counts.items()),
            paths=tuple(paths),
            next_clean_up=self._next_clean_up,
            size=self._size,
            recent=tuple(self._recent),
        )

    def restore(self, state: LinesState) -> None:
        """Continue exactly where `state` was taken."""
        self.lines = [Line(*line) for line in state.lines]
        self.counts = {(line, way, label): n for line, way, label, n in state.counts}
        self._paths = {
            (path.line, path.id): _Path(path.side, path.last, path.met, path.seen)
            for path in state.paths
        }
        self._next_clean_up, self._size = state.next_clean_up, state.size
        self._recent.extend(state.recent)

    def _move(
        self, id_: int, label: int, box: Sequence[float], frame: int, time: float
    ) -> Iterator[Event]:
        """Move one object on and yield the crossings that are sure by it."""
        point, margin = self._point(box)
        for line in self.lines:
            met = self._follow(line, id_, point, margin, time)
            if met is not None:
                direction = "in" if self._paths[line.name, id_].side > 0 else "out"
                key = (line.name, direction, label)
                self.counts[key] = self.counts.get(key, 0) + 1
                yield Event("line", line.name, direction, id_, label, frame, time, met)

    def _point(self, box: Sequence[float]) -> tuple[Point, float]:
        x1, y1, x2, y2 = box
        y = (y1 + y2) / 2 if self._anchor == "center" else y2
        return ((x1 + x2) / 2, y), max(self._hysteresis * (y2 - y1), _SMALLEST_MARGIN)

    def _follow(
        self, line: Line, id_: int, point: Point, margin: float, time: float
    ) -> Point | None:
        """Move one object's path on; return where it met the line if it is now surely across."""
        distance = line.side(point)
        sure = 0 if abs(distance) < margin else (1 if distance > 0 else -1)
        path = self._paths.get((line.name, id_))
        if path is None:
            # A track is confirmed after it was seen: born within the margin, it has a side too.
            side = 0 if abs(distance) < _SMALLEST_MARGIN else (1 if distance > 0 else -1)
            self._paths[line.name, id_] = _Path(side, point, seen=time)
            return None
        before = line.side(path.last)
        if (before <= 0) != (distance <= 0):
            share = before / (before - distance)
            path.met = (
                path.last[0] + share * (point[0] - path.last[0]),
                path.last[1] + share * (point[1] - path.last[1]),
            )
        path.last, path.seen = point, time
        if sure == 0 or sure == path.side:
            return None
        came_from, path.side = path.side, sure
        met, path.met = path.met, None
        if came_from == 0 or met is None or not line.holds(met):
            return None
        return met


def line_counter(config: CountConfig, width: int, height: int) -> LineCounter:
    """Return a counter for the settings' lines in frames of this size, px; raise ConfigError."""
    return LineCounter(
        resolve_lines(config.lines, width, height),
        anchor=config.anchor,
        hysteresis=config.hysteresis,
    )


def resolve_lines(
    lines: Mapping[str, tuple[float, float, float, float]], width: int, height: int
) -> list[Line]:
    """Turn settings into lines in px; four values in [0, 1] are fractions of the frame.

    Raises ConfigError for a line that is shorter than 3 px or wholly beside the frame.
    """
    resolved = []
    for name, (x1, y1, x2, y2) in lines.items():
        fractions = all(0 <= value <= 1 for value in (x1, y1, x2, y2))
        sx, sy = (width, height) if fractions else (1, 1)
        line = Line(name, (x1 * sx, y1 * sy), (x2 * sx, y2 * sy))
        (ax, ay), (bx, by) = line.start, line.end
        beside = max(ax, bx) < 0 or min(ax, bx) > width or max(ay, by) < 0 or min(ay, by) > height
        if beside or np.hypot(bx - ax, by - ay) < _SHORTEST_LINE:
            raise ConfigError(
                f"line {name!r} from {ax:g},{ay:g} to {bx:g},{by:g} px is too short or outside the "
                f"{width} x {height} px frame"
            )
        resolved.append(line)
    return resolved
