"""What a killed run leaves, and how it goes on."""

import errno
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import stubbed
from archived import through_json
from conftest import ROOT, TINY_MODEL
from PIL import Image

from tracker.config import CountConfig, load_config
from tracker.count.stage import CountStage
from tracker.errors import ConfigError, FormatError, SinkError, TrackerError
from tracker.files import GrowingFile
from tracker.formats import jsonl
from tracker.runs import checkpoint
from tracker.runs.made import fingerprint, made_of
from tracker.runs.run import run_to_folder
from tracker.sinks.counts import CountsSink
from tracker.types import Detections, Frame, FrameResult, Tracks
from tracker.types.stages import as_detector

SAME = ("tracks.jsonl", "counts.json", "counts.csv", "events.jsonl")
LINE = "count.lines.middle=[0.5,0.0,0.5,1.0]"
OFTEN = "output.checkpoint_s=0.1"
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A video of 200 frames, and a run of it that nothing broke off."""
    root = tmp_path_factory.mktemp("street")
    stubbed.SCENES["street"]().write_video(root / "street.mp4")
    track(root / "street.mp4", root / "whole")
    return root


class BrokenOffError(Exception):
    """What ends a run in this file."""


def track(video, folder, *settings, until=None, resume=False, batch=4):
    """Run in this process; break off when frame `until` comes to the detector."""
    detector = stubbed.SlowDetector(stubbed.SCENES["street"](), 0.002)
    detector.batch_size = batch
    detect = detector.detect
    seen = []

    def detect_until(frames):
        seen.append(frames[0].index)
        if until is not None and frames[-1].index >= until:
            raise BrokenOffError
        return detect(frames)

    detector.detect = detect_until
    config = load_config(None, [LINE, OFTEN, *settings])
    done = 0
    with suppress(FileNotFoundError, ValueError):
        done = frames_done(folder) if resume else 0
    try:
        return run_to_folder(
            str(video), config, folder, get_detector=lambda: detector, resume=resume
        )
    except BrokenOffError:
        return None
    finally:
        assert seen[:1] in ([], [done])  # it went on from there, and did not start over


def frames_done(folder):
    return json.loads((folder / "checkpoint.json").read_text())["frames"]


def video_times(path):
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


def check_same(folder, whole, video=True):
    for name in SAME:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    if video:
        assert video_times(folder / "video.mp4") == video_times(whole / "video.mp4")
    report = json.loads((folder / "report.json").read_text())
    assert report["finished"]
    assert report["frames"] == 200
    assert report["input"] == json.loads((whole / "report.json").read_text())["input"]
    left = {path.name for path in folder.iterdir()}
    assert left <= {*SAME, "video.mp4", "report.json", "run.toml"}


@pytest.mark.parametrize(("batch", "every"), [(4, 1), (3, 2)])
def test_broken_off_twice_it_is_the_same_run(street, tmp_path, batch, every):
    settings = [f"detector.every={every}"]
    video = street / "street.mp4"
    track(video, tmp_path / "whole", *settings, batch=batch)
    run = tmp_path / "run"
    track(video, run, *settings, until=70, batch=batch)
    assert 20 <= frames_done(run) <= 70
    assert frames_done(run) % (batch * every) == 0
    track(video, run, *settings, until=150, batch=batch, resume=True)
    assert 90 <= frames_done(run) <= 150
    assert track(video, run, *settings, batch=batch, resume=True).stats.frames == 200
    check_same(run, tmp_path / "whole")


def start(*arguments, seconds="0.02", scene="street", **options):
    """Start the command with a detector of 50 frames a second."""
    script = [sys.executable, str(ROOT / "tests" / "stubbed.py"), scene, seconds, "run"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "demos")])
    return subprocess.Popen(
        [*script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(*arguments):
    """Run the command to its end; return its exit code and its errors."""
    process = start(*arguments)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def wait_for(process, ready):
    began = time.monotonic()
    while process.poll() is None and not ready():
        assert time.monotonic() - began < 60
        time.sleep(0.01)


def lines_in(log):
    return log.read_bytes().count(b"\n") if log.exists() else 0


def test_refined_tracks_are_the_same_too(street, tmp_path):
    settings = ["output.refine=true", "output.video=false", "detector.every=2"]
    video, run = street / "street.mp4", tmp_path / "run"
    track(video, tmp_path / "whole", *settings)
    for until in (70, 150, None):
        track(video, run, *settings, until=until, resume=True)
        assert (run / "archive.jsonl").exists() == (until is not None)
    for name in (*SAME, "tracks-refined.jsonl"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def kill_and_resume(street, run, kills, pause, *settings):
    """Kill a run again and again, at random instants; let it finish in the end."""
    log, dice = run / "tracks.jsonl.part", random.Random(kills)
    arguments = [street / "street.mp4", "-q", "--resume", run, *(f"--set={s}" for s in settings)]
    for _ in range(kills):
        size = log.stat().st_size if log.exists() else 0
        process = start(*arguments)
        wait_for(process, lambda size=size: log.exists() and log.stat().st_size != size)
        time.sleep(dice.uniform(0, pause))
        process.kill()
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
    assert finish(*arguments)[0] == 0


@pytest.mark.parametrize(
    "kills", [3, pytest.param(25, marks=pytest.mark.slow)], ids=lambda kills: f"{kills} kills"
)
def test_killed_at_random_instants_it_is_the_same_run(street, tmp_path, kills):
    kill_and_resume(street, tmp_path / "run", kills, 1.2 if kills < 10 else 0.6, LINE, OFTEN)
    check_same(tmp_path / "run", street / "whole")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("way", "step"),
    [("over", 37), *(pytest.param(w, 1, marks=SLOW) for w in ("fresh", "stale", "over"))],
)
def test_killed_before_any_file_operation_it_is_the_same_run(street, way, step):
    script = [sys.executable, str(ROOT / "tests" / "kill_points.py"), way]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "demos"), str(ROOT / "tests")])
    done = subprocess.run(
        [*script, str(street / "street.mp4"), str(step)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.stdout.strip().endswith(" operations, 0 problems"), done.stdout + done.stderr


def test_a_kill_takes_a_second_of_video_and_a_line_of_log(street, tmp_path):
    run = tmp_path / "run"
    log = run / "tracks.jsonl.part"
    process = start(street / "street.mp4", "-q", "-o", run)
    wait_for(process, lambda: lines_in(log) > 120 and (run / "counts.json").exists())
    process.kill()
    process.communicate()
    lines = lines_in(log) - 1
    assert lines >= 120
    assert len(list(jsonl.read(log).frames)) in (lines, lines + 1)
    times = video_times(run / "video.part.mp4")
    assert all(b > a for a, b in pairwise(times))
    counts = json.loads((run / "counts.json").read_text())
    assert 0 < counts["frames"] <= lines
    assert (run / "counts.csv").read_text().startswith("start,end,class,unique,new,max_at_once")
    report = json.loads((run / "report.json").read_text())
    assert 0 < report["frames"] <= lines
    assert not report["finished"]
    assert not report["stopped"]
    assert lines / 25 - times[-1] < 2.0  # an open group of a second, and what x264 looks ahead
    assert frames_done(run) <= len(times)


def test_a_stopped_run_goes_on(street, tmp_path):
    run = tmp_path / "run"
    process = start(street / "street.mp4", "-q", "-o", run, "-s", LINE, "-s", OFTEN)
    wait_for(process, lambda: lines_in(run / "tracks.jsonl.part") > 60)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate()
    assert process.returncode == 130
    assert time.monotonic() - began < 10
    assert (run / "video.mp4").is_file()  # an orderly stop leaves whole files
    assert 0 < json.loads((run / "report.json").read_text())["frames"] < 200
    assert finish("-q", "--resume", run) == (0, "")
    check_same(run, street / "whole")
    for again in (["--resume", run], [os.path.relpath(street / "street.mp4"), "--resume", run]):
        code, said = finish(*again)
        assert code == 0
        assert "is finished; --force does it again" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_stops_at_once(street, tmp_path, number):
    run = tmp_path / "run"
    process = start(street / "street.mp4", "-q", "-o", run, seconds="5")  # 20 s for a batch
    wait_for(process, (run / "tracks.jsonl.part").exists)
    time.sleep(0.5)
    process.send_signal(number)
    time.sleep(1.3)
    assert process.poll() is None  # it waits for the detector, to finish its files
    process.send_signal(number)
    _, said = process.communicate(timeout=5)
    assert process.returncode == 128 + number
    assert said == "tracker: stopped at once; unfinished files end in .part\n"
    assert frames_done(run) == 0  # and may go on: from the beginning


# ---- footage as phones make it ----------------------------------------------------------------


def uneven(frames=90):
    """Times of a phone: about 30 a second, never quite, and a pause."""
    dice, times = random.Random(3), [0.0]
    for k in range(1, frames):
        times.append(times[-1] + dice.uniform(0.025, 0.045) + (0.5 if k == 40 else 0.0))
    return [round(time * 90_000) / 90_000 for time in times]


def phone_clip(make_video, name="phone.mp4", codec="aac"):
    """Write an upright video that is stored lying, at uneven times, with sound."""
    path = make_video(name=name, times=uneven(), fps=30, audio=codec, texture=20)
    if name.endswith(".mp4"):
        data = bytearray(path.read_bytes())
        at = data.index(b"tkhd") + 44
        data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
        path.write_bytes(data)
    return path


def sound_times(path):
    with av.open(str(path)) as file:
        return [float(p.pts * p.time_base) for p in file.demux(audio=0) if p.pts is not None]


@pytest.mark.parametrize(("name", "codec"), [("phone.mp4", "aac"), ("phone.mkv", "pcm_s16le")])
@pytest.mark.parametrize("breaks", [(), (35, 70)], ids=str)
def test_times_sound_and_the_right_way_up(make_video, tmp_path, name, codec, breaks):
    video, run = phone_clip(make_video, name, codec), tmp_path / "run"
    for until in breaks:
        blank(video, run, until)
        assert 12 <= frames_done(run) <= until
    blank(video, run)
    expected = uneven()
    times = video_times(run / "video.mp4")
    assert len(times) == 90
    assert max(abs(a - b) for a, b in zip(times, expected, strict=True)) < 0.001
    logged = [frame.time for frame in jsonl.read(run / "tracks.jsonl").frames]
    assert max(abs(a - b) for a, b in zip(logged, expected, strict=True)) < 0.001
    with av.open(str(run / "video.mp4")) as file:
        picture = file.streams.video[0]
        assert (picture.width, picture.height) == ((64, 96) if name == "phone.mp4" else (96, 64))
        loud = np.concatenate([f.to_ndarray().ravel() for f in file.decode(audio=0)])
    assert np.abs(loud).max() > 0.1
    sound = sound_times(run / "video.mp4")
    steps = np.diff(sound)
    assert steps.min() > 0.015  # none twice
    assert steps.max() < 0.035  # none left out: AAC has a packet each 23 ms
    assert sound[0] <= 0.001
    assert sound[-1] == pytest.approx(expected[-1], abs=0.06)


def blank(video, run, until=None):
    """Track nothing in a video; break off at a frame, and go on."""
    detector = stubbed.BlankDetector()

    def detect(frames):
        if until is not None and frames[-1].index >= until:
            raise BrokenOffError
        time.sleep(0.005)
        return stubbed.BlankDetector.detect(detector, frames)

    detector.detect = detect
    config = load_config(None, ["output.checkpoint_s=0.0"])
    with suppress(BrokenOffError):
        run_to_folder(str(video), config, run, get_detector=lambda: detector, resume=True)


# ---- what is refused ------------------------------------------------------------------------


@pytest.fixture
def broken(street, tmp_path):
    """A run that was broken off at frame 70."""
    track(street / "street.mp4", tmp_path / "run", "output.video=false", until=70)
    return tmp_path / "run"


def go_on(video, run, *settings, **options):
    return track(video, run, "output.video=false", *settings, resume=True, **options)


def test_another_setting_is_named(street, broken):
    with pytest.raises(
        ConfigError, match=r"settings\.tracker\.new_score was 0\.6, is 0\.7"
    ) as error:
        track(
            street / "street.mp4",
            broken,
            "output.video=false",
            "tracker.new_score=0.7",
            resume=True,
        )
    assert "--force to start over" in str(error.value)
    assert frames_done(broken) > 20  # nothing is lost by asking


def test_another_video_is_named(street, broken, make_video):
    with pytest.raises(ConfigError, match=r"source\.bytes was \d+, is \d+; source\.sha256"):
        track(
            make_video(frames=200, width=640, height=360), broken, "output.video=false", resume=True
        )


def test_another_batch_size_is_named(street, broken):
    with pytest.raises(ConfigError, match=r"detector\.batch_size was 4, is 2"):
        go_on(street / "street.mp4", broken, batch=2)


def test_a_video_that_moved_is_the_same(street, broken, tmp_path):
    video = tmp_path / "moved.mp4"
    video.write_bytes((street / "street.mp4").read_bytes())
    assert go_on(video, broken).stats.frames == 200
    assert (broken / "counts.json").read_bytes() == (street / "whole/counts.json").read_bytes()


def test_a_file_url_is_a_file(street, tmp_path):
    uri = (street / "street.mp4").as_uri()
    track(uri, tmp_path / "run", "output.video=false", until=70)
    assert 12 <= frames_done(tmp_path / "run") <= 70
    assert go_on(street / "street.mp4", tmp_path / "run").stats.frames == 200
    for name in SAME[1:]:
        assert (tmp_path / "run" / name).read_bytes() == (street / "whole" / name).read_bytes()


def test_other_pictures_of_the_same_names_and_sizes(tmp_path):
    folder, run = tmp_path / "images", tmp_path / "run"
    folder.mkdir()
    for k in range(40):
        Image.new("RGB", (64, 48), (k, 2 * k, 90)).save(folder / f"{k:03d}.bmp")
    blank(folder, run, until=30)
    log = (run / "tracks.jsonl").read_bytes()
    Image.new("RGB", (64, 48), (200, 0, 0)).save(folder / "005.bmp")
    with pytest.raises(ConfigError, match=r"source\.sha256_of_images was"):
        blank(folder, run)
    assert (run / "tracks.jsonl").read_bytes() == log  # nothing is lost by asking
    Image.new("RGB", (64, 48), (5, 10, 90)).save(folder / "005.bmp")
    blank(folder, run)
    assert json.loads((run / "report.json").read_text())["frames"] == 40


def test_killed_before_the_first_checkpoint(street, tmp_path):
    """Whatever a kill in the first moments leaves, --resume starts, and refuses another video."""
    video, run = street / "street.mp4", tmp_path / "run"
    track(video, run, "output.video=false", until=0)
    assert not run.exists()
    run.mkdir()
    (run / "run.toml").write_text("# written first\n")
    (run / "checkpoint.json.part").write_text("{")
    track(video, run, "output.video=false", until=3, resume=True)
    assert not list(run.iterdir())  # broken off in good order before the first frame
    made = json.loads((street / "whole" / "report.json").read_text())["input"]["file"]
    began = began_with(video, "output.video=false")
    assert began.source == made
    checkpoint.write(run / "checkpoint.json", checkpoint.Checkpoint(began))
    (run / "tracks.jsonl.part").write_text("a line of a frame that no checkpoint has\n" * 9)
    for settings in (["output.video=true"], ["output.video=false", "tracker.new_score=0.7"]):
        with pytest.raises(ConfigError, match="cannot be resumed: settings"):
            track(video, run, *settings, resume=True)
    with pytest.raises(ConfigError, match=r"cannot be resumed: source\.bytes"):
        go_on(street / "whole" / "video.mp4", run)
    assert go_on(video, run).stats.frames == 200
    check_same(run, street / "whole", video=False)


def began_with(video, *settings):
    """Return what a run that begins now is made of."""
    detector = stubbed.SlowDetector(stubbed.SCENES["street"](), 0.0)
    config = load_config(None, [LINE, OFTEN, *settings])
    return made_of(fingerprint(str(video)), config, as_detector(detector).info)


def test_force_gives_nothing_up_before_the_first_frame(street, tmp_path):
    run, video = tmp_path / "run", street / "street.mp4"
    shutil.copytree(street / "whole", run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    def force(*settings):
        detector = stubbed.SlowDetector(stubbed.SCENES["street"](), 0.0)
        config = load_config(None, list(settings))
        return run_to_folder(str(video), config, run, get_detector=lambda: detector, replace=True)

    for wrong in ("count.lines.a=[5000,0,6000,0]", "source.start=9999"):
        with pytest.raises(TrackerError):
            force(wrong)
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    force("output.video=false")
    assert {path.name for path in run.iterdir()} == {
        *("tracks.jsonl", "counts.json", "counts.csv", "report.json", "run.toml")
    }


def test_an_old_run_that_cannot_be_set_aside_stays(street, tmp_path, monkeypatch):
    run, moved = tmp_path / "run", []
    shutil.copytree(street / "whole", run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    replace = Path.replace

    def fail_third(self, target):
        moved.append(self.name)
        if len(moved) == 3:
            raise OSError(errno.EIO, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_third)
    with pytest.raises(SinkError, match="cannot be cleared: Input/output error"):
        run_to_folder(
            str(street / "street.mp4"),
            load_config(None),
            run,
            get_detector=lambda: stubbed.BlankDetector(),
            replace=True,
        )
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_force_starts_a_resumed_run_over(street, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(street / "whole", run)
    assert finish("-q", "--resume", run, "--force", "-s", "output.checkpoint_s=0.0")[0] == 0
    for name in SAME:
        assert (run / name).read_bytes() == (street / "whole" / name).read_bytes()
    assert (run / "report.json").read_bytes() != (street / "whole" / "report.json").read_bytes()


def test_a_finished_run_is_known_from_everywhere(street, tmp_path, tracker, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(street / "whole", run)
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps(report | {"source": "street.mp4"}))
    monkeypatch.chdir("/")
    code, _, said = tracker("run", "--resume", run)
    assert (code, "is finished" in said) == (0, True)
    gone = tmp_path / "gone.mp4"  # an input may be removed when its run is done
    for uri, known in ((gone, 0), (tmp_path / "other.mp4", 2)):
        report["input"]["file"]["uri"] = str(gone)
        (run / "report.json").write_text(json.dumps(report))
        assert tracker("run", uri, "--resume", run)[0] == known
    report["input"]["file"] = {"uri": "http://camera/get?key=***"}
    (run / "report.json").write_text(json.dumps(report | {"source": "http://camera/get?key=***"}))
    code, _, said = tracker("run", "http://camera/get?key=tuesday", "--resume", run)
    assert code == 2  # what a URL shows today is not known to be the same
    assert "holds the finished run of http://camera/get?key=***" in said


def test_a_refused_resume_leaves_no_trace(street, tmp_path):
    run, video = tmp_path / "run", street / "street.mp4"
    track(video, run, until=70)
    log = (run / "tracks.jsonl").read_bytes()
    (run / "tracks.jsonl").write_bytes(log[:500])
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(SinkError, match="is shorter than when it was left"):
        track(video, run, resume=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    names = {name.removesuffix(".part"): content for name, content in before.items()}
    left = {path.name.removesuffix(".part"): path.read_bytes() for path in run.iterdir()}
    assert left.keys() == names.keys()
    assert left["video.mp4"] == names["video.mp4"]
    (run / "tracks.jsonl").unlink(missing_ok=True)
    (run / "tracks.jsonl.part").write_bytes(log)
    assert track(video, run, resume=True).stats.frames == 200
    check_same(run, street / "whole")


def test_weights_are_found_from_everywhere(street, tmp_path, tracker, monkeypatch):
    (tmp_path / "my.pth").write_bytes(b"")
    (tmp_path / "my.py").write_text("")
    found = load_config(None, ["detector.weights=my.pth", "detector.model=my.py:build"])
    monkeypatch.chdir(tmp_path)
    assert found.anchored().detector.weights == str(tmp_path / "my.pth")
    assert found.anchored().detector.model == f"{tmp_path / 'my.py'}:build"
    assert load_config(None).anchored() == load_config(None)


def test_several_videos_are_resumed_together(street, make_video, tmp_path):
    """One is done, one was broken off, one is no video, one has not begun."""
    out = tmp_path / "out"
    done, new = make_video(name="done.mp4", frames=10), make_video(name="new.mp4", frames=10)
    no_video = tmp_path / "no.mp4"
    no_video.write_text("nothing")
    settings = ["-q", "--no-video", "-s", LINE, "-s", OFTEN]
    assert finish(done, *settings, "-o", out / "done")[0] == 0
    stamp = (out / "done" / "report.json").stat().st_mtime_ns
    track(street / "street.mp4", out / "street", "output.video=false", until=70)
    videos = [done, street / "street.mp4", no_video, new]
    for _ in range(2):  # the second time all is done that can be done
        code, said = finish(*videos, "--resume", out, *settings)
        assert code == 1
        assert said.splitlines()[0].startswith(f"tracker: {no_video}: ")
        assert said.splitlines()[1:] == ["tracker: 1 of 4 videos failed"]
    assert (out / "done" / "report.json").stat().st_mtime_ns == stamp
    check_same(out / "street", street / "whole", video=False)
    assert json.loads((out / "new" / "report.json").read_text())["frames"] == 10
    assert finish(done, "--resume", out, *settings)[0] == 0  # a pattern may fit one of them
    assert not (out / "run.toml").exists()
    code, said = finish(done, new, "--resume", out / "done", *settings)
    assert code == 2
    assert "is the folder of one run" in said


def test_what_is_not_a_runs_own_is_not_overwritten(street, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    video = folder / "video.mp4"  # a name that a run would write to
    video.write_bytes((street / "street.mp4").read_bytes())
    for name, source in ((folder, street / "street.mp4"), (folder, video)):
        with pytest.raises(ConfigError, match="holds no checkpoint"):
            track(source, name, resume=True)
    config = load_config(None, [])
    for name in ("video.mp4", "video.part.mp4"):
        own = str(video.rename(folder / name))
        with pytest.raises(ConfigError, match="would be overwritten"):
            run_to_folder(own, config, folder, get_detector=stubbed.BlankDetector, replace=True)
        Path(own).rename(video)
    assert video.read_bytes() == (street / "street.mp4").read_bytes()
    assert [path.name for path in folder.iterdir()] == ["video.mp4"]


def test_what_only_says_when_to_stop_may_change(street, broken):
    settings = ["output.least_free_mb=1.0", "output.checkpoint_s=7.0"]
    assert go_on(street / "street.mp4", broken, *settings).stats.frames == 200


def test_a_log_with_a_hole_is_never_gone_on_with(street, tmp_path, monkeypatch):
    """The log fails in the middle: no checkpoint speaks of what came after it."""
    append, lines = GrowingFile.append, []

    def fail(self, text):
        if self._path.name == "tracks.jsonl":
            lines.append(text)
            if len(lines) == 120:
                self._broken = True
                raise SinkError("tracks.jsonl: cannot be written: Input/output error")
        append(self, text)

    monkeypatch.setattr(GrowingFile, "append", fail)
    video, run = street / "street.mp4", tmp_path / "run"
    with pytest.raises(SinkError, match="Input/output error"):
        track(video, run)
    monkeypatch.undo()
    assert 12 <= frames_done(run) < 120
    assert len(list(jsonl.read(run / "tracks.jsonl.part").frames)) == 118
    assert track(video, run, resume=True).stats.frames == 200
    check_same(run, street / "whole")


def test_the_finished_run_of_another_video_is_no_reason_to_rest(
    street, tmp_path, tracker, make_video
):
    for other in (tmp_path / "gone.mp4", make_video()):
        code, _, said = tracker("run", other, "--resume", street / "whole")
        assert code == 2
        assert f"holds the finished run of {street / 'street.mp4'}; give {other}" in said
    code, _, said = tracker(
        "run", "--resume", street / "whole", "--set", "tracker.new_score=0.7", "--line", "a=0,0,1,1"
    )
    assert code == 2
    assert "finished with other settings: count.lines.a was none, is [0.0, 0.0, 1.0, 1.0]; " in said
    assert "tracker.new_score was 0.6, is 0.7; give another --output, or --force" in said
    code, out, _ = tracker("run", "--resume", street / "whole", "--json")
    assert code == 0
    assert json.loads(out)["frames"] == 200


def test_a_change_of_size_does_not_stand_in_the_way(tmp_path):
    """Lines in px of the first size, restored where the size is another."""
    config = CountConfig(lines={"gate": (300.0, 10.0, 300.0, 200.0)})
    counts = CountsSink(tmp_path, ("", "person"), config)
    for index, width in enumerate((320, 160)):
        frame = Frame(index, index / 10, np.zeros((240 * width // 320, width, 3), np.uint8))
        counts.write(FrameResult(frame, Detections.empty(), Tracks.empty()))
    state, events = through_json(counts.counting.state()), counts.state()
    counts.close()
    (tmp_path / "again").mkdir()
    (tmp_path / "events.jsonl").rename(tmp_path / "again" / "events.jsonl")
    counting = CountStage(config, state)
    again = CountsSink(tmp_path / "again", ("", "person"), counting=counting, state=events)
    assert through_json(again.counting.state()) == state
    again.close()


def test_a_damaged_checkpoint_is_one_sentence(street, broken):
    point = broken / "checkpoint.json"
    text = point.read_text()
    for damaged, said in (
        (text.replace('"wall_s":', '"wall_t":'), "is damaged; --force starts the run over"),
        (text.replace('"frames":', '"frames":1', 1), "is damaged"),
        (text[:-100], "is not valid JSON"),
        (text.replace('"version":4', '"version":2'), "is no checkpoint of version 4"),
    ):
        assert damaged != text
        point.write_text(damaged)
        with pytest.raises(FormatError, match=said):
            go_on(street / "street.mp4", broken)
    point.write_text(text)
    assert go_on(street / "street.mp4", broken).stats.frames == 200


def test_a_shortened_log_is_one_sentence(street, broken):
    log = broken / "tracks.jsonl"
    os.truncate(log, 100)
    with pytest.raises(SinkError, match="is shorter than when it was left"):
        go_on(street / "street.mp4", broken)


def test_a_folder_is_one_runs(street, tmp_path):
    run, video = tmp_path / "run", street / "street.mp4"
    process = start(video, "-q", "-o", run, "-s", LINE, "-s", OFTEN)
    wait_for(process, (run / ".lock").exists)
    code, said = finish(video, "-o", run, "--force")
    process.kill()
    process.communicate()
    assert code == 2
    assert f"is being written by process {process.pid} on" in said
    track(video, run, resume=True)  # the dead hold no lock
    assert not (run / ".lock").exists()


def test_strict_tells_by_its_exit_code(tracker, make_video, tmp_path):
    video = make_video(texture=20)
    data = bytearray(video.read_bytes())
    place = data.find(b"mdat") + 4000
    data[place : place + 300] = bytes(300)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    options = ["-q", "--model", TINY_MODEL]
    assert tracker("run", damaged, "-o", tmp_path / "a", *options)[0] == 0
    assert tracker("run", damaged, "-o", tmp_path / "b", *options, "--strict")[0] == 3
    assert tracker("run", video, "-o", tmp_path / "c", *options, "--strict")[0] == 0
