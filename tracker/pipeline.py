"""The whole program in one place: decode, detect, associate and write, overlapping."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TypeVar

from tracker.errors import SinkError, TrackerError
from tracker.prefetch import prefetch
from tracker.types import Associator, Detections, Detector, Frame, FrameResult, Sink, Source

log = logging.getLogger(__name__)
T = TypeVar("T")
Detected = tuple[Frame, Detections | None]  # None: the frame was not shown to the detector
DEPTH = 4  # frames that wait between two stages; bounds the memory
SPAN = 16  # frames that a batch with undetected ones may span; several batches may be under way


@dataclass(slots=True)
class Stage:
    """The work of one stage so far, waiting not included."""

    seconds: float = 0.0
    frames: int = 0

    @property
    def fps(self) -> float:
        """Frames per second of work; 0 before the first frame."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


@dataclass(slots=True)
class RunStats:
    """How a run went."""

    frames: int = 0
    wall_s: float = 0.0
    stopped: bool = False  # on demand, before the source ended
    stages: dict[str, Stage] = field(
        default_factory=lambda: {n: Stage() for n in ("decode", "detect", "associate", "write")}
    )


def span(batch_size: int, every: int) -> int:
    """Return how many frames of a file go through the detector together."""
    return batch_size if every == 1 else max(1, min(batch_size, SPAN // every)) * every


def stream(
    source: Source,
    detector: Detector,
    associator: Associator,
    *,
    batch_size: int = 1,
    every: int = 1,
    stats: RunStats | None = None,
) -> Generator[FrameResult, None, None]:
    """Yield every frame with its detections and tracks, in order.

    The detector sees every `every`-th frame, `batch_size` of them at a time; over the frames in
    between the associator carries its tracks.

    Each stage runs in its own thread. Files wait for the slowest stage; a live source drops its
    oldest waiting frame and counts it. The first error of any stage is raised here; closing the
    generator stops all stages and closes the source.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    stages = (stats or RunStats()).stages
    live = source.info.live

    def count_drop(_: Frame) -> None:
        source.report.dropped += 1

    with ExitStack() as stack:
        stack.callback(source.close)

        def staged(items: Iterable[T]) -> Iterator[T]:
            return stack.enter_context(closing(prefetch(items, DEPTH)))

        decoded: Iterator[Frame] = stack.enter_context(
            closing(
                prefetch(
                    _timed(source, stages["decode"]), DEPTH, drop_oldest=live, on_drop=count_drop
                )
            )
        )
        if live:
            found = _detect_live(detector, decoded, every, stages["detect"])
        else:
            size = span(batch_size, every) // every
            found = _detect(detector, decoded, size, every, stages["detect"])
        yield from staged(_associate(associator, staged(found), stages["associate"]))


def run(
    source: Source,
    detector: Detector,
    associator: Associator,
    sinks: Sequence[Sink],
    *,
    batch_size: int = 1,
    every: int = 1,
    stats: RunStats | None = None,
    on_result: Callable[[FrameResult, RunStats], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunStats:
    """Send every frame through all stages and into all sinks.

    The first error anywhere stops all, but for a sink that fails behind the first frame: it is set
    aside, and the others go on. Every sink is closed whatever happens, then the first error is
    raised, once. `on_result` hears of each frame; `should_stop` is asked after each. The rest is as
    in `stream`.
    """
    stats = stats or RunStats()
    began = time.perf_counter() - stats.wall_s  # a run that goes on has a past
    error: BaseException | None = None
    failed: dict[Sink, SinkError] = {}
    try:
        results = stream(
            source, detector, associator, batch_size=batch_size, every=every, stats=stats
        )
        with closing(results):
            for result in results:
                _write(sinks, result, stats, failed)
                stats.wall_s = time.perf_counter() - began
                if on_result:
                    on_result(result, stats)
                if should_stop():
                    stats.stopped = True
                    break
    except BaseException as exc:
        error = exc if not failed else next(iter(failed.values()))
        if isinstance(exc, TrackerError) and should_stop():
            stats.stopped, error = True, None  # a silent camera ends by its time-out
    error = error or next(iter(failed.values()), None)
    for sink in sinks:
        try:
            sink.close()
        except Exception as exc:
            error = error or exc
    stats.wall_s = time.perf_counter() - began
    if error:
        raise error
    return stats


def _write(
    sinks: Sequence[Sink], result: FrameResult, stats: RunStats, failed: dict[Sink, SinkError]
) -> None:
    """Give a result to all sinks but the failed; raise what fails at once, or as the last."""
    start = time.perf_counter()
    for sink in sinks:
        if sink in failed:
            continue
        try:
            sink.write(result)
        except SinkError as exc:
            failed[sink] = exc
            if not stats.frames or len(failed) == len(sinks):
                raise
            log.warning("%s; the other outputs go on", exc)
    stats.frames += 1
    stage = stats.stages["write"]
    stage.seconds += time.perf_counter() - start
    stage.frames += 1


def _timed(items: Iterable[T], stage: Stage) -> Iterator[T]:
    """Pass items on and measure how long each takes to come."""
    iterator = iter(items)
    try:
        while True:
            start = time.perf_counter()
            item = next(iterator, None)
            stage.seconds += time.perf_counter() - start
            if item is None:
                return
            stage.frames += 1
            yield item
    finally:
        if close := getattr(iterator, "close", None):
            close()


def _detect_live(
    detector: Detector, frames: Iterable[Frame], every: int, stage: Stage
) -> Iterator[Detected]:
    """Detect frame by frame: none waits for another."""
    for position, frame in enumerate(frames):
        if position % every:
            yield frame, None
            continue
        start = time.perf_counter()
        found = detector.detect([frame])
        stage.seconds += time.perf_counter() - start
        stage.frames += 1
        yield from zip([frame], found, strict=True)


def _detect(
    detector: Detector, frames: Iterable[Frame], batch_size: int, every: int, stage: Stage
) -> Iterator[Detected]:
    """Detect in batches; a detector with a `stream` of its own may work on several at once."""
    order: deque[Frame] = deque()  # all frames that were read and not yet passed on
    sent: deque[list[Frame]] = deque()  # batches whose results are awaited
    waiting, errors = Stage(), list[Exception]()

    def batches() -> Iterator[list[Frame]]:
        batch: list[Frame] = []
        try:
            for position, frame in enumerate(_timed(frames, waiting)):
                order.append(frame)
                if position % every == 0:
                    batch.append(frame)
                if len(batch) == batch_size:
                    sent.append(batch)
                    yield batch
                    batch = []
        except Exception as exc:  # comes after the frames before it
            errors.append(exc)
        if batch:
            sent.append(batch)
            yield batch

    own = getattr(detector, "stream", None)
    # One that works ahead waits for frames while it computes: its time is all that passes.
    idle = Stage() if getattr(detector, "overlaps", False) else waiting
    results = _worked(own(batches()) if own else map(detector.detect, batches()), idle, stage)
    with closing(results):
        for found in results:
            stage.frames += len(found)
            for frame, detections in zip(sent.popleft(), found, strict=True):
                while (earlier := order.popleft()) is not frame:
                    yield earlier, None
                yield frame, detections
    if sent and not errors:
        raise ValueError(f"the detector gave no result for {len(sent)} batch(es)")
    yield from ((frame, None) for frame in order)
    if errors:
        raise errors[0]


def _worked(items: Iterable[T], waiting: Stage, stage: Stage) -> Generator[T, None, None]:
    """Pass items on and measure how long each takes to come, less what `waiting` grows by."""
    iterator = iter(items)
    try:
        while True:
            start, waited = time.perf_counter(), waiting.seconds
            item = next(iterator, None)
            spent = time.perf_counter() - start
            # A stream that works ahead may wait for frames while it computes: never below nothing.
            stage.seconds += max(0.0, spent - (waiting.seconds - waited))
            if item is None:
                return
            yield item
    finally:
        if close := getattr(iterator, "close", None):
            close()


def _associate(
    associator: Associator, detected: Iterable[Detected], stage: Stage
) -> Iterator[FrameResult]:
    for frame, detections in detected:
        start = time.perf_counter()
        if detections is None:
            tracks = associator.carry(frame.time, frame.image)
        else:
            tracks = associator.update(detections, frame.time, frame.image)
        stage.seconds += time.perf_counter() - start
        stage.frames += 1
        yield FrameResult(frame, detections or Detections.empty(), tracks)
