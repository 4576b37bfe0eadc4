"""Find the pictures that are missing between two that were shown."""

from __future__ import annotations

from collections import Counter, deque

from tracker.video.units import Order

_USUAL = 32  # steps between pictures that tell what is usual
_FEWEST = 4  # of them
_REGULAR = 0.9  # share of the usual step in a stream in which a hole is a loss
_LONGEST_HOLE_S = 5.0  # a longer one is a pause, as of a camera that waits for motion


class Holes:
    """Find lost pictures by the numbers that order them, where a stream has such, else by times.

    Numbers go on at a pause, so they are believed where both speak. By times a hole is a loss where
    nearly all steps are the same, until a pause is seen that the numbers know of.
    """

    def __init__(self, *, longest_s: float = _LONGEST_HOLE_S) -> None:
        self._longest = longest_s
        self._steps: deque[float] = deque(maxlen=_USUAL)  # s
        self._counts: deque[int] = deque(maxlen=_USUAL)  # steps of the numbers
        self._order: Order | None = None  # of the latest picture
        self._pauses = False
        self.latest: float | None = None  # s, of the latest picture

    def before(self, time: float, order: Order | None) -> int:
        """Return how many pictures are missing before one of this time (s) and order."""
        by_time = self._by_time(time)
        count = self._order.steps_to(order) if self._order and order else None
        self._order = order
        usual = self._usual_count()
        if count is None or usual is None:
            if count is not None and not by_time:
                self._counts.append(count)
            return 0 if self._pauses else by_time
        if count == usual:
            self._pauses |= by_time > 0
            return 0
        if by_time and not self._pauses:
            return by_time  # so many may be lost that the numbers have begun again
        return max(0, count // usual - 1) if count % usual == 0 else 0

    def _usual_count(self) -> int | None:
        """Return the step of the numbers, where all have the same."""
        alike = len(set(self._counts)) == 1 and self._counts[0] > 0
        return self._counts[0] if alike and len(self._counts) >= _FEWEST else None

    def _by_time(self, time: float) -> int:
        """Return how many are missing if all steps should be the same."""
        latest, self.latest = self.latest, time
        if latest is None or time <= latest:
            return 0
        step, usual = time - latest, self._usual_step()
        if usual is None or step > self._longest:
            self._steps.append(step)
            return 0
        lost = round(step / usual) - 1
        if lost < 1 or abs(step - (lost + 1) * usual) > _tolerance(usual) * (lost + 1):
            self._steps.append(step)
            return 0
        return lost

    def _usual_step(self) -> float | None:
        """Return the step that nearly all have, s."""
        if len(self._steps) < _FEWEST:
            return None
        [(common, _)] = Counter(round(step, 3) for step in self._steps).most_common(1)
        alike = [step for step in self._steps if abs(step - common) <= _tolerance(common)]
        return sum(alike) / len(alike) if len(alike) >= _REGULAR * len(self._steps) else None


def _tolerance(step: float) -> float:
    """Return how far a step may be off: the clocks of some containers tick once a millisecond."""
    return max(0.0011, 0.02 * step)
