"""Faults that were found by reading: each with the smallest input that shows it."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import scene as scenes
import stubbed
import torch
from archived import through_json
from conftest import TINY_MODEL
from PIL import Image

from tracker.config import DetectorConfig, SourceConfig, load_config
from tracker.detect.maskrcnn import MaskRCNNDetector
from tracker.errors import ConfigError, ModelError, SourceError
from tracker.formats import get_format
from tracker.runs.labels import Selection, export_labels
from tracker.runs.made import made_of
from tracker.runs.resume import check_same
from tracker.runs.run import run_to_folder
from tracker.types import AudioTrack, Detections, Tracks
from tracker.types.stages import DetectorInfo
from tracker.video.file import VideoFile
from tracker.video.source import open_source
from tracker.video.writer import VideoWriter


def picture(width=96, height=64):
    return np.zeros((height, width, 3), np.uint8)


# ---- several videos -------------------------------------------------------------------------


def test_one_video_does_not_depend_on_the_one_before(make_video, tmp_path):
    """The detector runs out of memory on the first: the second has the whole batch, and resumes."""
    detector = MaskRCNNDetector(DetectorConfig(model=TINY_MODEL, batch_size=4))
    config = load_config(None, ["output.video=false"])
    one, two = make_video("one.mp4"), make_video("two.mp4")
    run = detector._run

    def short_of_memory(pixels):
        if len(pixels) > 2:
            raise MemoryError
        return run(pixels)

    detector._run = short_of_memory
    first = run_to_folder(str(one), config, tmp_path / "one", get_detector=lambda: detector)
    detector._run = run
    second = run_to_folder(str(two), config, tmp_path / "two", get_detector=lambda: detector)
    alone = run_to_folder(
        str(two),
        config,
        tmp_path / "alone",
        get_detector=lambda: MaskRCNNDetector(DetectorConfig(model=TINY_MODEL, batch_size=4)),
    )
    assert first.report.detector.batch_size == 2
    assert "memory ran out" in first.report.detector.notes[-1]
    assert second.report.detector == alone.report.detector
    log = (tmp_path / "two" / "tracks.jsonl").read_bytes()
    assert log == (tmp_path / "alone" / "tracks.jsonl").read_bytes()


def test_a_file_never_waits_for_a_camera(tracker, make_video, tmp_path):
    code, _, said = tracker("run", "rtsp://127.0.0.1:9/a", make_video(), "-o", tmp_path / "out")
    assert code == 2
    assert "rtsp://127.0.0.1:9/a: is a live source, and the other videos would wait" in said
    assert not (tmp_path / "out").exists()


def test_a_camera_may_come_last(tracker, make_video, tmp_path):
    """Behind a file nobody waits for it; that it does not answer is its own failure."""
    out = tmp_path / "out"
    options = ["-o", out, "--model", TINY_MODEL]
    code, told, said = tracker("run", make_video("a.mp4"), "rtsp://127.0.0.1:9/b", *options)
    assert code == 1
    assert f"-> {out}/a/" in told
    assert "rtsp://127.0.0.1:9/b: cannot be opened" in said
    assert "1 of 2 videos failed" in said
    assert [path.name for path in out.iterdir()] == ["a"]


def test_every_camera_of_several_is_opened(tracker, tmp_path):
    """Each is told of, though none answers."""
    cameras = [f"rtsp://127.0.0.1:{port}/live" for port in (9, 11)]
    code, _, said = tracker("run", *cameras, "-o", tmp_path / "out", "--model", TINY_MODEL)
    assert code == 1
    assert [camera in said for camera in cameras] == [True, True]
    assert "2 of 2 videos failed" in said


# ---- models of the user's own ---------------------------------------------------------------

MODEL = '''
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn

@dataclass
class Settings:
    score: float = 0.9

class Transform:
    """Resizes in its own way."""

class Model(nn.Module):
    categories = ["__background__", "thing"]

    def __init__(self):
        super().__init__()
        self.transform = Transform()

    def forward(self, images):
        found = {
            "boxes": torch.tensor([[10.0, 10, 30, 40]]),
            "scores": torch.tensor([Settings().score]),
            "labels": torch.tensor([1]),
            "masks": torch.ones(1, 1, *images[0].shape[1:]),
        }
        return [CHANGE(found) for _ in images]

def build():
    return Model()
'''


def own_model(tmp_path, change="dict"):
    path = tmp_path / "my_model.py"
    path.write_text(MODEL.replace("CHANGE", change))
    return DetectorConfig(model=f"{path}:build")


def test_a_model_file_with_a_dataclass_and_a_transform_of_its_own(tmp_path):
    detector = MaskRCNNDetector(own_model(tmp_path))
    found = detector.detect([scenes.Frame(0, 0.0, picture())])[0]
    assert found.scores.tolist() == [pytest.approx(0.9)]
    assert found.masks[0].area == 96 * 64
    assert detector.sizes is None
    config = own_model(tmp_path).model_copy(update={"min_size": 200})
    with pytest.raises(ConfigError, match="the model has a fixed size"):
        MaskRCNNDetector(config)


def test_a_model_file_that_fails_is_one_sentence(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("1 / 0")
    with pytest.raises(ModelError, match="fails where it is read: ZeroDivisionError"):
        MaskRCNNDetector(DetectorConfig(model=f"{path}:build"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("lambda f: f | {'masks': torch.ones(1, 1, 28, 28)}", "masks are 28x28 px and the picture"),
        ("lambda f: f | {'scores': torch.tensor([float('nan')])}", "not finite"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused(tmp_path, change, said):
    """Not put into the picture's corner, and not taken for `nothing is there`."""
    with pytest.raises(ModelError, match=said):
        MaskRCNNDetector(own_model(tmp_path, f"({change})"))


@pytest.mark.parametrize("field", ["boxes", "scores"])
@pytest.mark.parametrize("kind", [Detections, Tracks])
def test_values_refuse_what_is_no_number(kind, field):
    columns = {
        "boxes": np.zeros((1, 4), np.float32),
        "scores": np.ones(1, np.float32),
        "labels": np.ones(1, np.int64),
        "masks": (None,),
    }
    if kind is Tracks:
        columns |= {"ids": np.ones(1, np.int64), "sources": np.zeros(1, np.int64)}
    columns[field] = columns[field].copy()
    columns[field][...] = np.nan
    with pytest.raises(ValueError, match=f"{field} must be finite, got NaN or infinity"):
        kind(**columns)


def test_values_do_not_freeze_what_is_the_callers():
    boxes, image = np.zeros((1, 4), np.float32), picture()
    found = Detections(boxes, np.ones(1, np.float32), np.ones(1, np.int64), (None,))
    frame = scenes.Frame(0, 0.0, image)
    boxes[0, 0], image[0, 0] = 7, 255
    assert found.boxes[0, 0] == 0
    assert frame.image.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        found.boxes[0, 0] = 1


# ---- streams without a decoder --------------------------------------------------------------


class Undecodable:
    """A container whose streams no decoder of FFmpeg knows."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        if name == "codec_context":
            return None
        found = getattr(self._inner, name)
        if name == "streams":
            return type(
                "Streams", (), {k: [Undecodable(s) for s in getattr(found, k)] for k in KINDS}
            )
        return found


KINDS = ("video", "audio")


def test_pictures_without_a_decoder_are_one_sentence(make_video, monkeypatch):
    path, opened = make_video(), av.open
    monkeypatch.setattr("av.open", lambda *a, **k: Undecodable(opened(path)))
    with pytest.raises(SourceError, match="the codec or the size of its pictures is unknown"):
        open_source("http://camera/live", SourceConfig())
    with pytest.raises(SourceError, match="the codec or the size of its pictures is unknown"):
        VideoFile(path, name="a.mp4", config=SourceConfig())


def test_sound_without_a_decoder_is_left_out(make_video, tmp_path, monkeypatch):
    path, opened = make_video(audio="aac"), av.open

    def open_odd(target, *arguments, **options):
        inner = opened(target, *arguments, **options)
        return Undecodable(inner) if str(target).startswith("file:") else inner

    monkeypatch.setattr("tracker.video.audio.av.open", open_odd)
    writer = VideoWriter(tmp_path / "out.mp4", 96, 64, audio=AudioTrack(str(path), 0.0))
    for k in range(5):
        writer.write(picture(), k / 10)
    monkeypatch.undo()
    writer.close()
    assert writer.notes == ["the sound was left out: its codec is unknown"]
    assert len(list(open_source(tmp_path / "out.mp4"))) == 5


# ---- files and folders ----------------------------------------------------------------------


def test_labels_find_their_video_from_everywhere(make_video, tmp_path, monkeypatch):
    video = make_video("near.mp4", width=640, height=360, frames=30)
    monkeypatch.chdir(tmp_path)
    scene = scenes.street(3.0)
    config = load_config(None, ["output.video=false"])
    run_to_folder(video.name, config, Path("run"), get_detector=lambda: scenes.SceneDetector(scene))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made = export_labels(tmp_path / "run", tmp_path / "labels", Selection(every=10))
    assert made.frames == 3


def test_a_folder_named_as_a_protocol_resumes_its_video(make_video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video = make_video(frames=60, texture=20)
    config = load_config(None, ["output.checkpoint_s=0.0"])
    seen = []
    for stop in (40, 1000):
        run_to_folder(
            str(video),
            config,
            Path("cam:1"),
            get_detector=stubbed.BlankDetector,
            resume=True,
            on_result=lambda result, _: seen.append(result.frame.index),
            should_stop=lambda stop=stop: len(seen) > stop,
        )
    assert seen[-1] == 59
    assert len(list(open_source(Path("cam:1") / "video.mp4"))) == 60


@pytest.mark.parametrize("name", ["\N{PILE OF POO}.pth", 'a"b\\c.pth', "café.pth", "\x7f.pth"])
def test_a_file_of_any_name_can_be_named(tracker, make_video, tmp_path, name):
    import tiny_model

    torch.save(tiny_model.build().state_dict(), tmp_path / name)
    out = tmp_path / "out"
    options = ["--model", TINY_MODEL, "--weights", tmp_path / name, "-q", "--end", "2f"]
    assert tracker("run", make_video(), "-o", out, *options)[::2] == (0, "")
    settings = load_config(out / "run.toml")
    assert settings.detector.weights == str(tmp_path / name)


def test_what_a_folder_names_is_not_executed(tracker, make_video, tmp_path):
    """A run from somebody else: its run.toml names a file that would run as code."""
    evil, run, video = tmp_path / "evil.py", tmp_path / "run", make_video()
    evil.write_text(Path(TINY_MODEL.partition(":")[0]).read_text())
    options = ["--model", f"{evil}:build", "-q"]
    assert tracker("run", video, "-o", run, *options)[0] == 0
    mark = tmp_path / "executed"
    evil.write_text(evil.read_text() + f"\nopen({str(mark)!r}, 'w').close()\n")
    for force in ([], ["--force"]):
        code, _, said = tracker("run", "--resume", run, "-q", *force)
        assert code == 2
        assert f"its run.toml names a model that is code ({evil}:build)" in said
        assert f"say so: --model {evil}:build" in said
    assert not mark.exists()
    assert tracker("run", "--resume", run, *options, "--force")[0] == 0
    assert mark.exists()


def test_a_table_sorted_by_id_keeps_its_frames(tmp_path):
    log = get_format("csv")
    scene = scenes.crossing()
    rows = [
        ",".join(map(str, row))
        for row in (
            [
                *[
                    "frame",
                    "time",
                    "id",
                    "label",
                    "class",
                    "score",
                    "x1",
                    "y1",
                    "x2",
                    "y2",
                    "predicted",
                    "width",
                    "height",
                    "mask",
                ]
            ],
            *(
                [frame, scene.times[frame], id_, 1, "person", 0.9, 1, 2, 3, 4, 0, 64, 48, ""]
                for id_ in (1, 2)
                for frame in range(3)
            ),
        )
    ]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    frames = list(log.read(tmp_path / "a.csv").frames)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.tracks.ids.tolist() for frame in frames] == [[1, 2]] * 3


# ---- going on -------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(1, 8), (8, 1)])
def test_the_number_of_decoding_threads_changes_no_report(make_video, before, after, monkeypatch):
    """A decoder of many threads reads many packets ahead: none is counted twice or missed."""
    path = make_video(frames=120, texture=20)
    expected = open_source(path)
    list(expected)

    def with_threads(number, mark=None):
        pick = VideoFile._pick_stream

        def pick_with(self):
            stream = pick(self)
            stream.codec_context.thread_count = number
            return stream

        monkeypatch.setattr(VideoFile, "_pick_stream", pick_with)
        source = open_source(path, None, mark)
        monkeypatch.undo()
        return source

    source = with_threads(before)
    for frame in source:
        if frame.index == 70:
            mark = through_json(source.mark())
            break
    for known in (mark, mark.model_copy(update={"pts": None})):  # by its time, and by counting
        source = with_threads(after, known)
        assert [frame.index for frame in source] == list(range(71, 120))
        assert source.report == expected.report


def test_threads_of_the_cpu_matter_where_the_model_runs_on_them(tmp_path):
    info = DetectorInfo("m", ("a",), device="cuda:0", threads=4)
    config = load_config(None)
    on_gpu = [made_of({"uri": "a"}, config, replace(info, threads=n)) for n in (4, 16)]
    check_same(*on_gpu, tmp_path)
    on_cpu = [
        made_of({"uri": "a"}, config, replace(info, device="cpu", threads=n)) for n in (4, 16)
    ]
    with pytest.raises(ConfigError, match=r"detector\.threads was 4, is 16"):
        check_same(*on_cpu, tmp_path)


def test_unreadable_images_cost_nothing_but_their_notes(tmp_path):
    """What was read by then is copied when somebody asks, and not for every frame."""
    for k in range(300):
        (tmp_path / f"{k:04d}.png").write_bytes(b"no picture")
    for k in range(300, 340):
        Image.new("RGB", (32, 24)).save(tmp_path / f"{k:04d}.png")
    source, marks = open_source(tmp_path), []
    for frame in source:
        if frame.index == 320:
            marks.append(source.mark())
    assert len(source.report.notes) == 300
    assert len(marks[0].report["notes"]) == 300
    assert not [k for k in vars(source._source) if "mark" in k]


# ---- --start --------------------------------------------------------------------------------


def frames_of(path, **settings):
    source = open_source(path, SourceConfig(**settings))
    read = [(f.index, f.time, f.suspect, int(f.image.astype(int).sum())) for f in source]
    return read, source.report


def uneven_times(frames):
    times = np.cumsum(np.random.default_rng(1).uniform(0.02, 0.06, frames))
    return [round(float(t - times[0]) * 90_000) / 90_000 for t in times]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi", "a.ts"])
@pytest.mark.parametrize("settings", [{"bf": "3", "g": "30"}, {"bf": "0", "g": "12"}], ids=str)
@pytest.mark.parametrize(
    "start",
    [{"start": 3.0}, {"start": "71f"}, {"start": 2.5, "stride": 3}, {"start": 1e6}],
    ids=str,
)
def test_a_start_that_is_sought_gives_the_frames_of_one_that_is_not(
    tmp_path, name, settings, start, monkeypatch
):
    path = tmp_path / name
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options=settings)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        times = [k / 25 for k in range(150)] if name == "a.avi" else uneven_times(150)
        for k, time in enumerate(times):
            noise = np.random.default_rng(k).integers(0, 255, (64, 96, 3)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
            frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    if start["start"] == 1e6:
        with pytest.raises(SourceError, match="no frame lies between the start"):
            frames_of(path, **start)
        return
    sought, report = frames_of(path, **start)
    monkeypatch.setattr(VideoFile, "skip_to", lambda *_: None)
    assert (sought, report) == frames_of(path, **start)
    assert len(sought) > 20


def test_a_start_reads_only_from_the_key_frame_before(make_video, monkeypatch):
    path = make_video(frames=300, texture=20)
    decoded, decode = [], VideoFile.decode
    monkeypatch.setattr(
        VideoFile,
        "decode",
        lambda self, by=None: (decoded.append(p) or p for p in decode(self, by)),
    )
    source = open_source(path, SourceConfig(start=25.0))
    assert next(iter(source)).index == 250
    assert len(decoded) < 40


def test_a_file_is_cut_into_pieces_without_decoding(make_video):
    """Marks of a pass over the packets are those that decoding makes: pieces join seamlessly."""
    from tracker.video.seek import marks

    path = make_video(frames=100, texture=20)
    whole, _ = frames_of(path)
    file = VideoFile(path, name="a.mp4", config=SourceConfig())
    found = list(marks(file, 32))
    file.close()
    assert [mark.index for mark in found] == [31, 63, 95]
    source, made = open_source(path), {}
    for frame in source:
        made[frame.index] = source.mark()
    for mark in found:
        assert (mark.pts, mark.clock, mark.size) == (
            made[mark.index].pts,
            made[mark.index].clock,
            made[mark.index].size,
        )
        rest = open_source(path, None, through_json(mark))
        read = [(f.index, f.time, f.suspect, int(f.image.astype(int).sum())) for f in rest]
        assert read == whole[mark.index + 1 :]
        assert rest.report.packets == 100
        assert rest.report.missing == 0


def test_old_names_of_settings_are_understood_with_a_notice(tmp_path, caplog):
    path = tmp_path / "old.toml"
    path.write_text("[tracker]\ncruise_s = 0.3\n")
    assert load_config(path).tracker.velocity_average_s == 0.3
    assert caplog.messages == [f"{path}: tracker.cruise_s is called tracker.velocity_average_s now"]
    found = load_config(None, ["tracker.gallery_likeness=0.7"])
    assert found.tracker.gallery_similarity == 0.7


def test_an_old_checkpoint_is_refused_with_a_sentence(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    old = {"format": "tracker-checkpoint", "version": 2, "frames": 60, "began": {}, "sha256": "0"}
    (run / "checkpoint.json").write_text(json.dumps(old))
    with pytest.raises(Exception, match="is no checkpoint of version 4; --force starts the run"):
        run_to_folder(
            "a.mp4", load_config(None), run, get_detector=stubbed.BlankDetector, resume=True
        )
    shutil.rmtree(run)


# ---- what a second reading found ------------------------------------------------------------


def test_a_model_that_finds_nothing_may_have_masks_of_any_size(tmp_path):
    nothing = "(lambda f: {k: v[:0] for k, v in f.items()} | {'masks': torch.zeros(0, 1, 28, 28)})"
    detector = MaskRCNNDetector(own_model(tmp_path, nothing))
    assert len(detector.detect([scenes.Frame(0, 0.0, picture())])[0]) == 0


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("1,1,10,10,5,5,1,4,0,1\n", [4]),  # VisDrone: the eighth field is the class
        ("1,-1,10,10,5,5,0.9,1,car\n", [1]),
        ("\ufeff# made by hand\n1 -1 10 10 5 5 0.9\n", [1]),
    ],
)
def test_detections_as_people_write_them(tmp_path, text, labels):
    from tracker.formats.detections import read

    (tmp_path / "det.txt").write_text(text, encoding="utf-8")
    found = next(iter(read(tmp_path / "det.txt", 10.0).frames)).detections
    assert found.labels.tolist() == labels


def test_a_log_of_another_ending_is_read_as_the_runs_own(tracker, tmp_path):
    get_format("jsonl").write(get_format("jsonl").read(a_log(tmp_path)), tmp_path / "tracks.bak")
    out = tmp_path / "out.txt"
    assert tracker("export", tmp_path / "tracks.bak", "--to", "mot", "-o", out)[0] == 0
    assert out.read_text().startswith("1,1,")


def a_log(tmp_path):
    head = '{"format":"mask-tracker-tracks","version":1,"width":9,"height":9,"categories":["a"]}'
    track = '{"id":1,"label":0,"score":0.5,"box":[1,2,3,4],"detection":0}'
    path = tmp_path / "tracks.jsonl"
    path.write_text(f'{head}\n{{"frame":0,"time":0,"tracks":[{track}]}}\n')
    return path


def test_a_codec_that_may_hide_pictures_is_decoded(tmp_path, monkeypatch):
    """Of VP8 a packet need not show a picture: packets tell no numbers."""
    path = tmp_path / "a.webm"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for k in range(60):
            frame = av.VideoFrame.from_ndarray(picture() + k, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file = VideoFile(path, name="a.webm", config=SourceConfig())
    file.skip_to(lambda index, _: index >= 50)
    assert file._start is None
    file.close()
