"""Reading labelled pictures: every form gives the same masks, every mistake is named."""

import json

import labelled
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lightning_fabric", reason="the extra `train` is not installed")

from tracker.errors import ConfigError, FormatError
from tracker.train import find
from tracker.train.labels import clip_labels, coco_labels, label_images
from tracker.train.labels.label_folders import find_places
from tracker.train.labels.shapes import crosses_itself
from tracker.train.samples import BACKGROUND, Dataset, Instance, Sample, checked, join, split


def things(data, names):
    """Return each picture's set of (name, mask bytes)."""
    found = []
    for sample in data.samples:
        ones = set()
        for one in sample.instances:
            name = "crowd" if one.crowd else data.categories[one.label]
            ones.add((names.get(name, name), one.rle["counts"]))
        found.append(ones)
    return found


def expected(items, names=labelled.NAMES):
    return [
        {
            (names[label], labelled.rle(mask)["counts"])
            for label, mask in zip(*item[1:], strict=True)
        }
        for item in items
    ]


@pytest.fixture(scope="module")
def items():
    return labelled.frames(3)


def test_coco(tmp_path, items):
    path = labelled.coco(tmp_path, items)
    for where in (path, tmp_path):
        data, held = find.read_data([where])
        assert held is None
        assert data.categories == (BACKGROUND, "person", "car", "dog")
        assert things(data, {}) == expected(items)
        assert [p for p in data.problems if p.fatal] == []


def test_youtube_vis(tmp_path, items):
    data, _ = find.read_data([labelled.youtube_vis(tmp_path, items)])
    assert things(data, {}) == expected(items)
    assert {sample.group for sample in data.samples} == {"video 1"}


@pytest.mark.parametrize("text", [False, True], ids=["png", "txt"])
def test_mots(tmp_path, items, text):
    data, _ = find.read_data([labelled.mots(tmp_path, items, text=text)])
    assert things(data, {}) == expected(items, {1: "person", 2: "car", 3: "crowd"})


def test_penn_fudan(tmp_path, items):
    data, _ = find.read_data([labelled.penn_fudan(tmp_path, items)])
    assert data.categories == (BACKGROUND, "person")
    assert things(data, {}) == expected(items, dict.fromkeys((1, 2, 3), "person"))


def test_cityscapes(tmp_path, items):
    data, _ = find.read_data([labelled.cityscapes(tmp_path, items)])
    wanted = [{one for one in ones if one[0] != "dog"} for ones in expected(items)]
    assert things(data, {}) == wanted


def test_validation_beside_the_training(tmp_path, items):
    train, val = (labelled.coco(tmp_path / name, items[:k]) for name, k in (("a", 2), ("b", 1)))
    root = tmp_path / "set"
    (root / "annotations").mkdir(parents=True)
    for path, name in ((train, "instances_train"), (val, "instances_val")):
        content = json.loads(path.read_text())
        for image in content["images"]:
            image["file_name"] = str(path.parent / "images" / image["file_name"])
        (root / "annotations" / f"{name}.json").write_text(json.dumps(content))
    (root / "annotations" / "captions_val.json").write_text("{}")
    data, held = find.read_data([root])
    assert (len(data.samples), len(held.samples)) == (2, 1)


def test_several_sets_are_joined_by_name(tmp_path, items):
    first = labelled.coco(tmp_path / "a", items[:1])
    second = labelled.coco(
        tmp_path / "b",
        [(items[1][0], [3], items[1][2][:1])],
        categories=[{"id": 30, "name": "cat"}, {"id": 10, "name": "dog"}],
    )
    data, _ = find.read_data([first, second])
    assert data.categories == (BACKGROUND, "person", "car", "dog", "cat")
    assert data.categories[data.samples[1].instances[0].label] == "cat"
    assert join([data], ["cat"]).counts() == {"cat": 1}


def objects(sample):
    """Return the ids of what is learnt; regions that are not judged are left out."""
    return [one.id for one in sample.instances if not one.crowd]


SQUARE = [10.0, 10, 50, 10, 50, 50, 10, 50]
BOW = [10.0, 10, 50, 50, 50, 10, 10, 50]


@pytest.mark.parametrize(
    ("change", "id_", "text"),
    [
        ({"segmentation": [[1, 2, 3, 4]]}, "annotation 7", "fewer than three points"),
        ({"segmentation": []}, "annotation 7", "has no segmentation"),
        ({"segmentation": [[5, 5, 5, 5, 5, 5]]}, "annotation 7", "is empty"),
        ({"segmentation": [[1, 2, 3]]}, "annotation 7", "malformed"),
        ({"segmentation": [[0, 0, 9, float("nan"), 9, 9]]}, "annotation 7", "are not finite"),
        ({"segmentation": {"size": [9, 9], "counts": "51"}}, "annotation 7", "not [100, 80]"),
        ({"segmentation": {"size": [100, 80], "counts": [8000]}}, "annotation 7", "mask is empty"),
        ({"segmentation": {"size": [100, 80], "counts": [5]}}, "annotation 7", "malformed"),
        ({"segmentation": [BOW]}, "annotation 7", "crosses itself"),
        ({"segmentation": [[10, 10, 150, 10, 50, 50]]}, "annotation 7", "leaves the picture"),
        ({"image_id": 99}, "annotation 7", "image_id 99 is none"),
        ({"category_id": 99}, "annotation 7", "category_id 99 is none"),
        ({"id": 1}, "annotation 1", "given twice"),
    ],
)
def test_a_bad_annotation(tmp_path, change, id_, text):
    picture = np.zeros((100, 80, 3), np.uint8)
    labelled.save(tmp_path / "images" / "0.png", picture)
    good = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [SQUARE], "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "0.png", "width": 80, "height": 100}],
        "annotations": [good, good | {"id": 7} | change],
        "categories": [{"id": 1, "name": "a"}],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    data = coco_labels.read(path)
    (problem,) = data.problems
    assert problem.file == str(path)
    assert problem.id == id_
    assert text in problem.text
    assert problem.fatal == (text not in ("crosses itself", "leaves the picture"))
    assert objects(data.samples[0]) == (["1"] if problem.fatal else ["1", "7"])


UNSIZED = "/2.png: no such picture, or none that can be read, and its size is not said"


def test_bad_images_and_categories(tmp_path):
    content = {
        "images": [
            {"id": 1, "file_name": "0.png", "width": 80, "height": 100},
            {"id": 1, "file_name": "1.png", "width": 80, "height": 100},
            {"id": 2, "file_name": "2.png", "width": 0, "height": 100},
            {"id": 3, "file_name": "gone.png", "width": 80, "height": 100},
            {"id": 4, "file_name": "small.png", "width": 80, "height": 100},
            {"id": 5, "file_name": "text.png", "width": 80, "height": 100},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [SQUARE], "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}, {"id": 3, "name": "c"}],
    }
    labelled.save(tmp_path / "0.png", np.zeros((100, 80, 3), np.uint8))
    labelled.save(tmp_path / "small.png", np.zeros((50, 40, 3), np.uint8))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "labels.json").write_text(json.dumps(content))
    data, _ = find.read_data([tmp_path / "labels.json"])
    said = sorted(str(problem).replace(str(tmp_path), "") for problem in data.problems)
    assert said == sorted(
        [
            "/labels.json [category 1]: its id is given twice",
            "/labels.json [image 1]: its id is given twice",
            "/labels.json [image 2]: " + UNSIZED,
            "/gone.png: no such picture",
            "/small.png: is 40x50 px, its labels say 80x100",
            "/text.png: cannot be read as a picture (UnidentifiedImageError)",
            "categories [c]: has no examples",
        ]
    )
    assert len(data.samples) == 1


def test_a_file_that_is_none(tmp_path):
    for content in ("[]", "{}", "nonsense", '{"images": 1, "annotations": [], "categories": []}'):
        (tmp_path / "labels.json").write_text(content)
        with pytest.raises(FormatError, match=r"labels\.json"):
            coco_labels.read(tmp_path / "labels.json")
    with pytest.raises(ConfigError, match="no such file"):
        find.read_data([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="neither a COCO file nor folders"):
        find.read_data([tmp_path / "empty"])


def test_label_pictures_with_faults(tmp_path):
    root = labelled.penn_fudan(tmp_path, labelled.frames(2))
    (root / "PedMasks" / "lonely_mask.png").write_bytes(b"")
    (root / "PedMasks" / "P1_mask.png").write_bytes(b"no picture")
    labelled.save(root / "PNGImages" / "unlabelled.png", np.zeros((8, 8, 3), np.uint8))
    data = label_images.read(*find_places(root))
    assert len(data.samples) == 1
    assert sorted(p.text.partition(" (")[0] for p in data.problems) == [
        "cannot be read",
        "has no label picture",
        "has no picture of its name",
    ]


def test_a_video_file_with_faults(tmp_path):
    root = labelled.youtube_vis(tmp_path, labelled.frames(2))
    path = root / "instances.json"
    content = json.loads(path.read_text())
    first, second = content["annotations"][:2]
    first["segmentations"] = first["segmentations"][:1]
    second["video_id"] = 5
    content["videos"].append({"id": 1, **content["videos"][0]})
    path.write_text(json.dumps(content))
    said = [str(p.text) for p in clip_labels.read_youtube_vis(path).problems]
    assert said == [
        "its id is given twice",
        "has 1 masks for 2 frames",
        "its video_id is none of the videos",
    ]


def test_a_turned_photograph(tmp_path):
    """A camera stores it lying and says so; labels drawn on the upright one fit."""
    from tracker.train.samples import read_picture

    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:5] = 255
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    upright = Sample(tmp_path / "a.png", 40, 60, ())
    lying = Sample(tmp_path / "a.png", 60, 40, ())
    assert checked(Dataset((upright,), (BACKGROUND,))).problems == ()
    (note,) = checked(Dataset((lying,), (BACKGROUND,))).problems
    assert (note.kind, note.fatal) == ("picture turned", False)
    assert read_picture(upright).shape == (60, 40, 3)
    assert read_picture(upright)[:, -5:].min() == 255
    assert np.array_equal(read_picture(lying), picture)


@pytest.mark.parametrize(
    ("points", "crosses"),
    [
        (SQUARE, False),
        (BOW, True),
        ([0.0, 0, 10, 0, 5, 5], False),
        ([0.0, 0, 10, 0, 10, 10, 5, 0, 0, 10], False),  # touches a side with a corner
        ([0.0, 0, 4, 0, 4, 4, 2, -1, 0, 4], True),
    ],
)
def test_crosses_itself(points, crosses):
    assert crosses_itself(np.array(points).reshape(-1, 2)) == crosses


def minimal(tmp_path, **changes):
    """Return a COCO file of one picture with one square, laid over by `changes`."""
    labelled.save(tmp_path / "0.png", np.zeros((100, 80, 3), np.uint8))
    square = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [SQUARE], "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "0.png", "width": 80, "height": 100}],
        "annotations": [square | changes.pop("annotation", {})],
        "categories": [{"id": 1, "name": "a"}],
    } | changes
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return tmp_path / "labels.json"


@pytest.mark.parametrize(
    "change",
    [
        {"annotation": {"id": [1]}},
        {"annotation": {"image_id": {}}},
        {"annotation": {"category_id": []}},
        {"annotation": {"segmentation": {"size": [100, 80], "counts": [-5]}}},
        {"annotation": {"segmentation": {"size": [100, 80], "counts": 7}}},
        {"annotation": {"segmentation": {"size": [100], "counts": "1"}}},
        {"annotation": {"segmentation": [[1e300, 0, 5, 5, 0, 9]]}},
        {"annotation": {"segmentation": [[1e7, 0, 5, 5, 0, 9]]}},
        {"annotation": {"segmentation": [["a", 0, 5, 5, 0, 9]]}},
        {"annotations": [None]},
        {"images": [{"id": [1], "file_name": "0.png", "width": 80, "height": 100}]},
        {"images": [{"id": 1, "file_name": "0.png", "width": 1e999, "height": 100}]},
        {"images": [{"id": 1, "file_name": "0.png", "width": 10**400, "height": 100}]},
        {"images": [{"id": 1, "file_name": "x" * 300, "width": 80, "height": 100}]},
        {"categories": [{"id": [1], "name": "a"}]},
        {"categories": [7]},
    ],
)
def test_values_of_wrong_types_are_problems(tmp_path, change):
    path = minimal(tmp_path, **change)
    data, _ = find.read_data([path])
    assert [problem for problem in data.problems if problem.fatal]
    assert not data.samples or not objects(data.samples[0])


def test_a_crowd_of_any_category(tmp_path):
    data, _ = find.read_data([minimal(tmp_path, annotation={"category_id": 0, "iscrowd": 1})])
    (one,) = data.samples[0].instances
    assert (one.label, one.crowd) == (0, True)
    assert join([data], ["a"]).samples[0].instances == (one,)
    data = coco_labels.read(minimal(tmp_path, annotation={"category_id": 0}))
    assert "category_id 0 is none" in data.problems[0].text


def test_pictures_of_one_name_are_not_mixed_up(tmp_path, items):
    (first, *_), (second, *_) = items[:2]
    for folder, picture in (("train", first), ("val", second)):
        labelled.save(tmp_path / folder / "0.png", picture)
    for name in ("train", "val"):
        source = labelled.coco(tmp_path / f"of-{name}", items[:1])
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"{name}.json").write_text(source.read_text())
    data, held = find.read_data([tmp_path])
    assert data.samples[0].path == tmp_path / "train" / "0.png"
    assert held.samples[0].path == tmp_path / "val" / "0.png"

    root = tmp_path / "masks-set"
    for folder, (picture, _, masks) in zip("ab", items, strict=False):
        labelled.save(root / "images" / folder / "0.png", picture)
        labelled.save(root / "masks" / folder / "0.png", masks[0].astype(np.uint8))
    data, _ = find.read_data([root])
    assert [sample.path.parent.name for sample in data.samples] == ["a", "b"]


def test_cityscapes_has_its_own_validation_and_groups(tmp_path, items):
    labelled.cityscapes(tmp_path, items)
    for top in ("leftImg8bit", "gtFine"):
        (tmp_path / top / "val").mkdir()
        (tmp_path / top / "test").mkdir()
        for path in (tmp_path / top / "train" / "ulm").glob("ulm_2_*"):
            path.rename(tmp_path / top / "val" / path.name)
    path = next((tmp_path / "gtFine" / "train").rglob("ulm_0_*"))
    plane = np.array(Image.open(path)).astype(np.uint16)
    plane[:9, :9] = 24
    Image.fromarray(plane).save(path)
    data, held = find.read_data([tmp_path])
    assert (len(data.samples), len(held.samples)) == (2, 1)
    crowds = [one for one in data.samples[0].instances if one.crowd]
    assert [data.categories[one.label] for one in crowds] == ["person"]
    assert crowds[0].mask.box == (0, 0, 9, 9)


def test_damaged_pictures_are_found_where_asked(tmp_path):
    path = minimal(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (100, 80, 3), np.uint8)
    labelled.save(tmp_path / "0.png", noise)
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(whole[: len(whole) // 2])
    assert not find.read_data([path])[0].problems
    (problem,) = [p for p in find.read_data([path], whole=True)[0].problems if p.fatal]
    assert problem.file.endswith("0.png")


def test_mots_pictures_with_faults(tmp_path, items):
    labelled.mots(tmp_path, items)
    folder = tmp_path / "instances" / "0002"
    labelled.save(folder / "000001.png", items[0][0])
    labelled.save(folder / "notes.png", items[0][0])
    labelled.save(folder / "000099.png", np.ones((4, 4), np.uint8))
    data = clip_labels.read_mots(tmp_path)
    assert len(data.samples) == 2
    assert sorted(p.text.partition(";")[0] for p in data.problems) == [
        "has no picture",
        "is a colour picture",
    ]


def test_a_damaged_file_in_a_folder_is_named(tmp_path):
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(FormatError, match=r"labels\.json"):
        find.read_data([tmp_path])


def test_only_whole_words_mean_validation(tmp_path, items):
    for name, kept in (("latest", items[:1]), ("interval", items[1:2])):
        path = labelled.coco(tmp_path, kept)
        path.rename(tmp_path / f"{name}.json")
        (tmp_path / "images" / "0.png").rename(tmp_path / "images" / f"{name}.png")
        path = tmp_path / f"{name}.json"
        path.write_text(path.read_text().replace("0.png", f"{name}.png"))
    data, held = find.read_data([tmp_path])
    assert (len(data.samples), held) == (2, None)


def samples(groups):
    one = Instance("1", 1, {"size": [4, 4], "counts": "04<"})
    return Dataset(tuple(Sample(None, 4, 4, (one,), group) for group in groups), (BACKGROUND, "a"))


def test_split_keeps_clips_together():
    data = samples(["a"] * 10 + ["b"] * 10 + ["c"] * 10 + ["d"] * 10)
    train, val = split(data, 0.2, seed=1)
    assert len(train.samples) + len(val.samples) == 40
    assert len(val.samples) == 10
    assert not {s.group for s in train.samples} & {s.group for s in val.samples}
    again = split(data, 0.2, seed=1)[1]
    assert [s.group for s in again.samples] == [s.group for s in val.samples]


def test_split_of_one_clip_and_of_single_pictures():
    train, val = split(samples(["a"] * 10), 0.2, seed=0)
    assert (len(train.samples), len(val.samples)) == (8, 2)
    train, val = split(samples([""] * 20), 0.25, seed=0)
    assert (len(train.samples), len(val.samples)) == (15, 5)
    with pytest.raises(ValueError, match="too few"):
        split(samples([""]), 0.2, seed=0)


@pytest.mark.parametrize("seed", range(6))
def test_split_leaves_a_large_clip_to_the_training(seed):
    train, val = split(samples(["a"] * 100 + ["b"] * 10), 0.15, seed=seed)
    assert (len(train.samples), len(val.samples)) == (100, 10)
