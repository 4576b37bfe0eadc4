"""Several videos behind one detector: each as if it were alone."""

import logging
import threading
import time

import numpy as np
import pytest
import scene as scenes
from conftest import TINY_MODEL
from test_mask_tracker import detections
from test_pipeline import Collect, FakeAssociator, FakeDetector, FakeSource, StreamingDetector

from tracker.associate.mask_tracker import MaskTracker
from tracker.config import CountConfig, DetectorConfig, load_config
from tracker.count.stage import CountStage
from tracker.detect.maskrcnn import MaskRCNNDetector
from tracker.errors import SinkError, SourceError
from tracker.pipeline import Lane, as_ended, run
from tracker.runs import checkpoint
from tracker.runs.checkpoint import Checkpointer
from tracker.runs.made import made_of
from tracker.runs.run import OpenRun, run_to_folder, run_together
from tracker.sinks.counts import CountsSink
from tracker.sinks.video import VideoSink
from tracker.snapshot import LogState, SinkStates, SourceMark
from tracker.types import Detections, Frame, FrameResult, StreamInfo
from tracker.types.stages import DetectorInfo, as_detector

FILES = ("tracks.jsonl", "counts.json", "counts.csv", "events.jsonl", "tracks-refined.jsonl")


@pytest.fixture(autouse=True)
def _no_threads_left():
    yield
    assert not any(t.name.startswith(("prefetch", "lane")) for t in threading.enumerate())


def lane(source, *sinks, associator=None, **options):
    return Lane(source, associator or FakeAssociator(), list(sinks), **options)


@pytest.fixture(scope="module")
def detector():
    return MaskRCNNDetector(DetectorConfig(model=TINY_MODEL, batch_size=3))


def test_two_files_in_one_call_give_what_each_gives_alone(make_video, tmp_path, detector):
    """Of different sizes, lengths and rates, with the groups of a batch size of three."""
    videos = [
        make_video("a.mp4", frames=20, texture=30),
        make_video("b.mp4", frames=13, fps=25, width=160, height=120, texture=60),
    ]
    scores = [f"tracker.{name}=0.05" for name in ("confident_score", "new_score", "weak_score")]
    settings = ["tracker.confirm_hits=1", "tracker.confirm_score=0.0", "output.checkpoint_s=0.0"]
    what = ["count.lines.m=[0.5,0.0,0.5,1.0]", "output.refine=true", "detector.every=2"]
    config = load_config(None, [*scores, *settings, *what])
    for video in videos:
        run_to_folder(
            str(video), config, tmp_path / "alone" / video.stem, get_detector=lambda: detector
        )
    opened = [
        OpenRun(str(v), config, tmp_path / "both" / v.stem, get_detector=lambda: detector)
        for v in videos
    ]
    for run_ in run_together(opened):
        with run_:
            assert run_.finish().report.finished
    for video in videos:
        alone, both = (tmp_path / way / video.stem for way in ("alone", "both"))
        assert (alone / "tracks.jsonl").stat().st_size > 1000
        for name in FILES:
            assert (both / name).read_bytes() == (alone / name).read_bytes(), (video, name)


@pytest.mark.parametrize("make", [FakeDetector, StreamingDetector])
@pytest.mark.parametrize("every", [1, 3])
def test_every_lane_gets_its_frames_in_order(make, every):
    sinks = [Collect() for _ in range(4)]
    lengths = (0, 7, 40, 23)
    lanes = [lane(FakeSource(n), s, every=every) for n, s in zip(lengths, sinks, strict=True)]
    detector = make()
    run(lanes, as_detector(detector), batch_size=4)
    assert [sink.seen for sink in sinks] == [list(range(n)) for n in lengths]
    assert all(sink.closed == 1 for sink in sinks)
    assert all(one.ended and one.error is None for one in lanes)
    shown = sum(len(range(0, n, every)) for n in (7, 40, 23))
    assert sum(detector.batches) == shown
    assert [one.stats.stages["detect"].frames for one in lanes] == [
        len(range(0, n, every)) for n in lengths
    ]


class FailingSink(Collect):
    def write(self, result):
        if result.frame.index == 3:
            raise SinkError("disk full at 3")
        super().write(result)


class PickyDetector(FakeDetector):
    """Fails on frames of one size."""

    def detect(self, frames):
        if any(frame.width == 9 for frame in frames):
            raise RuntimeError("cannot see this")
        return super().detect(frames)


class WideSource(FakeSource):
    def __iter__(self):
        for frame in super().__iter__():
            yield Frame(frame.index, frame.time, np.zeros((4, 9, 3), np.uint8))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda: lane(FakeSource(fails_at=5), Collect()), "stream lost"),
        (lambda: lane(FakeSource(), Collect(), associator=FakeAssociator(5)), "lost the thread"),
        (lambda: lane(FakeSource(), FailingSink()), "disk full at 3"),
        (lambda: lane(WideSource(), Collect()), "cannot see this"),
    ],
    ids=["source", "associator", "sink", "detector"],
)
def test_a_lane_that_fails_ends_alone(bad, said, caplog):
    """Though two of the sources would never end by themselves."""
    sinks, broken = [Collect(), Collect()], bad()
    lanes = [lane(FakeSource(60), sinks[0]), broken, lane(FakeSource(90), sinks[1])]
    run(lanes, as_detector(PickyDetector()), batch_size=4)
    assert said in str(broken.error)
    assert [line for line in caplog.messages if "the other lanes go on" in line]
    assert broken.sinks[0].closed == 1
    assert [len(sink.seen) for sink in sinks] == [60, 90]
    assert lanes[0].error is lanes[2].error is None


class BlockedSource(FakeSource):
    """Shows a few frames, then nothing until somebody says so."""

    def __init__(self, n, until):
        super().__init__(n)
        self._until = until

    def __iter__(self):
        for frame in super().__iter__():
            if frame.index == 5:
                assert self._until.wait(20)
            yield frame


@pytest.mark.parametrize("make", [FakeDetector, StreamingDetector])
def test_a_source_that_blocks_holds_up_nobody(make):
    """The others come to their ends before it shows its next frame."""
    go_on, sinks, ends = threading.Event(), [Collect() for _ in range(3)], []

    class Ending(Collect):
        def close(self):
            super().close()
            ends.append(len(self.seen))
            if len(ends) == 2:
                go_on.set()

    others = [Ending(), Ending()]
    lanes = [
        lane(FakeSource(200), others[0]),
        lane(BlockedSource(12, go_on), sinks[0]),
        lane(FakeSource(300), others[1]),
    ]
    run(lanes, as_detector(make()), batch_size=4)
    assert sorted(ends) == [200, 300]
    assert sinks[0].seen == list(range(12))


def test_a_slow_sink_holds_up_no_other_lane():
    """A disk that hangs: the other camera comes to its end without a frame dropped by it."""
    hangs = threading.Event()

    class Hanging(Collect):
        def write(self, result):
            assert hangs.wait(20)
            super().write(result)

    class Paced(FakeSource):
        def __iter__(self):
            for frame in super().__iter__():
                yield frame
                seen.acquire(timeout=20)

    class Seen(Collect):
        def write(self, result):
            super().write(result)
            seen.release()

    seen = threading.Semaphore(0)
    slow = lane(FakeSource(200, live=True), Hanging())
    good = lane(Paced(60, live=True), Seen())
    ends = as_ended([slow, good], as_detector(FakeDetector()))
    assert next(ends) is good
    assert good.sinks[0].seen == list(range(60))
    assert good.source.report.dropped == 0
    hangs.set()
    assert next(ends) is slow
    assert slow.sinks[0].seen[-1] == 199
    assert slow.source.report.dropped > 100


def test_a_stop_waits_for_no_silent_camera():
    """The sinks of all are closed before the silent one shows another frame."""
    go_on, sinks = threading.Event(), [Collect(), Collect()]
    lanes = [lane(FakeSource(), sinks[0]), lane(BlockedSource(12, go_on), sinks[1])]
    ends = as_ended(lanes, as_detector(FakeDetector()), should_stop=lambda: len(sinks[0].seen) > 20)
    assert {id(next(ends)), id(next(ends))} == {id(one) for one in lanes}
    assert [sink.closed for sink in sinks] == [1, 1]
    assert all(one.stats.stopped for one in lanes)
    assert not any(one.source.closed for one in lanes)  # it is still being read
    go_on.set()
    assert not list(ends)
    assert all(one.source.closed for one in lanes)


def test_what_a_detector_that_works_ahead_fails_on_is_one_lanes_error():
    class Picky(StreamingDetector, PickyDetector):
        pass

    sinks = [Collect() for _ in range(3)]
    lanes = [lane(FakeSource(50), sinks[0]), lane(WideSource(40), sinks[1])]
    lanes.append(lane(FakeSource(7, fails_at=5), sinks[2]))
    run(lanes, as_detector(Picky()), batch_size=4)
    assert [str(one.error) for one in lanes] == ["None", "cannot see this", "stream lost"]
    assert [len(sink.seen) for sink in sinks] == [50, 0, 5]


@pytest.mark.alone
def test_a_camera_silent_for_three_seconds_changes_nothing_for_the_others():
    """The time between two results of another lane stays what it is without it."""

    class Silent(FakeSource):
        def __iter__(self):
            for frame in super().__iter__():
                time.sleep(3.0 if frame.index == 2 else 0.0)
                yield frame

    class Steady(FakeSource):
        def __iter__(self):
            for frame in super().__iter__():
                time.sleep(0.01)
                yield frame

    times = []
    watched = lane(Steady(150), Collect())
    watched.on_result = lambda *_: times.append(time.monotonic())
    quiet = lane(Silent(4), Collect())
    run([quiet, watched], as_detector(FakeDetector()))
    assert max(np.diff(times)) < 1.0  # and not three
    assert quiet.sinks[0].seen == [0, 1, 2, 3]


def test_live_frames_of_one_size_are_detected_together():
    """Four cameras, three of one size: those that wait together go together."""
    gate, seen = threading.Event(), []

    class Watched(FakeDetector):
        def detect(self, frames):
            gate.wait(5)
            seen.append({(frame.width, frame.height) for frame in frames})
            return super().detect(frames)

    class Wide(WideSource):
        pass

    sources = [FakeSource(30, live=True) for _ in range(3)] + [Wide(30, live=True)]
    detector = Watched()
    timer = threading.Timer(0.3, gate.set)
    timer.start()
    run([lane(source, Collect()) for source in sources], as_detector(detector), batch_size=8)
    timer.join()
    assert max(detector.batches) == 3
    assert all(len(sizes) == 1 for sizes in seen)


def test_when_a_batch_of_several_cameras_fails_only_the_culprit_ends():
    class Narrow(FakeDetector):
        def detect(self, frames):
            if any(frame.image[0, 0, 0] for frame in frames):
                raise RuntimeError("cannot see this")
            return super().detect(frames)

    class Bright(FakeSource):
        def __iter__(self):
            for frame in super().__iter__():
                yield Frame(frame.index, frame.time, np.full((4, 6, 3), 9, np.uint8))

    lanes = [
        lane(FakeSource(20, live=True), Collect()),
        lane(Bright(20, live=True), Collect()),
    ]
    run(lanes, as_detector(Narrow()))
    assert lanes[0].error is None
    assert lanes[0].sinks[0].seen[-1] == 19
    assert "cannot see this" in str(lanes[1].error)


def test_a_stop_ends_all_lanes_in_good_order():
    sinks = [Collect(), Collect()]
    lanes = [lane(FakeSource(), sink) for sink in sinks]
    run(lanes, as_detector(FakeDetector()), should_stop=lambda: len(sinks[0].seen) > 20)
    assert all(one.stats.stopped and one.error is None for one in lanes)
    assert all(sink.closed == 1 for sink in sinks)


# ---- errors ---------------------------------------------------------------------------------


def test_the_newest_error_is_raised_and_the_older_one_noted_on_it(caplog):
    """A sink set aside at frame 2 is not why a bug at frame 20 ended the run."""

    class Full(Collect):
        def write(self, result):
            if result.frame.index >= 2:
                raise SinkError("disk full at 2")

    class Bug(Collect):
        def write(self, result):
            if result.frame.index == 20:
                raise TypeError("no such thing")

    one = lane(FakeSource(), Full(), Bug(), Collect())
    with caplog.at_level(logging.WARNING):
        run([one], as_detector(FakeDetector()))
    assert isinstance(one.error, TypeError)
    assert one.error.__notes__ == ["also: disk full at 2"]


def test_sinks_need_not_be_hashable():
    class Unhashable(Collect):
        __hash__ = None

        def __eq__(self, other):
            return True

    one = lane(FakeSource(5), Unhashable(), Unhashable(fails_to_close=True))
    run([one], as_detector(FakeDetector()))
    assert str(one.error) == "cannot flush"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SourceError("is damaged")])
def test_after_a_stop_only_the_silence_of_a_camera_is_no_error(error):
    """The camera's own time-out ends what somebody wanted to end; nothing else is forgiven."""
    wanted = []

    class Ending(FakeSource):
        def __iter__(self):
            yield from super().__iter__()
            wanted.append(True)
            raise error

    for live in (True, False):
        wanted.clear()
        one = lane(Ending(3, live=live), Collect())
        run([one], as_detector(FakeDetector()), should_stop=lambda: bool(wanted))
        forgiven = live and isinstance(error, SourceError)
        assert one.stats.stopped == (forgiven or one.error is None)
        assert one.error in ((None,) if forgiven else (error, None))


# ---- what the stages promise ----------------------------------------------------------------


def test_a_detector_of_ones_own_needs_two_things():
    class Own:
        categories = ("a", "b")
        stream = "rtsp://camera"  # no method, so none of ours
        batch_size = 5

        def detect(self, frames):
            return [Detections.empty() for _ in frames]

    complete = as_detector(Own())
    assert complete.info == DetectorInfo("Own", ("a", "b"), batch_size=5)
    sink = Collect()
    run([lane(FakeSource(12), sink)], complete, batch_size=5)
    assert sink.seen == list(range(12))
    assert as_detector(complete) is not complete or complete.info.name == "Own"
    with pytest.raises(ValueError, match="must have categories and detect, got object"):
        as_detector(object())


def test_what_a_detector_learns_from_one_video_ends_with_it():
    """A halved batch, a smaller picture and the notes of it are no concern of the next video."""
    sizes = {"min_size": 200, "max_size": 300}
    detector = MaskRCNNDetector(DetectorConfig(model=TINY_MODEL, batch_size=4, **sizes))
    before = detector.info
    detector._make_room(4)
    detector._make_room(1)
    assert detector.info.batch_size == 2
    assert len(detector.info.notes) == len(before.notes) + 2
    assert detector.sizes != detector._own_sizes
    detector.reset()
    assert detector.info == before
    assert detector.sizes == detector._own_sizes


def test_sizes_that_come_by_turns_keep_their_space(detector):
    """Lanes of different sizes: canvas and anchors are made once each, and not for ever."""
    fast = detector._fast
    frames = {
        size: Frame(0, 0.0, np.zeros((*size, 3), np.uint8))
        for size in ((64, 96), (96, 64), (80, 80), (64, 64), (48, 96), (96, 48))
    }
    two = list(frames.values())[:2]
    fast.forget_sizes()
    detector.detect(two)
    kept = dict(fast._canvases)
    for _ in range(3):
        detector.detect(two)
    assert fast._canvases == kept
    detector.detect(list(frames.values()))
    assert len(fast._canvases) == 4
    fast.forget_sizes()


class Recorded:
    """Wants a snapshot at every batch's boundary, and keeps all."""

    def __init__(self):
        self.snapshots = []

    def due(self, frames):
        return True

    def publish(self, snapshot):
        self.snapshots.append(snapshot)


class MarkedSource(scenes.SceneSource):
    """A scripted source that says where it is."""

    def __iter__(self):
        for frame in super().__iter__():
            self._index = frame.index
            yield frame

    def mark(self):
        return SourceMark(index=self._index, size=(1, 1), report={})


@pytest.mark.parametrize(("batch", "every"), [(1, 1), (4, 1), (3, 2)])
def test_a_snapshot_is_of_its_own_frame_in_every_stage(batch, every):
    """What travels with frame n is what a tracker and counters that saw n frames know."""
    scene = scenes.street(seconds=3)
    recorder, config = Recorded(), CountConfig(lines={"m": (0.5, 0.0, 0.5, 1.0)})
    one = Lane(
        MarkedSource(scene),
        MaskTracker(carries=every > 1),
        [],
        counting=CountStage(config),
        every=every,
        recorder=recorder,
    )
    run([one], as_detector(scenes.SceneDetector(scene, noise=0.03)), batch_size=batch)
    group = batch * every
    assert [s.frames for s in recorder.snapshots] == list(range(group, 76, group))
    tracker, counting, done = MaskTracker(carries=every > 1), CountStage(config), {}
    detector = scenes.SceneDetector(scene, noise=0.03)
    for index, frame in enumerate(scenes.SceneSource(scene)):
        if index % every:
            found, tracks = Detections.empty(), tracker.carry(frame.time, frame.image)
        else:
            found = detector.detect([frame])[0]
            tracks = tracker.update(found, frame.time, frame.image)
        counting.count(FrameResult(frame, found, tracks))
        done[index + 1] = tracker.state(), counting.state()
    for snapshot in recorder.snapshots:
        assert snapshot.source.index == snapshot.frames - 1
        assert (snapshot.tracker, snapshot.counts) == done[snapshot.frames]


def test_sinks_that_count_the_same_share_one_count(tmp_path, monkeypatch):
    counted = []
    count = CountStage.count

    def noted(self, result):
        counted.append((id(self), result.frame.index))
        return count(self, result)

    scene = scenes.street(seconds=1)
    config = CountConfig(lines={"m": (0.5, 0.0, 0.5, 1.0)})
    video = VideoSink(tmp_path / "video.mp4", scenes.CATEGORIES, count=config)
    counts = CountsSink(tmp_path, scenes.CATEGORIES, config)
    other = CountsSink(tmp_path, scenes.CATEGORIES)
    monkeypatch.setattr(CountStage, "count", noted)
    one = Lane(scenes.SceneSource(scene), MaskTracker(), [video, counts, other])
    run([one], as_detector(scenes.SceneDetector(scene)))
    assert video.counting is counts.counting is one.counting is not other.counting
    assert counts.counting.frames == other.counting.frames == len(scene.times)
    assert StreamInfo(1, 1, None, None).started is None


# ---- what a second reading found ------------------------------------------------------------


def test_a_wish_to_stop_that_is_told_once_is_heard():
    wishes = iter([False, False, True])
    sink = Collect()
    one = lane(FakeSource(), sink)
    run([one], as_detector(FakeDetector()), should_stop=lambda: next(wishes))
    assert one.stats.stopped
    assert (len(sink.seen), sink.closed) == (3, 1)


def test_a_source_that_fails_to_close_leaves_no_sink_open():
    class Stuck(FakeSource):
        def close(self):
            raise OSError("cannot close")

    sinks = [Collect(), Collect()]
    lanes = [lane(Stuck(), sinks[0]), lane(FakeSource(), sinks[1])]
    run(lanes, as_detector(FakeDetector()), should_stop=lambda: len(sinks[0].seen) > 3)
    assert [sink.closed for sink in sinks] == [1, 1]
    assert "cannot close" in str(lanes[0].error)


def test_a_loaded_camera_is_still_detected_every_so_many_frames():
    """What is dropped does not count: else drops may fall on the frames that are to be seen."""
    out = threading.Semaphore(0)

    class Five(FakeSource):
        def __iter__(self):
            for frame in super().__iter__():
                yield frame
                if frame.index % 5 == 4:
                    out.acquire(timeout=1)

    class Slow(Collect):
        def write(self, result):
            super().write(result)
            out.release()

    source, sink, detector = Five(300, live=True), Slow(), FakeDetector()
    run([lane(source, sink, every=5)], as_detector(detector))
    taken = len(sink.seen)
    assert sum(detector.batches) == pytest.approx(taken / 5, abs=1)


def test_a_sink_may_call_what_it_likes_counting():
    class Mine(Collect):
        counting = True

    sink = Mine()
    run([lane(FakeSource(5), sink)], as_detector(FakeDetector()))
    assert len(sink.seen) == 5


def test_batches_of_cameras_are_no_larger_than_asked():
    gate, detector = threading.Event(), FakeDetector()
    detector.gate = gate
    timer = threading.Timer(0.2, gate.set)
    timer.start()
    lanes = [lane(FakeSource(10, live=True), Collect()) for _ in range(5)]
    run(lanes, as_detector(detector), batch_size=2)
    timer.join()
    assert max(detector.batches) <= 2


def test_force_stopped_before_a_frame_gives_the_older_run_back(make_video, tmp_path):
    video, config = make_video(), load_config(None, ["output.video=false"])
    out = tmp_path / "run"

    def track(**options):
        get = BlankFinder
        return run_to_folder(str(video), config, out, get_detector=get, **options)

    track()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with OpenRun(str(video), config, out, get_detector=BlankFinder, replace=True):
        pass  # something else went wrong
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with OpenRun(str(video), config, out, get_detector=BlankFinder, replace=True) as opened:
        opened.lane.begin()
        opened.lane.stats.stopped = True
        opened.lane.end(None)
        assert opened.finish().report.stopped
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


class BlankFinder(FakeDetector):
    categories = ("", "person")


def test_what_a_checkpoint_costs_is_all_that_it_costs(tmp_path, monkeypatch):
    """Each stage's part rides with the snapshot: none may grow with the run unseen."""
    scene = scenes.street(seconds=3)

    def slowly(inner):
        def call(*arguments):
            time.sleep(0.02)
            return inner(*arguments)

        return call

    monkeypatch.setattr(MarkedSource, "mark", slowly(MarkedSource.mark))
    monkeypatch.setattr(MaskTracker, "state", slowly(MaskTracker.state))
    monkeypatch.setattr(CountStage, "state", slowly(CountStage.state))
    monkeypatch.setattr(checkpoint, "write", slowly(checkpoint.write))
    info = DetectorInfo("stub", scenes.CATEGORIES)
    made = made_of({"uri": "street.mp4"}, load_config(None), info)
    log = LogState(bytes=0, width=1, height=1)
    keeper = Checkpointer(
        tmp_path / "checkpoint.json", made, slowly(lambda: SinkStates(log=log)), every_s=0.0
    )
    one = Lane(MarkedSource(scene), MaskTracker(), counting=CountStage(), recorder=keeper)
    run([one], as_detector(scenes.SceneDetector(scene)))
    assert keeper._cost >= 5 * 0.02
    text = (tmp_path / "checkpoint.json").read_text()
    assert "cost_s" not in text


def test_masks_of_the_unconfirmed_are_kept_for_those_who_refine():
    for keeps in (True, False):
        tracker = MaskTracker(keeps_masks=keeps)
        for k in range(2):
            tracker.update(detections((10 + k, 10, 40 + k, 60, 0.7)), k / 10)
        [[first, second]] = tracker.state().tracks.past
        assert (first.score, second.box[0]) == (pytest.approx(0.7), 11)
        assert (first.mask is not None) is (second.mask is not None) is keeps
