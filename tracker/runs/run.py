"""Build the runs that settings name, let them run together, and finish their folders."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracker import pipeline
from tracker.config import RunConfig
from tracker.errors import ConfigError, SinkError, TrackerError, redact
from tracker.files import JsonObject, Refresh, new_file, write_json
from tracker.pipeline import Lane, RunStats
from tracker.runs import checkpoint
from tracker.runs.checkpoint import Checkpoint, Checkpointer
from tracker.runs.folder import RunFolder, SpaceGuard, is_own
from tracker.runs.made import fingerprint, made_of
from tracker.runs.outputs import Outputs
from tracker.runs.record import Report, run_toml, to_report
from tracker.runs.resume import check_same, find
from tracker.runs.track import make_tracker
from tracker.snapshot import Snapshot
from tracker.types import FrameResult
from tracker.types.stages import Source, as_detector
from tracker.video.address import on_disk
from tracker.video.source import open_source

OnStart = Callable[[Source, Sequence[str]], None]
OnResult = Callable[[FrameResult, RunStats], None]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a finished run left behind."""

    folder: Path
    stats: RunStats
    counts: JsonObject  # the content of counts.json
    report: Report


def run_to_folder(
    uri: str,
    config: RunConfig,
    output: Path,
    *,
    get_detector: Callable[[], Any],
    replace: bool = False,
    resume: bool = False,
    on_start: OnStart | None = None,
    on_result: OnResult | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Track one video and write its run folder.

    The source is opened first, then the folder made, then the detector fetched: what fails early
    leaves nothing behind. Raises TrackerError; after an error in mid-run the files hold all frames
    up to it and report.json the reason. With `resume` the run in the folder goes on where its
    checkpoint was taken; where there is none yet, it starts.
    """
    with OpenRun(
        uri,
        config,
        output,
        get_detector=get_detector,
        replace=replace,
        resume=resume,
        on_result=on_result,
    ) as opened:
        if on_start:
            opened.tell(on_start)
        return run_alone(opened, should_stop)


def run_alone(run: OpenRun, should_stop: Callable[[], bool]) -> RunResult:
    """Let one run go to its end and finish it; raise what ended it."""
    for _ in run_together([run], should_stop=should_stop):
        pass
    return run.finish()


def run_together(
    runs: Sequence[OpenRun], *, should_stop: Callable[[], bool] = lambda: False
) -> Generator[OpenRun, None, None]:
    """Let runs of one detector go side by side, a lane each; yield each when its lane has ended.

    `OpenRun.finish` tells how it went.
    """
    of_lane = {run.lane: run for run in runs if not run.lane.ended}
    yield from (run for run in runs if run.lane.ended)
    if not of_lane:
        return
    detector = next(iter(of_lane.values())).detector
    size = detector.info.batch_size
    with closing(
        pipeline.as_ended(list(of_lane), detector, batch_size=size, should_stop=should_stop)
    ) as ended:
        for lane in ended:
            yield of_lane[lane]


class OpenRun:
    """A run that is ready to begin, or to go on: its lane, and all that it leaves in its folder.

    Used as a context: the folder is given back at its end, whatever became of the run.
    """

    def __init__(
        self,
        uri: str,
        config: RunConfig,
        output: Path,
        *,
        get_detector: Callable[[], Any],
        replace: bool = False,
        resume: bool = False,
        on_result: OnResult | None = None,
    ) -> None:
        """Open source, folder and outputs; raise TrackerError and leave nothing behind."""
        self._uri, self._config, self._hear = uri, config, on_result
        self._finished = False
        with ExitStack() as stack:
            past = find(output) if resume else None
            snapshot = past.snapshot if past else None
            self._source = _open_source(uri, config, output, snapshot)
            stack.callback(self._source.close)
            self._folder = RunFolder(output, replace=replace, resume=resume)
            stack.callback(self._folder.release)
            try:
                self._prepare(output, past, get_detector, resume=resume)
            except BaseException:
                self._folder.remove_if_empty()
                raise
            self._open_outputs(snapshot)
            self._stack = stack.pop_all()

    def __enter__(self) -> OpenRun:
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            if not self._finished:  # something else went wrong: as if somebody had stopped it
                self.lane.stats.stopped |= not self.lane.ended
                self.lane.end(None)
                with suppress(BaseException):  # what went wrong is on its way
                    self.finish()

    def tell(self, on_start: OnStart) -> None:
        """Say that the run begins; what fails in that ends it before it has begun."""
        try:
            on_start(self._source, self.detector.categories)
        except BaseException as exc:
            self.lane.begin()
            self.lane.end(exc)

    def finish(self) -> RunResult:
        """Write what is written at the end; raise what ended the run, or a newer error."""
        lane, self._finished = self.lane, True
        if not lane.stats.frames and (lane.error or lane.stats.stopped):
            self._outputs.close()
            self._folder.discard()  # what it would have replaced comes back
            if lane.error:
                raise lane.error
            folder, summary = self._folder.path, self._outputs.summary()
            return RunResult(folder, lane.stats, summary, self._to_report())
        error, report = lane.error, None
        with _Errors(error) as errors:
            if lane.stats.frames and not error:
                errors.collect(self._outputs.refine)
            report = errors.collect(self._write_end, errors.error)
            finished = not (errors.error or lane.stats.stopped)
            if finished:  # first what says that there is more to do, then what that would need
                errors.collect((self._folder / checkpoint.NAME).unlink, missing_ok=True)
            errors.collect(self._outputs.release, keep=not finished and self._resumable)
            errors.collect(self._folder.release)
        assert report is not None
        return RunResult(self._folder.path, lane.stats, self._outputs.summary(), report)

    # ---- opening ----------------------------------------------------------------------------

    def _prepare(
        self,
        output: Path,
        past: Checkpoint | None,
        get_detector: Callable[[], Any],
        *,
        resume: bool,
    ) -> None:
        """See that there is room, and that the run is made of what it was made of."""
        if resume and find(output) != past:
            raise ConfigError(f"{output}: another run has just written there; try again")
        self._space = SpaceGuard(
            output,
            self._config.output.least_free_mb,
            copies_video=bool(past and past.snapshot) and self._config.output.video,
            refines=self._config.output.refine,
        )
        self.detector = as_detector(get_detector())
        self.detector.reset()
        self._made = made_of(fingerprint(self._uri), self._config, self.detector.info)
        if past:
            check_same(past.made, self._made, output)

    def _open_outputs(self, past: Snapshot | None) -> None:
        """Begin in the folder, or go on with what `past` says of it."""
        self._resumable = on_disk(self._uri) is not None
        associator = make_tracker(self._config)
        try:
            if past is None:
                self._begin()
            elif past.tracker:
                associator.restore(past.tracker)
            categories = self.detector.categories
            self._outputs = Outputs(
                self._folder, redact(self._uri), self._config, self._source.info, categories, past
            )
        except BaseException:
            if past is None:
                self._folder.discard()
            raise
        stats = RunStats.after(past)
        self._keeper = self._open_keeper(stats.frames) if self._resumable else None
        self._settled = past is not None  # the run that was there before is given up
        self._refresh = Refresh(lambda: self._write_report(running=True))
        self.lane = Lane(
            self._source,
            associator,
            self._outputs.sinks,
            counting=self._outputs.counting,
            every=self._config.detector.every,
            recorder=self._keeper,
            on_result=self._after_frame,
            stats=stats,
        )

    def _begin(self) -> None:
        self._folder.set_aside()
        info = self.detector.info
        with new_file(self._folder / "run.toml", durable=True) as file:
            file.write(run_toml(self._uri, self._config, info, datetime.now(UTC)))
        if self._resumable:  # behind run.toml: what resumes it takes its settings from there
            checkpoint.write(self._folder / checkpoint.NAME, Checkpoint(self._made))

    def _open_keeper(self, done: int) -> Checkpointer:
        return Checkpointer(
            self._folder / checkpoint.NAME,
            self._made,
            self._outputs.states,
            durable=self._outputs.durable,
            check=self._check_folder,
            done=done,
            every_s=self._config.output.checkpoint_s,
        )

    # ---- on the way -------------------------------------------------------------------------

    def _after_frame(self, result: FrameResult, stats: RunStats) -> None:
        """Note that all sinks have written a frame."""
        self._check_folder()
        if not self._settled:
            self._folder.settle()
            self._settled = True
        if self._keeper:
            self._keeper.advance()
        self._refresh()
        if self._hear:
            self._hear(result, stats)
        self._space.check(stats.frames, self._source.info.frame_count)

    def _check_folder(self) -> None:
        """Raise SinkError where the folder is another run's by now."""
        try:
            self._folder.check()
        except SinkError:
            self._outputs.abandon()
            raise

    # ---- at the end -------------------------------------------------------------------------

    def _write_end(self, error: BaseException | None) -> Report:
        self._folder.check()  # what is another run's by now is left alone
        if self._keeper:
            self._keeper.advance()
        return self._write_report(error)

    def _write_report(self, error: BaseException | None = None, *, running: bool = False) -> Report:
        report = self._to_report(error, running=running)
        write_json(self._folder / "report.json", report.model_dump())
        return report

    def _to_report(self, error: BaseException | None = None, *, running: bool = False) -> Report:
        return to_report(
            self._uri,
            self._made.source,
            self._source.report,
            self.detector.info,
            self.lane.stats,
            error,
            self._outputs.notes,
            remarks=self._source.info.remarks,
            running=running,
        )


class _Errors:
    """Does several things in spite of errors; the first one is raised at the end."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def __enter__(self) -> _Errors:
        return self

    def __exit__(self, *_: object) -> None:
        if self.error:
            raise self.error

    def collect(self, do: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Return what a call gives, None where it fails."""
        try:
            return do(*arguments, **options)
        except TrackerError as exc:
            self.error = self.error or exc  # the first error is the one that explains
            return None


def _open_source(uri: str, config: RunConfig, output: Path, past: Snapshot | None) -> Source:
    source = open_source(uri, config.source, past.source if past else None)
    with ExitStack() as stack:
        stack.callback(source.close)
        if config.output.refine and source.info.live:
            raise ConfigError(f"{uri}: is a live source; --refine needs a whole video")
        path = on_disk(uri)
        if path and is_own(Path(path), output):
            raise ConfigError(f"{uri}: would be overwritten; give another --output")
        stack.pop_all()
    return source
