"""A lane: one video or camera, from its source to its sinks, and how its run goes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tracker.errors import SinkError, explain
from tracker.snapshot import Snapshot, StageState
from tracker.types import FrameResult
from tracker.types.stages import Associator, Counting, CountingSink, Recorder, Sink, Source

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stage:
    """The work of one stage so far, waiting not included."""

    seconds: float = 0.0
    frames: int = 0

    @property
    def fps(self) -> float:
        """Frames per second of work; 0 before the first frame."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def add(self, seconds: float, frames: int = 1) -> None:
        """Take in the work on some frames."""
        self.seconds += seconds
        self.frames += frames


@dataclass(slots=True)
class RunStats:
    """How a lane's run went."""

    frames: int = 0
    wall_s: float = 0.0
    stopped: bool = False  # on demand, before the source ended
    stages: dict[str, Stage] = field(
        default_factory=lambda: {n: Stage() for n in ("decode", "detect", "associate", "write")}
    )

    @classmethod
    def after(cls, past: Snapshot | None) -> RunStats:
        """Return the figures of a run that goes on behind a snapshot."""
        stats = cls()
        if past:
            stats.frames, stats.wall_s = past.frames, past.wall_s
            for name, stage in past.stages.items():
                stats.stages[name] = Stage(stage.seconds, stage.frames)
        return stats


class Wish:
    """The wish that all lanes stop: asked for by many, told once, and kept."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop, self._lock = should_stop, threading.Lock()
        self.told = False
        self.error: BaseException | None = None  # why, where it is no proper wish

    def ask(self) -> bool:
        """Whether the lanes are to stop."""
        with self._lock:
            self.told = self.told or self._should_stop()
            return self.told

    def tell(self, error: BaseException | None) -> None:
        """Let the lanes stop, for this reason."""
        self.told, self.error = True, error


@dataclass(slots=True, eq=False)
class Lane:
    """One video or camera on its way through the house."""

    source: Source
    associator: Associator
    sinks: Sequence[Sink] = ()
    counting: Counting | None = None  # None = what the first sink that counts brings along
    every: int = 1  # the detector sees each so manyth frame; over the others tracks are carried
    recorder: Recorder | None = None
    on_result: Callable[[FrameResult, RunStats], None] = lambda _result, _stats: None
    stats: RunStats = field(default_factory=RunStats)
    error: BaseException | None = None  # why it ended early
    ended: bool = False
    _broken: dict[int, SinkError] = field(default_factory=dict)  # number of a sink -> its error
    _began: float = 0.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        counting = [self.counting] if self.counting else []
        for sink in self.sinks:
            if not (isinstance(sink, CountingSink) and isinstance(sink.counting, Counting)):
                continue
            same = [one for one in counting if one.config == sink.counting.config]
            sink.counting = same[0] if same else sink.counting
            counting += [] if same else [sink.counting]
        self.counting = counting[0] if counting else None

    def begin(self) -> None:
        """Note when the lane begins; one that goes on has a past."""
        self._began = time.perf_counter() - self.stats.wall_s

    def finish(self, result: FrameResult, snapshot: Snapshot | None) -> None:
        """Count a frame and write it; raise what ends the lane."""
        if self.counting:
            result = self.counting.count(result)
        self._write(result)
        self.stats.wall_s = time.perf_counter() - self._began
        if self.recorder and snapshot:
            self.recorder.publish(self._complete(snapshot))
        self.on_result(result, self.stats)

    def end(self, error: BaseException | None) -> None:
        """Close the sinks, whatever is wrong with them; the source is closed where it is read.

        The newest error is the lane's, older ones and those of closing are notes on it.
        """
        if self.ended:
            return
        self.ended = True
        errors: list[BaseException] = [*self._broken.values()]
        if error and error not in errors:
            errors.append(error)
        late = [exc for sink in self.sinks if (exc := _closing_error(sink)) and exc not in errors]
        self.stats.wall_s = time.perf_counter() - self._began
        if not errors + late:
            return
        self.error = errors.pop() if errors else late.pop(0)
        for other in errors + late:
            self.error.add_note(f"also: {other}")

    def close_source(self) -> None:
        """Close the source, which nobody reads any more; what fails in that is told."""
        try:
            self.source.close()
        except Exception as exc:
            log.warning("%s", explain(exc))
            self.error = self.error or exc

    def _write(self, result: FrameResult) -> None:
        """Give a result to all sinks but the broken; raise what fails at once, or as the last."""
        start = time.perf_counter()
        for number, sink in enumerate(self.sinks):
            if number in self._broken:
                continue
            try:
                sink.write(result)
            except SinkError as exc:
                self._broken[number] = exc
                if not self.stats.frames or len(self._broken) == len(self.sinks):
                    raise
                log.warning("%s; the other outputs go on", exc)
        self.stats.frames += 1
        self.stats.stages["write"].add(time.perf_counter() - start)

    def _complete(self, snapshot: Snapshot) -> Snapshot:
        began = time.perf_counter()
        stages = {
            name: StageState(seconds=stage.seconds, frames=stage.frames)
            for name, stage in self.stats.stages.items()
        }
        counts = self.counting.state() if self.counting else None
        spent = time.perf_counter() - began
        wall = self.stats.wall_s
        return snapshot.adding(counts=counts, wall_s=wall, stages=stages, spent_s=spent)


def _closing_error(sink: Sink) -> Exception | None:
    try:
        sink.close()
    except Exception as exc:
        return exc
    return None
