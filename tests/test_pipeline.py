import itertools
import threading

import numpy as np
import pytest

from tracker.pipeline import DEPTH, RunStats, run, stream
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


class FakeAssociator:
    def __init__(self, fails_at=None):
        self.times, self.fails_at = [], fails_at

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
