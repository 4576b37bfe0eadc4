"""Exports are read back by the tools that people use, and equal our own values.

Each test gives a file of `tracker export` to somebody else's reader: ids, frames, classes, boxes
and masks are those of the log, and TrackEval's data sets score the file as `tracker evaluate` does.
Sources of CVAT's rules: its importers are datumaro's readers (mot_seq, coco) and what
cvat/apps/dataset_manager/formats/mot.py and bindings.py make of them.
"""

import contextlib
import io
import json
import shutil
import zipfile
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from test_evaluate import official

from tracker.formats import FORMATS, get_format, open_log
from tracker.formats.rows import Row, to_rows, to_tracks
from tracker.masks import Mask, mask_to_rle
from tracker.types import LoggedFrame, LogInfo, TrackLog

WIDTH, HEIGHT, FRAMES = 160, 120, 10
NAMES = ("__background__", "person", "bicycle", "car", "dog")
PERSON, CAR, DOG = 1, 3, 4
LANES = {1: PERSON, 2: PERSON, 3: CAR, 4: CAR, 7: DOG}  # id -> label; 20 rows of pixels to each


@pytest.fixture
def tracker(tracker):
    """Run the command; return what it printed and its notes, and fail where it failed."""

    def call(*args):
        code, out, err = tracker(*args)
        assert code == 0, err
        return out.strip(), err

    return call


def a_log(seed=0, names=NAMES, labels=None):
    """Return a log whose objects have holes, leave, come back, are predicted, and never overlap."""
    dice, frames = np.random.default_rng(seed), []
    for index in range(FRAMES):
        rows = []
        for lane, (id_, label) in enumerate(LANES.items()):
            if labels and label not in labels:
                continue
            if dice.random() < 0.15 and index:
                continue  # not there in this frame
            x, w = 5 + 9 * index + int(dice.integers(0, 4)), 30 + int(dice.integers(0, 9))
            bits = dice.random((18, w)) < 0.9
            bits[[0, -1]], bits[:, [0, -1]] = True, True
            mask = Mask(x, 22 * lane + 1, bits)
            box = tuple(float(v) for v in mask.box)
            seen = dice.random() > 0.1 or index == 0
            score = round(float(dice.uniform(0.5, 1)), 4)
            rows.append(Row(id_, label, score, box, mask if seen else None, 0 if seen else -1))
        frames.append(LoggedFrame(index, index / 12.5, WIDTH, HEIGHT, to_tracks(rows)))
    return TrackLog(LogInfo(WIDTH, HEIGHT, names, Fraction(25, 2), "street.mp4"), frames)


def saved(path, log):
    """Write a run's log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    get_format("jsonl").write(log, path)
    return path


def objects(log):
    """Return (frame, row) of every object."""
    return [(frame, row) for frame in log.frames for row in to_rows(frame.tracks)]


def bits(mask):
    """Return a mask as the whole frame's pixels."""
    whole = np.zeros((HEIGHT, WIDTH), bool)
    if mask is not None:
        x1, y1, x2, y2 = mask.box
        whole[y1:y2, x1:x2] = mask.bits
    return whole


def xywh(row):
    x1, y1, x2, y2 = row.box
    return [x1, y1, x2 - x1, y2 - y1]


def quietly(make, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        return make(*args, **kwargs)


# TrackEval ---------------------------------------------------------------------------------------


def layout(folder, benchmark, truth, found):
    """Lay truth and result out as MOTChallenge does; return the settings that find them."""
    for name in (f"{benchmark}-train/street/gt", "seqmaps"):
        (folder / "gt" / name).mkdir(parents=True)
    (folder / "tr" / f"{benchmark}-train/ours/data").mkdir(parents=True)
    home = folder / "gt" / f"{benchmark}-train" / "street"
    shutil.copy(truth, home / "gt" / "gt.txt")
    (home / "seqinfo.ini").write_text(
        f"[Sequence]\nname=street\nimDir=img1\nframeRate=12\nseqLength={FRAMES}\n"
        f"imWidth={WIDTH}\nimHeight={HEIGHT}\nimExt=.jpg\n"
    )
    (folder / "gt/seqmaps" / f"{benchmark}-train.txt").write_text("name\nstreet\n")
    shutil.copy(found, folder / "tr" / f"{benchmark}-train/ours/data/street.txt")
    return {
        "GT_FOLDER": str(folder / "gt"), "TRACKERS_FOLDER": str(folder / "tr"),
        "OUTPUT_FOLDER": str(folder), "TRACKERS_TO_EVAL": ["ours"], "SPLIT_TO_EVAL": "train",
    }  # fmt: skip


def worse(log):
    """Return a result for a truth: an object is lost for a while and comes back as another."""
    frames = []
    for frame in log.frames:
        rows = [
            replace(row, id=row.id + 20 if frame.index > 6 and row.id % 2 else row.id, source=0)
            for row in to_rows(frame.tracks)
            if not (row.id == 2 and 3 <= frame.index <= 4)
        ]
        rows = [
            replace(row, mask=row.mask.moved(2, 0), box=tuple(float(v) for v in
                    row.mask.moved(2, 0).box)) if row.mask else row for row in rows
        ]  # fmt: skip
        frames.append(replace(frame, tracks=to_tracks(rows)))
    return replace(log, frames=frames)


def certain(log):
    """Return a log whose scores are 1: as truth of MOTChallenge what has less does not count."""
    frames = [
        replace(f, tracks=to_tracks([replace(row, score=1.0) for row in to_rows(f.tracks)]))
        for f in log.frames
    ]
    return replace(log, frames=frames)


def assert_equal_scores(ours, theirs):
    """Compare figures of `tracker evaluate --json` with TrackEval's, class by class."""
    for label, figures in theirs.items():
        (mine,) = ours[label].values()
        want = {name: figures[None][name] for name in mine["combined"]}
        assert mine["combined"] == pytest.approx(want, abs=1e-9), label
        assert 20 < want["HOTA"] < 95  # neither trivial nor hopeless


def read_by_trackeval(dataset, log, numbers, *, rle=True):
    """Return what a data set of TrackEval makes of the result: (frame, id, class, mask or box)."""
    raw = quietly(dataset._load_raw_file, "ours", "street", is_gt=False)
    found = []
    for index in range(raw["num_timesteps"]):
        items = zip(
            raw["tracker_ids"][index], raw["tracker_classes"][index], raw["tracker_dets"][index],
            strict=True,
        )  # fmt: skip
        for id_, label, what in items:
            value = what["counts"].decode() if rle else tuple(what)
            found.append((index, int(id_), int(label), value))
    expected = []
    for frame, row in objects(log):
        if not rle or row.mask is not None:
            value = mask_to_rle(row.mask, WIDTH, HEIGHT)["counts"] if rle else tuple(xywh(row))
            expected.append((frame.index, row.id, numbers[row.label], value))
    return found, expected


def test_mot_in_trackeval(tracker, tmp_path):
    trackeval = pytest.importorskip("trackeval")
    log = a_log()
    saved(tmp_path / "truth.jsonl", certain(log))
    saved(tmp_path / "run/tracks.jsonl", worse(log))
    truth, _ = tracker("export", "truth.jsonl", "--to", "mot", "--classes", "person")
    found, notes = tracker("export", "run", "--to", "mot", "--classes", "person")
    assert notes == ""
    settings = layout(tmp_path / "official", "MOT17", truth, found) | {"BENCHMARK": "MOT17"}
    dataset = quietly(trackeval.datasets.MotChallenge2DBox, settings)
    people = replace(worse(log), frames=open_log(tmp_path / found).frames)
    got, expected = read_by_trackeval(dataset, people, {1: 1}, rle=False)
    assert [item[:3] for item in got] == [item[:3] for item in expected]
    assert np.allclose([item[3] for item in got], [item[3] for item in expected], atol=1e-4)
    ours, _ = tracker("evaluate", truth, "run", "--json")
    assert_equal_scores(json.loads(ours), official(dataset, "ours", ["pedestrian"]))


def test_mot_of_several_classes_says_that_trackeval_refuses_them(tracker, tmp_path):
    trackeval = pytest.importorskip("trackeval")
    saved(tmp_path / "run/tracks.jsonl", a_log())
    found, notes = tracker("export", "run", "--to", "mot")
    assert "has no number for some classes: dog is 14" in notes
    assert "refuses a file with other classes (car 3, dog 14); --classes person" in notes
    settings = layout(tmp_path / "official", "MOT17", found, found) | {"BENCHMARK": "MOT17"}
    dataset = quietly(trackeval.datasets.MotChallenge2DBox, settings | {"DO_PREPROC": False})
    raw = quietly(dataset.get_raw_seq_data, "ours", "street")
    with pytest.raises(trackeval.utils.TrackEvalException, match="only valid for pedestrian"):
        quietly(dataset.get_preprocessed_seq_data, raw, "pedestrian")


@pytest.mark.parametrize("to", ["mots", "mots-challenge"])
def test_mots_in_trackeval(tracker, tmp_path, to):
    trackeval = pytest.importorskip("trackeval")
    log = a_log()
    saved(tmp_path / "truth.jsonl", log)
    saved(tmp_path / "run/tracks.jsonl", worse(log))
    truth, _ = tracker("export", "truth.jsonl", "--to", to)
    found, notes = tracker("export", "run", "--to", to)
    assert "has no number for some classes: dog is 4" in notes
    if to == "mots-challenge":
        settings = layout(tmp_path / "official", "MOTS", truth, found)
        dataset = quietly(trackeval.datasets.MOTSChallenge, settings)
        wanted = ["pedestrian"]
    else:
        root = tmp_path / "official"
        for folder, path in (("gt/label_02", truth), ("tr/ours/data", found)):
            (root / folder).mkdir(parents=True)
            shutil.copy(path, root / folder / "street.txt")
        dataset = quietly(trackeval.datasets.KittiMOTS, {
            "GT_FOLDER": str(root / "gt"), "TRACKERS_FOLDER": str(root / "tr"),
            "OUTPUT_FOLDER": str(root), "TRACKERS_TO_EVAL": ["ours"],
            "SEQ_INFO": {"street": FRAMES}, "GT_LOC_FORMAT": "{gt_folder}/label_02/{seq}.txt",
        })  # fmt: skip
        wanted = ["pedestrian", "car"]
    numbers = {PERSON: 2, CAR: 1, DOG: 4}
    got, expected = read_by_trackeval(dataset, worse(log), numbers)
    assert got == expected
    theirs = official(dataset, "ours", wanted)
    for result in ("run", found):  # the log, whose frames count from 0, and the text
        ours, _ = tracker("evaluate", truth, result, "--json")
        assert_equal_scores(json.loads(ours), theirs)


def test_youtube_vis_in_trackeval(tracker, tmp_path):
    trackeval = pytest.importorskip("trackeval")
    log = a_log(labels={PERSON, CAR})
    result = worse(log)
    saved(tmp_path / "truth.jsonl", log)
    saved(tmp_path / "run/tracks.jsonl", result)
    places = {"gt/youtube_vis_val": "truth.jsonl", "tr/youtube_vis_val/ours/data": "run"}
    for folder, source in places.items():
        (tmp_path / folder).mkdir(parents=True)
        to = "youtube-vis" if source != "run" else "youtube-vis-results"
        tracker("export", source, "--to", to, "-o", f"{folder}/street.json")
    dataset = quietly(trackeval.datasets.YouTubeVIS, {
        "GT_FOLDER": f"{tmp_path}/gt/", "TRACKERS_FOLDER": f"{tmp_path}/tr/",
        "OUTPUT_FOLDER": str(tmp_path), "TRACKERS_TO_EVAL": ["ours"], "SPLIT_TO_EVAL": "val",
        "CLASSES_TO_EVAL": ["person", "car"],
    })  # fmt: skip
    truth_masks = {
        (k, track["id"], track["category_id"], mask["counts"].decode())
        for track in dataset.gt_data["annotations"]
        for k, mask in enumerate(track["segmentations"])
        if mask
    }
    assert truth_masks == {
        (f.index, row.id, row.label, mask_to_rle(row.mask, WIDTH, HEIGHT)["counts"])
        for f, row in objects(log)
        if row.mask
    }
    theirs = official(dataset, "ours", ["person", "car"])
    tracker("export", "truth.jsonl", "--to", "mots", "-o", "truth.txt")
    ours, _ = tracker("evaluate", "truth.txt", "run", "--json")
    theirs["pedestrian"] = theirs.pop("person")
    assert_equal_scores(json.loads(ours), {k: v | {None: next(iter(v.values()))}
                                           for k, v in theirs.items()})  # fmt: skip


# motmetrics, pandas, pycocotools, supervision ---------------------------------------------------


@pytest.mark.filterwarnings("ignore:Operation with tuple is deprecated")
@pytest.mark.parametrize("fmt", ["mot15-2D", "mot16"])
def test_mot_in_motmetrics(tracker, tmp_path, fmt):
    motmetrics = pytest.importorskip("motmetrics")
    log = a_log()
    saved(tmp_path / "run/tracks.jsonl", log)
    path, _ = tracker("export", "run", "--to", "mot")
    table = motmetrics.io.loadtxt(path, fmt=fmt)
    numbers = {PERSON: 1, CAR: 3, DOG: 14}
    assert table.index.tolist() == [(f.index + 1, row.id) for f, row in objects(log)]
    assert table.ClassId.tolist() == [numbers[row.label] for _, row in objects(log)]
    assert table.Confidence.tolist() == [row.score for _, row in objects(log)]
    assert table.Visibility.tolist() == [int(row.source >= 0) for _, row in objects(log)]
    boxes = table[["X", "Y", "Width", "Height"]].to_numpy() + np.array(
        [1, 1, 0, 0]
    )  # it takes 1 off
    assert np.allclose(boxes, [xywh(row) for _, row in objects(log)], atol=1e-9)


def columns(log):
    """Return the columns of the table of a log."""
    names = log.info.categories
    return {
        "frame": [f.index for f, _ in objects(log)],
        "time": [f.time for f, _ in objects(log)],
        "id": [row.id for _, row in objects(log)],
        "label": [row.label for _, row in objects(log)],
        "class": [names[row.label] for _, row in objects(log)],
        "score": [row.score for _, row in objects(log)],
        "x1": [row.box[0] for _, row in objects(log)],
        "y2": [row.box[3] for _, row in objects(log)],
        "predicted": [row.source < 0 for _, row in objects(log)],
        "width": [WIDTH for _ in objects(log)],
    }


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_tables_in_pandas(tracker, tmp_path, to):
    pandas = pytest.importorskip("pandas")
    if to == "parquet":
        pytest.importorskip("pyarrow")
    log = a_log()
    saved(tmp_path / "run/tracks.jsonl", log)
    path, _ = tracker("export", "run", "--to", to)
    table = pandas.read_csv(path) if to == "csv" else pandas.read_parquet(path)
    for name, values in columns(log).items():
        assert table[name].tolist() == values, name
    rles = [row.mask and mask_to_rle(row.mask, WIDTH, HEIGHT)["counts"] for _, row in objects(log)]
    read = table["mask"].where(table["mask"].notna(), "").tolist()
    assert read == [rle or "" for rle in rles]
    # And back: what pandas writes of it is the same log.
    table["id"] = table["id"].astype(float)  # as pandas has a column with a gap
    table.to_csv("back.csv", index=False)
    for a, b in zip(log.frames, open_log(tmp_path / "back.csv").frames, strict=True):
        assert (a.index, a.time) == (b.index, b.time)
        for one, other in zip(to_rows(a.tracks), to_rows(b.tracks), strict=True):
            assert replace(one, mask=None) == replace(other, mask=None)
            assert np.array_equal(bits(one.mask), bits(other.mask))


def test_jsonl_in_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    log = a_log()
    path = saved(tmp_path / "tracks.jsonl", log)
    lines = pandas.read_json(path, lines=True)
    frames = lines[lines["tracks"].notna()]  # all but the header
    assert frames["frame"].tolist() == [frame.index for frame in log.frames]
    assert frames["time"].tolist() == [frame.time for frame in log.frames]
    tracks = pandas.DataFrame(frames["tracks"].explode().dropna().tolist())
    assert tracks["id"].tolist() == columns(log)["id"]
    assert tracks["class"].tolist() == columns(log)["class"]
    assert tracks["box"].tolist() == [list(row.box) for _, row in objects(log)]


def test_coco_in_pycocotools(tracker, tmp_path):
    from pycocotools.coco import COCO

    log = a_log()
    saved(tmp_path / "run/tracks.jsonl", log)
    path, _ = tracker("export", "run", "--to", "coco")
    coco = quietly(COCO, path)
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {
        1: "person", 2: "bicycle", 3: "car", 4: "dog",
    }  # fmt: skip
    assert [(i["width"], i["height"]) for i in coco.loadImgs(coco.getImgIds())] == [
        (WIDTH, HEIGHT)
    ] * FRAMES
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len(annotations) == len(objects(log))
    for item, (frame, row) in zip(annotations, objects(log), strict=True):
        assert coco.imgs[item["image_id"]]["frame"] == frame.index
        assert (item["track_id"], item["category_id"], item["score"]) == (
            row.id, row.label, row.score,
        )  # fmt: skip
        assert item["bbox"] == xywh(row)
        if row.mask:
            assert np.array_equal(coco.annToMask(item), bits(row.mask))
            assert item["area"] == row.mask.area
    results = quietly(coco.loadRes, [dict(item) for item in annotations])
    assert [a["bbox"] for a in results.loadAnns(results.getAnnIds())] == [
        xywh(row) for _, row in objects(log)
    ]


def test_coco_in_supervision(tracker, tmp_path):
    supervision = pytest.importorskip("supervision")
    log = a_log()
    saved(tmp_path / "run/tracks.jsonl", log)
    path, _ = tracker("export", "run", "--to", "coco")
    (tmp_path / "pictures").mkdir()
    dataset = supervision.DetectionDataset.from_coco("pictures", path, force_masks=True)
    assert len(dataset) == FRAMES
    for frame in log.frames:
        (found,) = (
            v for k, v in dataset.annotations.items() if k.endswith(f"{frame.index:06d}.jpg")
        )
        rows = to_rows(frame.tracks)
        assert [dataset.classes[k] for k in found.class_id] == [NAMES[row.label] for row in rows]
        assert np.allclose(found.xyxy, [row.box for row in rows])
        assert np.array_equal(found.mask, [bits(row.mask) for row in rows])


# CVAT --------------------------------------------------------------------------------------------


def test_mot_in_cvat(tracker, tmp_path):
    """MOT 1.1: a zip with gt/gt.txt; without gt/labels.txt its classes are MOTChallenge's."""
    datumaro = pytest.importorskip("datumaro")
    log = a_log(labels={PERSON, CAR})
    saved(tmp_path / "run/tracks.jsonl", log)
    path, _ = tracker("export", "run", "--to", "mot")
    with zipfile.ZipFile("street.zip", "w") as archive:
        archive.write(path, "gt/gt.txt")
    zipfile.ZipFile("street.zip").extractall("unpacked")
    dataset = datumaro.Dataset.import_from("unpacked", "mot_seq")
    names = dataset.categories()[datumaro.AnnotationType.label]
    found = {
        (int(item.id) - 1, box.attributes["track_id"], names[box.label].name,
         tuple(np.round(box.get_bbox(), 3)), box.attributes["occluded"])
        for item in dataset for box in item.annotations
    }  # fmt: skip
    spoken = {PERSON: "pedestrian", CAR: "car"}
    assert found == {
        (f.index, row.id, spoken[row.label], tuple(xywh(row)), row.source < 0)
        for f, row in objects(log)
    }


def test_coco_in_cvat(tracker, tmp_path):
    """COCO 1.0: frames by the picture's name, tracks by the attributes track_id and keyframe."""
    datumaro = pytest.importorskip("datumaro")
    log = a_log()
    saved(tmp_path / "run/tracks.jsonl", log)
    (tmp_path / "unpacked/annotations").mkdir(parents=True)
    (tmp_path / "unpacked/images").mkdir()  # datumaro itself asks for it, CVAT does not
    tracker("export", "run", "--to", "coco", "-o", "unpacked/annotations/instances_default.json")
    dataset = datumaro.Dataset.import_from("unpacked", "coco_instances")
    names = dataset.categories()[datumaro.AnnotationType.label]
    rows = {(f.index, row.id): row for f, row in objects(log)}
    seen, masks = set(), 0
    for item in dataset:
        for found in item.annotations:
            key = int(item.id), found.attributes["track_id"]
            row = rows[key]
            seen.add(key)
            assert names[found.label].name == NAMES[row.label]
            assert found.attributes["keyframe"] is True
            assert found.attributes["occluded"] is (row.source < 0)
            if found.type == datumaro.AnnotationType.mask:
                assert np.array_equal(found.image, bits(row.mask))
                masks += 1
            else:
                assert np.allclose(found.get_bbox(), xywh(row))
    assert seen == set(rows)
    assert masks == sum(row.mask is not None for row in rows.values())


def test_every_format_is_read_by_somebody():
    """A format that is added here needs a foreign reader above."""
    assert set(FORMATS) == {
        "jsonl", "mot", "mots", "mots-challenge", "youtube-vis", "youtube-vis-results", "coco",
        "csv", "parquet",
    }  # fmt: skip
