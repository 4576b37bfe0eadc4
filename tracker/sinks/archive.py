"""Keep a video's history on the disk while its run lasts, and refine its tracks at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from tracker.associate.history import History, HistoryLine
from tracker.config import RefineConfig
from tracker.errors import FormatError
from tracker.files import GrowingFile
from tracker.formats import jsonl
from tracker.snapshot import FileState
from tracker.types import FrameResult, TrackLog

NAME = "archive.jsonl"  # while the run lasts


class ArchiveSink:
    """Append what each frame adds to the history; one that goes on recalls it first."""

    def __init__(
        self, folder: Path, config: RefineConfig | None = None, state: FileState | None = None
    ) -> None:
        """Open the file; raise SinkError, FormatError."""
        self._folder, self._history = folder, History(config)
        kept = state.bytes if state else 0
        self._file = GrowingFile(folder / NAME, kept)
        if kept:
            self._recall(kept)

    def write(self, result: FrameResult) -> None:
        """Take in one frame."""
        frame = result.frame
        line = self._history.add(
            result.tracks,
            result.detections,
            frame.time,
            (frame.width, frame.height),
            detected=result.detected,
        )
        self._file.append(line.model_dump_json() + "\n")

    def state(self) -> FileState:
        """Return how much belongs to the run; it is on the disk by then."""
        self._file.sync()
        return FileState(bytes=self._file.size)

    def close(self) -> None:
        """Keep the file: only the end of the run tells whether it is still needed."""

    def release(self, *, keep: bool) -> None:
        """Release the file, and remove it where the run is finished; raise SinkError."""
        self._file.close(keep=keep)

    def refine(self) -> None:
        """Write tracks-refined.jsonl from the log of the run; raise SinkError, FormatError."""
        log = jsonl.read(self._folder / "tracks.jsonl")
        jsonl.write(refined_log(log, self._history), self._folder / "tracks-refined.jsonl")

    def _recall(self, kept: int) -> None:
        path = self._folder / NAME
        with path.with_name(f"{NAME}.part").open("rb") as file:
            lines = file.read(kept).splitlines()
        try:
            self._history.recall(HistoryLine.model_validate_json(line) for line in lines)
        except ValidationError as exc:
            raise FormatError(f"{path}: is malformed; --force starts over") from exc


def refined_log(log: TrackLog, history: History) -> TrackLog:
    """Return a log of the same frames with the tracks that were refined from all of them."""
    frames = (
        replace(frame, tracks=tracks)
        for frame, tracks in zip(log.frames, history.refined(), strict=False)
    )
    return TrackLog(log.info, frames)
