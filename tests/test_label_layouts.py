"""Where labels and pictures lie, and what they are for: names of folders, files, and lists."""

import base64
import json

import labelled
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lightning_fabric", reason="the extra `train` is not installed")

from test_label_kinds import (
    HEIGHT,
    NOISE,
    PAIRS,
    SQUARE,
    WIDTH,
    areas,
    base,
    fatal,
    notes,
    plane,
    png,
    put,
    regions,
    rle,
)

from tracker.errors import FormatError
from tracker.train import find
from tracker.train.labels.splits import split_of

MASK = plane().astype(np.uint8)
THREE = (1, 2, 3)
JPEGS = ("1.jpg", "2.jpg", "3.jpg")


def pictures(*folders):
    for folder in folders:
        for name in JPEGS:
            labelled.save(folder / name, NOISE)


def masks(folder, values=MASK, suffix=".png"):
    for k in THREE:
        labelled.save(folder / f"{k}{suffix}", values)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))


# ---- what a name is for -----------------------------------------------------------------------

SAID = {
    "train": "train Train TRAINING instancesTrain train2017 my_train trainval train_val trainset",
    "val": "val Valid validation validate eval evaluation holdout hold-out valset val_test dev "
    "instances_minival2014 instancesVal",
    "test": "test tst testing instancesTest image_info_test-dev2017 testset",
    "": "latest interval contest labels trained devices 2017 train_test_split",
}


@pytest.mark.parametrize(
    ("split", "name"), [(split, name) for split, all_ in SAID.items() for name in all_.split()]
)
def test_a_name_says_what_it_is_for(split, name):
    assert split_of(name) == split


@pytest.mark.parametrize("name", ["eval", "evaluation", "holdout", "val_test", "instancesVal"])
def test_a_file_to_validate_by_is_not_trained_on(tmp_path, name):
    put(tmp_path, base(2), JPEGS[:2], "train.json")
    content = base(3)
    del content["images"][:2], content["annotations"][:2]
    put(tmp_path, content, JPEGS, f"{name}.json")
    data, held = find.read_data([tmp_path])
    assert (len(data.samples), len(held.samples)) == (2, 1)


def test_what_is_beside_named_splits_is_told(tmp_path):
    """A file is trained on, a folder is not."""
    for name in ("train", "val", "extra"):
        put(tmp_path / "files", base(), file=f"{name}.json")
        put(tmp_path / "folders" / name, base())
    data, _ = find.read_data([tmp_path / "files"])
    assert ["trained on" in note for note in notes(data) if "extra.json" in note] == [True]
    data, held = find.read_data([tmp_path / "folders"])
    assert (len(data.samples), len(held.samples)) == (3, 3)
    assert ["not read" in note for note in notes(data) if "extra" in note] == [True]


def test_training_and_validation_together_are_left_out_beside_their_parts(tmp_path):
    put(tmp_path, base(2), JPEGS, "train.json")
    put(tmp_path, base(3), (), "trainval.json")
    put(tmp_path, base(1), (), "val.json")
    data, held = find.read_data([tmp_path])
    assert (len(data.samples), len(held.samples)) == (2, 1)
    assert any("trainval.json" in note and "not read" in note for note in notes(data))


def test_a_split_without_labels_is_told(tmp_path):
    put(tmp_path / "train", base())
    pictures(tmp_path / "valid")
    data, held = find.read_data([tmp_path])
    assert (len(data.samples), held) == (3, None)
    assert any("valid: holds pictures, but no labels" in note for note in notes(data))


def test_validation_that_labels_nothing_is_told(tmp_path):
    put(tmp_path, base(), file="train.json")
    put(tmp_path, base() | {"annotations": []}, file="val.json")
    data, held = find.read_data([tmp_path])
    assert held is None
    assert any("val.json: is named to validate by, but labels nothing" in n for n in notes(data))


def test_a_damaged_file_beside_a_good_one_cannot_be_used(tmp_path, tracker):
    put(tmp_path, base(), file="a.json")
    (tmp_path / "b.json").write_text(json.dumps(base())[:-40])
    code, _, err = tracker("train", tmp_path, "--check")
    assert code == 2
    assert "b.json: is not valid JSON" in err
    (tmp_path / "b.json").write_text('["person"]')  # sound, and no labels
    assert tracker("train", tmp_path, "--check")[0] == 0


def test_a_category_that_the_training_lacks_is_told(tmp_path, tracker):
    for name, category in (("train", "person"), ("val", "Person")):
        content = base() | {"categories": [{"id": 1, "name": category}]}
        put(tmp_path / name, content)
    data, _ = find.read_data([tmp_path])
    said = "3 objects to validate by are left out: the training has only person"
    assert any(said in note for note in notes(data))
    train, val = tmp_path / "train", tmp_path / "val"
    code, _, err = tracker("train", train, "--val", val, "--check")
    assert code == 2
    assert "differ in capital letters" in err.splitlines()[-1]


VOC_LISTS = {
    "capitals": ({"Train": "123", "Validation": "45", "Test": "6"}, 3, 2),
    "trainval and val": ({"trainval": "12345", "val": "45", "test": "6"}, 3, 2),
    "trainval and test": ({"trainval": "12345", "test": "6"}, 5, 0),
    "val alone": ({"val": "45"}, 4, 2),
    "test alone": ({"test": "6"}, 5, 0),
    "another name": ({"default": "123456"}, 6, 0),
}


@pytest.mark.parametrize("name", VOC_LISTS)
def test_vocs_lists_are_used_as_named(tmp_path, name):
    lists, train, val = VOC_LISTS[name]
    for k in range(1, 7):
        labelled.save(tmp_path / "JPEGImages" / "sub" / f"p{k}.jpg", NOISE)
        labelled.save(tmp_path / "SegmentationObject" / "sub" / f"p{k}.png", MASK)
        labelled.save(tmp_path / "SegmentationClass" / "sub" / f"p{k}.png", MASK)
    for split, rows in lists.items():
        text = "".join(f"sub/p{k}\n" for k in rows)
        write(tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt", text)
    write(tmp_path / "class_names.txt", "_background_\ncat\n")
    data, held = find.read_data([tmp_path])
    assert fatal(data) == []
    assert data.counts() == {"cat": train}
    assert len(held.samples if held else ()) == val
    assert any("is named test" in note for note in notes(data)) == any("est" in n for n in lists)


# ---- where things lie -------------------------------------------------------------------------

SAME_NAMES = [
    ("annotations/{}.json", "{}"),
    ("annotations/{}.json", "{}/images"),
    ("annotations/{}.json", "{}_images"),
    ("annotations/{}.json", "imgs_{}"),
    ("annotations/{}.json", "images/{}2017"),
    ("annotations/{}.json", "data/{}"),
    ("annotations/{}/x.json", "images/{}"),
    ("annotations_coco/{}.json", "pictures/{}"),
    ("json/instances_{}.json", "photos/{}"),
    ("{}.json", "{}"),
    ("{}/x.json", "{}/pics"),
]


@pytest.mark.parametrize("names", [("train", "val"), ("train", "valid"), ("Train", "Val")])
@pytest.mark.parametrize(("file", "folder"), SAME_NAMES)
def test_pictures_of_one_name_are_those_of_the_files_split(tmp_path, file, folder, names):
    for name in names:
        write(tmp_path / file.format(name), base())
        pictures(tmp_path / folder.format(name))
    parts = find.read_data([tmp_path])
    for name, data in zip(names, parts, strict=True):
        assert areas(data) == [400] * 3
        assert fatal(data) == []
        assert {s.path.parent for s in data.samples} == {tmp_path / folder.format(name)}


def test_a_file_takes_the_folder_that_it_is_named_after(tmp_path):
    for name in ("cam1", "cam2", "valid", "train"):
        pictures(tmp_path / name)
    for name in ("cam2", "valid"):
        write(tmp_path / "annotations" / f"{name}.json", base())
        data, _ = find.read_data([tmp_path / "annotations" / f"{name}.json"])
        assert {s.path.parent.name for s in data.samples} == {name}


def test_two_exports_in_one_folder_are_both_read(tmp_path):
    for name in ("a", "b"):
        put(tmp_path / name, base())
    assert areas(find.read_data([tmp_path])[0]) == [400] * 6


def test_labelme_anywhere_and_what_lies_beside_it(tmp_path):
    shapes = [
        {"label": 0, "points": PAIRS, "shape_type": kind}
        for kind in ("polygon", "rotation", "oriented_rectangle")
    ]
    for k in THREE:
        write(tmp_path / "jsons" / f"{k}.json", {"shapes": shapes, "imagePath": f"{k}.jpg"})
    pictures(tmp_path / "own")
    write(tmp_path / "jsons" / "0.json", {"x": 1})
    write(tmp_path / "jsons" / "a_classes.json", ["person"])
    data, _ = find.read_data([tmp_path])
    assert fatal(data) == []
    assert data.counts() == {"0": 9}
    assert areas(data) == [400] * 9


@pytest.mark.parametrize("folder", ["labels/{}", "{}/jsons", "annotations/{}"])
def test_labelmes_folders_are_used_as_named(tmp_path, folder):
    for name in ("train", "val", "test"):
        pictures(tmp_path / "images" / name)
        shapes = [{"label": "person", "points": PAIRS}]
        content = {"shapes": shapes, "imagePath": "1.jpg"}
        write(tmp_path / folder.format(name) / "1.json", content)
    parts = find.read_data([tmp_path])
    found = [[s.path.parent.name for s in data.samples] for data in parts]
    assert found == [["train"], ["val"]]
    assert sum("is named test" in note for note in notes(parts[0])) == 1


@pytest.mark.parametrize("start", ["", "data:image/png;base64,"])
def test_a_picture_within_a_label_file_is_read_or_told(tmp_path, start):
    held = base64.b64encode(png(NOISE)).decode()
    shapes = [{"label": "person", "points": PAIRS}]
    for name, data in (("good", held), ("bad", held[:21])):
        write(tmp_path / f"{name}.json", {"shapes": shapes, "imageData": start + data})
    data, _ = find.read_data([tmp_path])
    assert areas(data) == [400]
    assert ["bad.json: its imageData cannot be read" in line for line in fatal(data)] == [True]


def mots_challenge(root):
    pictures(root / "MOTS20-02" / "img1")
    lines = (f"{k} 2001 2 {HEIGHT} {WIDTH} {rle()['counts']}\n" for k in THREE)
    write(root / "MOTS20-02" / "gt" / "gt.txt", "".join(lines))


def davis(root):
    pictures(root / "JPEGImages" / "480p" / "bear")
    masks(root / "Annotations" / "480p" / "bear")


def youtube_vos(root):
    pictures(root / "train" / "JPEGImages" / "bear")
    masks(root / "train" / "Annotations" / "bear")


def data_and_labels(root):
    pictures(root / "data")
    masks(root / "labels")


def bitmaps(root):
    pictures(root / "Images")
    masks(root / "Masks", MASK * 255, ".bmp")


def tiffs(root):
    pictures(root / "image")
    masks(root / "mask", MASK.astype(np.uint16), ".tif")


def carvana(root):
    pictures(root / "train")
    masks(root / "train_masks", suffix="_mask.png")


def both_suffixes(root):
    pictures(root / "imgs")
    masks(root / "masks", suffix=".jpg.png")


def named_seg(root):
    pictures(root / "images")
    masks(root / "masks", suffix="_seg.png")


def smoothed(root):
    pictures(root / "images")
    soft = Image.fromarray(MASK * 255).resize((WIDTH // 2, HEIGHT // 2))
    masks(root / "masks", np.array(soft.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)))


def coco_vid(root):
    content = base() | {"videos": [{"id": 1, "name": "a"}]}
    for image in content["images"]:
        image.update(video_id=1, frame_id=image["id"])
    put(root, content)


def supervisely_projects(root, kind="polygon"):
    thing = {"classTitle": "person", "geometryType": "polygon"}
    thing["points"] = {"exterior": PAIRS, "interior": []}
    for k in THREE:
        project = root / f"project {k}"
        write(project / "meta.json", {"classes": [{"title": "person"}]})
        content = {"size": {"height": HEIGHT, "width": WIDTH}, "objects": [thing]}
        put(project / "ds", content, (f"img/{k}.jpg",), f"ann/{k}.jpg.json")


LAYOUTS = [
    mots_challenge, davis, youtube_vos, data_and_labels, bitmaps, tiffs, carvana, both_suffixes,
    named_seg, smoothed, coco_vid, supervisely_projects,
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_a_layout_is_read(tmp_path, layout):
    layout(tmp_path)
    data, _ = find.read_data([tmp_path])
    assert fatal(data) == []
    assert len(data.samples) == 3
    assert [400 <= area <= 440 for area in areas(data)] == [True] * 3
    assert bool(notes(data)) == (layout in (smoothed, mots_challenge))  # no car has an example


def test_numbers_of_objects_are_no_soft_edges(tmp_path):
    pictures(tmp_path / "images")
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    for k, value in enumerate((1, 100, 200, 255)):
        values[5:15, 12 * k : 12 * k + 10] = value
    masks(tmp_path / "masks", values)
    assert areas(find.read_data([tmp_path])[0]) == [100] * 12


def test_folders_of_label_pictures_are_classes(tmp_path):
    pictures(tmp_path / "images")
    masks(tmp_path / "masks" / "person")
    masks(tmp_path / "masks" / "car", np.roll(MASK, 25, 1))
    data, _ = find.read_data([tmp_path])
    assert data.counts() == {"car": 3, "person": 3}
    assert any("taken as classes: car, person" in note for note in notes(data))
    assert len(data.samples) == 3


def test_a_folder_a_picture_holds_a_label_picture_an_object(tmp_path):
    pictures(tmp_path / "images")
    for k in THREE:
        labelled.save(tmp_path / "masks" / str(k) / "0.png", MASK)
        labelled.save(tmp_path / "masks" / str(k) / "1.png", np.roll(MASK, 25, 1))
    data, _ = find.read_data([tmp_path])
    assert fatal(data) + notes(data) == []
    assert [len(sample.instances) for sample in data.samples] == [2, 2, 2]


def test_daviss_lists_tell_the_clips_apart(tmp_path):
    for clip in ("bear", "dog", "cow"):
        pictures(tmp_path / "JPEGImages" / "480p" / clip)
        masks(tmp_path / "Annotations" / "480p" / clip)
    write(tmp_path / "ImageSets" / "2017" / "train.txt", "bear\ndog\n")
    write(tmp_path / "ImageSets" / "2017" / "val.txt", "cow\n")
    data, held = find.read_data([tmp_path])
    assert {s.group for s in data.samples} == {"bear", "dog"}
    assert {s.path.parent.name for s in held.samples} == {"cow"}
    assert notes(data) == []


# ---- what is written in them ------------------------------------------------------------------


def test_shares_of_the_picture_are_told_by_the_whole_file(tmp_path):
    content = base()
    shapes = ([0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75], [0, 0, 1, 0, 1, 1, 0, 1])
    for item, shape in zip(content["annotations"], (*shapes, shapes[0]), strict=True):
        item["segmentation"] = [shape]
    data, _ = find.read_data([put(tmp_path, content)])
    assert areas(data) == [WIDTH * HEIGHT // 4, WIDTH * HEIGHT, WIDTH * HEIGHT // 4]


def test_an_id_that_is_the_name_of_another_picture_is_the_name(tmp_path):
    content = base()
    for image, number in zip(content["images"], (2, 3, 1), strict=True):
        image["file_name"] = f"00000{number}.jpg"
    del content["annotations"][1:]
    content["annotations"][0]["image_id"] = "000002"
    names = [f"00000{k}.jpg" for k in THREE]
    data, _ = find.read_data([put(tmp_path, content, names)])
    assert [s.path.name for s in data.samples if s.instances] == ["000002.jpg"]
    assert any("'000002' is the name of one and the id of another" in n for n in notes(data))


def test_what_is_marked_to_be_ignored_is_not_judged(tmp_path):
    content = base()
    content["annotations"][0]["ignore"] = 1
    data, _ = find.read_data([put(tmp_path, content)])
    assert len(areas(data)) == 2
    assert len(regions(data)) == 1
    assert any("1 objects are marked ignore" in note for note in notes(data))


@pytest.mark.parametrize("part", ["train", "val"])
def test_crowds_are_taken_as_objects_a_part_each(tmp_path, part):
    for name in ("train", "val"):
        content = base()
        for item in content["annotations"]:
            item["iscrowd"] = int(name == part)
        put(tmp_path / name, content)
    assert [areas(data) for data in find.read_data([tmp_path])] == [[400] * 3] * 2


def test_datumaros_groups_and_shapes(tmp_path):
    shapes = [
        {"type": "polygon", "group": 1, "label_id": 0, "points": SQUARE},
        {"type": "polygon", "group": 1, "label_id": 1, "points": [40, 10, 50, 10, 50, 20, 40, 20]},
        {"type": "ellipse", "label_id": 0, "points": [40, 25, 60, 45]},
        {"type": "polyline", "label_id": 0, "points": [2, 40, 20, 40, 20, 44]},
    ]
    image = {"path": "1.jpg", "size": [HEIGHT, WIDTH]}
    content = {
        "categories": {"label": {"labels": [{"name": "person"}, {"name": "bicycle"}]}},
        "items": [{"id": "1", "annotations": shapes, "image": image}],
    }
    data, _ = find.read_data([put(tmp_path, content, ("1.jpg",))])
    assert data.counts() == {"person": 2, "bicycle": 1}
    assert areas(data)[:2] == [400, 100]
    assert abs(areas(data)[2] - 314) < 10
    assert regions(data) == [(2, 40, 20, 44)]
    assert ["polyline has no area" in line for line in fatal(data)] == [True]


def test_an_rle_without_a_size_is_of_the_picture(tmp_path):
    content = base()
    for item in content["annotations"]:
        item["segmentation"] = {"counts": rle()["counts"]}
    assert areas(find.read_data([put(tmp_path, content)])[0]) == [400] * 3


OTHERS = {
    "via.json": ({"1.jpg1": {"filename": "1.jpg", "regions": []}}, "VGG Image Annotator"),
    "samples.json": ({"samples": []}, "FiftyOne"),
    "geo.json": ({"type": "FeatureCollection", "features": []}, "GeoJSON"),
    "min.json": ([{"image": "a.jpg", "id": 1, "label": []}], "JSON-MIN"),
    "d2.json": ([{"file_name": "1.jpg", "annotations": []}], "Detectron2"),
    "empty.json": ("", "is empty"),
    "lfs.json": ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_folder_or_its_file_holds_instead_is_named(tmp_path, name):
    content, said = OTHERS[name]
    write(tmp_path / name, content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(FormatError, match=said):
            find.read_data([path])


@pytest.mark.parametrize("name", ["a.jpg", "a.mp4", "a.yaml", "a.csv", "a.txt"])
def test_a_file_that_is_no_json_is_named_with_what_to_give(tmp_path, name):
    write(tmp_path / name, "some text")
    with pytest.raises(FormatError, match=r"a picture|a video|YAML|a table") as error:
        find.read_data([tmp_path / name])
    assert "give" in str(error.value)


def test_a_folder_of_pictures_that_is_none_is_named(tmp_path, tracker):
    path = put(tmp_path, base())
    for name in ("none", "1.jpg"):
        setting = f"pictures={tmp_path / name}"
        code, _, err = tracker("train", path, "--check", "--set", setting)
        assert code == 2
        assert "no such folder; name the folder of the pictures" in err.splitlines()[-1]


def test_a_file_without_categories_says_what_to_add(tmp_path):
    content = base()
    del content["categories"]
    with pytest.raises(FormatError, match=r'add "categories": \[\{"id": 1'):
        find.read_data([put(tmp_path, content)])
