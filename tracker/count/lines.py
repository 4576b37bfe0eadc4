"""Count objects that cross a line, in which direction, once per crossing."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from tracker.config import CountConfig
from tracker.count.path import HOLD_S, SMALLEST_MARGIN, Line, Path, Sighting, Stay
from tracker.count.place import LEAVE_S, Anchor, Place
from tracker.errors import ConfigError
from tracker.snapshot import LinesState, PathState, StayState
from tracker.types import Event, LineCount, Tracks
from tracker.types.counts import Point

__all__ = ["Line", "LineCounter", "line_counter", "resolve_lines"]

_SHORTEST_LINE = 3.0  # px: shorter ones are fractions with a slip
_RECENT = 256  # frames: none that is told late lies further back
_FORGET_S = 60.0  # an object unseen for so long crosses nothing any more
_ROOM_SHARE = 0.25  # of what an object can still go beyond a line, at most, is its margin


class LineCounter:
    """Follow the anchor point of each object over all lines.

    A crossing counts when the whole object's point is farther than a margin beyond the line and
    stays there, as path.py tells, or is not seen any more; and when its way met the finite segment.
    It is told as soon as that is sure, at the time when it was. `finish` tells the last.
    """

    def __init__(self, lines: list[Line], *, anchor: Anchor, hysteresis: float) -> None:
        self.lines = lines
        self.counts: dict[tuple[str, str, int], int] = {}  # line, direction, label -> number
        self._anchor: Anchor = anchor
        self._hysteresis = hysteresis
        self._places: dict[int, Place] = {}  # by id
        self._paths: dict[int, dict[str, Path]] = {}  # by id, by line
        self._waiting: set[int] = set()  # ids that may cross while they are not seen
        self._next_clean_up = _FORGET_S
        self._size: tuple[int, int] | None = None  # px, of the frames so far
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RECENT)  # latest frames; index, s

    def resize(self, width: int, height: int) -> None:
        """Say how large the next frames are, px; lines and paths are scaled where that changes."""
        if self._size not in (None, (width, height)):
            sx, sy = width / self._size[0], height / self._size[1]

            def scaled(point: Point) -> Point:
                return point[0] * sx, point[1] * sy

            self.lines = [Line(li.name, scaled(li.start), scaled(li.end)) for li in self.lines]
            for place in self._places.values():
                place.resize(sx, sy)
            for path in self._all_paths():
                path.last = scaled(path.last)
                path.start = scaled(path.start) if path.start else None
                if path.stay and path.stay.met:
                    path.stay.met = scaled(path.stay.met)
        self._size = (width, height)

    def update(self, tracks: Tracks, frame: int, time: float) -> list[Event]:
        """Take in one frame and return the crossings that are sure by it.

        A track that the frame confirms brings its earlier boxes: who crossed before that is counted
        too, at the time of crossing.
        """
        if not self.lines:
            return []
        self._recent.append((frame, time))
        labels = dict(zip(tracks.ids.tolist(), tracks.labels.tolist(), strict=True))
        events: list[Event] = []
        for one in tracks.earlier:
            label = labels.get(one.id, one.label)
            events += self._see(one.id, label, one.box, one.frames_ago, one.time)
        for row in np.flatnonzero(tracks.observed).tolist():
            id_, label = int(tracks.ids[row]), int(tracks.labels[row])
            events += self._see(id_, label, tracks.boxes[row].tolist(), 0, time)
        for id_ in sorted(self._waiting - labels.keys()):
            events += self._miss(id_, time)
        if time >= self._next_clean_up:
            self._forget(time)
        return events

    def finish(self) -> list[Event]:
        """Return the crossings that are sure because nothing comes any more."""
        return [event for id_ in sorted(self._waiting) for event in self._settle(id_, math.inf)]

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
        return LinesState(
            lines=tuple((line.name, line.start, line.end) for line in self.lines),
            counts=tuple((*key, number) for key, number in self.counts.items()),
            places=tuple(place.state(id_) for id_, place in self._places.items()),
            paths=tuple(
                _path_state(id_, line, path)
                for id_, paths in self._paths.items()
                for line, path in paths.items()
            ),
            next_clean_up=self._next_clean_up,
            size=self._size,
            recent=tuple(self._recent),
        )

    def restore(self, state: LinesState) -> None:
        """Continue exactly where `state` was taken."""
        self.lines = [Line(*line) for line in state.lines]
        self.counts = {(line, way, label): n for line, way, label, n in state.counts}
        self._places = {place.id: Place.restored(place) for place in state.places}
        self._paths = {}
        for path in state.paths:
            stay = Stay(**dict(path.stay)) if path.stay else None
            known = Path(path.side, path.last, path.start, stay, path.returns)
            self._paths.setdefault(path.id, {})[path.line] = known
        self._waiting = set(self._paths)  # who waits for nothing is found out
        self._next_clean_up, self._size = state.next_clean_up, state.size
        self._recent.extend(state.recent)

    # ---- one object -------------------------------------------------------------------------

    def _see(
        self, id_: int, label: int, box: Sequence[float], frames_ago: int, time: float
    ) -> Iterator[Event]:
        """Move an object on to where it is seen and yield the crossings that are sure by it."""
        frame, gap = self._frame(frames_ago)
        place = self._places.get(id_)
        if place is None or time - place.time > _FORGET_S:
            self._drop(id_)
            self._places[id_] = Place(label, box, self._size, frame=frame, time=time, gap=gap)
            return
        yield from self._settle(id_, time)  # how long it stayed before it was seen here
        before, box_before = place.point(self._anchor), place.box
        first = (place.frame, place.time)
        moved = place.move(box, time, self._size, self._anchor)
        place.label, place.frame = label, frame
        point = place.point(self._anchor)
        placed = (point[0] - moved[0] - before[0], point[1] - moved[1] - before[1])
        if id_ not in self._paths:
            self._begin(id_, before, place.way_in(box_before, self._size), first)
        for line in self.lines:
            self._paths[id_][line.name].shift_start(line, placed)
        self._go(id_, point, frame, time)
        self._waiting.add(id_)
        yield from self._settle(id_, time)

    def _begin(self, id_: int, point: Point, way_in: Point, seen: tuple[int, float]) -> None:
        """Begin the paths of an object where it came from, and lead them to its first sighting."""
        start = (point[0] - way_in[0], point[1] - way_in[1])
        self._paths[id_] = {line.name: Path.begin(line, start) for line in self.lines}
        self._go(id_, point, *seen)

    def _miss(self, id_: int, time: float) -> Iterator[Event]:
        """Let an object that is not seen go on where it left; yield what crossings are sure."""
        place, before = self._places[id_], self._recent[-2][1]
        is_first = before <= place.time
        may_leave = is_first or time - place.time <= LEAVE_S
        way = place.way_out(self._size, time, first=is_first) if may_leave else (0.0, 0.0)
        if any(way):
            x, y = place.point(self._anchor)
            self._go(id_, (x + way[0], y + way[1]), place.frame, place.time, is_seen=False)
        yield from self._settle(id_, time)
        if not may_leave and not any(path.is_open for path in self._paths[id_].values()):
            self._waiting.discard(id_)

    def _go(self, id_: int, point: Point, frame: int, time: float, *, is_seen: bool = True) -> None:
        """Move an object's paths on to a point; how far it is counts only where it is seen."""
        place = self._places[id_]
        for line in self.lines:
            path, reach = self._paths[id_][line.name], math.inf
            if is_seen:
                reach = line.reach(place.x.size, place.y.size)
            seen = Sighting(frame, time, self._margin(line, path, place, point), reach)
            path.go(line, point, seen, enters=place.enters)

    def _settle(self, id_: int, time: float) -> Iterator[Event]:
        """Yield the crossings of an object that are sure at `time`."""
        paths, label = self._paths.get(id_, {}), self._places[id_].label
        is_gone = time - self._places[id_].time >= HOLD_S - 1e-9
        for line in self.lines if paths else ():
            path = paths[line.name]
            crossed = path.settle(line, time, self._size, is_gone=is_gone)
            if crossed is None or crossed.met is None or crossed.frame is None:
                continue
            way = "in" if path.side > 0 else "out"
            key = (line.name, way, label)
            self.counts[key] = self.counts.get(key, 0) + 1
            frame, when = crossed.frame, crossed.time
            yield Event("line", line.name, way, id_, label, frame, when, crossed.met)

    def _margin(self, line: Line, path: Path, place: Place, point: Point) -> float:
        """Return how far beyond a line is surely beyond, px: not farther than one can be."""
        margin = max(self._hysteresis * place.y.seen, SMALLEST_MARGIN)
        if self._size is None or path.side * line.side(point) >= 0:
            return margin
        width, height = place.x.size / 2, place.y.size / 2
        right, bottom = self._size[0] + width, self._size[1] + height
        top = 0.0 if self._anchor == "bottom" else -height
        bottom += height if self._anchor == "bottom" else 0.0
        corners = ((-width, top), (right, top), (-width, bottom), (right, bottom))
        room = max(-path.side * line.side(corner) for corner in corners)
        return min(margin, _ROOM_SHARE * room)

    # ---- all of them ------------------------------------------------------------------------

    def _frame(self, ago: int) -> tuple[int, float]:
        """Return the index of the frame that was so many ago, and the time from the one before."""
        place = max(len(self._recent) - 1 - ago, 0)
        index, time = self._recent[place]
        return index, time - self._recent[place - 1][1] if place else 0.0

    def _all_paths(self) -> Iterator[Path]:
        for paths in self._paths.values():
            yield from paths.values()

    def _forget(self, time: float) -> None:
        """Drop those who are long gone."""
        gone = [id_ for id_, place in self._places.items() if time - place.time > _FORGET_S]
        for id_ in gone:
            self._drop(id_)
        self._next_clean_up = time + _FORGET_S

    def _drop(self, id_: int) -> None:
        self._places.pop(id_, None)
        self._paths.pop(id_, None)
        self._waiting.discard(id_)


def _path_state(id_: int, line: str, path: Path) -> PathState:
    stay = StayState(**asdict(path.stay)) if path.stay else None
    return PathState(
        line=line,
        id=id_,
        side=path.side,
        last=path.last,
        start=path.start,
        stay=stay,
        returns=path.returns,
    )


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
