"""Count what every frame of a lane shows, once: the totals, and who went over which line."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tracker.config import CountConfig
from tracker.count.lines import LineCounter, line_counter
from tracker.count.totals import Totals
from tracker.snapshot import CountState
from tracker.types import Counts, Event, FrameResult


class CountStage:
    """Run all counters on each frame; what they know is read, never counted again."""

    def __init__(self, config: CountConfig | None = None, state: CountState | None = None) -> None:
        """Begin, or go on where `state` was taken."""
        self.config = config or CountConfig()
        self.totals = Totals(self.config.bin_s)
        self.lines: LineCounter | None = None  # in px: known with the first frame
        self.crossings: Counter[tuple[int, int, str]] = Counter()  # bin, label, LINE_DIRECTION
        self.frames = 0
        self.end = 0.0  # s, of the latest frame
        self._given: FrameResult | None = None  # the latest result, before it was counted
        self._latest: FrameResult | None = None  # and after
        if state:
            self._restore(state)

    def count(self, result: FrameResult) -> FrameResult:
        """Take in the next frame; return it with its events and the totals after it.

        The same result may come again: it is counted once. Raises ConfigError where a line does not
        lie in the first frame.
        """
        frame, tracks = result.frame, result.tracks
        if self._latest is not None and (result is self._given or result is self._latest):
            return self._latest
        self._given = result
        if self.lines is None:
            self.lines = line_counter(self.config, frame.width, frame.height)
        self.lines.resize(frame.width, frame.height)
        self.frames += 1
        self.end = frame.time
        self.totals.update(tracks, frame.time)
        events = self.lines.update(tracks, frame.index, frame.time)
        for event in events:
            self._note(event)
        self._latest = replace(result, events=tuple(events), counts=self._counts())
        return self._latest

    def finish(self) -> tuple[Event, ...]:
        """Take in that no frame comes any more; return the events that are sure by that."""
        events = self.lines.finish() if self.lines else []
        for event in events:
            self._note(event)
        return tuple(events)

    def finished(self, last: FrameResult) -> FrameResult:
        """Return the last result with the events that are sure by its being the last, too."""
        return replace(last, events=(*last.events, *self.finish()), counts=self._counts())

    def state(self) -> CountState:
        """Return all that counting on needs."""
        crossings = ((*key, number) for key, number in self.crossings.items())
        return CountState(
            frames=self.frames,
            end=self.end,
            totals=self.totals.state(),
            lines=self.lines.state() if self.lines else None,
            crossings=tuple(crossings),
        )

    def _restore(self, state: CountState) -> None:
        self.frames, self.end = state.frames, state.end
        self.totals.restore(state.totals)
        self.crossings = Counter({(n, label, way): k for n, label, way, k in state.crossings})
        if state.lines:
            config = self.config
            self.lines = LineCounter([], anchor=config.anchor, hysteresis=config.hysteresis)
            self.lines.restore(state.lines)

    def _counts(self) -> Counts:
        unique = {label: number for label, number in self.totals.unique.items() if number}
        return Counts(unique, self.lines.totals() if self.lines else ())

    def _note(self, event: Event) -> None:
        number = self.totals.bin_of(event.time)
        self.crossings[number, event.label, f"{event.name}_{event.direction}"] += 1
