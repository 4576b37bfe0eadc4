"""Several videos: a run folder for each, one after the other, or streams side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tracker.config import RunConfig
from tracker.errors import ConfigError, SourceError, TrackerError, UnexpectedError, redact
from tracker.files import JsonObject, read_json
from tracker.pipeline import RunStats
from tracker.runs.record import Report, RunRecord
from tracker.runs.resume import check_finished
from tracker.runs.run import OpenRun, RunResult, run_alone, run_together
from tracker.types import FrameResult
from tracker.types.stages import Source
from tracker.video.address import is_camera, is_live, on_disk


@dataclass(frozen=True, slots=True)
class Job:
    """One video and where its run goes."""

    uri: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one video."""

    job: Job
    report: Report | None = None
    counts: JsonObject | None = None  # the content of counts.json
    error: TrackerError | None = None
    result: RunResult | None = None  # None where it was finished before, or failed


class Watch(Protocol):
    """Hears how a video's run goes, from when it is opened to its end."""

    def loading(self) -> None:
        """The source is known to be good; the model is loaded."""

    def started(self, source: Source, categories: Sequence[str]) -> None:
        """Frames begin to flow."""

    def advanced(self, result: FrameResult, stats: RunStats) -> None:
        """A frame is done."""


Watching = Callable[[str], AbstractContextManager[Watch]]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """How the runs of a command are to be made."""

    config: RunConfig
    get_detector: Callable[[], Any]
    watch: Watching
    replace: bool = False  # runs that are there
    resume: bool = False  # runs that are there and not finished
    named: bool = True  # the videos were named, not only their runs


def run_many(
    jobs: Sequence[Job], request: RunRequest, *, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Outcome]:
    """Run all videos and yield what became of each; one that fails stops none of the others.

    Files run one after the other; several streams side by side, in lanes of one model. Raises
    ConfigError where a file would wait for a stream that never ends.
    """
    if runs_together(jobs):
        yield from _side_by_side(jobs, request, should_stop)
        return
    for job in jobs[:-1]:
        if is_live(job.uri):
            raise _endless(job)
    for job in jobs:
        if should_stop():
            return
        try:
            yield _finished(job, request) or _run(job, request, should_stop, last=job is jobs[-1])
        except Exception as exc:
            yield _failed(job, exc)


def runs_together(jobs: Sequence[Job]) -> bool:
    """Whether these run side by side: several, and none ends by itself."""
    return len(jobs) > 1 and all(is_live(job.uri) for job in jobs)


def _finished(job: Job, request: RunRequest) -> Outcome | None:
    """Return the outcome of a run that was finished before, where it is to be left alone."""
    if not request.resume:
        return None
    record = RunRecord.read(job.folder)
    if not record.finished:
        return None
    check_finished(record, job.uri if request.named else None, request.config)
    counts = job.folder / "counts.json"
    return Outcome(job, record.report, read_json(counts) if counts.is_file() else None)


def _run(job: Job, request: RunRequest, should_stop: Callable[[], bool], *, last: bool) -> Outcome:
    with request.watch(job.uri) as watch, _open(job, request, watch) as run:

        def start(source: Source, categories: Sequence[str]) -> None:
            if source.info.live and not last:
                raise _endless(job)
            watch.started(source, categories)

        run.tell(start)
        return _outcome(job, run_alone(run, should_stop))


def _side_by_side(
    jobs: Sequence[Job], request: RunRequest, should_stop: Callable[[], bool]
) -> Iterator[Outcome]:
    """Open all streams, then let them run together; yield what became of each as it ends."""
    opened: dict[OpenRun, Job] = {}
    with ExitStack() as stack:
        for job in jobs:
            watch = stack.enter_context(request.watch(job.uri))
            try:
                run = stack.enter_context(_open(job, request, watch))
            except Exception as exc:
                yield _failed(job, exc)
                continue
            opened[run] = job
            run.tell(watch.started)
        ended = run_together(list(opened), should_stop=should_stop)
        for run in stack.enter_context(closing(ended)):
            job = opened[run]
            try:
                yield _outcome(job, run.finish())
            except Exception as exc:
                yield _failed(job, exc)


def _open(job: Job, request: RunRequest, watch: Watch) -> OpenRun:
    """Open one run; raise TrackerError."""

    def load() -> Any:
        watch.loading()
        return request.get_detector()

    return OpenRun(
        job.uri,
        request.config,
        job.folder,
        get_detector=load,
        replace=request.replace,
        resume=request.resume,
        on_result=watch.advanced,
    )


def _outcome(job: Job, result: RunResult) -> Outcome:
    return Outcome(job, result.report, result.counts, result=result)


def _failed(job: Job, error: Exception) -> Outcome:
    """Return the outcome of a video that failed, be it by a bug: the others are not to suffer."""
    if not isinstance(error, TrackerError):
        error = UnexpectedError(job.uri, error)
    return Outcome(job, error=error)


def _endless(job: Job) -> ConfigError:
    return ConfigError(
        f"{job.uri}: is a live source, and the other videos would wait for its end; run it in a "
        "command of its own"
    )


def choose_folders(
    videos: list[str], output: Path | None, resume: Path | None, *, replace: bool
) -> list[Path]:
    """Return a folder for each video; no two are the same, none of an earlier run is reused.

    `output`, or `resume`, is the folder of a single video's run, and of several videos' folders;
    `resume` also of a single one, where it is what holds run folders.
    Raises ConfigError where it cannot be.
    """
    named = resume or output
    if named is not None and len(videos) == 1 and not _holds_runs(resume):
        return [named]
    if _is_run(resume):
        raise ConfigError(
            f"{resume}: is the folder of one run; with several videos --resume takes the folder "
            "in which their run folders are"
        )
    parent = named or Path("runs")
    taken = [] if named is not None or replace else list(parent.glob("*"))
    chosen: list[Path] = []
    for uri in videos:
        chosen.append(_free(parent / folder_name(uri), [*taken, *chosen]))
    return chosen


def _is_run(folder: Path | None) -> bool:
    return folder is not None and (folder / "run.toml").exists()


def _holds_runs(folder: Path | None) -> bool:
    return folder is not None and not _is_run(folder) and any(folder.glob("*/run.toml"))


def _free(folder: Path, taken: Sequence[Path]) -> Path:
    """Return a folder that is not taken: itself, or with the next number behind its name."""
    free, number = folder, 1
    while free in taken:
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def folder_name(uri: str) -> str:
    """Return a safe folder name for a source."""
    try:
        place = on_disk(uri)
    except SourceError:  # which is told when its turn comes
        place = None
    text = {"-": "stdin"}.get(uri) or redact(place or uri)
    if "://" in text:
        text = text.partition("://")[2].replace("***@", "").partition("?")[0]
        text = text.strip("/").replace("/", "-")
    else:
        text = f"camera{uri}" if is_camera(uri) and uri.isdecimal() else Path(text.rstrip("/")).stem
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in text).strip("._")
    return safe[:64] or "video"
