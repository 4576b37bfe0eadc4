"""From settings to a finished run: build the stages they name, run them, write the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracker import checkpoint
from tracker.associate.archive import Archive
from tracker.associate.mask_tracker import MaskTracker
from tracker.config import RunConfig
from tracker.errors import ConfigError, ModelError, SinkError, TrackerError, redact
from tracker.formats import jsonl
from tracker.formats.text import new_file, write_json
from tracker.pipeline import RunStats, run, span, stream
from tracker.report import made_of, run_toml, to_report
from tracker.sinks.archive import ArchiveFile
from tracker.sinks.counts import CountsSink
from tracker.sinks.folder import Refresh, RunFolder, SpaceGuard, is_own
from tracker.sinks.log import LogSink
from tracker.sinks.video import VideoSink
from tracker.types import (
    Associator,
    DetectionLog,
    Detector,
    FrameResult,
    LoggedFrame,
    Sink,
    Source,
    TrackLog,
)
from tracker.video.address import on_disk
from tracker.video.source import open_source


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a finished run left behind."""

    folder: Path
    stats: RunStats
    counts: dict[str, Any]  # the content of counts.json
    report: dict[str, Any]  # the content of report.json


def track(
    uri: str | Path, config: RunConfig | None = None, *, detector: Detector | None = None
) -> Iterator[FrameResult]:
    """Yield every frame of a video with its detections and tracks.

    `uri` is whatever `open_source` takes; `detector` defaults to the model that `config` names.
    Raises TrackerError.
    """
    config = config or RunConfig()
    with closing(open_source(uri, config.source)) as source:
        detector = detector or load_detector(config)
        yield from stream(
            source,
            detector,
            _tracker(config),
            batch_size=getattr(detector, "batch_size", 1),
            every=config.detector.every,
        )


def associate(log: DetectionLog, tracker: MaskTracker | Archive) -> TrackLog:
    """Link saved detections into tracks; frames are worked as the result's are asked for."""

    def frames() -> Iterator[LoggedFrame]:
        for frame in log.frames:
            if frame.width and frame.height:
                tracker.resize(frame.width, frame.height)
            tracks = tracker.update(frame.detections, frame.time)
            yield LoggedFrame(
                frame.index, frame.time, frame.width, frame.height, tracks, frame.suspect
            )

    return TrackLog(log.info, frames())


def refine(log: TrackLog, archive: Archive) -> TrackLog:
    """Return a log of the same frames with the tracks that `archive` refined from all of them."""
    frames = (
        dataclasses.replace(frame, tracks=tracks)
        for frame, tracks in zip(log.frames, archive.refined(), strict=False)
    )
    return TrackLog(log.info, frames)


def load_detector(config: RunConfig) -> Detector:
    """Load the model that the settings name; only here torch is imported. Raises ModelError."""
    if (
        config.detector.weights not in ("default", "embedded")
        and not Path(config.detector.weights).is_file()
    ):
        raise ModelError(f"{config.detector.weights}: no such weights file")
    from tracker.detect.inference import MaskRCNNDetector

    return MaskRCNNDetector(config.detector, embeddings=config.tracker.gallery_s > 0)


def run_to_folder(
    uri: str,
    config: RunConfig,
    output: Path,
    *,
    get_detector: Callable[[], Detector],
    replace: bool = False,
    resume: bool = False,
    on_start: Callable[[Source, Sequence[str]], None] | None = None,
    on_result: Callable[[FrameResult, RunStats], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Track one video and write its run folder.

    The source is opened first, then the folder made, then the detector fetched: what fails early
    leaves nothing behind. Raises TrackerError; after an error in mid-run the files hold all frames
    up to it and report.json the reason. With `resume` the run in the folder goes on where its
    checkpoint was taken; where there is none yet, it starts.
    """
    past = checkpoint.find(output) if resume else None
    with ExitStack() as stack:
        mark = past["source"] if past and past["frames"] else None
        source = open_source(uri, config.source, mark)
        stack.enter_context(closing(source))
        if config.output.refine and source.info.live:
            raise ConfigError(f"{uri}: is a live source; --refine needs a whole video")
        path = on_disk(uri)
        if path and is_own(Path(path), output):
            raise ConfigError(f"{uri}: would be overwritten; give another --output")
        folder = RunFolder(output, replace=replace, resume=resume)
        stack.callback(folder.release)
        try:
            if resume and checkpoint.find(output) != past:
                raise ConfigError(f"{output}: another run has just written there; try again")
            space = SpaceGuard(
                output,
                config.output.least_free_mb,
                copies_video=mark is not None and config.output.video,
                refines=config.output.refine,
            )
            detector = get_detector()
            began = made_of(checkpoint.fingerprint(uri), config, detector)
            if past:
                checkpoint.compare(past["began"], began, output)
        except BaseException:
            folder.remove_if_empty()
            raise
        outputs = _Outputs(folder, uri, config, source, detector, began, past if mark else None)

        def heard(result: FrameResult, stats: RunStats) -> None:
            outputs.heard(result)
            if on_result:
                on_result(result, stats)
            space.check(stats.frames, source.info.frame_count)

        error: BaseException | None = None
        try:
            if on_start:
                on_start(source, detector.categories)
            run(
                source,
                detector,
                outputs.tracker,
                outputs.sinks,
                batch_size=began["detector"]["batch_size"],
                every=config.detector.every,
                stats=outputs.stats,
                on_result=heard,
                should_stop=should_stop,
            )
        except BaseException as exc:
            error = exc
        report = outputs.finish(error)
    return RunResult(output, outputs.stats, outputs.counts.summary(), report)


class _Outputs:
    """All that a run leaves in its folder, and the tracker, whose state is part of it."""

    def __init__(
        self,
        folder: RunFolder,
        uri: str,
        config: RunConfig,
        source: Source,
        detector: Detector,
        began: dict[str, Any],
        past: dict[str, Any] | None,
    ) -> None:
        """Begin in the folder, or go on with what `past` says of it."""
        self._folder, self._uri, self._source, self._detector = folder, uri, source, detector
        self._began = began
        self.stats = RunStats()
        online = _tracker(config)
        resumable = on_disk(uri) is not None
        self._archive = None
        if config.output.refine:
            self._archive = Archive(online, config.refine, spills=resumable)
        tracker: Associator = self._archive or online
        self._spill: ArchiveFile | None = None
        self.sinks: list[Sink] = []
        try:
            if past:
                tracker.restore(past["associator"])
                checkpoint.restore_stats(self.stats, past)
            else:
                folder.set_aside()
                with new_file(folder / "run.toml", durable=True) as file:
                    file.write(run_toml(uri, config, detector, datetime.now(UTC)))
                if resumable:  # behind run.toml: what resumes it takes its settings from there
                    checkpoint.begin(folder / checkpoint.NAME, began)
            if self._archive and resumable:
                self._spill = ArchiveFile(folder.path, self._archive, past and past["archive"])
            self._open_sinks(config, past or {})
        except BaseException:
            self._close()
            if not past:
                folder.discard()
            raise
        parts: dict[str, checkpoint.Part] = {"log": self._log, "counts": self.counts}
        if video := self._video:
            parts["video"] = video
        self._keeper = None
        if resumable:
            self._keeper = checkpoint.Checkpointer(
                folder / checkpoint.NAME,
                tracker,
                source,
                parts,
                self.stats,
                spill=self._spill,
                began=began,
                span=span(began["detector"]["batch_size"], config.detector.every),
                durable=(lambda: video.durable) if video else None,
                done=self.stats.frames,
                every_s=config.output.checkpoint_s,
            )
        self.tracker = self._keeper or tracker
        self._first = not past  # frame of the run
        self._refresh = Refresh(lambda: self._report(running=True))

    def _open_sinks(self, config: RunConfig, past: dict[str, Any]) -> None:
        folder, info, categories = self._folder, self._source.info, self._detector.categories
        self._log = LogSink(
            folder / "tracks.jsonl",
            categories,
            rate=info.rate,
            source=redact(self._uri),
            state=past.get("log"),
        )
        self.sinks.append(self._log)
        self.counts = CountsSink(folder.path, categories, config.count, state=past.get("counts"))
        self.sinks.append(self.counts)
        self._video = None
        if config.output.video:  # last: a video that goes on is copied
            self._video = VideoSink(
                folder / "video.mp4",
                categories,
                output=config.output,
                count=config.count,
                rate=info.rate,
                pixel_aspect=info.pixel_aspect,
                find_audio=lambda: getattr(self._source, "audio", None),
                state=past.get("video"),
                counted=past.get("counts"),
            )
            self.sinks.append(self._video)

    def heard(self, result: FrameResult) -> None:
        """Note that all sinks have written a frame."""
        try:
            self._folder.check()
        except SinkError:
            self.counts.abandon()
            raise
        if self._first:
            self._folder.settle()
            self._first = False
        if self._keeper:
            self._keeper.write(result)
        self._refresh()

    def finish(self, error: BaseException | None) -> dict[str, Any]:
        """Write what is written at the end and return the report; raise `error`, or a new one."""
        if error and not self.stats.frames:
            self._close()
            self._folder.discard()
            raise error
        report: dict[str, Any] = {}
        try:
            if self._archive and self.stats.frames and not error:
                log = jsonl.read(self._folder / "tracks.jsonl")
                jsonl.write(refine(log, self._archive), self._folder / "tracks-refined.jsonl")
        except TrackerError as exc:
            error = exc
        try:
            self._folder.check()  # what is another run's by now is left alone
            if self._keeper:
                self._keeper.close()
            report = self._report(error)
        except TrackerError as exc:
            error = error or exc  # the first error is the one that explains
        finished = not (error or self.stats.stopped)
        try:
            if finished:  # first what says that there is more to do, then what that would need
                (self._folder / checkpoint.NAME).unlink(missing_ok=True)
            if self._spill:
                self._spill.close(keep=not finished)
        except TrackerError as exc:
            error = error or exc
        if error:
            raise error
        return report

    def _report(
        self, error: BaseException | None = None, *, running: bool = False
    ) -> dict[str, Any]:
        notes = []
        if self._video:
            notes = [*self._video.notes, getattr(self._source, "audio_note", None)]
        report = to_report(
            self._uri,
            self._began["source"],
            self._source,
            self._detector,
            self.stats,
            error,
            [note for note in notes if note],
            running=running,
        )
        write_json(self._folder / "report.json", report)
        return report

    def _close(self) -> None:
        """Release all files, whatever is wrong with them."""
        if self._spill:
            with suppress(TrackerError):
                self._spill.close(keep=True)
        for sink in self.sinks:
            with suppress(TrackerError):
                sink.close()


def _tracker(config: RunConfig) -> MaskTracker:
    return MaskTracker(config.tracker, carries=config.detector.every > 1)
