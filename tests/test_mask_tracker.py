import json

import numpy as np
import pytest
import scene as scenes
from archived import through_json
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tracker.associate.cost import assign, similarity
from tracker.associate.mask_tracker import MaskTracker
from tracker.config import TrackerConfig
from tracker.masks import Mask
from tracker.types import Detections, Frame


def detections(*rows):
    """Rows of (x1, y1, x2, y2, score[, label]); masks fill the boxes."""
    rows = sorted(rows, key=lambda row: -row[4])
    return Detections(
        boxes=np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[4] for row in rows], np.float32),
        labels=np.array([row[5] if len(row) > 5 else 1 for row in rows], np.int64),
        masks=tuple(
            Mask(int(r[0]), int(r[1]), np.ones((int(r[3] - r[1]), int(r[2] - r[0])), np.bool_))
            for r in rows
        ),
    )


def follow(tracker, frames, dt=0.1):
    return [tracker.update(d, k * dt) for k, d in enumerate(frames)]


def play(scene, tracker=None, **faults):
    tracker = tracker or MaskTracker()
    detector = scenes.SceneDetector(scene, **faults)
    blank = np.zeros((1, 1, 3), np.uint8)
    results = []
    for index, time in enumerate(scene.times):
        found = detector.detect([Frame(index, time, blank)])[0]
        results.append(tracker.update(found, time))
    return results


def ids_per_object(scene, results):
    """True id -> the set of ids that the tracker gave, matched by box IoU at 0.5."""
    from tracker.boxes import box_iou

    given_ids = {}
    for index, tracks in enumerate(results):
        truth = scene.truth(index)
        iou = box_iou(truth.boxes, tracks.boxes)
        for row, true_id in enumerate(truth.ids.tolist()):
            if iou.shape[1] and iou[row].max() >= 0.5:
                given_ids.setdefault(true_id, set()).add(int(tracks.ids[iou[row].argmax()]))
    return given_ids


@pytest.mark.parametrize("fps", [10, 25, 50])
@pytest.mark.parametrize("make", [scenes.crossing, scenes.occlusion])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_no_identity_switch_through_crossing_and_occlusion(make, fps, noise):
    scene = make(fps=fps)
    given_ids = ids_per_object(scene, play(scene, noise=noise))
    people = {actor.id for actor in scene.actors if actor.label}
    assert given_ids.keys() == people
    assert all(len(ids) == 1 for ids in given_ids.values())
    assert len(set.union(*given_ids.values())) == len(people)


def test_the_occlusion_scene_hides_for_a_second():
    scene = scenes.occlusion()
    hidden = [t for k, t in enumerate(scene.times) if 1 not in scene.truth(k).ids]
    assert hidden[-1] - hidden[0] >= 1.0


def test_uneven_times_keep_ids():
    scene = scenes.uneven_times()
    assert all(len(ids) == 1 for ids in ids_per_object(scene, play(scene)).values())


def test_ids_are_never_reused():
    tracker, seen = MaskTracker(), []
    for round_ in range(5):
        for k in range(4):
            t = round_ * 20.0 + k * 0.1
            seen.append(tracker.update(detections((50, 50, 80, 120, 0.95)), t).ids.tolist())
        tracker.update(Detections.empty(), round_ * 20.0 + 10)
    flat = [i for ids in seen for i in ids]
    assert sorted(set(flat)) == [1, 2, 3, 4, 5]
    assert flat == sorted(flat)


def test_tentative_confirmed_lost_gone():
    tracker = MaskTracker(TrackerConfig(confirm_hits=3, memory_s=1.0))
    box = (50, 50, 80, 120, 0.9)
    results = follow(tracker, [detections(box)] * 3)
    assert [len(r) for r in results] == [0, 0, 1]  # tentative, tentative, confirmed
    assert len(tracker.update(Detections.empty(), 0.5)) == 0  # lost
    assert tracker.update(detections(box), 0.9).ids.tolist() == [1]  # found again
    tracker.update(Detections.empty(), 2.5)  # gone
    assert not tracker.state().tracks.id


def test_a_single_flash_is_never_given_an_id():
    tracker = MaskTracker()
    follow(tracker, [detections((50, 50, 80, 120, 0.9)), *[Detections.empty()] * 5])
    assert tracker.state().next_id == 1


def test_a_lost_track_is_reported_for_coast_s_as_predicted():
    tracker = MaskTracker(TrackerConfig(coast_s=0.15))
    frames = [detections((50 + 5 * k, 50, 80 + 5 * k, 120, 0.95)) for k in range(10)]
    follow(tracker, frames)
    tracks = tracker.update(Detections.empty(), 1.0)
    assert tracks.ids.tolist() == [1]
    assert tracks.sources.tolist() == [-1]
    assert tracks.masks == (None,)
    assert tracks.boxes[0, 0] == pytest.approx(100, abs=3)
    assert len(tracker.update(Detections.empty(), 1.1)) == 0


def test_weak_detections_continue_tracks_but_start_none():
    tracker = MaskTracker()
    strong, weak = (50, 50, 80, 120, 0.95), (52, 50, 82, 120, 0.45)
    results = follow(tracker, [detections(strong)] * 3 + [detections(weak)] * 3)
    assert results[-1].ids.tolist() == [1]
    assert results[-1].scores[0] == pytest.approx(0.45)
    alone = follow(MaskTracker(), [detections(weak)] * 6)
    assert not any(len(tracks) for tracks in alone)


def test_the_class_is_a_vote_and_flicker_splits_no_track():
    labels = [2, 2, 3, 2, 3, 2, 2]
    frames = [detections((50, 50, 150, 100, 0.9, label)) for label in labels]
    results = follow(MaskTracker(), frames)
    assert [tracks.labels.tolist() for tracks in results[2:]] == [[2]] * 5
    assert {int(i) for tracks in results for i in tracks.ids} == {1}


def test_a_detection_inside_a_tracked_one_starts_no_track():
    big, part = (50, 50, 150, 200, 0.95), (60, 60, 120, 150, 0.9)
    results = follow(MaskTracker(), [detections(big, part)] * 6)
    assert all(len(tracks) <= 1 for tracks in results)


@pytest.mark.parametrize("count", [0, 1, 300])
def test_works_for_any_number_of_objects(count):
    random = np.random.default_rng(0)
    corner = np.stack([np.arange(count) % 20 * 90.0, np.arange(count) // 20 * 70.0], axis=1)
    frames = []
    for k in range(4):
        at = corner + k * random.uniform(-2, 2, 2)
        frames.append(detections(*[(x, y, x + 40, y + 50, 0.95) for x, y in at.round()]))
    results = follow(MaskTracker(), frames)
    assert len(results[-1]) == count
    assert results[-1].ids.tolist() == list(range(1, count + 1))


def test_works_without_masks():
    frames = []
    for k in range(5):
        d = detections((50 + k, 50, 80 + k, 120, 0.95), (200, 50, 230, 120, 0.9))
        frames.append(Detections(d.boxes, d.scores, d.labels, (None, None)))
    results = follow(MaskTracker(), frames)
    assert results[-1].ids.tolist() == [1, 2]
    assert results[-1].masks == (None, None)


def test_masks_decide_where_boxes_cannot():
    """Two diagonal objects whose boxes are equal: only their masks tell them apart."""
    upper, lower = np.triu(np.ones((60, 60), np.bool_), 2), np.tril(np.ones((60, 60), np.bool_), -2)

    def frame(k, swapped):
        masks = (Mask(50 + k, 50, upper), Mask(50 + k, 50, lower))
        return Detections(
            boxes=np.array([[50 + k, 50, 110 + k, 110]] * 2, np.float32),
            scores=np.array([0.95, 0.95], np.float32),
            labels=np.array([1, 1]),
            masks=masks[::-1] if swapped else masks,
        )

    tracker = MaskTracker(TrackerConfig(confirm_hits=1))
    results = [tracker.update(frame(k, k % 2 == 1), k * 0.1) for k in range(8)]
    for k, tracks in enumerate(results):
        assert tracks.sources.tolist() == ([1, 0] if k % 2 else [0, 1])


def test_the_same_input_gives_the_same_result():
    scene = scenes.crowd(seconds=2)
    runs = [play(scene, noise=0.03, miss=0.1, clutter=1.0) for _ in range(2)]
    for a, b in zip(*runs, strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        assert a.boxes.tolist() == b.boxes.tolist()


def test_state_restores_exactly_through_json():
    scene = scenes.crowd(seconds=3)
    detector = scenes.SceneDetector(scene, noise=0.03, miss=0.1, clutter=1.0)
    blank = np.zeros((1, 1, 3), np.uint8)
    frames = [Frame(k, t, blank) for k, t in enumerate(scene.times)]
    found = [detector.detect([frame])[0] for frame in frames]
    tracker = MaskTracker()
    for index, time in enumerate(scene.times):
        expected = tracker.update(found[index], time)
        if index == 30:
            copy = MaskTracker()
            copy.restore(through_json(tracker.state()))
        elif index > 30:
            tracks = copy.update(found[index], time)
            assert tracks.ids.tolist() == expected.ids.tolist()
            assert np.array_equal(tracks.boxes, expected.boxes)
            assert tracks.sources.tolist() == expected.sources.tolist()
    assert copy.state() == tracker.state()


def test_a_state_of_another_form_is_refused():
    state = MaskTracker().state()
    for wrong in ({"version": 7}, {"next_id": "1"}, {"frames": 1.5}):
        text = json.dumps(state.model_dump() | wrong)
        with pytest.raises(ValidationError):
            type(state).model_validate_json(text)


def test_time_must_not_run_backwards():
    tracker = MaskTracker()
    tracker.update(Detections.empty(), 1.0)
    with pytest.raises(ValueError, match=r"got 0.5 s after 1.0 s"):
        tracker.update(Detections.empty(), 0.5)


def test_the_state_does_not_grow_with_the_run():
    tracker, sizes = MaskTracker(), []
    for k in range(600):
        x = 50 + 40 * (k // 10 % 10)
        tracker.update(detections((x, 50, x + 30, 120, 0.95)), k * 0.1)
        sizes.append(len(tracker.state().tracks.id))
    assert max(sizes[300:]) <= max(sizes[:300])


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_assignment_is_one_to_one_and_best(rows, columns, seed):
    from itertools import permutations

    alike = np.random.default_rng(seed).random((rows, columns))
    pairs = assign(alike, 0.5)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(alike[i, j] >= 0.5 for i, j in pairs)
    worth = np.where(alike >= 0.5, alike, 0.0)
    if rows > columns:
        worth = worth.T
    if worth.size and min(worth.shape) <= 5:
        short, long = worth.shape
        best = max(
            sum(worth[i, j] for i, j in enumerate(choice))
            for choice in permutations(range(long), short)
        )
        assert sum(alike[i, j] for i, j in pairs) == pytest.approx(best)


def test_similarity_is_box_iou_where_a_mask_is_missing():
    boxes = np.array([[0.0, 0, 10, 10]])
    mask = Mask(0, 0, np.ones((5, 10), np.bool_))
    gate = np.ones((1, 1), np.bool_)
    with_mask = similarity(boxes, [mask], boxes, [mask], gate=gate, mask_weight=0.5)
    assert with_mask[0, 0] == pytest.approx(1.0)
    half = Mask(0, 0, np.ones((10, 10), np.bool_))
    assert similarity(boxes, [mask], boxes, [half], gate=gate, mask_weight=0.5)[
        0, 0
    ] == pytest.approx(0.75)
    assert similarity(boxes, [None], boxes, [mask], gate=gate, mask_weight=0.5)[0, 0] == 1.0
    assert similarity(boxes, [mask], boxes, [mask], gate=~gate, mask_weight=0.5)[0, 0] == 0.0


@pytest.mark.parametrize("dt", [0.1, 0.5, 1.0])
def test_weak_detections_and_births_work_at_low_frame_rates(dt):
    tracker = MaskTracker()
    strong, weak = (50, 50, 80, 120, 0.9), (50, 50, 80, 120, 0.5)
    results = follow(tracker, [detections(strong)] * 3 + [detections(weak)] * 3, dt)
    assert [tracks.ids.tolist() for tracks in results[2:]] == [[1]] * 4


def test_ids_survive_a_change_of_the_pictures_size():
    tracker = MaskTracker()
    small, large = np.zeros((200, 200, 3), np.uint8), np.zeros((600, 600, 3), np.uint8)
    for k in range(4):
        tracker.update(detections((20 + k, 50, 50 + k, 120, 0.95)), k / 10, small)
    far = detections((72, 150, 162, 360, 0.95))
    assert tracker.update(far, 0.4, large).ids.tolist() == [1]


def test_a_mask_without_pixels_survives_a_restore():
    empty = detections((50, 50, 80, 120, 0.95))
    empty = Detections(
        empty.boxes, empty.scores, empty.labels, (Mask(50, 50, np.zeros((70, 30), np.bool_)),)
    )
    tracker, copy = MaskTracker(), MaskTracker()
    follow(tracker, [empty] * 3)
    copy.restore(through_json(tracker.state()))
    assert copy.state() == tracker.state()


def test_a_box_without_an_area_starts_no_track():
    flat = [(10, 10, 10, 40, 0.99), (10, 10, 40, 10, 0.99)]
    for box in flat:
        found = Detections(
            np.array([box[:4]], np.float32), np.array([0.99], np.float32), np.array([1]), (None,)
        )
        assert not any(len(tracks) for tracks in follow(MaskTracker(), [found] * 6))


@pytest.mark.parametrize("time", [float("nan"), float("-inf")])
def test_a_time_that_is_none_is_refused(time):
    tracker = MaskTracker()
    tracker.update(Detections.empty(), 0.0)
    with pytest.raises(ValueError, match="time must not run backwards"):
        tracker.update(Detections.empty(), time)


def test_a_restored_tracker_knows_the_classes_it_met():
    tracker, copy = MaskTracker(), MaskTracker()
    tracker.update(detections((50, 50, 80, 120, 0.99, 7)), 0.0)
    tracker.update(Detections.empty(), 10.0)
    copy.restore(through_json(tracker.state()))
    for each in (tracker, copy):
        each.update(detections((50, 50, 80, 120, 0.99, 1)), 10.1)
    assert copy.state() == tracker.state()
