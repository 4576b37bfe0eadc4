"""Find the pictures that are missing between two that were shown."""

from __future__ import annotations

from collections import Counter, deque

from tracker.video.units import Order

_USUAL = 32  # steps between pictures that tell what is usual
_FEWEST = 4  # of them
_REGULAR = 0.9  # share of the usual step in a stream in which a hole is a loss
_LONGEST_HOLE_S = 1.5  # a longer one is a pause, as of a camera that waits for motion
_LONGEST_LOSS_S = 5.0  # ... but where what is sent may be lost on its way
_FEW = 2  # pictures: a longer hole before a key is a pause, since such a camera begins with one


class Holes:
    """Find lost pictures by the numbers that order them, where a stream has such, else by times.

    Numbers go on at a pause, so they are believed where both speak. By times a hole is a loss where
    nearly all steps are the same, until a pause is seen that the numbers know of.
    """

    def __init__(
        self,
        *,
        has_segments: bool = False,
        is_sent: bool = False,
        step_s: float | None = None,
        usual_count: int | None = None,
    ) -> None:
        """Begin; until a stream has shown its steps, they are taken to be those given here.

        Of a stream in segments whole ones may be lost, so that no hole is too long for a loss; of
        one that is sent much, as a broadcast, and of others little.
        """
        self._longest = _LONGEST_LOSS_S if is_sent else _LONGEST_HOLE_S
        if has_segments:
            self._longest = float("inf")
        self._most_before_key = float("inf") if has_segments else _FEW
        self._declared_step, self._declared_count = step_s, usual_count
        self._steps: deque[float] = deque(maxlen=_USUAL)  # s
        self._counts: deque[int] = deque(maxlen=_USUAL)  # steps of the numbers
        self._order: Order | None = None  # of the latest picture
        self._pauses = False
        self.latest: float | None = None  # s, of the latest picture

    def before(self, time: float, order: Order | None) -> int:
        """Return how many pictures are missing before one of this time (s) and order."""
        by_time = self._by_time(time)
        before, self._order = self._order, order
        if before is None or order is None:
            return 0 if self._pauses else by_time
        count = before.steps_to(order)
        if count is not None:
            return self._by_numbers(count, by_time)
        is_pause = self._pauses or by_time > self._most_before_key
        return 0 if is_pause else by_time

    # ---- by numbers -------------------------------------------------------------------------

    def _by_numbers(self, count: int, by_time: int) -> int:
        """Return how many are missing where the numbers have gone on by `count`."""
        usual = self._usual_count()
        is_learning = usual is None or len(self._counts) < _FEWEST
        if count == usual:
            self._pauses |= by_time > 0
            lost = 0
        elif by_time and not self._pauses:
            return by_time  # so many may be lost that the numbers have begun again
        elif is_learning or count % (usual or 1):
            lost = 0
        else:
            lost = max(0, count // (usual or 1) - 1)
        if not lost:
            self._counts.append(count)
        return lost

    def _usual_count(self) -> int | None:
        """Return the step of the numbers, where all have the same."""
        if len(self._counts) < _FEWEST:
            return self._declared_count
        alike = len(set(self._counts)) == 1 and self._counts[0] > 0
        return self._counts[0] if alike else None

    # ---- by times ---------------------------------------------------------------------------

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
        steps = self._steps
        if len(steps) < _FEWEST:
            declared = self._declared_step
            if not declared or not steps:
                return None
            return (
                declared if all(abs(s - declared) <= _tolerance(declared) for s in steps) else None
            )
        [(common, _)] = Counter(round(step, 3) for step in steps).most_common(1)
        alike = [step for step in steps if abs(step - common) <= _tolerance(common)]
        return sum(alike) / len(alike) if len(alike) >= _REGULAR * len(steps) else None


def _tolerance(step: float) -> float:
    """Return how far a step may be off: the clocks of some containers tick once a millisecond."""
    return max(0.0011, 0.02 * step)
