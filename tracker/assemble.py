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
from tracker.errors import ConfigError, ModelError, TrackerError, redact
from tracker.formats import jsonl
from tracker.formats.text import new_file, write_json
from tracker.pipeline import RunStats, run, span, stream
from tracker.report import made_of, run_toml, to_report
from tracker.sinks.archive import ArchiveFile
from tracker.sinks.counts import CountsSink
from tracker.sinks.folder import FILES, Refresh, RunFolder, SpaceGuard
from tracker.sinks.log import LogSink
from tracker.sinks.video import VideoSink
from tracker.types import (
    DetectionLog,
    Detector,
    FrameResult,
    LoggedFrame,
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
    started = datetime.now(UTC)
    past = checkpoint.find(output) if resume else None
    source = open_source(uri, config.source, past and past["source"])
    with ExitStack() as stack:
        stack.enter_context(closing(source))
        if config.output.refine and source.info.live:
            raise ConfigError(f"{uri}: is a live source; --refine needs a whole video")
        path = on_disk(uri)
        if path and Path(path).resolve() in {(output / name).resolve() for name in FILES}:
            raise ConfigError(f"{uri}: would be overwritten; give another --output")
        folder = RunFolder(output, replace=replace or (resume and not past), resume=resume)
        stack.callback(folder.release)
        try:
            if resume and checkpoint.find(output) != past:
                raise ConfigError(f"{output}: another run has just written there; try again")
            space = SpaceGuard(
                output, config.output.least_free_mb, copies_video=bool(past) and config.output.video
            )
            detector = get_detector()
            began = made_of(checkpoint.fingerprint(uri), config, detector)
            if past:
                checkpoint.compare(past["began"], began, output)
        except BaseException:
            folder.remove_if_empty()
            raise
        stats, error = RunStats(), None
        online = _tracker(config)
        resumable = path is not None and not Path(path).is_fifo()
        archive = Archive(online, config.refine, spills=resumable) if config.output.refine else None
        tracker, spill = archive or online, None
        try:
            if past:
                tracker.restore(past["associator"])
                checkpoint.restore_stats(stats, past)
            else:
                folder.clear()  # only from here on the run that was there is given up
                if resumable:
                    checkpoint.begin(folder / checkpoint.NAME, began)
                with new_file(folder / "run.toml") as file:
                    file.write(run_toml(uri, config, detector, started))
            if archive and resumable:
                spill = ArchiveFile(folder.path, archive, past and past["archive"])
            sinks = _build_sinks(folder, config, source, detector.categories, redact(uri), past)
        except BaseException:
            if not past:
                folder.discard()
            raise
        log, counts, video = sinks
        keeper = None
        if resumable:
            keeper = checkpoint.Checkpointer(
                folder / checkpoint.NAME,
                tracker,
                source,
                {"log": log, "counts": counts, **({"video": video} if video else {})},
                stats,
                spill=spill,
                began=began,
                span=span(began["detector"]["batch_size"], config.detector.every),
                durable=(lambda: video.durable) if video else None,
                done=stats.frames,
                every_s=config.output.checkpoint_s,
            )

        def report_now(*, running: bool = False) -> dict[str, Any]:
            said = [*video.notes, getattr(source, "audio_note", None)] if video else []
            notes = [note for note in said if note]
            file = began["source"]
            report = to_report(uri, file, source, detector, stats, error, notes, running=running)
            write_json(folder / "report.json", report)
            return report

        refresh = Refresh(lambda: report_now(running=True))

        def heard(result: FrameResult, stats: RunStats) -> None:
            if keeper:
                keeper.write(result)
            if on_result:
                on_result(result, stats)
            refresh()
            space.check(stats.frames, source.info.frame_count)

        try:
            if on_start:
                on_start(source, detector.categories)
            run(
                source,
                detector,
                keeper or tracker,
                [sink for sink in sinks if sink is not None],
                batch_size=began["detector"]["batch_size"],
                every=config.detector.every,
                stats=stats,
                on_result=heard,
                should_stop=should_stop,
            )
        except BaseException as exc:
            error = exc
        if keeper:
            keeper.close()
        if not stats.frames and error:
            if spill:
                spill.close(keep=False)
            for sink in sinks:
                if sink is not None:
                    with suppress(TrackerError):
                        sink.close()
            folder.discard()
            raise error
        try:
            if archive and stats.frames and not error:
                log_so_far = jsonl.read(folder / "tracks.jsonl")
                jsonl.write(refine(log_so_far, archive), folder / "tracks-refined.jsonl")
        except TrackerError as exc:
            error = exc
        try:
            report = report_now()
        except TrackerError as exc:
            error = error or exc  # the first error is the one that explains
        finished = not (error or stats.stopped)
        if finished:  # first what says that there is more to do, then what that would need
            (folder / checkpoint.NAME).unlink(missing_ok=True)
        if spill:
            spill.close(keep=not finished)
        if error:
            raise error
    return RunResult(output, stats, counts.summary(), report)


def _tracker(config: RunConfig) -> MaskTracker:
    return MaskTracker(config.tracker, carries=config.detector.every > 1)


def _build_sinks(
    folder: RunFolder,
    config: RunConfig,
    source: Source,
    categories: Sequence[str],
    name: str,
    past: dict[str, Any] | None,
) -> tuple[LogSink, CountsSink, VideoSink | None]:
    rate, past = source.info.rate, past or {}
    video = None
    if config.output.video:
        video = VideoSink(
            folder / "video.mp4",
            categories,
            output=config.output,
            count=config.count,
            rate=rate,
            pixel_aspect=source.info.pixel_aspect,
            find_audio=lambda: getattr(source, "audio", None),
            state=past.get("video"),
            counted=past.get("counts"),
        )
    log = LogSink(
        folder / "tracks.jsonl", categories, rate=rate, source=name, state=past.get("log")
    )
    counts = CountsSink(folder.path, categories, config.count, state=past.get("counts"))
    return log, counts, video
