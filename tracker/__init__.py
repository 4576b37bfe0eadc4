"""Find, track and count objects in video with Mask R-CNN."""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "Annotator": "tracker.drawing:Annotator",
    "CountsSink": "tracker.sinks.counts:CountsSink",
    "Detections": "tracker.types:Detections",
    "Frame": "tracker.types:Frame",
    "FrameResult": "tracker.types:FrameResult",
    "LineCounter": "tracker.count.lines:LineCounter",
    "LogSink": "tracker.sinks.log:LogSink",
    "Mask": "tracker.masks:Mask",
    "MaskRCNNDetector": "tracker.detect.maskrcnn:MaskRCNNDetector",
    "MaskTracker": "tracker.associate.mask_tracker:MaskTracker",
    "RunConfig": "tracker.config:RunConfig",
    "StreamInfo": "tracker.types:StreamInfo",
    "TrackerError": "tracker.errors:TrackerError",
    "Tracks": "tracker.types:Tracks",
    "VideoSink": "tracker.sinks.video:VideoSink",
    "load_config": "tracker.config:load_config",
    "open_source": "tracker.video.source:open_source",
    "run": "tracker.pipeline:run_one",
    "stream": "tracker.pipeline:stream",
    "track": "tracker.runs.track:track",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import tracker` stays light."""
    if name not in _WHERE:
        raise AttributeError(f"module 'tracker' has no attribute {name!r}")
    module, _, own = _WHERE[name].partition(":")
    value = getattr(importlib.import_module(module), own)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
