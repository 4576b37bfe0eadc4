import itertools
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from tracker.errors import SinkError
from tracker.pipeline import RunStats, stream
from tracker.pipeline import run_one as run
from tracker.pipeline.threads import DEPTH, SPAN
from tracker.prefetch import prefetch
from tracker.types import Detections, Frame, SourceReport, StreamInfo, Tracks


class FakeSource:
    def __init__(self, n=None, live=False, fails_at=None):
        self.n, self.fails_at, self.closed = n, fails_at, 0
        self.info = StreamInfo(6, 4, None, n, live=live)
        self.report = SourceReport()

    def __iter__(self):
        for i in itertools.count() if self.n is None else range(self.n):
            if i == self.fails_at:
                raise OSError("stream lost")
            yield Frame(i, i / 30, np.zeros((4, 6, 3), np.uint8))

    def close(self):
        self.closed += 1


class FakeDetector:
    categories = ("a",)

    def __init__(self, fails_at=None, gate=None):
        self.batches, self.fails_at, self.gate = [], fails_at, gate

    def detect(self, frames):
        if self.gate:
            self.gate.wait(5)
        self.batches.append(len(frames))
        if any(f.index == self.fails_at for f in frames):
            raise RuntimeError("out of memory")
        return [Detections.empty()] * len(frames)


class StreamingDetector(FakeDetector):
    """Works ahead in threads of its own, as a detector on an accelerator does."""

    def stream(self, batches):
        with (
            closing(prefetch(iter(batches), 1)) as ahead,
            closing(prefetch(map(self.detect, ahead), 1)) as found,
        ):
            yield from found


class FakeAssociator:
    def __init__(self, fails_at=None):
        self.times, self.fails_at, self.carried = [], fails_at, []

    def carry(self, time, image=None):
        self.carried.append(time)
        return self.update(None, time, image)

    def update(self, detections, time, image=None):
        if len(self.times) == self.fails_at:
            raise RuntimeError("lost the thread")
        self.times.append(time)
        return Tracks.empty()

    def state(self):
        return {}

    def restore(self, state):
        pass


class Collect:
    def __init__(self, fails_at=None, fails_to_close=False):
        self.seen, self.closed = [], 0
        self.fails_at, self.fails_to_close = fails_at, fails_to_close

    def write(self, result):
        if result.frame.index == self.fails_at:
            raise OSError("disk full")
        self.seen.append(result.frame.index)

    def close(self):
        self.closed += 1
        if self.fails_to_close:
            raise OSError("cannot flush")


@pytest.fixture(autouse=True)
def _no_threads_left():
    yield
    assert not any(t.name == "prefetch" for t in threading.enumerate())


@pytest.mark.parametrize(("n", "batches"), [(0, []), (3, [3]), (10, [4, 4, 2])])
def test_every_frame_reaches_every_sink_in_order(n, batches):
    detector, sinks, source = FakeDetector(), [Collect(), Collect()], FakeSource(n)
    stats = run(source, detector, FakeAssociator(), sinks, batch_size=4)
    assert all(s.seen == list(range(n)) and s.closed == 1 for s in sinks)
    assert detector.batches == batches
    assert stats.frames == n
    assert {s.frames for s in stats.stages.values()} == {n}
    assert source.closed


def test_detector_error_comes_once_and_closes_all():
    sink, source = Collect(), FakeSource()
    with pytest.raises(RuntimeError, match="out of memory"):
        run(source, FakeDetector(fails_at=9), FakeAssociator(), [sink], batch_size=4)
    assert sink.seen == list(range(8))
    assert (sink.closed, bool(source.closed)) == (1, True)


def test_associator_error_comes_after_the_frames_before_it():
    sink = Collect()
    with pytest.raises(RuntimeError, match="lost the thread"):
        run(FakeSource(), FakeDetector(), FakeAssociator(fails_at=5), [sink])
    assert sink.seen == list(range(5))


def test_source_error_comes_after_the_frames_before_it():
    sink = Collect()
    with pytest.raises(OSError, match="stream lost"):
        run(FakeSource(fails_at=6), FakeDetector(), FakeAssociator(), [sink])
    assert sink.seen == list(range(6))


def test_sink_error_stops_an_endless_source_and_closes_the_others():
    good, bad = Collect(), Collect(fails_at=5, fails_to_close=True)
    with pytest.raises(OSError, match="disk full"):
        run(FakeSource(), FakeDetector(), FakeAssociator(), [bad, good])
    assert good.closed == bad.closed == 1


class Unwritable(Collect):
    def write(self, result):
        if result.frame.index >= self.fails_at:
            raise SinkError(f"disk full at {result.frame.index}")
        super().write(result)


def test_a_sink_that_fails_is_set_aside_and_the_others_go_on():
    bad, good = Unwritable(fails_at=5), Collect()
    with pytest.raises(SinkError, match="disk full at 5"):
        run(FakeSource(20), FakeDetector(), FakeAssociator(), [bad, good])
    assert (good.seen, bad.seen) == (list(range(20)), list(range(5)))
    assert good.closed == bad.closed == 1


def test_when_all_sinks_have_failed_it_ends_with_the_first_error():
    sinks = [Unwritable(fails_at=5), Unwritable(fails_at=3)]
    source = FakeSource()
    with pytest.raises(SinkError, match="disk full at 3"):
        run(source, FakeDetector(), FakeAssociator(), sinks)
    assert source.closed


def test_what_cannot_be_written_at_all_stops_at_once():
    bad, good = Unwritable(fails_at=0), Collect()
    with pytest.raises(SinkError, match="disk full at 0"):
        run(FakeSource(), FakeDetector(), FakeAssociator(), [good, bad])
    assert good.seen == [0]


def test_an_error_in_close_is_not_lost():
    bad, good = Collect(fails_to_close=True), Collect()
    with pytest.raises(OSError, match="cannot flush"):
        run(FakeSource(3), FakeDetector(), FakeAssociator(), [bad, good])
    assert good.closed == 1


def test_stop_on_demand_finishes_the_sinks():
    sink = Collect()
    stats = run(
        FakeSource(),
        FakeDetector(),
        FakeAssociator(),
        [sink],
        should_stop=lambda: len(sink.seen) > 7,
    )
    assert stats.stopped
    assert (sink.seen, sink.closed) == (list(range(8)), 1)


def test_a_file_waits_for_a_slow_detector():
    gate, source, taken = threading.Event(), FakeSource(200), []
    results = stream(source, FakeDetector(gate=gate), FakeAssociator())
    gate.set()
    taken = [result.frame.index for result in results]
    assert taken == list(range(200))
    assert source.report.dropped == 0


def test_a_live_source_drops_the_oldest_and_counts_it():
    gate = threading.Event()
    source = FakeSource(100, live=True)
    detector = FakeDetector(gate=gate)
    stats = RunStats()
    results = stream(source, detector, FakeAssociator(), batch_size=8, stats=stats)
    first = threading.Timer(0.3, gate.set)  # by then the source has long run dry
    first.start()
    indices = [result.frame.index for result in results]
    first.join()
    assert indices[-DEPTH:] == list(range(100 - DEPTH, 100))
    assert source.report.dropped == 100 - len(indices)
    assert set(detector.batches) == {1}


def test_closing_the_stream_stops_everything():
    source = FakeSource()
    results = stream(source, FakeDetector(), FakeAssociator())
    assert next(results).frame.index == 0
    results.close()
    assert source.closed


def test_progress_hears_of_every_frame():
    heard = []
    run(
        FakeSource(5),
        FakeDetector(),
        FakeAssociator(),
        [],
        on_result=lambda result, stats: heard.append((result.frame.index, stats.frames)),
    )
    assert heard == [(k, k + 1) for k in range(5)]


@pytest.mark.parametrize("make", [FakeDetector, StreamingDetector])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 64])
@pytest.mark.parametrize(("n", "every"), [(0, 3), (1, 3), (20, 1), (20, 3), (21, 5), (22, 40)])
def test_frames_between_the_detected_ones_are_carried(n, every, batch_size, make):
    detector, associator, sink, stats = make(), FakeAssociator(), Collect(), RunStats()
    source = FakeSource(n)
    run(source, detector, associator, [sink], batch_size=batch_size, every=every, stats=stats)
    assert sink.seen == list(range(n))
    assert associator.times == [k / 30 for k in range(n)]
    assert associator.carried == [k / 30 for k in range(n) if k % every]
    assert sum(detector.batches) == stats.stages["detect"].frames == len(range(0, n, every))
    assert set(detector.batches[:-1]) <= {min(batch_size, max(1, SPAN // every))}


@pytest.mark.parametrize("make", [FakeDetector, StreamingDetector])
def test_the_frames_that_a_batch_spans_are_few(make):
    """A batch counts detected frames: the others must not fill the memory while they wait."""
    taken = []

    class Counted(FakeSource):
        def __iter__(self):
            for frame in super().__iter__():
                taken.append(frame.index)
                yield frame

    batch_size, every, gate = SPAN // 8, 8, threading.Event()
    detector = make(gate=gate)
    detected = stream(Counted(), detector, FakeAssociator(), batch_size=batch_size, every=every)
    threading.Timer(0.2, gate.set).start()
    passed = [next(detected).frame.index for _ in range(300)]
    detected.close()
    assert passed == list(range(300))
    ahead = 1 if make is FakeDetector else 6  # batches in the threads of the detector
    waiting = 3 * (DEPTH + 1)  # between the stages
    assert len(taken) <= 300 + ahead * SPAN + waiting


@pytest.mark.parametrize("make", [FakeDetector, StreamingDetector])
def test_a_live_frame_does_not_wait_for_the_next(make):
    """The camera gives a frame only when the one before has come out: no stage may hold one."""
    out = threading.Semaphore(1)

    class Slow(FakeSource):
        def __iter__(self):
            for frame in super().__iter__():
                assert out.acquire(timeout=5), "a frame waits for one that is not there yet"
                yield frame

    taken = []
    for result in stream(Slow(10, live=True), make(), FakeAssociator(), batch_size=8, every=4):
        taken.append(result.frame.index)
        out.release()
    assert taken == list(range(10))


@pytest.mark.parametrize("make", [FakeDetector, StreamingDetector])
def test_all_frames_before_a_source_error_come_out(make):
    sink, associator = Collect(), FakeAssociator()
    with pytest.raises(OSError, match="stream lost"):
        run(FakeSource(fails_at=12), make(), associator, [sink], batch_size=4, every=3)
    assert sink.seen == list(range(12))
    assert len(associator.carried) == 8


@pytest.mark.parametrize("make", [FakeDetector, StreamingDetector])
def test_a_detector_error_between_carried_frames_comes_once(make):
    sink, source = Collect(), FakeSource()
    with pytest.raises(RuntimeError, match="out of memory"):
        run(source, make(fails_at=18), FakeAssociator(), [sink], batch_size=2, every=3)
    assert sink.seen[:13] == list(range(13))
    assert len(sink.seen) <= 18
    assert source.closed


@pytest.mark.parametrize("make", [FakeDetector, StreamingDetector])
def test_closing_between_carried_frames_stops_everything(make):
    source = FakeSource()
    results = stream(source, make(), FakeAssociator(), batch_size=3, every=4)
    assert [next(results).frame.index for _ in range(6)] == list(range(6))
    results.close()
    assert source.closed


def test_a_stream_that_forgets_a_batch_is_refused():
    class Forgetful(FakeDetector):
        def stream(self, batches):
            yield from map(self.detect, list(batches)[:-1])

    with pytest.raises(ValueError, match="no result for 1 batch"):
        run(FakeSource(6), Forgetful(), FakeAssociator(), [], batch_size=2, every=2)


@pytest.mark.alone
def test_waiting_for_frames_is_no_work_of_the_detector():
    class Slow(FakeSource):
        def __iter__(self):
            for frame in super().__iter__():
                time.sleep(0.02)
                yield frame

    stats = run(Slow(12), FakeDetector(), FakeAssociator(), [], batch_size=2, every=3)
    assert stats.stages["decode"].seconds > 0.2
    assert stats.stages["detect"].seconds < 0.05


def test_every_must_be_a_number_of_frames():
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        next(stream(FakeSource(1), FakeDetector(), FakeAssociator(), every=0))


def test_a_change_of_size_goes_through_the_whole_house(tmp_path):
    """Ids, line, log and video follow a camera that doubles its resolution in mid-stream."""
    import scene as scenes

    from tracker.associate.mask_tracker import MaskTracker
    from tracker.config import CountConfig
    from tracker.formats import get_format
    from tracker.sinks.counts import CountsSink
    from tracker.sinks.log import LogSink
    from tracker.sinks.video import VideoSink
    from tracker.video.source import open_source

    scene = scenes.size_change(fps=10)
    count = CountConfig(lines={"middle": (0.3, 0.0, 0.3, 1.0)})
    sinks = [
        VideoSink(tmp_path / "video.mp4", scenes.CATEGORIES, count=count),
        LogSink(tmp_path / "tracks.jsonl", scenes.CATEGORIES),
        CountsSink(tmp_path, scenes.CATEGORIES, count),
    ]
    run(scenes.SceneSource(scene), scenes.SceneDetector(scene), MaskTracker(), sinks)
    frames = list(get_format("jsonl").read(tmp_path / "tracks.jsonl").frames)
    assert {(f.width, f.height) for f in frames} == {(480, 270), (960, 540)}
    for index, frame in enumerate(frames):
        truth = scene.truth(index)
        assert frame.tracks.ids.tolist() == truth.ids.tolist()
        assert np.abs(frame.tracks.boxes - truth.boxes).max() < 0.02
        for mask, true in zip(frame.tracks.masks, truth.masks, strict=True):
            assert mask.box == true.box
            assert np.array_equal(mask.bits, true.bits)
    assert sinks[2].summary()["lines"]["middle"] == {"in": {"person": 1}, "out": {"person": 1}}
    pictures = list(open_source(tmp_path / "video.mp4"))
    assert len(pictures) == len(frames)
    assert {p.image.shape for p in pictures} == {(270, 480, 3)}


def test_carried_objects_are_in_the_log_and_counted_at_any_batch_size(tmp_path):
    """Every third frame of the street detected: the counts stay, the log is whole."""
    import scene as scenes

    from tracker.associate.mask_tracker import MaskTracker
    from tracker.config import CountConfig
    from tracker.formats import get_format
    from tracker.sinks.counts import CountsSink
    from tracker.sinks.log import LogSink
    from tracker.sinks.video import VideoSink

    scene = scenes.street(seconds=5)
    count = CountConfig(lines={f"at-{x}": (x / 10, 0.0, x / 10, 1.0) for x in (2, 5, 8)})
    lines, logs = {}, []
    for every, batch_size in ((1, 1), (3, 1), (3, 5)):
        folder = tmp_path / f"{every}-{batch_size}"
        folder.mkdir()
        counts = CountsSink(folder, scenes.CATEGORIES, count)
        sinks = [counts, LogSink(folder / "tracks.jsonl", scenes.CATEGORIES)]
        if batch_size == 5:
            sinks.append(VideoSink(folder / "video.mp4", scenes.CATEGORIES, count=count))
        run(
            scenes.SceneSource(scene),
            scenes.SceneDetector(scene),
            MaskTracker(carries=every > 1),
            sinks,
            batch_size=batch_size,
            every=every,
        )
        lines[every, batch_size] = counts.summary()["lines"]
        logs.append((folder / "tracks.jsonl").read_bytes())
    assert lines[3, 5] == lines[3, 1] == lines[1, 1]
    assert sum(len(line["in"]) + len(line["out"]) for line in lines[1, 1].values()) >= 3
    assert logs[1] == logs[2]
    frames = list(get_format("jsonl").read(tmp_path / "3-5" / "tracks.jsonl").frames)
    carried = [frame.tracks for frame in frames if frame.index % 3]
    assert sum(map(len, carried)) > 200
    assert all((tracks.sources == -1).all() for tracks in carried)
    assert all(mask is not None for tracks in carried for mask in tracks.masks)
    assert (tmp_path / "3-5" / "video.mp4").stat().st_size > 10_000
