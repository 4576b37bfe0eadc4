"""A disk that fills up: what is said, and what survives."""

import errno
import json
import re
import shutil
import subprocess
from pathlib import Path

import av
import pytest
import stubbed

from tracker.config import load_config
from tracker.errors import SinkError
from tracker.files import GrowingFile
from tracker.formats import jsonl
from tracker.runs import checkpoint
from tracker.runs.folder import SpaceGuard
from tracker.runs.run import run_to_folder
from tracker.video.source import open_source


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small tmpfs cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    path = tmp_path_factory.mktemp("street") / "street.mp4"
    stubbed.SCENES["street"]().write_video(path)
    return path


def track(video, folder, *settings, resume=False):
    detector = stubbed.SlowDetector(stubbed.SCENES["street"](), 0.0)
    config = load_config(None, ["output.checkpoint_s=0.1", *settings])
    return run_to_folder(str(video), config, folder, get_detector=lambda: detector, resume=resume)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_full_disk_is_said_once_and_what_was_written_stays(street, small_disk):
    before = descriptors()
    with pytest.raises(SinkError, match=r"cannot be (written|finished): No space left on device"):
        track(street, small_disk / "run", "output.least_free_mb=0.0")
    assert descriptors() == before
    run = small_disk / "run"
    log = next(path for path in (run / "tracks.jsonl", run / "tracks.jsonl.part") if path.exists())
    frames = list(jsonl.read(log).frames)
    assert len(frames) > 50
    assert log.read_bytes().endswith(b"\n")
    for path in run.glob("video*.mp4"):  # where there is one it can be played
        assert len(list(open_source(path))) > 25
    if log.name.endswith(".part"):
        assert not (run / "counts.json").exists() or json.loads((run / "counts.json").read_text())


def test_little_room_stops_a_run_and_more_room_lets_it_go_on(street, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("tracker.runs.folder._LOOK_EVERY_S", 0.0)
    looks = []

    def fuller(_):
        looks.append(1)
        return usage._replace(free=int(1e9 if len(looks) < 60 else 5e7))

    monkeypatch.setattr("tracker.runs.folder.shutil.disk_usage", fuller)
    run = tmp_path / "run"
    with pytest.raises(SinkError, match=r"only 50 MB of the disk are free; make room") as error:
        track(street, run)
    assert f"then --resume {run}" in str(error.value)
    report = json.loads((run / "report.json").read_text())
    assert not report["finished"]
    assert len(list(jsonl.read(run / "tracks.jsonl").frames)) == report["frames"] < 200
    with av.open(str(run / "video.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == report["frames"]
    monkeypatch.setattr("tracker.runs.folder.shutil.disk_usage", lambda _: usage)
    assert track(street, run, resume=True).stats.frames == 200
    track(street, tmp_path / "whole")
    assert (run / "tracks.jsonl").read_bytes() == (tmp_path / "whole/tracks.jsonl").read_bytes()


def test_what_will_not_fit_is_said_long_before(street, tmp_path, monkeypatch, caplog):
    """100 MB and a bit are free: enough for about half of what is written."""
    whole = track(street, tmp_path / "whole")
    size = sum(path.stat().st_size for path in whole.folder.iterdir())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("tracker.runs.folder._LOOK_EVERY_S", 0.0)

    def small(folder):
        written = sum(path.stat().st_size for path in Path(folder).iterdir())
        return usage._replace(free=int(100e6 + size / 2 - written))

    monkeypatch.setattr("tracker.runs.folder.shutil.disk_usage", small)
    with pytest.raises(SinkError, match="only 100 MB of the disk are free"):
        track(street, tmp_path / "run")
    [said] = [line for line in caplog.messages if "at this rate" in line]
    told = int(re.search(r"will stop in good order at about frame (\d+) of 200", said)[1])
    stopped = json.loads((tmp_path / "run" / "report.json").read_text())["frames"]
    assert abs(told - stopped) < 40

    caplog.clear()
    monkeypatch.setattr("tracker.runs.folder.shutil.disk_usage", lambda _: usage)
    track(street, tmp_path / "run", resume=True)
    assert not caplog.messages


@pytest.mark.parametrize("settings", [[], ["output.refine=true"]], ids=str)
def test_a_folder_that_vanishes_ends_the_run(street, tmp_path, settings):
    """Open files could be written to the end of the night, and nobody would find them."""
    before, run = descriptors(), tmp_path / "run"
    detector = stubbed.SlowDetector(stubbed.SCENES["street"](), 0.0)
    seen = []

    def vanish(result, _):
        seen.append(result.frame.index)
        if len(seen) == 60:
            shutil.rmtree(run)

    with pytest.raises(SinkError, match=r"run: is gone, removed or with its disk"):
        run_to_folder(
            str(street),
            load_config(None, settings),
            run,
            get_detector=lambda: detector,
            on_result=vanish,
        )
    assert len(seen) in (60, 61)
    assert not run.exists()
    assert descriptors() == before


def test_a_folder_made_anew_is_another_runs(street, tmp_path, monkeypatch):
    """Somebody removes the folder and starts over while the first run is still at it."""
    monkeypatch.setattr("tracker.files._REFRESH_S", 1000.0)  # it sees it at the next frame
    run, seen = tmp_path / "run", []
    detector = stubbed.SlowDetector(stubbed.SCENES["street"](), 0.0)

    def start_over(result, _):
        seen.append(result.frame.index)
        if len(seen) == 60:
            shutil.rmtree(run)
            track(street, run)

    with pytest.raises(SinkError, match="is gone, removed or with its disk"):
        run_to_folder(
            str(street),
            load_config(None, ["output.checkpoint_s=0.1"]),
            run,
            get_detector=lambda: detector,
            on_result=start_over,
        )
    assert len(list(jsonl.read(run / "tracks.jsonl").frames)) == 200
    assert json.loads((run / "counts.json").read_text())["frames"] == 200
    assert json.loads((run / "report.json").read_text())["finished"]
    assert len(list(open_source(run / "video.mp4"))) == 200
    assert not [path.name for path in run.iterdir() if "part" in path.name]


def test_a_dead_disk_ends_the_run(street, tmp_path, monkeypatch):
    """Every write fails, and even to ask for its size: an error, and the first one, in time."""
    monkeypatch.setattr("tracker.runs.folder._LOOK_EVERY_S", 0.0)
    before, seen = descriptors(), []
    detector = stubbed.SlowDetector(stubbed.SCENES["street"](), 0.0)

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    def die(result, _):
        seen.append(result.frame.index)
        if len(seen) == 60:
            monkeypatch.setattr("tracker.runs.folder.shutil.disk_usage", fail)
            monkeypatch.setattr("tracker.files.os.write", fail)
            monkeypatch.setattr(Path, "replace", fail)
            monkeypatch.setattr(Path, "is_dir", fail)

    with pytest.raises(SinkError, match="its disk cannot be reached: Input/output error"):
        run_to_folder(
            str(street),
            load_config(None, []),
            tmp_path / "run",
            get_detector=lambda: detector,
            on_result=die,
        )
    monkeypatch.undo()
    assert len(seen) == 60
    assert descriptors() == before


def test_a_checkpoint_that_fails_once_is_told_and_made_up_for(
    street, tmp_path, monkeypatch, caplog
):
    write, calls = checkpoint.write, []

    def fail_second(path, content):
        calls.append(path)
        if len(calls) == 2:
            raise SinkError(f"{path}: cannot be written: No space left on device")
        write(path, content)

    monkeypatch.setattr(checkpoint, "_SHARE", float("inf"))  # so that no load makes them fewer
    monkeypatch.setattr(checkpoint, "write", fail_second)
    settings = ["output.video=false", "output.checkpoint_s=0.0"]
    assert track(street, tmp_path / "run", *settings).stats.frames == 200
    assert len(calls) > 4
    assert [text for text in caplog.messages if "goes on from before" in text] == caplog.messages
    assert len(caplog.messages) == 1


def test_the_second_log_of_refine_is_foreseen(tmp_path, monkeypatch):
    (tmp_path / "tracks.jsonl.part").write_bytes(bytes(1_000_000))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("tracker.runs.folder._LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(
        "tracker.runs.folder.shutil.disk_usage", lambda _: usage._replace(free=115_000_000)
    )
    for refines, warned in ((False, False), (True, True)):
        guard = SpaceGuard(tmp_path, 100.0, refines=refines)
        (tmp_path / "tracks.jsonl.part").write_bytes(b"")
        guard.check(1, 1000)
        (tmp_path / "tracks.jsonl.part").write_bytes(bytes(1_000_000))
        guard.check(101, 1000)  # 9 MB more will come, or twice that
        assert guard._warned is warned


def test_a_video_is_copied_before_it_goes_on(street, tmp_path, monkeypatch):
    run = tmp_path / "run"
    track(street, run)
    (run / "video.mp4").write_bytes(bytes(3_000_000))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        "tracker.runs.folder.shutil.disk_usage", lambda _: usage._replace(free=102_000_000)
    )
    SpaceGuard(run, 100.0)
    with pytest.raises(SinkError, match=r"102 MB of the disk are free and its video \(3 MB\) is"):
        SpaceGuard(run, 100.0, copies_video=True)


def test_too_little_room_is_said_before_anything_is_made(street, tmp_path):
    with pytest.raises(SinkError, match=r"only \d+ MB of the disk are free"):
        track(street, tmp_path / "run", "output.least_free_mb=1e12")
    assert not (tmp_path / "run").exists()


def test_a_line_that_does_not_fit_leaves_no_half(small_disk):
    file = GrowingFile(small_disk / "log")
    line = "x" * 99_999 + "\n"
    with pytest.raises(SinkError, match="No space left on device"):
        for _ in range(20):
            file.append(line)
    file.close()
    assert not (small_disk / "log").exists()
    content = (small_disk / "log.part").read_text()
    assert len(content) % 100_000 == 0
    assert re.fullmatch(r"(x+\n)+", content)
