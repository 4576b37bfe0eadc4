"""Several streams side by side, each with a run folder of its own."""

import json
import threading
from contextlib import contextmanager

import pytest
from stubbed import BlankDetector
from test_pipeline import FakeSource

from tracker.config import load_config
from tracker.errors import SinkError, SourceError, UnexpectedError
from tracker.runs.many import Job, RunRequest, run_many
from tracker.sinks.log import LogSink
from tracker.video.picture import FrameMaker

CONFIG = load_config(None, ["output.video=false"])


class Camera(FakeSource):
    """Shows so many frames, then waits until the test says so, or fails; it drops none."""

    def __init__(self, n=None, *, until=None, error=None):
        super().__init__(n)
        self._until, self._error = until, error

    def __iter__(self):
        yield from super().__iter__()
        if self._until:
            assert self._until.wait(20)
        if self._error:
            raise self._error


@pytest.fixture
def streams(tmp_path, monkeypatch):
    """Return a function that lets streams run side by side.

    Its arguments are their sources by name, or the error that opening one raises.
    """

    @contextmanager
    def watch(_uri):
        yield Quiet()

    def start(should_stop=lambda: False, **sources):
        def open_source(uri, *_):
            source = sources[uri.rpartition("/")[2]]
            if isinstance(source, Exception):
                raise source
            return source

        monkeypatch.setattr("tracker.runs.run.open_source", open_source)
        request = RunRequest(CONFIG, lambda: detector, watch)
        jobs = [Job(f"rtsp://camera/{name}", tmp_path / name) for name in sources]
        return run_many(jobs, request, should_stop=should_stop)

    detector = BlankDetector()
    yield start
    assert not any(thread.name.startswith(("prefetch", "lane")) for thread in threading.enumerate())


class Quiet:
    def loading(self):
        pass

    def started(self, source, categories):
        pass

    def advanced(self, result, stats):
        pass


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_a_stream_that_ends_is_finished_while_the_others_go_on(streams, tmp_path):
    go_on = threading.Event()
    outcomes = streams(a=Camera(5, until=go_on), b=Camera(3, error=SourceError("b: went away")))
    first = next(outcomes)
    assert (first.job.folder.name, str(first.error)) == ("b", "b: went away")
    assert report_of(tmp_path / "b")["error"] == "b: went away"
    assert not (tmp_path / "b" / ".lock").exists()
    assert (tmp_path / "a" / ".lock").exists()
    go_on.set()
    [second] = outcomes
    assert second.report.finished
    assert second.report.frames == 5


def test_a_bug_in_one_stream_is_its_failure_alone(streams, tmp_path):
    outcomes = {
        o.job.folder.name: o
        for o in streams(a=Camera(40), b=Camera(3, error=TypeError("no such thing")))
    }
    assert outcomes["a"].report.finished
    assert "nobody foresaw (TypeError: no such thing)" in str(outcomes["b"].error)
    assert isinstance(outcomes["b"].error, UnexpectedError)
    report = report_of(tmp_path / "b")
    assert report["error"] == "TypeError: no such thing"
    assert report["traceback"].startswith("Traceback (most recent call last)")
    assert report_of(tmp_path / "a")["traceback"] is None


@pytest.mark.parametrize(
    "error", [SourceError("b: is not there"), OSError("no such device"), KeyError(7)]
)
def test_what_fails_to_open_leaves_nothing_behind(streams, tmp_path, error):
    [failed, done] = streams(a=Camera(5), b=error)
    assert failed.error is error or failed.error.__cause__ is error
    assert done.error is None
    assert report_of(tmp_path / "a")["finished"]
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("error", [ValueError("31 is no valid Type"), AssertionError()])
def test_a_bug_in_one_file_of_several_is_its_failure_alone(
    tracker, make_video, tmp_path, monkeypatch, error
):
    for name in "abc":
        make_video(name=f"{name}.mp4", frames=6)
    make, makers = FrameMaker.make, []

    def fail(self, picture, index, *arguments, **options):
        if self not in makers:
            makers.append(self)
        if makers.index(self) == 1 and index == 3:
            raise error
        return make(self, picture, index, *arguments, **options)

    monkeypatch.setattr(FrameMaker, "make", fail)
    monkeypatch.setattr("tracker.cli.run.load_detector", lambda _: BlankDetector())
    code, out, err = tracker("run", "a.mp4", "b.mp4", "c.mp4", "-o", "out", "--json", "--no-video")
    assert code == 1
    summaries = [json.loads(line) for line in out.splitlines()]
    assert [summary["finished"] for summary in summaries] == [True, False, True]
    assert type(error).__name__ in summaries[1]["error"]
    assert "Traceback" in err
    assert "please report it" in err
    report = report_of(tmp_path / "out" / "b")
    assert report["frames"] == 3
    assert type(error).__name__ in report["traceback"]

    makers.clear()
    monkeypatch.setattr(FrameMaker, "make", lambda *_, **__: {}["gone"])
    code, _, err = tracker("run", "a.mp4", "-o", "alone", "--no-video")
    assert code == 1
    assert "KeyError" in err


def test_who_hears_no_more_stops_all_streams_in_good_order(streams, tmp_path):
    outcomes = streams(a=Camera(), b=Camera(3, error=SourceError("b: went away")))
    next(outcomes)
    outcomes.close()
    report = report_of(tmp_path / "a")
    assert (report["stopped"], report["error"]) == (True, None)
    assert not (tmp_path / "a" / ".lock").exists()


def test_a_report_tells_the_older_errors_too(streams, tmp_path, monkeypatch):
    """A log that could not be written at frame 2 is noted on what ended the run at frame 6."""
    write = LogSink.write

    def full(self, result):
        if result.frame.index == 2:
            raise SinkError("disk full at 2")
        write(self, result)

    monkeypatch.setattr(LogSink, "write", full)
    outcomes = list(streams(a=Camera(6, error=SourceError("a: lost")), b=Camera(4)))
    assert {str(outcome.error) for outcome in outcomes} == {"a: lost", "disk full at 2"}
    assert report_of(tmp_path / "a")["error"] == "a: lost; also: disk full at 2"
