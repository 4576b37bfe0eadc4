"""Link saved detections into tracks, without a model or a picture."""

from __future__ import annotations

from collections.abc import Iterator

from tracker.associate.history import History
from tracker.associate.mask_tracker import MaskTracker
from tracker.types import DetectionLog, LoggedFrame, TrackLog


def associate(log: DetectionLog, tracker: MaskTracker, history: History | None = None) -> TrackLog:
    """Link saved detections into tracks; frames are worked as the result's are asked for.

    With a `history`, all is remembered there, to be refined.
    """

    def frames() -> Iterator[LoggedFrame]:
        for frame in log.frames:
            size = (frame.width, frame.height) if frame.width and frame.height else None
            if size:
                tracker.resize(*size)
            tracks = tracker.update(frame.detections, frame.time)
            if history is not None:
                history.add(tracks, frame.detections, frame.time, size)
            yield LoggedFrame(
                frame.index, frame.time, frame.width, frame.height, tracks, frame.suspect
            )

    return TrackLog(log.info, frames())
