"""The whole program in one place: decode, detect, associate and write, overlapping."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from tracker.errors import TrackerError
from tracker.prefetch import prefetch
from tracker.types import Associator, Detections, Detector, Frame, FrameResult, Sink, Source

T = TypeVar("T")
DEPTH = 4  # frames that wait between two stages; bounds the memory


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


def stream(
    source: Source,
    detector: Detector,
    associator: Associator,
    *,
    batch_size: int = 1,
    stats: RunStats | None = None,
) -> Generator[FrameResult, None, None]:
    """Yield every frame with its detections and tracks, in order.

    Each stage runs in its own thread. Files wait for the slowest stage; a live source drops its
    oldest waiting frame and counts it. The first error of any stage is raised here; closing the
    generator stops all stages and closes the source.
    """
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
        detected = staged(_detect(detector, decoded, 1 if live else batch_size, stages["detect"]))
        yield from staged(_associate(associator, detected, stages["associate"]))


def run(
    source: Source,
    detector: Detector,
    associator: Associator,
    sinks: Sequence[Sink],
    *,
    batch_size: int = 1,
    stats: RunStats | None = None,
    on_result: Callable[[FrameResult, RunStats], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunStats:
    """Send every frame through all stages and into all sinks.

    The first error anywhere stops all; every sink is closed whatever happens, then that error is
    raised, once. `on_result` hears of each frame; `should_stop` is asked after each.
    """
    stats = stats or RunStats()
    began, error = time.perf_counter(), None
    try:
        results = stream(source, detector, associator, batch_size=batch_size, stats=stats)
        with closing(results):
            for result in results:
                _write(sinks, result, stats)
                stats.wall_s = time.perf_counter() - began
                if on_result:
                    on_result(result, stats)
                if should_stop():
                    stats.stopped = True
                    break
    except BaseException as exc:
        error = exc
        if isinstance(exc, TrackerError) and should_stop():
            stats.stopped, error = True, None  # a silent camera ends by its time-out
    for sink in sinks:
        try:
            sink.close()
        except Exception as exc:
            error = error or exc
    stats.wall_s = time.perf_counter() - began
    if error:
        raise error
    return stats


def _write(sinks: Sequence[Sink], result: FrameResult, stats: RunStats) -> None:
    start = time.perf_counter()
    for sink in sinks:
        sink.write(result)
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


def _detect(
    detector: Detector, frames: Iterator[Frame], batch_size: int, stage: Stage
) -> Iterator[tuple[Frame, Detections]]:
    while batch := list(islice(frames, batch_size)):
        start = time.perf_counter()
        detections = detector.detect(batch)
        stage.seconds += time.perf_counter() - start
        stage.frames += len(batch)
        yield from zip(batch, detections, strict=True)


def _associate(
    associator: Associator, detected: Iterable[tuple[Frame, Detections]], stage: Stage
) -> Iterator[FrameResult]:
    for frame, detections in detected:
        start = time.perf_counter()
        tracks = associator.update(detections, frame.time, frame.image)
        stage.seconds += time.perf_counter() - start
        stage.frames += 1
        yield FrameResult(frame, detections, tracks)
