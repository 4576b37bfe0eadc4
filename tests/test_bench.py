import json

import numpy as np
import pytest
from conftest import TINY_MODEL
from test_detect import frame

from tracker.config import DetectorConfig, RunConfig
from tracker.errors import SourceError
from tracker.masks import Mask
from tracker.measure.agreement import agreement
from tracker.measure.bench import cheaper, measure, read_frames
from tracker.types import Detections


@pytest.fixture
def clip(make_video):
    return make_video("clip.mp4")


def detections(*objects):
    """Make detections of (x, score, label[, shrink]): squares of 10 px with masks."""
    boxes = [[x, 0, x + 10, 10] for x, *_ in objects]
    masks = []
    for x, _, _, *shrink in objects:
        bits = np.ones((10, 10), np.bool_)
        bits[: shrink[0] if shrink else 0] = False
        masks.append(Mask(x, 0, bits))
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array([o[1] for o in objects], np.float32),
        labels=np.array([o[2] for o in objects], np.int64),
        masks=tuple(masks),
    )


def test_what_matches_and_what_does_not():
    reference = detections((0, 0.9, 1), (20, 0.8, 1), (40, 0.7, 2), (60, 0.4, 1))
    found = detections((0, 0.85, 1, 2), (20, 0.8, 2), (40, 0.7, 2), (80, 0.6, 1), (100, 0.3, 1))
    result = agreement([found], [reference])
    assert (result.total, result.matched) == (3, 2)  # one has another class, one scores too little
    assert result.extra == 2  # the wrong class, and the one at 80
    assert result.share == pytest.approx(2 / 3)
    assert result.overlaps == pytest.approx((0.8, 1.0))
    assert result.score_errors == pytest.approx((0.05, 0.0), abs=1e-6)
    assert result.overlap == pytest.approx(0.9)
    assert result.share_within(0.99, 0.001) == pytest.approx(1 / 3)


def test_one_detection_matches_one_object():
    reference = detections((0, 0.9, 1), (2, 0.8, 1))
    result = agreement([detections((0, 0.9, 1))], [reference])
    assert (result.total, result.matched, result.extra) == (2, 1, 0)


def test_a_match_may_score_just_less():
    result = agreement([detections((0, 0.45, 1))], [detections((0, 0.55, 1))])
    assert (result.matched, result.extra) == (1, 0)


def test_agreement_without_masks_and_without_objects():
    nothing = agreement([detections()], [detections()])
    assert (nothing.share, nothing.overlap, nothing.share_within(1, 0)) == (1, 1, 1)
    boxes = Detections(
        boxes=np.array([[0, 0, 10, 8]], np.float32),
        scores=np.array([0.9], np.float32),
        labels=np.array([1]),
        masks=(None,),
    )
    assert agreement([boxes], [detections((0, 0.9, 1))]).overlap == pytest.approx(0.8)
    with pytest.raises(ValueError, match="zip"):
        agreement([boxes], [])


def test_cheaper_settings_follow_the_models_size():
    names = dict(cheaper(DetectorConfig(), (800, 1333), "bfloat16"))
    assert names["size 608/992"] == {"min_size": 608, "max_size": 992}
    assert names["float32"] == {"precision": "float32"}
    assert names["300 proposals"] == {"proposals": 300}
    assert cheaper(DetectorConfig(), None, "float32") == []
    few = cheaper(DetectorConfig(proposals=100), (800, 1333), "float32")
    assert [name for name, _ in few if "proposals" in name] == []


@pytest.mark.parametrize("reference", [True, False])
def test_every_setting_is_measured(reference):
    config = RunConfig(detector=DetectorConfig(model=TINY_MODEL))
    heard = []
    frames = [frame(k) for k in range(6)]
    rows = list(measure(frames, config, reference=reference, on_start=heard.append))
    names = [row.name for row in rows]
    assert ("torchvision, eager float32" in names) is reference
    assert any(name.startswith("these settings (") for name in names)
    assert names[-3:] == ["every 2nd frame", "every 3rd frame", "every 5th frame"]
    assert len(heard) == len(rows)
    assert all(row.spread[0] <= row.seconds <= row.spread[1] for row in rows)
    by_name = {row.name: row for row in rows}
    if reference and "float32" in by_name:
        assert by_name["float32"].agreement.share == 1
    assert by_name["every 2nd frame"].settings == {"every": 2}


def test_no_frames_are_an_error(clip):
    config = RunConfig.model_validate_json('{"source": {"start": 999}}')
    with pytest.raises(SourceError, match="no frame lies"):
        read_frames(str(clip), config, 5)


def test_the_command(tracker, clip):
    code, out, err = tracker("bench", clip, "--model", TINY_MODEL, "--frames", "6", "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert rows[0]["name"] == "torchvision, eager float32"
    assert rows[0]["found"] is None
    assert all(row["seconds_per_frame"] > 0 for row in rows)
    code, out, _ = tracker(
        "bench", clip, "--model", TINY_MODEL, "--frames", "4", "--no-reference", "--start", "0.1"
    )
    assert code == 0
    assert "every=2 " in out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert "torchvision" not in out
    code, _, err = tracker("bench", "missing.mp4", "--model", TINY_MODEL)
    assert code == 2
    assert "missing.mp4" in err
