"""Find, track and count objects in video with Mask R-CNN."""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "Annotator": "tracker.drawing",
    "CountsSink": "tracker.sinks.counts",
    "Detections": "tracker.types",
    "Frame": "tracker.types",
    "FrameResult": "tracker.types",
    "LineCounter": "tracker.count.lines",
    "LogSink": "tracker.sinks.log",
    "Mask": "tracker.masks",
    "MaskRCNNDetector": "tracker.detect.inference",
    "MaskTracker": "tracker.associate.mask_tracker",
    "RunConfig": "tracker.config",
    "StreamInfo": "tracker.types",
    "TrackerError": "tracker.errors",
    "Tracks": "tracker.types",
    "VideoSink": "tracker.sinks.video",
    "load_config": "tracker.config",
    "open_source": "tracker.video.source",
    "run": "tracker.pipeline",
    "stream": "tracker.pipeline",
    "track": "tracker.assemble",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import tracker` stays light."""
    if name not in _WHERE:
        raise AttributeError(f"module 'tracker' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
