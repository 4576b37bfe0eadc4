import time

import numpy as np
import pytest
from archived import Archive, through_json

from tracker.associate.mask_tracker import MaskTracker
from tracker.config import RefineConfig, TrackerConfig
from tracker.count.totals import Totals
from tracker.masks import Mask
from tracker.types import Detections

SIZE = np.array([40, 60])  # px, of the object
RANDOM = np.random.default_rng(5)
TEXTURE = RANDOM.integers(0, 255, (60, 40, 3), np.uint8)
GROUND = RANDOM.integers(0, 255, (15, 20, 3), np.uint8).repeat(20, 0).repeat(20, 1)


def place(k):
    """Return the object's corner in frame k: right, and from frame 9 on down."""
    return np.array([30 + 6 * min(k, 9), 40 + 6 * max(k - 9, 0)])


def picture(*corners):
    image = GROUND.copy()
    for x, y in corners:
        image[y : y + SIZE[1], x : x + SIZE[0]] = TEXTURE
    return image


def found(*corners, masks=True):
    """Detections of objects at these corners."""
    boxes = np.array([[*corner, *(corner + SIZE)] for corner in corners], np.float32)
    whole = [Mask(int(x), int(y), np.ones(SIZE[::-1], np.bool_)) for x, y in corners]
    return Detections(
        boxes.reshape(-1, 4),
        np.full(len(corners), 0.98, np.float32),
        np.ones(len(corners), np.int64),
        tuple(whole) if masks else (None,) * len(corners),
    )


def follow(tracker, every, frames=range(18), *, pictures=True, masks=True):
    """Track the turning object, detected in every `every`-th frame."""
    results = []
    for k in frames:
        image = picture(place(k)) if pictures else None
        if k % every:
            results.append(tracker.carry(k / 10, image))
        else:
            results.append(tracker.update(found(place(k), masks=masks), k / 10, image))
    return results


def errors(results):
    """Return how far each frame's box lies from the object, px."""
    return [np.abs(tracks.boxes[0, :2] - place(k)).max() for k, tracks in enumerate(results)]


@pytest.mark.parametrize("masks", [True, False])
def test_flow_follows_a_turn_that_a_prediction_misses(masks):
    """The object turns right after a detected frame: only the pixels know."""
    seen = errors(follow(MaskTracker(carries=True), 8, masks=masks))
    blind = errors(follow(MaskTracker(carries=True), 8, pictures=False, masks=masks))
    assert max(seen) < 1.5
    assert max(blind[9:16]) > 10


def test_carried_tracks_keep_id_shape_and_mask():
    for k, tracks in enumerate(follow(MaskTracker(carries=True), 3)):
        assert tracks.ids.tolist() == [1]
        assert tracks.sources.tolist() == [-1 if k % 3 else 0]
        assert (tracks.boxes[0, 2:] - tracks.boxes[0, :2]).tolist() == pytest.approx(SIZE, abs=1e-3)
        mask = tracks.masks[0]
        assert mask.area == SIZE.prod()
        assert np.abs(np.array(mask.box[:2]) - tracks.boxes[0, :2]).max() <= 1


def test_without_pictures_a_carried_frame_is_predicted():
    """As far as a filter that has learnt the motion says, and no frame counts as missed."""
    carried, missed = MaskTracker(carries=True), MaskTracker()
    for tracker in (carried, missed):
        for k in range(10):
            tracker.update(found(place(k)), k / 10)
    assert len(missed.update(Detections.empty(), 1.0)) == 0
    first, second = carried.carry(1.0), carried.carry(1.1)
    assert first.boxes[0, 0] == pytest.approx(90, abs=2)
    assert second.boxes[0, 0] - first.boxes[0, 0] == pytest.approx(6, abs=1)
    state = carried.state().tracks
    assert (state.source, state.seen, state.hits) == ((0,), (0.9,), (10,))


def test_a_plain_surface_is_left_to_the_prediction():
    plain = np.full((300, 400, 3), 127, np.uint8)
    last = []
    for image in (plain, None):
        tracker = MaskTracker(carries=True)
        for k in range(4):
            tracker.update(found(place(k)), k / 10, image)
        last.append([tracker.carry(k / 10, image).boxes.tolist() for k in (4, 5, 6)])
    assert last[0] == last[1]


def test_a_track_that_was_lost_stays_lost_while_others_are_carried():
    tracker = MaskTracker(TrackerConfig(coast_s=0.25), carries=True)
    corners = np.array([[30, 40], [300, 200]])
    for k in range(4):
        tracker.update(found(*corners), k / 10, picture(*corners))
    tracker.update(found(corners[0]), 0.4, picture(corners[0]))
    near = tracker.carry(0.5, picture(corners[0]))
    late = tracker.carry(0.6, picture(corners[0]))
    assert (near.ids.tolist(), late.ids.tolist()) == ([1, 2], [1])
    assert near.masks[1] is None
    assert near.masks[0] is not None


def test_ids_last_through_long_gaps_at_low_rates():
    """A second between two detections: longer than the tentative may be unseen."""
    tracker, seen = MaskTracker(carries=True), []
    for k in range(12):
        time_, corner = k / 2, place(k)
        image = picture(corner)
        if k % 2:
            seen.append(tracker.carry(time_, image))
        else:
            low = found(corner)
            low = Detections(low.boxes, low.scores * np.float32(0.9), low.labels, low.masks)
            seen.append(tracker.update(low, time_, image))
    assert [tracks.ids.tolist() for tracks in seen[4:]] == [[1]] * 8


def test_state_restores_exactly_between_two_carried_frames():
    tracker = MaskTracker(carries=True)
    follow(tracker, 4, range(6))
    copy = MaskTracker(carries=True)
    copy.restore(through_json(tracker.state()))
    assert copy.state() == tracker.state()
    for one, other in zip(
        follow(tracker, 4, range(6, 18)), follow(copy, 4, range(6, 18)), strict=True
    ):
        assert np.array_equal(one.boxes, other.boxes)
        assert [m.box for m in one.masks] == [m.box for m in other.masks]
    assert copy.state() == tracker.state()


def test_where_every_frame_is_detected_nothing_is_kept_for_the_flow():
    """And without pictures a tracker that could carry gives the same result."""
    plain, able = MaskTracker(), MaskTracker(carries=True)
    one, other = (follow(t, 1, pictures=False) for t in (plain, able))
    assert all(np.array_equal(a.boxes, b.boxes) for a, b in zip(one, other, strict=True))
    follow(plain, 1, range(18, 20))
    assert plain.state().flow is None


def test_time_must_not_run_backwards_over_carried_frames():
    tracker = MaskTracker(carries=True)
    tracker.update(found(place(0)), 1.0)
    with pytest.raises(ValueError, match=r"got 0.5 s after 1.0 s"):
        tracker.carry(0.5)


def test_a_change_of_size_between_carried_frames_is_followed():
    tracker = MaskTracker(carries=True)
    follow(tracker, 3, range(5))
    large = picture(place(5)).repeat(2, 0).repeat(2, 1)
    tracks = tracker.carry(0.5, large)
    assert np.abs(tracks.boxes[0, :2] - 2 * place(5)).max() < 8
    assert tracker.update(found(*[2 * place(6)]), 0.6, large).ids.tolist() in ([1], [])


def test_a_refined_track_is_whole_over_carried_frames():
    """However long the gaps between detections are: they are none of the track's."""
    archive = Archive(MaskTracker(carries=True), RefineConfig(fill_s=0.1, min_hits=3))
    follow(archive, 5, range(16))
    refined = list(archive.refined())
    assert [tracks.ids.tolist() for tracks in refined] == [[1]] * 16
    assert all(tracks.masks[0] is not None for tracks in refined)
    assert [int(t.sources[0]) for t in refined] == [-1 if k % 5 else 0 for k in range(16)]


def test_counts_are_those_of_the_detected_frames():
    totals = Totals(60.0)
    for k, tracks in enumerate(follow(MaskTracker(carries=True), 3)):
        totals.update(tracks, k / 10)
    assert dict(totals.unique) == {1: 1}
    assert totals.objects[1].frames == 6


@pytest.mark.alone
def test_carrying_is_cheap():
    """Ten people in a picture of 768 x 576: some milliseconds; the limit is for a busy machine."""
    ground = np.random.default_rng(1).integers(0, 255, (576, 768, 3), np.uint8)
    corners = np.array([[70 * k + 10, 20 * k + 30] for k in range(10)])
    tracker = MaskTracker(carries=True)
    tracker.update(found(*corners), 0.0, ground)
    spent = []
    for k in range(1, 12):
        start = time.perf_counter()
        assert len(tracker.carry(k / 10, ground)) == 10
        spent.append(time.perf_counter() - start)
    assert min(spent) < 0.03
