"""The stages of all lanes that run in threads: decode, detect and associate."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from itertools import chain, groupby

from tracker.errors import explain
from tracker.pipeline.lanes import Lane, Stage
from tracker.prefetch import Ended, Gather, Scatter, prefetch
from tracker.snapshot import Snapshot
from tracker.types import Detections, Frame, FrameResult
from tracker.types.stages import Detector, Source, StreamingDetector

log = logging.getLogger(__name__)

DEPTH = 4  # frames of a lane that wait between two stages; bounds the memory
SPAN = 16  # frames that a batch with undetected ones may span; several batches may be under way


@dataclass(slots=True, eq=False)
class _Step:
    """One frame on its way, with what is known of it and what must be remembered after it."""

    lane: int
    frame: Frame
    shown: bool = False  # to the detector; known once the frame was not dropped
    snapshot: Snapshot | None = None
    detections: Detections | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """One frame with its tracks."""

    lane: int
    result: FrameResult
    snapshot: Snapshot | None


@dataclass(frozen=True, slots=True)
class End:
    """The last thing that comes of a lane."""

    lane: int
    error: BaseException | None


def span(batch_size: int, every: int) -> int:
    """Return how many frames of a file go through the detector together."""
    return batch_size if every == 1 else max(1, min(batch_size, SPAN // every)) * every


class Flow:
    """The stages that run in threads, up to the tracks of each frame.

    No lane holds up another: frames are taken of those only whose reader keeps up.
    """

    def __init__(self, lanes: Sequence[Lane], detector: Detector, batch_size: int) -> None:
        self._lanes, self._detector, self._batch_size = lanes, detector, batch_size
        self._queues: list[deque[_Step | End]] = [deque() for _ in lanes]
        self._taken = [0] * len(lanes)  # frames of each lane that came to the detector
        self._groups: list[list[_Step]] = [[] for _ in lanes]  # of which a batch is made
        self._failed: set[int] = set()  # lanes that the detector fails on
        self._tracked = Scatter[Tracked | End](len(lanes), on_taken=self._look_again)

    def __enter__(self) -> Flow:
        self._decoded = Gather(
            [self._frames(number) for number in range(len(self._lanes))],
            DEPTH,
            drop_oldest=[lane.source.info.live for lane in self._lanes],
            on_drop=[_count_drop(lane.source) for lane in self._lanes],
            has_room=self._has_room,
        )
        self._tracked.deal(self._track())
        return self

    def __exit__(self, *_: object) -> None:
        self._decoded.stop_all()  # what waits for frames comes to its end
        self._tracked.close()
        self._decoded.close()

    def stop(self, number: int) -> None:
        """Let one lane come to an end; its reader gets nothing more."""
        self._decoded.stop(number)
        self._tracked.stop(number)

    def stop_all(self) -> None:
        """Let all lanes come to their ends."""
        for number in range(len(self._lanes)):
            self.stop(number)

    def of(self, number: int) -> Iterator[Tracked | End]:
        """Yield the frames of one lane in order, and its end."""
        return self._tracked.of(number)

    def _look_again(self) -> None:
        self._decoded.look_again()

    def _has_room(self, number: int) -> bool:
        return self._tracked.waiting(number) < DEPTH

    def _track(self) -> Iterator[tuple[int, Tracked | End]]:
        """Yield the frames of all lanes with their tracks, each lane's in order."""
        self._detector.reset()
        ahead = isinstance(self._detector, StreamingDetector) and self._detector.overlaps
        live = any(lane.source.info.live for lane in self._lanes)
        found = self._detect_ahead() if ahead and not live else self._detect_in_turn()
        with closing(prefetch(found, DEPTH * len(self._lanes))) as detected:
            for item in self._associate(detected):
                yield item.lane, item

    # ---- decode -----------------------------------------------------------------------------

    def _frames(self, number: int) -> Iterator[_Step]:
        """Yield the frames of a lane; where one is due, a snapshot begins to travel with it."""
        lane = self._lanes[number]
        group = 1 if lane.source.info.live else span(self._batch_size, lane.every)
        first = lane.stats.frames + 1  # one that goes on has a past
        for position, frame in enumerate(_timed(lane.source, lane.stats.stages["decode"]), first):
            step = _Step(number, frame)
            if lane.recorder and position % group == 0 and lane.recorder.due(position):
                start = time.perf_counter()
                if mark := lane.source.mark():
                    spent = time.perf_counter() - start
                    step.snapshot = Snapshot(frames=position, source=mark, cost_s=spent)
            yield step

    # ---- detect -----------------------------------------------------------------------------

    def _detect_in_turn(self) -> Iterator[_Step | End]:
        """Detect one batch after the other."""
        for ready in self._decoded.rounds():
            for batch in self._batches(ready):
                self._detect(batch)
            yield from self._passed_on()

    def _detect(self, batch: list[_Step]) -> None:
        """Detect one batch; what fails in it ends the lane whose frames it fails on."""
        batch = [step for step in batch if step.lane not in self._failed]
        if not batch:
            return
        start = time.perf_counter()
        try:
            found = self._detector.detect([step.frame for step in batch])
            self._put(batch, found, time.perf_counter() - start)
        except Exception as exc:
            lanes = {step.lane for step in batch}
            if len(lanes) == 1:
                self._fail(batch, exc)
                return
            for number in lanes:
                self._detect([step for step in batch if step.lane == number])

    def _detect_ahead(self) -> Iterator[_Step | End]:
        """Let the detector work on several batches at once; its time is all that passes.

        Once that has failed in one of several lanes, each batch goes by itself: so the error is
        that of the lane whose frames it fails on.
        """
        rounds = self._decoded.rounds()
        batches = (batch for ready in rounds for batch in self._batches(ready))
        sent: deque[list[_Step]] = deque()
        try:
            for seconds, found in self._answers(batches, sent):
                self._put(sent[0], found, seconds)
                sent.popleft()
                yield from self._passed_on()
        except Exception as exc:
            if len(self._lanes) == 1:
                raise
            log.warning("%s: detecting one batch after the other from here on", explain(exc))
        else:
            if sent:
                raise ValueError(f"the detector gave no result for {len(sent)} batch(es)")
        for batch in chain(sent, batches):
            self._detect(batch)
            yield from self._passed_on()
        yield from self._passed_on()

    def _answers(
        self, batches: Iterable[list[_Step]], sent: deque[list[_Step]]
    ) -> Iterator[tuple[float, Sequence[Detections]]]:
        """Yield the detector's answers and the seconds to each; `sent` is what awaits one."""
        assert isinstance(self._detector, StreamingDetector)

        def frames() -> Iterator[list[Frame]]:
            for batch in batches:
                sent.append(batch)
                yield [step.frame for step in batch]

        results = self._detector.stream(frames())
        with closing(results) if isinstance(results, Generator) else nullcontext():
            start = time.perf_counter()
            for found in results:
                yield time.perf_counter() - start, found
                start = time.perf_counter()

    def _batches(self, ready: Iterable[tuple[int, _Step | Ended]]) -> Iterator[list[_Step]]:
        """Take in what has been decoded and yield the batches that are complete by it.

        A file's frames go in groups of its own; live frames of one size that are there together go
        together, and none waits for another.
        """
        live: list[_Step] = []
        for number, item in ready:
            queue, group = self._queues[number], self._groups[number]
            if isinstance(item, Ended):
                if group:
                    self._groups[number] = []
                    yield group
                queue.append(End(number, item.error))
                continue
            queue.append(item)
            lane = self._lanes[number]
            item.shown = self._taken[number] % lane.every == 0
            self._taken[number] += 1
            if item.shown:
                (live if lane.source.info.live else group).append(item)
            if len(group) == span(self._batch_size, lane.every) // lane.every:
                self._groups[number] = []
                yield group
        live.sort(key=_size)
        for _, same in groupby(live, key=_size):
            together = list(same)
            for first in range(0, len(together), self._batch_size):
                yield together[first : first + self._batch_size]

    def _put(self, batch: list[_Step], found: Sequence[Detections], seconds: float) -> None:
        """Note what was found; raise ValueError where it is of another number of frames."""
        for step, detections in zip(batch, found, strict=True):
            step.detections = detections
            self._lanes[step.lane].stats.stages["detect"].add(seconds / len(batch))

    def _fail(self, batch: list[_Step], error: Exception) -> None:
        """End the lane of a batch that could not be detected, behind the frames before it."""
        number = batch[0].lane
        self._failed.add(number)
        self._decoded.stop(number)
        queue = self._queues[number]
        while queue and queue[-1] is not batch[0]:
            queue.pop()
        queue.pop()
        queue.append(End(number, error))

    def _passed_on(self) -> Iterator[_Step | End]:
        """Yield of each lane the frames before which nothing is awaited."""
        for queue in self._queues:
            while queue:
                item = queue[0]
                if isinstance(item, _Step) and item.shown and item.detections is None:
                    break
                yield queue.popleft()

    # ---- associate --------------------------------------------------------------------------

    def _associate(self, items: Iterable[_Step | End]) -> Iterator[Tracked | End]:
        failed: set[int] = set()
        for item in items:
            if item.lane in failed:
                continue
            if isinstance(item, End):
                yield item
                continue
            try:
                yield self._link(item)
            except Exception as exc:
                failed.add(item.lane)
                self._decoded.stop(item.lane)
                yield End(item.lane, exc)

    def _link(self, step: _Step) -> Tracked:
        lane, frame, snapshot = self._lanes[step.lane], step.frame, step.snapshot
        start = time.perf_counter()
        if step.detections is None:
            tracks = lane.associator.carry(frame.time, frame.image)
        else:
            tracks = lane.associator.update(step.detections, frame.time, frame.image)
        if snapshot:
            began = time.perf_counter()
            state = lane.associator.state()
            snapshot = snapshot.adding(tracker=state, spent_s=time.perf_counter() - began)
        lane.stats.stages["associate"].add(time.perf_counter() - start)
        found = step.detections or Detections.empty()
        return Tracked(step.lane, FrameResult(frame, found, tracks, step.shown), snapshot)


def _size(step: _Step) -> tuple[int, int]:
    return step.frame.width, step.frame.height


def _count_drop(source: Source) -> Callable[[_Step], None]:
    def count(_: _Step) -> None:
        source.report.dropped += 1

    return count


def _timed(source: Source, stage: Stage) -> Iterator[Frame]:
    """Pass frames on and measure how long each takes to come."""
    frames = iter(source)
    with ExitStack() as stack:
        if isinstance(frames, Generator):
            stack.enter_context(closing(frames))
        while True:
            start = time.perf_counter()
            frame = next(frames, None)
            stage.seconds += time.perf_counter() - start
            if frame is None:
                return
            stage.frames += 1
            yield frame
