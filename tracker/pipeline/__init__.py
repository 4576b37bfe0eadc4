"""The whole program in one place: lanes of decode, detect, associate, count and write.

```
lane 1: source ─┐                      ┌─ associator ─ counting ─ sinks
lane 2: source ─┼─▶ one detector ──────┼─ associator ─ counting ─ sinks
```
Each source, the detector and the associators run in threads of their own; counting and the sinks
run where `run` was called. A lane that fails ends alone. Frames of a file go through the detector
in the same groups whatever the other lanes do, so that a lane's results are those of its own run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

from tracker.errors import SourceError, explain
from tracker.pipeline.lanes import Lane, RunStats, Stage
from tracker.pipeline.threads import End, Flow, Tracked, span
from tracker.types import FrameResult
from tracker.types.stages import Associator, Counting, Detector, Sink, Source, as_detector

log = logging.getLogger(__name__)

__all__ = ["Lane", "RunStats", "Stage", "run", "run_one", "span", "stream"]


def run(
    lanes: Sequence[Lane],
    detector: Detector,
    *,
    batch_size: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Send the frames of all lanes through all stages and into their sinks.

    Each lane's `stats` and `error` say how it went: what goes wrong in one ends that one. A sink
    that fails behind the first frame is set aside, and the lane's others go on. `should_stop` is
    asked after each frame; all sinks are closed whatever happens.
    """
    error: BaseException | None = None
    stopped = False
    for lane in lanes:
        lane.begin()
    try:
        with Flow(lanes, detector, batch_size) as flow:
            for item in flow.steps():
                lane = lanes[item.lane]
                if not lane.ended:
                    _take(lane, item, flow, should_stop)
                    _tell_end(lane, lanes)
                stopped = should_stop()  # asked once: a wish may be told but once
                if stopped or all(lane.ended for lane in lanes):
                    break
    except BaseException as exc:
        if all(lane.ended for lane in lanes):
            raise
        error = exc
    for lane in lanes:
        lane.stats.stopped |= stopped and not (lane.ended or error)
        try:
            lane.source.close()  # no thread reads it any more
        except Exception as exc:
            lane.end(error or exc)
        lane.end(error)


def _take(lane: Lane, item: Tracked | End, flow: Flow, should_stop: Callable[[], bool]) -> None:
    """Take in what comes of a lane: a frame, or its end."""
    if isinstance(item, End):
        # A silent camera that somebody wants to end does so by its time-out.
        wanted = isinstance(item.error, SourceError) and lane.source.info.live and should_stop()
        lane.stats.stopped |= wanted
        lane.end(None if wanted else item.error)
        return
    try:
        lane.finish(item.result, item.snapshot)
    except Exception as exc:
        flow.stop(item.lane)
        lane.end(exc)


def _tell_end(lane: Lane, lanes: Sequence[Lane]) -> None:
    """Say at once what ended a lane while others go on: they may do so for long."""
    if lane.error and not all(other.ended for other in lanes):
        log.warning("%s; the other lanes go on", explain(lane.error))


def run_one(
    source: Source,
    detector: Any,
    associator: Associator,
    sinks: Sequence[Sink],
    *,
    batch_size: int = 1,
    every: int = 1,
    stats: RunStats | None = None,
    on_result: Callable[[FrameResult, RunStats], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunStats:
    """Send every frame of one video through all stages and into all sinks.

    `detector` needs no more than `categories` and `detect`. The first error anywhere stops all, but
    for a sink that fails behind the first frame: it is set aside, and the others go on. Every sink
    is closed whatever happens, then the newest error is raised, with the older ones as notes.
    `on_result` hears of each frame; `should_stop` is asked after each. The rest is as in `stream`.
    """
    lane = Lane(source, associator, sinks, every=every, stats=stats or RunStats())
    lane.on_result = on_result or lane.on_result
    run([lane], as_detector(detector), batch_size=batch_size, should_stop=should_stop)
    if lane.error:
        raise lane.error
    return lane.stats


def stream(
    source: Source,
    detector: Any,
    associator: Associator,
    *,
    batch_size: int = 1,
    every: int = 1,
    stats: RunStats | None = None,
    counting: Counting | None = None,
) -> Generator[FrameResult, None, None]:
    """Yield every frame with its detections and tracks, in order.

    The detector sees every `every`-th frame, `batch_size` of them at a time; over the frames in
    between the associator carries its tracks. Each stage runs in its own thread. Files wait for the
    slowest stage; a live source drops its oldest waiting frame and counts it. The first error of
    any stage is raised here; closing the generator stops all stages and closes the source.
    """
    lane = Lane(source, associator, every=every, stats=stats or RunStats(), counting=counting)
    with closing(source), Flow([lane], as_detector(detector), batch_size) as flow:
        for item in flow.steps():
            if isinstance(item, Tracked):
                yield lane.counting.count(item.result) if lane.counting else item.result
            elif item.error:
                raise item.error
