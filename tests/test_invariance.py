"""What must not change the tracks, or must change them only alike."""

from dataclasses import replace

import numpy as np
import pytest
import scene as scenes
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mask_tracker import ids_per_object

from tracker.associate.mask_tracker import MaskTracker
from tracker.masks import Mask
from tracker.types import Detections, Frame

BLANK = np.zeros((1, 1, 3), np.uint8)


def noisy_crowd(seconds=3, fps=15):
    scene = scenes.crowd(seconds=seconds, fps=fps)
    detector = scenes.SceneDetector(scene, noise=0.03, miss=0.1, clutter=1.0)
    return scene, [detector.detect([Frame(k, t, BLANK)])[0] for k, t in enumerate(scene.times)]


@pytest.fixture(scope="module")
def crowd():
    return noisy_crowd()


def track(frames, times):
    tracker = MaskTracker()
    return [tracker.update(found, time) for found, time in zip(frames, times, strict=True)]


def take(found, rows, boxes=None, masks=None):
    boxes = found.boxes if boxes is None else boxes.astype(np.float32)
    masks = found.masks if masks is None else masks
    return Detections(
        boxes=boxes[rows],
        scores=found.scores[rows],
        labels=found.labels[rows],
        masks=tuple(masks[row] for row in rows),
    )


@given(st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_the_order_of_detections_changes_only_rows(seed):
    scene, frames = noisy_crowd(seconds=2)
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(found)) for found in frames]
    expected = track(frames, scene.times)
    shuffled = [take(found, order) for found, order in zip(frames, orders, strict=True)]
    for tracks, same, order in zip(expected, track(shuffled, scene.times), orders, strict=True):
        # Tracks born in one frame get their ids in the order of its rows.
        boxes = {tuple(box) for box in tracks.boxes.tolist()}
        assert boxes == {tuple(box) for box in same.boxes.tolist()}
        assert sorted(order[same.sources].tolist()) == sorted(tracks.sources.tolist())
    paths = [
        {
            tuple((k, *box.tolist()) for k, t in enumerate(run) for box in t.boxes[t.ids == id_])
            for id_ in {int(i) for t in run for i in t.ids}
        }
        for run in (expected, track(shuffled, scene.times))
    ]
    assert paths[0] == paths[1]


@given(st.integers(-400, 400), st.integers(-300, 300))
@settings(max_examples=8, deadline=None)
def test_a_shifted_scene_gives_shifted_tracks(dx, dy):
    scene, frames = noisy_crowd(seconds=2)
    # Whole numbers, so that the arithmetic is the same to the last bit at either place.
    frames = [replace(found, boxes=np.rint(found.boxes)) for found in frames]
    moved = [
        take(
            found,
            range(len(found)),
            found.boxes + np.array([dx, dy, dx, dy]),
            [mask.moved(dx, dy) for mask in found.masks],
        )
        for found in frames
    ]
    for tracks, same in zip(track(frames, scene.times), track(moved, scene.times), strict=True):
        assert same.ids.tolist() == tracks.ids.tolist()
        assert same.sources.tolist() == tracks.sources.tolist()
        assert same.boxes == pytest.approx(tracks.boxes + np.array([dx, dy, dx, dy]), abs=1e-3)


def test_a_mirrored_scene_gives_mirrored_tracks(crowd):
    scene, frames = crowd
    width = scene.width

    def mirrored(found):
        boxes = found.boxes.copy()
        boxes[:, [0, 2]] = width - found.boxes[:, [2, 0]]
        masks = [
            Mask(width - mask.box[2], mask.y, np.ascontiguousarray(mask.bits[:, ::-1]))
            for mask in found.masks
        ]
        return take(found, range(len(found)), boxes, masks)

    other = track([mirrored(found) for found in frames], scene.times)
    for tracks, same in zip(track(frames, scene.times), other, strict=True):
        assert same.ids.tolist() == tracks.ids.tolist()
        assert same.sources.tolist() == tracks.sources.tolist()


@pytest.mark.parametrize("skip", [2, 3])
@pytest.mark.parametrize("make", [scenes.crossing, scenes.occlusion])
def test_a_lower_frame_rate_keeps_every_id(make, skip):
    """Objects of constant velocity, seen at 25 and at 12.5 or 8.3 frames a second."""
    scene = make(fps=25)
    slower = replace(scene, times=scene.times[::skip])
    for each in (scene, slower):
        detector = scenes.SceneDetector(each)
        frames = [detector.detect([Frame(k, t, BLANK)])[0] for k, t in enumerate(each.times)]
        ids = ids_per_object(each, track(frames, each.times))
        assert all(len(given_ids) == 1 for given_ids in ids.values())
        assert len(set.union(*ids.values())) == len(ids)


def test_an_empty_frame_is_not_a_reset(crowd):
    scene, frames = crowd
    holed = [Detections.empty() if k in (20, 21, 33) else d for k, d in enumerate(frames)]
    before, after = track(frames, scene.times), track(holed, scene.times)
    assert [len(after[k]) for k in (20, 21, 33)] == [0, 0, 0]
    kept = set(after[19].ids.tolist()) & set(after[24].ids.tolist())
    assert len(kept) >= 0.8 * len(set(before[19].ids.tolist()) & set(before[24].ids.tolist()))


def test_times_may_start_anywhere(crowd):
    scene, frames = crowd
    later = track(frames, [time + 86_400 for time in scene.times])
    for tracks, same in zip(track(frames, scene.times), later, strict=True):
        assert same.ids.tolist() == tracks.ids.tolist()
