import json

import numpy as np
import pytest
import scene as scenes
from typer.testing import CliRunner

from tracker.cli import app
from tracker.config import load_config
from tracker.errors import ConfigError, FormatError, SinkError
from tracker.formats import get_format
from tracker.formats.detections import read, write
from tracker.masks import Mask, mask_to_rle
from tracker.runs.run import run_to_folder
from tracker.types import Frame

BLANK = np.zeros((1, 1, 3), np.uint8)


def found(scene):
    detector = scenes.SceneDetector(scene)
    return [detector.detect([Frame(k, t, BLANK)])[0] for k, t in enumerate(scene.times)]


@pytest.fixture(scope="module")
def crossing():
    return scenes.crossing(fps=10)


@pytest.fixture
def files(crossing, tmp_path):
    """The same detections in every format that can be read."""
    w, h = crossing.width, crossing.height
    mot, mots, coco = [], [], []
    for k, d in enumerate(found(crossing)):
        for i in range(len(d)):
            x1, y1, x2, y2 = d.boxes[i].tolist()
            rle = mask_to_rle(d.masks[i], w, h)
            xywh = [x1, y1, x2 - x1, y2 - y1]
            text = " ".join(f"{v:.3f}" for v in xywh)
            mot.append(f"{k + 1},-1,{text.replace(' ', ',')},{d.scores[i]:.4f},-1,-1,-1")
            mots.append(f"{k} {text} {d.scores[i]:.4f} {d.labels[i]} {h} {w} {rle['counts']}")
            coco.append(
                {
                    "image_id": k + 1,
                    "category_id": int(d.labels[i]),
                    "bbox": xywh,
                    "score": float(d.scores[i]),
                    "segmentation": rle,
                }
            )
    paths = {name: tmp_path / name for name in ("det.txt", "mots.txt", "coco.json")}
    paths["det.txt"].write_text("\n".join(mot) + "\n")
    paths["mots.txt"].write_text("\n".join(mots) + "\n")
    paths["coco.json"].write_text(json.dumps(coco))
    return paths


def associate(*arguments):
    return CliRunner().invoke(app, ["associate", *map(str, arguments)], catch_exceptions=True)


def frames_of(name, path):
    return list(get_format(name).read(path).frames)


def test_every_format_gives_the_same_tracks(files, crossing, tmp_path):
    ids = {}
    for name, path in files.items():
        out = tmp_path / f"{name}.jsonl"
        result = associate(path, "-o", out, "--fps", 10)
        assert result.exit_code == 0, result.output
        frames = frames_of("jsonl", out)
        assert len(frames) == len(crossing.times)
        assert [f.time for f in frames] == pytest.approx(list(crossing.times), abs=1e-6)
        ids[name] = [f.tracks.ids.tolist() for f in frames]
    assert ids["mots.txt"] == ids["coco.json"]
    assert {i for row in ids["det.txt"] for i in row} == {1, 2}
    again = tmp_path / "again.jsonl"
    assert associate(tmp_path / "mots.txt.jsonl", "-o", again).exit_code == 0  # times of its own
    assert {i for f in frames_of("jsonl", again) for i in f.tracks.ids.tolist()} == {1, 2}


@pytest.mark.parametrize(
    ("source", "ending", "options", "expected"),
    [
        ("det.txt", "txt", [], "mot"),
        ("mots.txt", "txt", [], "mots"),
        ("mots.txt", "txt", ["--to", "mot"], "mot"),
        ("mots.txt", "json", [], "coco"),
        ("mots.txt", "json", ["--to", "youtube-vis"], "youtube-vis"),
        ("det.txt", "csv", [], "csv"),
    ],
)
def test_the_output_format(files, tmp_path, source, ending, options, expected):
    out = tmp_path / f"out.{ending}"
    result = associate(files[source], "-o", out, "--fps", 10, "--json", *options)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.output)
    assert summary["format"] == expected
    assert summary["tracks"] == 2
    assert frames_of(expected, out)


def test_mots_output_does_not_overlap(files, tmp_path):
    out = tmp_path / "out.txt"
    associate(files["mots.txt"], "-o", out, "--fps", 10)
    for frame in frames_of("mots", out):
        painted = np.zeros((frame.height, frame.width), int)
        for mask in frame.tracks.masks:
            x1, y1, x2, y2 = mask.box
            painted[y1:y2, x1:x2] += mask.bits
        assert painted.max(initial=0) <= 1


def test_a_frame_without_detections_is_still_a_frame(tmp_path):
    path = tmp_path / "det.txt"
    rows = [(k, 10 + k) for k in (1, 2, 3, 4, 7, 8)]  # 5 and 6 have no line
    path.write_text("".join(f"{k},-1,{x},20,30,60,0.9\n" for k, x in rows))
    out = tmp_path / "out.jsonl"
    assert associate(path, "-o", out, "--fps", 5).exit_code == 0
    frames = frames_of("jsonl", out)
    assert [f.index for f in frames] == list(range(8))
    assert {i for f in frames for i in f.tracks.ids.tolist()} == {1}
    assert [len(f.tracks) for f in frames] == [0, 0, 1, 1, 0, 0, 1, 1]


def test_labels_and_settings(files, tmp_path):
    out = tmp_path / "out.txt"
    result = associate(files["mots.txt"], "-o", out, "--fps", 10, "--labels", "2", "--json")
    assert json.loads(result.output)["tracks"] == 0
    text = files["mots.txt"].read_text().replace(" 1.0000 ", " 0.6000 ")
    files["mots.txt"].write_text(text)
    for score, tracks in ((0.6, 2), (0.9, 0)):
        setting = ["--set", f"tracker.confirm_score={score}"]
        result = associate(files["mots.txt"], "-o", out, "--fps", 10, *setting, "--json")
        assert json.loads(result.output)["tracks"] == tracks


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("1,-1,1,1,5,5,0.9\n", [], "--fps"),
        ("1,-1,1,1,5,5,0.9\n1,-1,1,1\n", ["--fps", 10], "in.txt:2"),
        ("1,-1,1,1,5,5,0.9\n0,-1,1,1,5,5,0.9\n", ["--fps", 10], "in.txt:2: frame"),
        ("1,-1,1,1,-5,5,0.9\n", ["--fps", 10], "negative"),
        ("1,-1,1,nan,5,5,0.9\n", ["--fps", 10], "finite"),
        ("0 1 1 5 5 0.9 1 20 20 ???\n", ["--fps", 10], "in.txt:1"),
        ("frame,id,x1,y1,x2,y2,score\n", ["--fps", 10], "in.txt:1: the header must name"),
        ("1,-1,1,1,5,5,,1\n", ["--fps", 10], "in.txt:1: score is empty"),
        ("1e300,-1,1,1,5,5,0.9\n", ["--fps", 10], "in.txt:1: frame"),
        ("1,-1,1,1e39,5,5,0.9\n", ["--fps", 10], "in.txt:1: box must lie within"),
        ("1,-1,1,1,5,5,90\n", ["--fps", 10], "score must be in 0..1, got 90; see --score-range"),
        ("1,-1,1,1,5,5,0.9,99999\n", ["--fps", 10], "class must be in"),
        ("1,-1,1,1,5,5,0.9\n", ["--fps", 10, "--score-range", "5"], "two ascending numbers"),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "segmentation": [[1, 1]]}]',
            ["--fps", 10],
            "polygons are not read",
        ),
        ('[{"image_id": 1, "bbox": [1, 1, 5, 5]}]', ["--fps", 10], "has no 'category_id'"),
        ("[1, 2]", ["--fps", 10], "result 0"),
        ("[{", ["--fps", 10], "JSON"),
        ("{}", ["--fps", 10], "list of COCO"),
        ("1,-1,1,1,5,5,0.9\n999999,-1,1,1,5,5,0.9\n", ["--fps", 10], "too far apart"),
        ("1,-1,1,1,5,5,0.99\n" * 1, ["--fps", 10, "--to", "mots"], "no masks"),
        ("1,-1,1,1,5,5,0.9\n", ["--fps", 10, "--to", "avi"], "--to must be one of"),
        ("1,-1,1,1,5,5,0.9\n", ["--fps", 10, "--labels", "car"], "--labels takes"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, content, options, said):
    path = tmp_path / "in.txt"
    path.write_text(content)
    result = associate(path, "-o", tmp_path / "out.txt", *options)
    assert isinstance(result.exception, FormatError | ConfigError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out.txt").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FormatError, match="nothing"):
        read(tmp_path / "nothing", 10)


def test_scores_of_another_range(tmp_path):
    path, out = tmp_path / "det.txt", tmp_path / "out.jsonl"
    path.write_text("".join(f"{k},-1,{10 + k},20,30,60,{-0.5 + 0.1 * k}\n" for k in range(1, 10)))
    assert associate(path, "-o", out, "--fps", 10, "--score-range=-0.5,0.5").exit_code == 0
    scores = [float(s) for f in frames_of("jsonl", out) for s in f.tracks.scores]
    assert scores == pytest.approx([0.1 * k for k in range(10 - len(scores), 10)], abs=1e-3)
    assert scores


def test_the_size_is_known_and_a_change_of_it_keeps_ids(tmp_path):
    w, h, lines = 200, 120, []
    for k in range(12):
        scale = 2 if k >= 6 else 1
        bits = np.ones((40 * scale, 20 * scale), np.bool_)
        x, y = (30 + 2 * k) * scale, 30 * scale
        rle = mask_to_rle(Mask(x, y, bits), w * scale, h * scale)
        lines.append(
            f"{k} {x} {y} {20 * scale} {40 * scale} 0.99 1 {h * scale} {w * scale} {rle['counts']}"
        )
    path, out = tmp_path / "mots.txt", tmp_path / "out.jsonl"
    path.write_text("\n".join(lines) + "\n")
    assert associate(path, "-o", out, "--fps", 10).exit_code == 0
    log = get_format("jsonl").read(out)
    assert (log.info.width, log.info.height) == (w, h)
    assert [f.tracks.ids.tolist() for f in log.frames] == [[1]] * 12


def test_masks_stay_compressed_until_their_frame(tmp_path):
    """Hundreds of full-HD masks in a small file must not lie in memory as bitmaps."""
    import tracemalloc

    rle = mask_to_rle(Mask(0, 0, np.ones((1080, 1920), np.bool_)), 1920, 1080)
    path = tmp_path / "mots.txt"
    line = f"0 0 1920 1080 0.9 1 1080 1920 {rle['counts']}\n"
    path.write_text("".join(f"{k} {line}" for k in range(300)))
    tracemalloc.start()
    frames = read(path, 10).frames
    assert sum(len(frame.detections) for frame in frames) == 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_the_input_is_never_overwritten(files):
    before = files["mots.txt"].read_text()
    result = associate(files["mots.txt"], "-o", files["mots.txt"], "--fps", 10)
    assert isinstance(result.exception, ConfigError)
    assert files["mots.txt"].read_text() == before


@pytest.mark.parametrize("separator", [" ", "\t", ", "])
def test_text_as_people_write_it(tmp_path, separator):
    """Ten columns of numbers are MOTChallenge's, whatever stands between; comments are skipped."""
    path, out = tmp_path / "det.txt", tmp_path / "out.txt"
    rows = [[k, -1, 10 + k, 20, 30, 60, 0.99, -1, -1, -1] for k in range(1, 6)]
    lines = [separator.join(map(str, row)) for row in rows]
    path.write_bytes(("\ufeff# made by hand\n" + "\r\n".join(lines)).encode())
    result = associate(path, "-o", out, "--fps", 10, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["frames"] == 5
    assert json.loads(result.output)["tracks"] == 1


def test_links_are_followed_and_pipes_written_through(files, tmp_path):
    import os
    import threading

    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    assert associate(files["mots.txt"], "-o", link, "--fps", 10).exit_code == 0
    assert link.is_symlink()
    assert target.read_text() != "old"
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    assert associate(files["mots.txt"], "-o", pipe, "--fps", 10, "--to", "mots").exit_code == 0
    reader.join(10)
    assert got == [target.read_text()]
    assert pipe.is_fifo()


@pytest.mark.parametrize(("output", "said"), [(".", "folder"), ("none/out.txt", "does not exist")])
def test_an_output_that_cannot_be(files, tmp_path, output, said):
    result = associate(files["mots.txt"], "-o", tmp_path / output, "--fps", 10)
    assert isinstance(result.exception, ConfigError | SinkError)
    assert said in str(result.exception)


def test_a_runs_saved_detections_give_its_tracks_again(make_video, tmp_path):
    """`run --save-detections`, broken off and resumed, then `associate`: log equal to the run's."""
    scene = scenes.street(4.0, fps=10)
    video, folder = make_video(frames=40, width=640, height=360), tmp_path / "run"
    settings = ["output.detections=true", "tracker.camera_motion=false", "output.video=false"]
    config, seen = load_config(None, [*settings, "output.checkpoint_s=0.0"]), []
    for stop in (20, 1000):
        run_to_folder(
            str(video),
            config,
            folder,
            get_detector=lambda: scenes.SceneDetector(scene, noise=0.03, clutter=1.0),
            resume=True,
            on_result=lambda result, _: seen.append(result.frame.index),
            should_stop=lambda stop=stop: len(seen) > stop,
        )
    out = tmp_path / "again.jsonl"
    options = ["-s", "tracker.camera_motion=false"]
    result = associate(folder / "detections.jsonl", "-o", out, *options)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == (folder / "tracks.jsonl").read_bytes()
    log = read(folder / "detections.jsonl")
    write(log, tmp_path / "copy.jsonl")
    assert (tmp_path / "copy.jsonl").read_bytes() == (folder / "detections.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"frame":0,"time":0}', ":2: is malformed"),
        ('{"frame":0,"time":0,"detections":[{"box":[1,2,3]}]}', ":2: is malformed"),
        ("nonsense", ":2: is not valid JSON"),
    ],
)
def test_malformed_saved_detections(tmp_path, line, said):
    head = '{"format":"mask-tracker-detections","version":1,"width":9,"height":9,"categories":[]}'
    (tmp_path / "a.jsonl").write_text(f"{head}\n{line}\n")
    with pytest.raises(FormatError, match=said):
        list(read(tmp_path / "a.jsonl").frames)


def test_frames_may_count_from_another_number(tmp_path):
    text = "".join(f"{{}},-1,{10 + k},20,30,60,0.9\n" for k in range(6))
    path, out = tmp_path / "det.txt", tmp_path / "out.jsonl"
    path.write_text(text.format(*range(6)))
    result = associate(path, "-o", out, "--fps", 5)
    assert result.exit_code != 0
    assert "--shift 1 where they count from 0" in str(result.exception)
    assert associate(path, "-o", out, "--fps", 5, "--shift", 1).exit_code == 0
    assert [frame.index for frame in frames_of("jsonl", out)] == list(range(6))
