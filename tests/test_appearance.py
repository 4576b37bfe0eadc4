import numpy as np
import pytest
from archived import through_json
from test_mask_tracker import detections

from tracker.associate.appearance import ENOUGH, Appearance
from tracker.associate.mask_tracker import MaskTracker
from tracker.config import TrackerConfig
from tracker.types import Detections

LOOKS = np.random.default_rng(0).normal(0, 1, (8, 32)) + 5  # all alike but for a small part


def seen(random, who):
    """The embedding of a person on one frame."""
    return (LOOKS[who] + random.normal(0, 0.2, 32)).astype(np.float32)


def street(k, people):
    """Detections of people by number, each at a place of its own, with embeddings."""
    random = np.random.default_rng(k)
    rows = [(60 * who + 2 * k, 50, 60 * who + 30 + 2 * k, 120, 0.95 - 0.01 * who) for who in people]
    found = detections(*rows)
    looks = np.array([seen(random, who) for who in people], np.float32)
    return Detections(found.boxes, found.scores, found.labels, found.masks, looks)


def test_likeness_tells_apart_what_raw_cosines_cannot():
    random, appearance = np.random.default_rng(1), Appearance()
    for _ in range(20):
        appearance.observe(np.stack([seen(random, who) for who in range(8)]))
    a = np.stack([seen(random, who) for who in range(8)]).astype(float)
    b = np.stack([seen(random, who) for who in range(8)])
    alike = appearance.similarity(a, b)
    assert alike.diagonal().min() > 0.8
    assert alike[~np.eye(8, dtype=bool)].max() < 0.6
    raw = a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    assert raw.min() > 0.9


def test_nothing_is_said_before_enough_was_seen():
    appearance = Appearance()
    appearance.observe(np.ones((ENOUGH - 1, 4), np.float32))
    assert appearance.similarity(np.ones((1, 4)), np.ones((1, 4))) is None
    appearance.observe(np.zeros((1, 4), np.float32) + 3)
    assert appearance.similarity(np.ones((1, 4)), np.ones((1, 4))) is not None
    assert appearance.similarity(np.ones((1, 5)), np.ones((1, 5))) is None  # of another detector
    assert appearance.similarity(np.zeros((1, 4)), np.ones((1, 4))).tolist() == [[0.0]]  # unknown


def test_the_running_statistics_are_those_of_all():
    random, appearance = np.random.default_rng(2), Appearance()
    parts = [random.normal(3, 2, (random.integers(1, 9), 16)) for _ in range(40)]
    for part in parts:
        appearance.observe(part)
    every, state = np.concatenate(parts), appearance.state()
    assert np.allclose(state.mean, every.mean(axis=0))
    assert np.allclose(state.spread, every.var(axis=0))
    copy = Appearance()
    copy.restore(through_json(state))
    assert copy.state() == state


@pytest.mark.parametrize(("gallery_s", "expected"), [(30.0, 3), (3.0, 4), (0.0, 4)])
def test_who_returns_gets_the_old_id_for_a_while(gallery_s, expected):
    tracker = MaskTracker(TrackerConfig(gallery_s=gallery_s))
    for k in range(80):
        people = [0, 1, 2] if k < 20 or k >= 60 else [0, 1]  # 2 is away for 8 s
        tracks = tracker.update(street(k, people), k * 0.2)
        if k == 50:
            copy = MaskTracker(TrackerConfig(gallery_s=gallery_s))
            copy.restore(through_json(tracker.state()))
        elif k > 50:
            assert copy.update(street(k, people), k * 0.2).ids.tolist() == tracks.ids.tolist()
    assert tracks.ids.tolist() == [1, 2, expected]
    assert copy.state() == tracker.state()


def test_a_stranger_gets_a_new_id():
    tracker = MaskTracker(TrackerConfig(gallery_s=30.0))
    for k in range(80):
        people = [0, 1, 2] if k < 20 else [0, 1] if k < 60 else [0, 1, 3]
        tracks = tracker.update(street(k, people), k * 0.2)
    assert tracks.ids.tolist() == [1, 2, 4]


def test_the_gallery_does_not_grow_with_the_run():
    tracker, sizes = MaskTracker(TrackerConfig(gallery_s=5.0, memory_s=0.5)), []
    for k in range(600):
        tracker.update(street(k % 7, [k // 12 % 8]), k * 0.2)
        sizes.append(len(tracker.state().gallery.gone.id))
    assert 0 < max(sizes) < 8


def test_the_detector_tells_each_object_its_own_looks(tiny_model):
    import scene as scenes

    from tracker.config import DetectorConfig
    from tracker.detect.maskrcnn import MaskRCNNDetector
    from tracker.types import Frame

    settings = DetectorConfig(model=tiny_model, score_threshold=0.3)
    detector = MaskRCNNDetector(settings, embeddings=True)
    street = scenes.street()
    frames = [Frame(k, k / 10, street.image(60 * k)) for k in range(2)]
    alone = [detector.detect([frame])[0] for frame in frames]
    assert all(len(found) for found in alone)
    for one, each in zip(detector.detect(frames), alone, strict=True):
        assert one.embeddings.shape == each.embeddings.shape
        assert one.embeddings.shape[1] > 0
        assert np.allclose(one.embeddings, each.embeddings, atol=1e-3)
    assert not np.allclose(alone[0].embeddings[0], alone[1].embeddings[0], atol=1e-3)
    assert MaskRCNNDetector(settings).detect(frames)[0].embeddings.shape[1] == 0
    kept = MaskRCNNDetector(
        DetectorConfig(model=tiny_model, score_threshold=0.3, max_detections=1), embeddings=True
    ).detect(frames[:1])[0]
    assert np.allclose(kept.embeddings, alone[0].embeddings[:1], atol=1e-3)


@pytest.mark.parametrize("gallery_s", [1.0, 2.0])
def test_a_gallery_that_could_hold_nobody_is_refused(gallery_s):
    with pytest.raises(ValueError, match="gallery_s must be 0 or more than memory_s"):
        TrackerConfig(gallery_s=gallery_s)


def test_looks_that_are_no_numbers_are_refused():
    found = street(0, [0, 1, 2])
    looks = found.embeddings.copy()
    looks[2] = np.nan
    with pytest.raises(ValueError, match="embeddings must be finite, got NaN or infinity"):
        Detections(found.boxes, found.scores, found.labels, found.masks, looks)
