"""The values that flow between stages, and what each stage promises.

Conventions, used everywhere and never repeated in docstrings:
  N        instances in one frame
  boxes    xyxy float32: x1, y1, x2, y2 in px of the upright source frame, half-open,
           x right, y down
  images   RGB uint8 (H, W, 3)
  times    seconds from the source's first frame, taken from the container
  labels   indices into the detector's `categories`; 0 is the background where a model has one
All values are immutable and their arrays are read-only and finite: what can be written to is
copied.
"""

from tracker.types.arrays import FloatArray, Image, IntArray
from tracker.types.counts import Counts, Event, FrameResult, LineCount
from tracker.types.detections import DetectionLog, Detections, LoggedDetections
from tracker.types.frames import AudioTrack, Frame, SourceReport, StreamInfo
from tracker.types.tracks import LoggedFrame, LogInfo, Sighting, TrackLog, Tracks

__all__ = [
    "AudioTrack",
    "Counts",
    "DetectionLog",
    "Detections",
    "Event",
    "FloatArray",
    "Frame",
    "FrameResult",
    "Image",
    "IntArray",
    "LineCount",
    "LogInfo",
    "LoggedDetections",
    "LoggedFrame",
    "Sighting",
    "SourceReport",
    "StreamInfo",
    "TrackLog",
    "Tracks",
]
