import inspect
import subprocess
import sys

import tracker

NAMES = [
    "Annotator",
    "CountsSink",
    "Detections",
    "Frame",
    "FrameResult",
    "LineCounter",
    "LogSink",
    "Mask",
    "MaskRCNNDetector",
    "MaskTracker",
    "RunConfig",
    "StreamInfo",
    "TrackerError",
    "Tracks",
    "VideoSink",
    "load_config",
    "open_source",
    "run",
    "stream",
    "track",
]


def test_the_public_names():
    assert tracker.__all__ == sorted(NAMES, key=str)
    assert len(NAMES) <= 20
    assert dir(tracker) == tracker.__all__


def test_every_public_name_is_documented():
    for name in NAMES:
        assert inspect.getdoc(getattr(tracker, name)), name


def test_every_error_is_one_tree():
    from tracker import errors

    found = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    ]
    assert len(found) == 8
    assert all(issubclass(c, errors.TrackerError) for c in found)


def test_import_is_light():
    script = (
        "import sys, tracker, tracker.errors\n"
        "print([m for m in ('torch', 'av', 'cv2', 'scipy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_name():
    import pytest

    with pytest.raises(AttributeError, match="no attribute 'Trakcer'"):
        _ = tracker.Trakcer


def test_tracks_to_supervision():
    import numpy as np
    import pytest
    import scene as scenes

    supervision = pytest.importorskip("supervision")
    tracks = scenes.street().truth(60)
    detections = tracks.to_supervision(640, 360)
    assert isinstance(detections, supervision.Detections)
    assert detections.tracker_id.tolist() == tracks.ids.tolist()
    dense = np.asarray(detections.mask)
    for mask, full in zip(tracks.masks, dense, strict=True):
        assert full.sum() == mask.area
        x1, y1, x2, y2 = mask.box
        assert np.array_equal(full[y1:y2, x1:x2], mask.bits)
    assert len(tracker.Tracks.empty().to_supervision(640, 360)) == 0


def test_redaction():
    from tracker.errors import redact

    for password in (
        "secret",
        "se@cret",
        "se/cret",
        "se#cret",
        "se?cret",
        "s:e@c/r#e?t",
        "it's <a> secret",
    ):
        text = redact(f"rtsp://user:{password}@camera.example:554/stream: Connection refused")
        assert text == "rtsp://***@camera.example:554/stream: Connection refused"
    assert (
        redact("http://h/x?user=me&password=pw&fps=5") == "http://h/x?user=***&password=***&fps=5"
    )
    foscam = "http://h/videostream.cgi?loginuse=me&loginpas=pw&pw=1&key1=2#token=3"
    hidden = redact(foscam)
    assert hidden.startswith("http://h/videostream.cgi?loginuse=***&loginpas=***&pw=***&key1=***")
    assert not any(secret in hidden for secret in ("=me", "=pw", "=1", "=2", "=3"))
    assert redact("http://h/x?u=me&p=pw&up=1&jwt=ey.J") == "http://h/x?u=***&p=***&up=1&jwt=***"
    camera = "rtsp://h:554/user=admin_password=tlJwpbo6_channel=1_stream=0.sdp: no answer"
    assert redact(camera) == "rtsp://h:554/user=*** no answer"
    assert redact("rtsp:/me:secret@camera/1") == "rtsp:/***@camera/1"
    assert redact("/data/user=3/a.mp4") == "/data/user=3/a.mp4"
    assert redact("street.mp4: mail me@example.org") == "street.mp4: mail me@example.org"
