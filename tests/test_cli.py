import json
import os
import signal
import subprocess
import sys
import time

import av
import pytest
import torch
from conftest import TINY_MODEL

from tracker.config import load_config
from tracker.formats import FORMATS, get_format
from tracker.runs.many import choose_folders, folder_name
from tracker.video.source import open_source

RUN_FILES = {"video.mp4", "tracks.jsonl", "counts.json", "counts.csv", "report.json", "run.toml"}
TINY = ["--model", TINY_MODEL]


def test_a_run_from_end_to_end(tracker, make_video, tmp_path):
    video = make_video(name="street.mp4", frames=20, width=160, height=120, audio="aac")
    code, out, err = tracker("run", video, *TINY, "--line", "door=0.5,0,0.5,1")
    assert code == 0, err
    folder = tmp_path / "runs" / "street"
    assert {p.name for p in folder.iterdir()} == RUN_FILES | {"events.jsonl"}
    assert "20 frames in" in out
    assert "runs/street/" in out

    log = get_format("jsonl").read(folder / "tracks.jsonl")
    frames = list(log.frames)
    assert [f.index for f in frames] == list(range(20))
    assert log.info.categories == ("__background__", "person", "car", "dog")
    assert log.info.rate == 10

    pictures = list(open_source(folder / "video.mp4"))
    assert [p.time for p in pictures] == pytest.approx([f.time for f in frames], abs=1e-4)
    with av.open(str(folder / "video.mp4")) as file:
        assert file.streams.audio

    report = json.loads((folder / "report.json").read_text())
    assert report["finished"]
    assert report["frames"] == report["input"]["frames"] == 20
    assert report["detector"]["precision"] in ("float32", "bfloat16")
    assert report["detector"]["notes"] == []
    assert report["input"]["complete"]
    assert set(report["speed"]["stages"]) == {"decode", "detect", "associate", "write"}
    counts = json.loads((folder / "counts.json").read_text())
    ids = {int(i) for f in frames for i in f.tracks.ids}
    assert {item["id"] for item in counts["objects"]} == ids
    assert set(counts["lines"]) == {"door"}

    settings = load_config(folder / "run.toml")
    assert settings.detector.model == TINY_MODEL
    assert settings.count.lines == {"door": (0.5, 0, 0.5, 1)}


def test_the_same_run_gives_the_same_log(tracker, make_video, tmp_path):
    video = make_video(frames=12, width=160, height=120)
    for name in ("a", "b"):
        assert tracker("run", video, *TINY, "-o", tmp_path / name, "--quiet")[0] == 0
    same = [(tmp_path / name / "tracks.jsonl").read_bytes() for name in ("a", "b")]
    assert same[0] == same[1]


def test_several_videos_get_a_folder_each(tracker, make_video, tmp_path):
    one, two = make_video(name="one.mp4", frames=3), make_video(name="two.mp4", frames=3)
    code, _, err = tracker("run", one, two, *TINY, "-o", "out", "--no-video")
    assert code == 0, err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"one", "two"}
    assert {p.name for p in (tmp_path / "out" / "two").iterdir()} == RUN_FILES - {"video.mp4"}


def test_one_bad_video_does_not_stop_the_others(tracker, make_video, tmp_path):
    good = make_video(name="good.mp4", frames=3)
    code, _, err = tracker("run", "missing.mp4", good, *TINY, "-o", "out", "-q")
    assert code == 1
    assert "missing.mp4: No such file" in err
    assert "1 of 2 videos failed" in err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"good"}


def test_json_for_scripts(tracker, make_video):
    code, out, _ = tracker("run", make_video(frames=5), *TINY, "--json")
    assert code == 0
    summary = json.loads(out)
    assert summary["frames"] == 5
    assert summary["finished"]
    assert summary["folder"] == "runs/video"


def test_quiet_says_nothing(tracker, make_video):
    assert tracker("run", make_video(frames=3), *TINY, "-q") == (0, "", "")


def test_plain_output_where_there_is_no_terminal(tracker, make_video):
    _, out, err = tracker("run", make_video(frames=3), *TINY)
    assert "\x1b" not in out + err
    assert "96x64 px, 10 fps, 3 frames" in err


def test_a_part_and_classes(tracker, make_video, tmp_path):
    video = make_video(frames=20)
    args = ["--start", "0.5", "--end", "15f", "--stride", "2", "--classes", "person,dog"]
    assert tracker("run", video, *TINY, *args, "-o", "part", "-q")[0] == 0
    frames = list(get_format("jsonl").read(tmp_path / "part" / "tracks.jsonl").frames)
    assert [f.index for f in frames] == [5, 7, 9, 11, 13]
    assert frames[0].time == pytest.approx(0.5)
    assert not {int(i) for f in frames for i in f.tracks.labels} & {2}


def test_a_run_is_not_overwritten_by_accident(tracker, make_video, tmp_path):
    video = make_video(frames=3)
    assert tracker("run", video, *TINY, "-o", "out", "-q")[0] == 0
    before = (tmp_path / "out" / "tracks.jsonl").stat().st_mtime_ns
    code, _, err = tracker("run", video, *TINY, "-o", "out", "-q")
    assert code == 2
    assert "already holds a run" in err
    assert (tmp_path / "out" / "tracks.jsonl").stat().st_mtime_ns == before
    assert tracker("run", video, "--model", "none", "-o", "out", "-q", "--force")[0] == 2
    assert (tmp_path / "out" / "tracks.jsonl").exists()  # kept until the new run can begin
    assert tracker("run", video, *TINY, "-o", "out", "-q", "--force")[0] == 0
    assert tracker("run", video, *TINY, "-q")[0] == 0
    assert tracker("run", video, *TINY, "-q")[0] == 0
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"video", "video-2"}


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["missing.mp4"], "missing.mp4: No such file or directory"),
        (["text.mp4"], "text.mp4: is not a video that can be read"),
        (["empty_folder"], "empty_folder: the folder holds no images"),
        (["good.mp4", "--model", "maskrcnn_resnet51_fpn"], "did you mean 'maskrcnn_resnet50_fpn'"),
        (["good.mp4", *TINY, "--weights", "small.pth"], "1 tensors have another shape"),
        (["good.mp4", *TINY, "--weights", "none.pth"], "none.pth: no such weights file"),
        (["good.mp4", *TINY, "--set", "detector.devise=cpu"], "did you mean 'device'?"),
        (
            ["good.mp4", *TINY, "--config", "nothing"],
            "neither a file nor a shipped configuration (default, fast-cpu,",
        ),
        (["good.mp4", *TINY, "--config", "bad.toml"], "unknown key 'detector.modell'"),
        (["good.mp4", *TINY, "-o", "text.mp4"], "text.mp4: is a file, a run needs a folder"),
        (["good.mp4", *TINY, "-o", "/proc/nothing"], "/proc/nothing: cannot be written"),
        (["good.mp4", *TINY, "--classes", "persn"], "'persn' is none of the model's classes; did"),
        (["good.mp4", *TINY, "--line", "door=1,2,3"], "--line takes NAME=x1,y1,x2,y2"),
        (["good.mp4", *TINY, "--line", "../door=1,2,3,4"], "with a name of letters, digits"),
        (["good.mp4", *TINY, "--line", "far=500,500,900,900"], "outside the 96 x 64 px frame"),
        (["good.mp4", *TINY, "--start", "2", "--end", "1"], "end (1) must be after start (2)"),
        (["good.mp4", *TINY, "--start", "soon"], "source.start must be seconds"),
        (["good.mp4", *TINY, "--start", "500"], "no frame lies between the start"),
        (["good.mp4", *TINY, "--device", "tpu"], "detector.device must be auto, cpu"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    tracker, make_video, tmp_path, args, sentence
):
    make_video(name="good.mp4", frames=3)
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50)
    (tmp_path / "bad.toml").write_text("[detector]\nmodell = 'x'\n")
    (tmp_path / "empty_folder").mkdir()
    torch.save({"roi_heads.box_predictor.cls_score.weight": torch.zeros(2, 2)}, "small.pth")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    code, out, err = tracker("run", *args, "--quiet")
    assert code == 2, err
    assert out == ""
    assert err.startswith("tracker: ")
    assert err.count("\n") == 1
    assert sentence in err
    assert "Traceback" not in err
    after = {p for p in tmp_path.rglob("*") if "__pycache__" not in p.parts}
    assert after == set(before)


def test_damage_is_said_at_the_end(tracker, make_video, tmp_path):
    video = make_video(name="cut.mkv", frames=60, width=160, height=120, texture=30)
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 6 // 10])
    code, out, _ = tracker("run", video, *TINY, "-o", "out")
    assert code == 0
    assert "input: " in out
    assert "the video ends at" in out or "reading stopped" in out
    assert not json.loads((tmp_path / "out" / "report.json").read_text())["input"]["complete"]


def test_a_signal_finishes_the_files(make_video, tmp_path):
    video = make_video(name="long.mp4", frames=800, width=160, height=120)
    process = subprocess.Popen(
        [sys.executable, "-m", "tracker", "run", video, *TINY, "-o", tmp_path / "out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    log = tmp_path / "out" / "tracks.jsonl.part"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_bytes().count(b"\n") > 5) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped before the end" in out
    frames = list(get_format("jsonl").read(tmp_path / "out" / "tracks.jsonl").frames)
    assert 0 < len(frames) < 800
    assert len(list(open_source(tmp_path / "out" / "video.mp4"))) == len(frames)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["stopped"]
    assert report["frames"] == len(frames)


@pytest.mark.parametrize("to", FORMATS)
def test_export(tracker, make_video, tmp_path, to):
    assert tracker("run", make_video(frames=6), *TINY, "-o", "out", "-q")[0] == 0
    code, out, err = tracker("export", "out", "--to", to, *(["-o", "x"] if to == "jsonl" else []))
    assert code == 0, err
    path = tmp_path / out.strip()
    assert path.is_file()
    list(get_format(to).read(path).frames)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["nowhere", "--to", "mot"], "holds no tracks.jsonl"),
        (["log.jsonl", "--to", "xml"], "--to must be one of jsonl, mot, mots"),
        (["log.jsonl", "--to", "mot"], "log.jsonl:1: is not valid JSON"),
        (["run", "--to", "csv", "-o", "run/counts.csv"], "is a file of the run itself"),
    ],
)
def test_export_errors(tracker, tmp_path, args, sentence):
    (tmp_path / "log.jsonl").write_text("nonsense\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tracks.jsonl").write_text("nonsense\n")
    code, _, err = tracker("export", *args)
    assert code == 2
    assert sentence in err
    assert {p.name for p in tmp_path.iterdir()} == {"log.jsonl", "run"}
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_models(tracker):
    code, out, _ = tracker("models")
    assert code == 0
    assert "maskrcnn_resnet50_fpn_v2" in out
    code, out, _ = tracker("models", "maskrcnn_resnet50_fpn", "--json")
    (card,) = json.loads(out)
    assert card["has_masks"]
    assert "person" in card["categories"]
    code, out, _ = tracker("models", "maskrcnn_resnet50_fpn")
    assert "80 classes: person, bicycle" in out
    assert tracker("models", "maskrcnn")[0] == 2
    assert tracker("models", "--download")[0] == 2


@pytest.mark.parametrize("command", [[], ["run"], ["export"], ["models"]])
def test_help_has_examples(tracker, command):
    code, out, _ = tracker(*command, "--help")
    assert code == 0
    if command:
        assert "Examples" in out
        assert f"tracker {command[0]}" in out


def test_version(tracker):
    code, out, _ = tracker("--version")
    assert code == 0
    assert out.startswith("tracker ")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("street.mp4", "street"),
        ("/a/b/c.tar.mkv", "c.tar"),
        ("frames/", "frames"),
        ("frames/*.jpg", "video"),
        ("0", "camera0"),
        ("-", "stdin"),
        ("rtsp://user:p@ss/w@cam:554/live/1?token=abc", "cam_554-live-1"),
        ("../../etc", "etc"),
        ("file:///videos/a%20b.mp4", "a_b"),
        ("gopher://host/x", "host-x"),
    ],
)
def test_folder_names_are_safe(uri, name):
    assert folder_name(uri) == name


def test_a_video_in_a_commands_place(tracker):
    code, out, err = tracker("rtsp://me:secret@camera/1")
    assert (code, out) == (2, "")
    assert err == "tracker: a command must come first, as in: tracker run rtsp://***@camera/1\n"


def test_no_two_videos_share_a_folder(tmp_path):
    folders = choose_folders(["a/x.mp4", "b/x.mp4"], tmp_path, None, replace=False)
    assert len(set(folders)) == 2


def test_a_failure_at_the_first_frame_leaves_nothing(tracker, make_video, tmp_path, monkeypatch):
    from tracker.errors import SinkError
    from tracker.sinks.video import VideoSink

    def fail(self, result):
        raise SinkError("video.mp4: cannot be written: disk full")

    monkeypatch.setattr(VideoSink, "write", fail)
    code, _, err = tracker("run", make_video(frames=3), *TINY, "-o", "out", "-q")
    assert (code, err) == (2, "tracker: video.mp4: cannot be written: disk full\n")
    assert not (tmp_path / "out").exists()


def test_an_error_in_mid_run_keeps_what_was_done(tracker, make_video, tmp_path, monkeypatch):
    from tracker.errors import SinkError
    from tracker.sinks.video import VideoSink

    write = VideoSink.write

    def fail(self, result):
        if result.frame.index == 5:
            raise SinkError("video.mp4: cannot be written: disk full")
        write(self, result)

    monkeypatch.setattr(VideoSink, "write", fail)
    code, _, err = tracker("run", make_video(frames=10), *TINY, "-o", "out", "-q")
    assert code == 2
    assert "disk full" in err
    assert len(list(get_format("jsonl").read(tmp_path / "out" / "tracks.jsonl").frames)) >= 5
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["error"] == "video.mp4: cannot be written: disk full"
    assert not report["finished"]
    assert not report["input"]["complete"]


def test_brackets_in_names_are_no_markup(tracker, make_video, tmp_path):
    video = make_video(name="clip [bold]x[y].mkv", frames=3)
    code, out, err = tracker("run", video, *TINY, "-o", "out[final]")
    assert code == 0
    assert "-> out[final]/" in out
    assert "clip [bold]x[y].mkv: loading" in err


def test_sound_of_standard_input_is_missed_aloud(make_video, tmp_path):
    with make_video(name="sound.mkv", frames=4, audio="aac").open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "tracker", "run", "-", *TINY, "-o", tmp_path / "out"],
            stdin=file,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "output: the sound of standard input is lost" in done.stdout


def test_a_killed_run_can_be_exported(tracker, make_video, tmp_path):
    assert tracker("run", make_video(frames=6), *TINY, "-o", "out", "-q")[0] == 0
    log = tmp_path / "out" / "tracks.jsonl"
    log.rename(tmp_path / "out" / "tracks.jsonl.part")
    assert tracker("export", "out", "--to", "mot")[0] == 0


def test_json_names_what_failed(tracker, make_video):
    code, out, _ = tracker("run", "missing.mp4", make_video(frames=3), *TINY, "--json")
    assert code == 1
    failed, done = map(json.loads, out.splitlines())
    assert "No such file" in failed["error"]
    assert done["finished"]
