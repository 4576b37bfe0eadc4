import cv2
import numpy as np
import pytest
import scene as scenes
from archived import through_json
from test_mask_tracker import ids_per_object

from tracker.associate.camera_motion import LOOK_EVERY, STILL_FRAMES, CameraMotion
from tracker.associate.mask_tracker import MaskTracker
from tracker.associate.track_table import TrackTable
from tracker.config import TrackerConfig
from tracker.types import Detections, Frame

NOTHING = np.zeros((0, 4))


def ground(height=900, width=1400, seed=0):
    """A textured picture, larger than what the camera sees."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 20, width // 20, 3))
    return cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def view(picture, x, y, size=(960, 540)):
    return np.ascontiguousarray(picture[y : y + size[1], x : x + size[0]])


def test_a_pan_is_measured_to_a_fraction_of_a_pixel():
    picture, camera = ground(), CameraMotion()
    places = [(100 + 7 * k, 120 + (-1) ** k * 3 * k) for k in range(12)]
    for (x, y), before in zip(places, [None, *places], strict=False):
        motion = camera.update(view(picture, x, y), NOTHING)
        if before is None:
            assert motion is None
            continue
        assert motion[:, :2] == pytest.approx(np.eye(2), abs=0.01)
        middle = motion @ [480, 270, 1]
        assert middle == pytest.approx([480 + before[0] - x, 270 + before[1] - y], abs=0.7)


def test_zoom_and_turn_are_measured():
    picture, camera = ground(), CameraMotion()
    turn = cv2.getRotationMatrix2D((480, 270), angle=2.0, scale=1.03)
    camera.update(view(picture, 200, 200), NOTHING)
    motion = camera.update(
        cv2.warpAffine(view(picture, 200, 200), turn, (960, 540), borderMode=cv2.BORDER_REFLECT),
        NOTHING,
    )
    for point in ([480, 270, 1], [200, 100, 1], [800, 500, 1]):
        assert motion @ point == pytest.approx(turn @ point, abs=1.0)


def test_a_still_camera_is_left_alone_and_looked_at_now_and_then(monkeypatch):
    from tracker.associate import camera_motion

    looks, follow = [], camera_motion._follow
    monkeypatch.setattr(camera_motion, "_follow", lambda *a: looks.append(1) or follow(*a))
    picture, camera = ground(), CameraMotion()
    noise = np.random.default_rng(1)
    for _ in range(STILL_FRAMES + 41):
        grain = noise.normal(0, 3, (540, 960, 1))
        image = np.clip(view(picture, 100, 100) + grain, 0, 255).astype(np.uint8)
        assert camera.update(image, NOTHING) is None
    assert len(looks) == STILL_FRAMES + 40 // LOOK_EVERY
    for k in range(1, 6):  # what changes at large is looked at at once
        motion = camera.update(view(picture, 100 + 30 * k, 100), NOTHING)
        assert motion[:, 2] == pytest.approx([-30, 0], abs=0.7)


def test_a_pan_after_a_long_rest_moves_nobody_into_a_neighbours_place():
    picture, tracker = ground(), MaskTracker()
    size, apart = 40, 80
    for k in range(STILL_FRAMES + 25):
        pan = 20 * max(0, k - STILL_FRAMES - 5)
        left = 500 + apart * np.arange(4) - pan
        boxes = np.stack([left, left * 0 + 200, left + size, left * 0 + 200 + size], axis=1)
        found = Detections(
            boxes.astype(np.float32), np.full(4, 0.99, np.float32), np.ones(4, int), (None,) * 4
        )
        tracks = tracker.update(found, k / 25, view(picture, 100 + pan, 100))
        assert tracks.ids.tolist() == [1, 2, 3, 4]
        assert tracks.boxes[:, 0].tolist() == left.tolist()


def test_large_objects_do_not_pass_for_the_background():
    picture, camera = ground(), CameraMotion()
    car = ground(400, 600, seed=5)
    for k in range(5):
        image = view(picture, 100, 100)
        x = 60 + 30 * k
        image[100:500, x : x + 600] = car
        assert camera.update(image, np.array([[x, 100, x + 600, 500]])) is None


@pytest.mark.parametrize("image", ["flat", "other"])
def test_where_nothing_can_be_followed_nothing_is_said(image):
    camera = CameraMotion()
    camera.update(view(ground(), 0, 0), NOTHING)
    after = view(ground(seed=9), 0, 0) if image == "other" else np.full((540, 960, 3), 90, np.uint8)
    assert camera.update(after, NOTHING) is None
    assert camera.update(np.full((100, 200, 3), 90, np.uint8), NOTHING) is None  # another size


def test_tracks_move_with_the_camera():
    table = TrackTable.empty()
    detections = Detections(
        np.array([[100, 100, 140, 180]], np.float32),
        np.array([0.99], np.float32),
        np.array([1]),
        (None,),
    )
    tracker = MaskTracker()
    tracker.update(detections, 0.0)
    table = tracker._tracks
    table.mean[0, :2, 1] = [10, 0]
    quarter = np.array([[0, -1.1, 500], [1.1, 0, 20]])  # a quarter turn, larger by a tenth
    table.move(quarter)
    assert table.mean[0, :, 0] == pytest.approx([500 - 1.1 * 140, 20 + 1.1 * 120, 44, 88])
    assert table.mean[0, :2, 1] == pytest.approx([0, 11])
    assert table.body[0] == pytest.approx([44, 88])


def shaken(scene, seed=3):
    """Each frame of a scene as a hand-held camera sees it: pictures, detections, shifts."""
    random, detector = np.random.default_rng(seed), scenes.SceneDetector(scene)
    width, height = scene.width - 30, scene.height - 30
    for k, time in enumerate(scene.times):
        x, y = random.integers(0, 30, 2).tolist()
        frame = Frame(k, time, scene.image(k))
        found = detector.detect([frame])[0]
        masks = [mask.moved(-x, -y).clipped(width, height) for mask in found.masks]
        boxes = found.boxes - np.array([x, y, x, y], np.float32)
        moved = Detections(boxes, found.scores.copy(), found.labels.copy(), tuple(masks))
        yield view(frame.image, x, y, (width, height)), moved, (x, y)


@pytest.mark.parametrize("on", [True, False])
def test_a_shaking_camera_costs_no_identity(on):
    scene = scenes.street()
    tracker, results = MaskTracker(TrackerConfig(camera_motion=on)), []
    for (image, found, (x, y)), time in zip(shaken(scene), scene.times, strict=True):
        tracks = tracker.update(found, time, image)
        back = tracks.boxes + np.array([x, y, x, y], np.float32)
        results.append(
            type(tracks)(
                tracks.ids, back, tracks.scores, tracks.labels, tracks.masks, tracks.sources
            )
        )
    ids = ids_per_object(scene, results)
    switches = sum(len(each) - 1 for each in ids.values())
    assert switches == 0 if on else switches > 3


def test_the_state_restores_exactly():
    scene = scenes.street()
    tracker, copy = MaskTracker(), MaskTracker()
    for k, (image, found, _) in enumerate(shaken(scene)):
        if k > 40:
            break
        tracks = tracker.update(found, scene.times[k], image)
        if k == 20:
            copy.restore(through_json(tracker.state()))
        elif k > 20:
            same = copy.update(found, scene.times[k], image)
            assert same.ids.tolist() == tracks.ids.tolist()
            assert np.array_equal(same.boxes, tracks.boxes)
    assert copy.state() == tracker.state()
