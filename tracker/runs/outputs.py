"""All that a run writes into its folder as frames come, and what it needs to go on writing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from tracker.config import RunConfig
from tracker.count.stage import CountStage
from tracker.errors import TrackerError
from tracker.files import JsonObject
from tracker.runs.folder import RunFolder
from tracker.sinks.archive import ArchiveSink
from tracker.sinks.counts import CountsSink
from tracker.sinks.log import LogSink
from tracker.sinks.video import VideoSink
from tracker.snapshot import SinkStates, Snapshot
from tracker.types import StreamInfo
from tracker.types.stages import Sink


class Outputs:
    """The sinks of one run; `sinks` in the order in which a lane gives them each frame."""

    def __init__(
        self,
        folder: RunFolder,
        source: str,
        config: RunConfig,
        info: StreamInfo,
        categories: Sequence[str],
        past: Snapshot | None = None,
    ) -> None:
        """Open all files, or go on with those that `past` tells of; raise TrackerError.

        `source` is the name of the video, without credentials.
        """
        self.sinks: list[Sink] = []
        self.counting = CountStage(config.count, past.counts if past else None)
        self._archive: ArchiveSink | None = None
        self._video: VideoSink | None = None
        self._detections: LogSink | None = None
        self._audio_note = info.audio_note
        states = past.sinks if past else None
        try:
            log = partial(LogSink, categories=categories, rate=info.rate, source=source)
            self._log = log(folder / "tracks.jsonl", state=states.log if states else None)
            self.sinks.append(self._log)
            if config.output.detections:
                saved = states.detections if states else None
                path = folder / "detections.jsonl"
                self._detections = log(path, detections=True, state=saved)
                self.sinks.append(self._detections)
            self._counts = CountsSink(
                folder.path,
                categories,
                counting=self.counting,
                state=states.events if states else None,
            )
            self.sinks.append(self._counts)
            if config.output.refine:
                archived = states.archive if states else None
                self._archive = ArchiveSink(folder.path, config.refine, archived)
                self.sinks.append(self._archive)
            if config.output.video:  # last: a video that goes on is copied
                self._video = VideoSink(
                    folder / "video.mp4",
                    categories,
                    output=config.output,
                    counting=self.counting,
                    rate=info.rate,
                    pixel_aspect=info.pixel_aspect,
                    audio=info.audio,
                    state=states.video if states else None,
                )
                self.sinks.append(self._video)
        except BaseException:
            self.close()
            raise

    @property
    def notes(self) -> list[str]:
        """What went differently from what was asked, a sentence each."""
        if self._video is None:
            return []
        return [*self._video.notes, *([self._audio_note] if self._audio_note else [])]

    def durable(self) -> int | None:
        """Return the number of frames that a kill can no longer take; None for all."""
        return self._video.durable if self._video else None

    def states(self) -> SinkStates:
        """Return what all sinks need to go on, on the disk by then; raise SinkError."""
        log = self._log.state()
        assert log is not None  # it has written the frame of the snapshot
        return SinkStates(
            log=log,
            events=self._counts.state(),
            video=self._video.state() if self._video else None,
            archive=self._archive.state() if self._archive else None,
            detections=self._detections.state() if self._detections else None,
        )

    def summary(self) -> JsonObject:
        """Return the content of counts.json."""
        return self._counts.summary()

    def abandon(self) -> None:
        """Write nothing at the end: the folder is another run's by now."""
        self._counts.abandon()

    def refine(self) -> None:
        """Write the refined log, where it is asked for; raise TrackerError."""
        if self._archive:
            self._archive.refine()

    def release(self, *, keep: bool) -> None:
        """Release what only a run that goes on needs, and remove it unless it is kept."""
        if self._archive:
            self._archive.release(keep=keep)

    def close(self) -> None:
        """Release all files, whatever is wrong with them."""
        for sink in self.sinks:
            with suppress(TrackerError):
                sink.close()
        with suppress(TrackerError):
            self.release(keep=True)
