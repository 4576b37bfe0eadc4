"""Readers against files that somebody broke: nothing but the documented errors comes out."""

import json
import random
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import scene as scenes

from tracker.config import load_config
from tracker.errors import TrackerError
from tracker.formats import FORMATS, detections, get_format
from tracker.runs import checkpoint
from tracker.runs.made import made_of
from tracker.runs.record import RunRecord
from tracker.runs.resume import check_finished
from tracker.types import LoggedFrame, LogInfo, TrackLog
from tracker.types.stages import DetectorInfo

STRANGE = (
    *("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "-1", "0", "-0.0", "0.5"),
    *("9" * 30, "9" * 400, "4294967296", "2147483648", "1_000", "0x10", "true", "null", '""'),
    *("[]", "{}", "[[]]", '"x"', '"\\ud800"', "[" * 400, "\u0661", "", " ", "\x00", "\ufeff"),
)
SLOWEST_S = 5.0


def log():
    scene = scenes.street(seconds=1.0, fps=6)
    frames = [LoggedFrame(k, t, 640, 360, scene.truth(k)) for k, t in enumerate(scene.times)]
    return TrackLog(LogInfo(640, 360, scenes.CATEGORIES, None, "street.mp4"), frames)


def read_log(name):
    return lambda path: [frame.tracks for frame in get_format(name).read(path).frames]


def read_detections(path):
    return [frame.detections for frame in detections.read(path, fps=10).frames]


SHAPES = [
    {"label": "car", "points": [[10, 10], [50, 10], [50, 60]], "shape_type": "polygon"},
    {"label": "car", "points": [[10, 10], [50, 60]], "shape_type": "rectangle", "group_id": 1},
    {"label": "man", "points": [[10, 10], [50, 60]], "shape_type": "circle", "group_id": None},
    {"label": "man", "points": [[10, 10], [19, 19]], "shape_type": "mask", "mask": "iVBORw0KGg=="},
]
LABELME = {"shapes": SHAPES, "imagePath": "1.png", "imageWidth": 640, "imageHeight": 360}
DATUMARO = {
    "categories": {"label": {"labels": [{"name": "car"}]}},
    "items": [
        {
            "id": "1",
            "image": {"path": "1.png", "size": [360, 640]},
            "annotations": [
                {"type": "polygon", "label_id": 0, "group": 1, "points": [9, 9, 50, 9, 50, 60]},
                {"type": "mask", "label_id": 0, "rle": {"size": [360, 640], "counts": "PPg80"}},
                {"type": "bbox", "label_id": 0, "bbox": [1, 2, 3, 4]},
            ],
        }
    ],
}


def training(folder, coco):
    """Return the readers of labels and of a training's settings."""
    if find_spec("lightning_fabric") is None:
        return {}
    from tracker.train import settings
    from tracker.train.find import read_data
    from tracker.train.labels.clip_labels import read_youtube_vis
    from tracker.train.labels.coco_labels import read

    polygon = [[10, 10, 50, 10, 50, 60, 10, 60]]
    for one in coco["annotations"][::2]:
        one["segmentation"] = polygon
    for image in coco["images"]:
        image["file_name"] = f"{image['id']}.png"
    clips = json.loads((folder / "good-youtube-vis.json").read_text())
    text = settings.TrainConfig(data=("labels.json",)).to_toml()
    return {
        "labels": (read, ".json", json.dumps(coco).encode()),
        "clip-labels": (read_youtube_vis, ".json", json.dumps(clips).encode()),
        "labelme": (lambda path: read_data([path]), ".json", json.dumps(LABELME).encode()),
        "datumaro": (lambda path: read_data([path]), ".json", json.dumps(DATUMARO).encode()),
        "train-settings": (settings.read, ".toml", text.encode()),
    }


def read_report(path):
    """Look for a run in a folder, as --resume does."""
    path.replace(path.with_name("report.json"))
    record = RunRecord.read(path.parent)
    if record.finished:
        check_finished(record, "gone.mp4", load_config(None))


REPORT = """{"version": 1, "source": "street.mp4", "finished": true, "stopped": false, "frames": 5,
"input": {"file": {"uri": "PLACE"}, "complete": true}, "speed": {"fps": 3.0}}
"""
DETECTIONS = """1,-1,10.5,20,30,40,0.9,-1,-1,-1
1,-1,15,25,30,40,0.4,-1,-1,-1
3,-1,11,21,31,41,0.8,-1,-1,-1
"""


def seeds(folder):
    """Write a good file for each reader; return reader, suffix and content by name."""
    found = {}
    for name in FORMATS:
        module = get_format(name)
        path = folder / f"good-{name}{module.SUFFIX}"
        module.write(log(), path)
        found[name] = (read_log(name), path.suffix, path.read_bytes())
    coco = json.loads((folder / "good-coco.json").read_text())
    results = [
        {k: one[k] for k in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.9}
        for one in coco["annotations"]
    ]
    mots = "".join(
        f"{k} 1 1 30 30 0.9 1 360 640 {r['segmentation']['counts']}\n"
        for k, r in enumerate(results)
    )
    given = {
        "results": (".json", json.dumps(results)),
        "det": (".txt", DETECTIONS),
        "mots-det": (".txt", mots),
    }
    for name, (suffix, text) in given.items():
        found[name] = (read_detections, suffix, text.encode())
    config = (Path(__file__).parents[1] / "configs" / "default.toml").read_bytes()
    found["config"] = (load_config, ".toml", config)
    found |= training(folder, coco)
    source = {"uri": "street.mp4", "bytes": 5}
    made = made_of(source, load_config(None), DetectorInfo("stub", ("", "person")))
    checkpoint.write(folder / "good.json", checkpoint.Checkpoint(made))
    point = (folder / "good.json").read_bytes()
    found["checkpoint"] = (checkpoint.read, ".json", point)
    report = REPORT.replace("PLACE", str(Path("gone.mp4").absolute()))
    found["report"] = (read_report, ".json", report.encode())
    return found


def broken(data, dice):
    """Return a file with some of its bytes, words or lines changed."""
    for _ in range(dice.choice((1, 1, 2, 5))):
        kind = dice.choice(("word", "word", "word", "byte", "line", "cut", "twice", "swap"))
        if kind == "byte" or not data:
            data = bytearray(data or b"x")
            data[dice.randrange(len(data))] = dice.randrange(256)
            data = bytes(data)
        elif kind == "cut":
            a = dice.randrange(len(data))
            data = data[:a] + data[a + dice.choice((1, 10, len(data))) :]
        elif kind == "word":  # a number, a name or a mark between two others
            text = data.decode("utf-8", "surrogateescape")
            ends = [k for k, c in enumerate(text) if c in ' ,:[]{}"=\n\t'] or [0]
            k = dice.randrange(len(ends))
            a, b = ends[k] + 1, ends[k + 1] if k + 1 < len(ends) else len(text)
            text = text[:a] + dice.choice(STRANGE) + text[b:]
            data = text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")
        else:
            lines = data.splitlines(keepends=True)
            a, b = dice.randrange(len(lines)), dice.randrange(len(lines))
            if kind == "line":
                del lines[a]
            elif kind == "twice":
                lines.insert(b, lines[a])
            else:
                lines[a], lines[b] = lines[b], lines[a]
            data = b"".join(lines)
    return data


def attack(path, reader, data, dice, seconds):
    """Break a file in ever new ways for so long; return how often it was read and refused."""
    read = refused = 0
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        content = broken(data, dice)
        path.write_bytes(content)
        start = time.monotonic()
        try:
            reader(path)
            read += 1
        except TrackerError as exc:
            refused += 1
            said = str(exc)
            assert str(path.parent) in said or path.suffix == ".toml", said
        except BaseException:
            path.with_suffix(".kept").write_bytes(content)
            raise
        assert time.monotonic() - start < SLOWEST_S, content[:200]
    return read, refused


LABELS = ("labels", "clip-labels", "labelme", "datumaro", "train-settings")
NAMES = [*FORMATS, "results", "det", "mots-det", "config", "checkpoint", "report", *LABELS]


@pytest.mark.parametrize(
    "seconds", [1.0, pytest.param(60.0, marks=pytest.mark.slow)], ids=lambda s: f"{s:g} s"
)
@pytest.mark.parametrize("name", NAMES)
def test_a_broken_file_gives_a_documented_error(tmp_path, name, seconds):
    if name == "parquet":
        pytest.importorskip("pyarrow")
    if name in LABELS:
        pytest.importorskip("lightning_fabric", reason="the extra `train` is not installed")
    reader, suffix, data = seeds(tmp_path)[name]
    reader(_written(tmp_path / f"whole{suffix}", data))
    read, refused = attack(tmp_path / f"broken{suffix}", reader, data, random.Random(name), seconds)
    print(f"{name}: {read} read, {refused} refused")
    assert read + refused > 20


def _written(path, data):
    path.write_bytes(data)
    return path
