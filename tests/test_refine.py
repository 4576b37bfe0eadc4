import json
from types import SimpleNamespace

import numpy as np
import pytest
import scene as scenes
from archived import Archive
from test_mask_tracker import detections
from typer.testing import CliRunner

from tracker.associate.mask_tracker import MaskTracker
from tracker.boxes import box_iou
from tracker.cli import app
from tracker.config import RefineConfig, TrackerConfig, load_config
from tracker.formats import get_format
from tracker.runs.run import run_to_folder
from tracker.types import Detections, Frame

EMPTY = Detections.empty()


def walker(k, score=0.9, x0=50):
    """A person who walks 4 px a frame."""
    return (x0 + 4 * k, 50, x0 + 30 + 4 * k, 120, score)


def archive(frames, tracker=None, dt=0.1, **settings):
    recorder = Archive(MaskTracker(TrackerConfig(**(tracker or {}))), RefineConfig(**settings))
    online = [recorder.update(d, k * dt) for k, d in enumerate(frames)]
    return online, list(recorder.refined())


def test_a_track_begins_where_its_object_began():
    online, refined = archive([detections(walker(k)) for k in range(8)])
    assert [len(t) for t in online] == [0, 0, *[1] * 6]
    assert [t.ids.tolist() for t in refined] == [[1]] * 8
    assert refined[0].sources.tolist() == [0]
    assert refined[0].boxes[0].tolist() == [50, 50, 80, 120]
    assert refined[0].masks[0].area == 30 * 70


def test_a_short_gap_is_filled_with_moved_boxes_and_masks():
    frames = [EMPTY if k in (6, 7) else detections(walker(k)) for k in range(14)]
    online, refined = archive(frames)
    assert [len(online[k]) for k in (6, 7)] == [0, 0]
    for k in (6, 7):
        tracks = refined[k]
        assert tracks.ids.tolist() == [1]
        assert tracks.sources.tolist() == [-1]
        assert tracks.boxes[0] == pytest.approx(walker(k)[:4], abs=1.5)
        assert tracks.masks[0].box[0] == pytest.approx(walker(k)[0], abs=1)
        assert tracks.masks[0].area == 30 * 70
    _, unfilled = archive(frames, fill_s=0.0)
    assert [len(unfilled[k]) for k in (6, 7)] == [0, 0]


def test_a_gap_that_is_too_long_stays():
    frames = [EMPTY if 6 <= k < 12 else detections(walker(k)) for k in range(20)]
    _, refined = archive(frames)
    assert [len(t) for t in refined[6:12]] == [0] * 6
    assert refined[15].ids.tolist() == [1]


def test_ghosts_are_dropped_and_ids_renumbered():
    ghost = (300, 200, 330, 260, 0.98)
    frames = [
        detections(*([ghost] if k < 2 else []), *([walker(k)] if k > 2 else [])) for k in range(12)
    ]
    online, refined = archive(frames)
    assert {int(i) for t in online for i in t.ids} == {1, 2}
    assert {int(i) for t in refined for i in t.ids} == {1}
    assert not len(refined[0])


def test_two_tracks_of_one_object_are_joined():
    frames = [EMPTY if 10 <= k < 16 else detections(walker(k)) for k in range(30)]
    forgetful = {"memory_s": 0.2}
    online, refined = archive(frames, forgetful)
    assert {int(i) for t in online for i in t.ids} == {1, 2}
    assert {int(i) for t in refined for i in t.ids} == {1}
    _, apart = archive(frames, forgetful, join_s=0.0)
    assert {int(i) for t in apart for i in t.ids} == {1, 2}


def test_who_leaves_and_somebody_else_far_away_are_not_joined():
    frames = [detections(walker(k)) for k in range(10)]
    frames += [EMPTY] * 3 + [detections(walker(k, x0=400)) for k in range(10)]
    _, refined = archive(frames, {"memory_s": 0.1})
    assert {int(i) for t in refined for i in t.ids} == {1, 2}


def test_the_online_result_is_the_trackers_own():
    scene = scenes.crowd(seconds=3)
    detector = scenes.SceneDetector(scene, noise=0.03, miss=0.1, clutter=1.0)
    blank = np.zeros((1, 1, 3), np.uint8)
    frames = [detector.detect([Frame(k, t, blank)])[0] for k, t in enumerate(scene.times)]
    plain, recorder = MaskTracker(), Archive(MaskTracker())
    for found, time in zip(frames, scene.times, strict=True):
        a, b = plain.update(found, time), recorder.update(found, time)
        assert a.ids.tolist() == b.ids.tolist()
        assert np.array_equal(a.boxes, b.boxes)
    assert plain.state() == recorder.tracker.state()


def test_an_archive_goes_on_where_it_was():
    scene = scenes.crowd(seconds=3)
    detector = scenes.SceneDetector(scene, noise=0.03, miss=0.1, clutter=1.0)
    blank = np.zeros((1, 1, 3), np.uint8)
    whole, part = Archive(), Archive()
    for k, time in enumerate(scene.times):
        found = detector.detect([Frame(k, time, blank)])[0]
        whole.update(found, time)
        part.update(found, time)
        if k % 20 == 19:  # as if another process went on
            state, lines = part.tracker.state(), part.lines
            part = Archive()
            part.restore(state, lines)
    for a, b in zip(whole.refined(), part.refined(), strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        assert np.array_equal(a.boxes, b.boxes)
        assert all(same_mask(p, q) for p, q in zip(a.masks, b.masks, strict=True))


def same_mask(a, b):
    return (a is None) == (b is None) and (
        a is None or (a.box == b.box and np.array_equal(a.bits, b.bits))
    )


def test_refinement_helps_in_a_noisy_crowd():
    pytest.importorskip("trackeval")
    from scoring import score

    scene = scenes.crowd(seconds=6)
    detector = scenes.SceneDetector(scene, noise=0.03, miss=0.1, clutter=1.0)
    blank = np.zeros((1, 1, 3), np.uint8)
    frames = [detector.detect([Frame(k, t, blank)])[0] for k, t in enumerate(scene.times)]
    recorder = Archive(MaskTracker())
    online = [recorder.update(d, t) for d, t in zip(frames, scene.times, strict=True)]
    truth = [scene.truth(k) for k in range(len(scene.times))]
    before, after = score(truth, online), score(truth, list(recorder.refined()))
    assert after["DetA"] > before["DetA"] + 1
    assert after["HOTA"] > before["HOTA"]
    assert after["ids"] <= before["ids"]


def test_filled_boxes_follow_the_truth_at_uneven_times():
    times = [0.0, 0.1, 0.25, 0.3, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9]
    recorder = Archive(MaskTracker(), RefineConfig())
    for k, time in enumerate(times):
        x = 50 + 40 * time
        found = EMPTY if k == 5 else detections((x, 50, x + 30, 120, 0.98))
        recorder.update(found, time)
    filled = list(recorder.refined())[5]
    x = 50 + 40 * times[5]
    assert box_iou(filled.boxes.astype(float), np.array([[x, 50.0, x + 30, 120]]))[0, 0] > 0.95


def test_nothing_seen_gives_nothing():
    _, refined = archive([EMPTY] * 5)
    assert [len(t) for t in refined] == [0] * 5
    assert list(Archive(MaskTracker()).refined()) == []


def test_associate_writes_both_results(tmp_path):
    path, out = tmp_path / "det.txt", tmp_path / "out.jsonl"
    rows = [(k, walker(k)) for k in range(10) if k != 5]
    path.write_text("".join(f"{k + 1},-1,{r[0]},50,30,70,0.9\n" for k, r in rows))
    arguments = ["associate", str(path), "-o", str(out), "--fps", "10", "--refine", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["tracks"] == 1
    lengths = {}
    for name in ("out.jsonl", "out-online.jsonl"):
        frames = list(get_format("jsonl").read(tmp_path / name).frames)
        lengths[name] = [len(frame.tracks) for frame in frames]
    assert lengths["out.jsonl"] == [1] * 10
    assert lengths["out-online.jsonl"] == [0, 0, 1, 1, 1, 0, 1, 1, 1, 1]


class Spotter:
    """A detector that sees a walking person on every frame but two, whatever the picture."""

    categories = ("__background__", "person")

    def detect(self, frames):
        return [
            EMPTY if f.index in (12, 14) else detections(walker(f.index, x0=10)) for f in frames
        ]


@pytest.mark.parametrize("stop", [None, 16])
def test_run_writes_the_refined_log_beside_the_online_one(tmp_path, make_video, stop):
    """With a stride, so that frames have gaps in their numbers, and also when it is stopped."""
    video, out = make_video(frames=24, width=320, height=200), tmp_path / "run"
    config = load_config(
        None, ["output.refine=true", "output.video=false", "source.stride=2", "source.start=2f"]
    )
    seen = []
    run_to_folder(
        str(video),
        config,
        out,
        get_detector=Spotter,
        on_result=lambda result, _stats: seen.append(result.frame.index),
        should_stop=lambda: stop is not None and len(seen) > 0 and seen[-1] >= stop,
    )
    online, refined = (
        list(get_format("jsonl").read(out / name).frames)
        for name in ("tracks.jsonl", "tracks-refined.jsonl")
    )
    assert [(f.index, f.time) for f in online] == [(f.index, f.time) for f in refined]
    assert [f.index for f in online] == seen
    assert [len(f.tracks) for f in online][:4] == [0, 0, 1, 1]
    for frame in refined:
        if frame.index != 12 and frame.index != 14:
            expected = walker(frame.index, x0=10)[:4]
            assert frame.tracks.ids.tolist() == [1]
            assert frame.tracks.boxes[0].tolist() == pytest.approx(expected, abs=0.01)
    assert json.loads((out / "report.json").read_text())["error"] is None


def test_frames_of_equal_times_are_kept_apart():
    recorder = Archive(MaskTracker())
    for k in range(12):
        recorder.update(detections(walker(k)), (k // 2) * 0.1)
    assert [t.ids.tolist() for t in recorder.refined()] == [[1]] * 12


def test_nothing_is_filled_across_a_change_of_size():
    recorder = Archive(MaskTracker())
    for k in range(20):
        scale = 2 if k >= 10 else 1
        x1, y1, x2, y2, score = walker(k)
        found = detections((x1 * scale, y1 * scale, x2 * scale, y2 * scale, score))
        recorder.resize(640 * scale, 360 * scale)
        recorder.update(EMPTY if k in (5, 10, 15) else found, k * 0.1)
    refined = list(recorder.refined())
    assert {int(i) for t in refined for i in t.ids} == {1}
    assert [len(refined[k]) for k in (5, 10, 15)] == [1, 0, 1]
    assert refined[15].boxes[0] == pytest.approx([2 * v for v in walker(15)[:4]], abs=2)


def test_a_camera_is_not_refined(tmp_path, monkeypatch):
    from tracker.errors import ConfigError
    from tracker.runs import run as assemble
    from tracker.types import SourceReport, StreamInfo

    class Camera:
        info = StreamInfo(64, 48, None, None, live=True)
        report = SourceReport()

        def close(self):
            pass

    monkeypatch.setattr(assemble, "open_source", lambda *_: Camera())
    config = load_config(None, ["output.refine=true"])
    with pytest.raises(ConfigError, match="live source"):
        run_to_folder("0", config, tmp_path / "run", get_detector=Spotter)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_resumed_leaves_no_archive(make_video, tmp_path, monkeypatch):
    """Standard input that is stopped: nothing goes on with what would be kept for that."""
    seen, config = [], load_config(None, ["output.refine=true", "output.video=false"])
    with make_video(frames=30, width=320, height=200).open("rb") as file:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=file))
        run_to_folder(
            "-",
            config,
            tmp_path / "run",
            get_detector=Spotter,
            on_result=lambda result, _stats: seen.append(result.frame.index),
            should_stop=lambda: len(seen) > 10,
        )
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert "tracks-refined.jsonl" in left
    assert not [name for name in left if "archive" in name or "part" in name]
