"""Write a log of tracks or of detections, one line a frame, on disk as soon as it is done."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from tracker.files import GrowingFile
from tracker.formats import detections as saved
from tracker.formats import jsonl
from tracker.snapshot import LogState
from tracker.types import FrameResult, LoggedDetections, LoggedFrame, LogInfo


class LogSink:
    """Append each frame's tracks to a JSON Lines file (see formats/jsonl.py).

    With `detections` it is what the detector found, in the frames that it saw (see
    formats/detections.py).
    """

    def __init__(
        self,
        path: Path,
        categories: Sequence[str],
        *,
        rate: Fraction | None = None,
        source: str = "",
        detections: bool = False,
        state: LogState | None = None,
    ) -> None:
        self._categories, self._rate, self._source = tuple(categories), rate, source
        self._saves_detections = detections
        self._file = GrowingFile(path, state.bytes if state else 0)
        self._info: LogInfo | None = self._describe(state.width, state.height) if state else None

    def write(self, result: FrameResult) -> None:
        """Append one line."""
        frame = result.frame
        if self._info is None:
            self._info = self._describe(frame.width, frame.height)
            head = saved.header_line if self._saves_detections else jsonl.header_line
            self._file.append(head(self._info))
        place = (frame.index, frame.time, frame.width, frame.height)
        if not self._saves_detections:
            tracked = LoggedFrame(*place, result.tracks, frame.suspect)
            self._file.append(jsonl.frame_line(tracked, self._info))
        elif result.detected:
            found = LoggedDetections(*place, result.detections, frame.suspect)
            self._file.append(saved.frame_line(found, self._info))

    def state(self) -> LogState | None:
        """Return what a log that goes on needs; the file is on the disk by then."""
        self._file.sync()
        if self._info is None:
            return None
        return LogState(bytes=self._file.size, width=self._info.width, height=self._info.height)

    def _describe(self, width: int, height: int) -> LogInfo:
        return LogInfo(width, height, self._categories, self._rate, self._source)

    def close(self) -> None:
        """Give the file its final name; without a frame, leave no file."""
        self._file.close(keep=self._info is not None)
