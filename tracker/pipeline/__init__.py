"""The whole program in one place: lanes of decode, detect, associate, count and write.

```
lane 1: source ─┐                      ┌─ associator ─ counting ─ sinks
lane 2: source ─┼─▶ one detector ──────┼─ associator ─ counting ─ sinks
```
Each source, the detector and the associators run in threads of their own; counting and the sinks
of a single lane run where `run` was called, those of several in a thread for each. A lane that
fails ends alone, and one that is slow holds up no other. Frames of a file go through the detector
in the same groups whatever the other lanes do, so that a lane's results are those of its own run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from typing import Any

from tracker.errors import SourceError, explain
from tracker.pipeline.lanes import Lane, RunStats, Stage, Wish
from tracker.pipeline.threads import End, Flow, Tracked, span
from tracker.types import FrameResult
from tracker.types.stages import Associator, Counting, Detector, Sink, Source, as_detector

log = logging.getLogger(__name__)

__all__ = ["Lane", "RunStats", "Stage", "as_ended", "run", "run_one", "span", "stream"]


def run(
    lanes: Sequence[Lane],
    detector: Detector,
    *,
    batch_size: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Send the frames of all lanes through all stages and into their sinks, as in `as_ended`."""
    for _ in as_ended(lanes, detector, batch_size=batch_size, should_stop=should_stop):
        pass


def as_ended(
    lanes: Sequence[Lane],
    detector: Detector,
    *,
    batch_size: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Lane, None, None]:
    """Let all lanes run, and yield each when its sinks are closed.

    Each lane's `stats` and `error` say how it went: what goes wrong in one ends that one. A sink
    that fails behind the first frame is set aside, and the lane's others go on. `should_stop` is
    asked after each frame. The sources are closed at the very end, since one may be silent for
    long; closing this generator stops all lanes.
    """
    wish = Wish(should_stop)
    for lane in lanes:
        lane.begin()
    try:
        with Flow(lanes, detector, batch_size) as flow:
            yield from _lanes_ended(lanes, flow, wish)
    finally:
        for lane in lanes:
            lane.end(wish.error)
            lane.close_source()  # no thread reads it any more


def _lanes_ended(lanes: Sequence[Lane], flow: Flow, wish: Wish) -> Iterator[Lane]:
    """Bring all lanes to their ends, several in threads of their own."""
    if len(lanes) == 1:
        _bring_to_end(0, lanes, flow, wish)
        yield lanes[0]
        return
    with ThreadPoolExecutor(max(1, len(lanes)), thread_name_prefix="lane") as pool:
        ends = {pool.submit(_bring_to_end, n, lanes, flow, wish): n for n in range(len(lanes))}
        try:
            for end in as_completed(ends):
                end.result()
                yield lanes[ends[end]]
        except BaseException as exc:
            wish.tell(None if isinstance(exc, GeneratorExit) else exc)
            flow.stop_all()
            raise


def _bring_to_end(number: int, lanes: Sequence[Lane], flow: Flow, wish: Wish) -> None:
    """Count and write the frames of one lane until it ends, and close its sinks."""
    lane, error = lanes[number], None
    try:
        error = _work(lane, flow.of(number), wish)
    except BaseException as exc:
        error = exc
    if wish.told:
        flow.stop_all()
    flow.stop(number)
    lane.end(error)
    if lane.error and not all(other.ended for other in lanes):
        # Said at once, since the others may go on for long.
        log.warning("%s; the other lanes go on", explain(lane.error))


def _work(lane: Lane, items: Iterable[Tracked | End], wish: Wish) -> BaseException | None:
    """Take in what comes of a lane; return what ended it early."""
    for item in items:
        if isinstance(item, End):
            silent = isinstance(item.error, SourceError) and lane.source.info.live
            if silent and wish.ask():  # it ends by its time-out where somebody wants it to
                break
            return item.error
        lane.finish(item.result, item.snapshot)
        if wish.ask():
            break
    lane.stats.stopped = True
    return wish.error


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
        for item in flow.of(0):
            if isinstance(item, Tracked):
                yield lane.counting.count(item.result) if lane.counting else item.result
            elif item.error:
                raise item.error
