"""Labels as tools and people write them: each form and each spelling gives the same objects."""

import base64
import gzip
import io
import json
import unicodedata
import zlib
from contextlib import closing

import labelled
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lightning_fabric", reason="the extra `train` is not installed")

from pycocotools import mask as cocomask

from tracker.errors import ConfigError, FormatError
from tracker.masks import Mask
from tracker.train import find
from tracker.train.samples import Sample, read_picture

WIDTH, HEIGHT = 64, 48
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
PAIRS = [[10, 10], [30, 10], [30, 30], [10, 30]]
BOX = [10, 10, 20, 20]  # x, y, width, height
NOISE = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def plane(height=HEIGHT, width=WIDTH):
    """Return the pixels of SQUARE."""
    full = np.zeros((height, width), bool)
    full[10:30, 10:30] = True
    return full


def base(count=3):
    """Return a good COCO file of pictures with one square each."""
    return {
        "images": [
            {"id": k, "file_name": f"{k}.jpg", "width": WIDTH, "height": HEIGHT}
            for k in range(1, count + 1)
        ],
        "annotations": [
            {
                "id": k,
                "image_id": k,
                "category_id": 1,
                "segmentation": [SQUARE],
                "bbox": BOX,
                "area": 400,
                "iscrowd": 0,
            }
            for k in range(1, count + 1)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }


def put(folder, content, names=("1.jpg", "2.jpg", "3.jpg"), file="labels.json"):
    """Write pictures and a label file."""
    for name in names:
        labelled.save(folder / name, NOISE)
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def annotated(**changes):
    content = base()
    for item in content["annotations"]:
        item.update(changes)
    return content


def areas(data):
    return [one.mask.area for s in data.samples for one in s.instances if not one.crowd]


def regions(data):
    return [one.mask.box for s in data.samples for one in s.instances if one.crowd]


def fatal(data):
    return [str(problem) for problem in data.problems if problem.fatal]


def notes(data):
    return [str(problem) for problem in data.problems if not problem.fatal]


def squares(data, count=3):
    """Assert that the data are good: so many squares of a person, and nothing left out."""
    assert fatal(data) == []
    assert areas(data) == [400] * count
    assert data.counts() == {"person": count}


# ---- tools ----------------------------------------------------------------------------------


def roboflow(root):
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        content = base(count)
        content["categories"] = [
            {"id": 0, "name": "people", "supercategory": "none"},
            {"id": 1, "name": "person", "supercategory": "people"},
        ]
        put(root / split, content, file="_annotations.coco.json")
    (root / "README.roboflow.txt").write_text("exported")


def cvat(root):
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        put(root, base(count), (), f"annotations/instances_{split}.json")
        put(root / "images" / split, b"")
        (root / "images" / split / "labels.json").unlink()


def fiftyone(root):
    for split, count in (("train", 3), ("validation", 2), ("test", 1)):
        put(root / split, base(count), (f"data/{k}.jpg" for k in (1, 2, 3)))


def datumaro(root):
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        items = [
            {
                "id": str(k),
                "annotations": [
                    {"id": 0, "type": "polygon", "label_id": 0, "group": 0, "points": SQUARE}
                ],
                "image": {"path": f"{k}.jpg", "size": [HEIGHT, WIDTH]},
            }
            for k in range(1, count + 1)
        ]
        categories = {"label": {"labels": [{"name": "person", "parent": ""}]}}
        put(root, {"categories": categories, "items": items}, (), f"annotations/{split}.json")
        for k in (1, 2, 3):
            labelled.save(root / "images" / split / f"{k}.jpg", NOISE)


def labelme(root):
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for k in range(1, count + 1):
            shape = {"label": "person", "points": PAIRS, "shape_type": "polygon", "group_id": None}
            content = {"shapes": [shape], "imagePath": f"{k}.jpg", "imageData": None}
            put(root / split, content, (f"{k}.jpg",), f"{k}.json")


def supervisely(root):
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for k in range(1, count + 1):
            points = {"exterior": PAIRS, "interior": []}
            thing = {"classTitle": "person", "geometryType": "polygon", "points": points}
            content = {"size": {"height": HEIGHT, "width": WIDTH}, "objects": [thing]}
            put(root / split, content, (f"img/{k}.jpg",), f"ann/{k}.jpg.json")
    (root / "meta.json").write_text('{"classes": [{"title": "person", "shape": "polygon"}]}')


def voc(root):
    palette = voc_palette()
    for k in range(1, 7):
        labelled.save(root / "JPEGImages" / f"p{k}.jpg", NOISE)
        for folder, value in (("SegmentationObject", k), ("SegmentationClass", 15)):
            image = Image.fromarray(plane().astype(np.uint8) * value)
            image.putpalette(palette)
            (root / folder).mkdir(exist_ok=True)
            image.save(root / folder / f"p{k}.png")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, rows in (("train", "123"), ("val", "45"), ("trainval", "12345"), ("test", "6")):
        (lists / f"{name}.txt").write_text("".join(f"p{k}\n" for k in rows))


def mask_folders(root):
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for k in range(1, count + 1):
            labelled.save(root / split / "images" / f"{k}.jpg", NOISE)
            labelled.save(root / split / "masks" / f"{k}.png", plane().astype(np.uint8))


def mask_splits(root):
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for k in range(1, count + 1):
            labelled.save(root / "images" / split / f"{k}.jpg", NOISE)
            labelled.save(root / "masks" / split / f"{k}.png", plane().astype(np.uint8))


def voc_palette():
    """Return VOC's palette as its own kit makes it."""
    colours = []
    for number in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= ((number >> (3 * bit + channel)) & 1) << (7 - bit)
        colours += rgb
    return colours


TOOLS = [
    roboflow, cvat, fiftyone, datumaro, labelme, supervisely, voc, mask_folders, mask_splits,
]  # fmt: skip


@pytest.mark.parametrize("wrapped", [False, True], ids=["", "in a folder of its own"])
@pytest.mark.parametrize("write", TOOLS, ids=lambda f: f.__name__)
def test_a_tools_folder_is_read_with_its_splits(tmp_path, write, wrapped):
    """Three pictures train, two validate; test is left out, and that is said."""
    root = tmp_path / "export"
    (root / "project" if wrapped else root).mkdir(parents=True)
    write(root / "project" if wrapped else root)
    data, held = find.read_data([root])
    assert areas(data) == [400] * 3
    assert areas(held) == [400] * 2
    assert data.categories[1:] in (("person",), ("object",))
    assert fatal(data) + fatal(held) == []
    assert sum("is named test" in note for note in notes(data)) == 1


def test_only_test_is_refused(tmp_path):
    put(tmp_path, base(), (), "annotations/instances_test.json")
    with pytest.raises(ConfigError, match="labels to test by, but none to train on"):
        find.read_data([tmp_path])
    put(tmp_path, base())
    squares(find.read_data([tmp_path / "annotations" / "instances_test.json"])[0])


def test_label_studio(tmp_path):
    """Its COCO export names what it served: slashes of Windows, uploads with a prefix, ?d=."""
    content = base()
    names = ("images\\0a1b2c3d-1.jpg", "/data/local-files/?d=set/2.jpg", "../../media/3%2Ejpg")
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    path = put(tmp_path, content, ("images/1.jpg", "set/2.jpg", "images/3.jpg"), "result.json")
    data, _ = find.read_data([path])
    squares(data)
    assert [s.path.name for s in data.samples] == ["1.jpg", "2.jpg", "3.jpg"]
    assert any("pictures lie elsewhere" in note for note in notes(data))


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def bits(value=255):
    return np.full((20, 20), value, np.uint8)


LABELME = [
    ({"points": PAIRS, "shape_type": "polygon"}, 400),
    ({"points": PAIRS}, 400),
    ({"points": [[10, 10], [30, 30]], "shape_type": "rectangle"}, 400),
    ({"points": [[30, 30], [10, 10]], "shape_type": "rectangle"}, 400),
    ({"points": PAIRS, "shape_type": "rectangle"}, 400),
    ({"points": [[30, 24], [40, 24]], "shape_type": "circle"}, 314),
    ({"points": [[10, 10], [29, 29]], "shape_type": "mask", "mask": png(bits())}, 400),
]


@pytest.mark.parametrize(("shape", "area"), LABELME, ids=lambda v: str(v)[:60])
def test_labelmes_shapes(tmp_path, shape, area):
    if "mask" in shape:
        shape = shape | {"mask": base64.b64encode(shape["mask"]).decode()}
    content = {"shapes": [shape | {"label": "person"}], "imagePath": "..\\pictures\\1.jpg"}
    put(tmp_path, content, ("pictures/1.jpg",), "labels/1.json")
    data, _ = find.read_data([tmp_path / "labels"])
    assert fatal(data) == []
    (found,) = areas(data)
    assert abs(found - area) <= 0.03 * area


def test_labelmes_groups_ignored_regions_and_lines(tmp_path):
    far = [[50, 10], [60, 10], [60, 20], [50, 20]]
    shapes = [
        {"label": "person", "points": PAIRS, "group_id": 4},
        {"label": "person", "points": far, "group_id": 4},
        {"label": "__ignore__", "points": [[0, 40], [10, 40], [10, 48], [0, 48]]},
        {"label": "person", "points": [[40, 40], [50, 47]], "shape_type": "line"},
        {"label": "_background_", "points": far},
    ]
    path = put(tmp_path, {"shapes": shapes, "imagePath": "1.jpg"}, ("1.jpg",), "1.json")
    data, _ = find.read_data([path])
    assert areas(data) == [500]
    assert regions(data) == [(0, 40, 10, 48), (40, 40, 50, 47)]
    assert [p.id for p in data.problems if p.fatal] == ["shape 3 (from 0)"]


def test_a_picture_within_a_labelme_file(tmp_path):
    held = base64.b64encode(png(NOISE)).decode()
    shapes = [{"label": "person", "points": PAIRS}]
    path = put(tmp_path, {"shapes": shapes, "imagePath": "gone.png", "imageData": held}, ())
    data, _ = find.read_data([path], whole=True)
    squares(data, 1)
    assert np.array_equal(read_picture(data.samples[0]), NOISE)


def test_superviselys_bitmaps_and_holes(tmp_path):
    packed = base64.b64encode(zlib.compress(png(bits()))).decode()
    hole = [[15, 15], [20, 15], [20, 20], [15, 20]]
    unknown = {"exterior": [[0, 0], [5, 0], [5, 5], [0, 5]], "interior": []}
    objects = [
        {"geometryType": "polygon", "points": unknown, "classTitle": "ghost"},
        {"geometryType": "bitmap", "bitmap": {"data": packed, "origin": [10, 10]}},
        {"geometryType": "polygon", "points": {"exterior": PAIRS, "interior": [hole]}},
        {"geometryType": "rectangle", "points": {"exterior": [[10, 10], [29, 29]]}},
        {"geometryType": "line", "points": {"exterior": [[40, 10], [50, 20]], "interior": []}},
        {"geometryType": "bitmap", "bitmap": {"data": "nonsense", "origin": [1, 1]}},
    ]
    content = {"objects": [{"classTitle": "person"} | one for one in objects]}
    (tmp_path / "meta.json").write_text('{"classes": [{"title": "person"}]}')
    put(tmp_path / "ds0", content, ("img/1.png",), "ann/1.png.json")
    data, _ = find.read_data([tmp_path])
    assert areas(data) == [400, 375, 361]
    assert regions(data) == [(0, 0, 5, 5), (40, 10, 50, 20)]
    assert len(fatal(data)) == 3


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_vocs_void_is_not_judged(tmp_path, mode):
    """Borders are 255, in whatever way the label pictures are saved."""
    voc(tmp_path)
    numbers = plane().astype(np.uint8)
    numbers[8:10, 10:30] = 255
    for folder, value in (("SegmentationObject", 1), ("SegmentationClass", 15)):
        values = np.where(numbers == 1, value, numbers).astype(np.uint8)
        image = Image.fromarray(values)
        if mode != "L":
            image.putpalette(voc_palette())
        image.convert(mode).save(tmp_path / folder / "p1.png")
    data, _ = find.read_data([tmp_path])
    assert data.counts() == {"person": 3}
    assert regions(data) == [(10, 8, 30, 10)]


def test_cvats_labelmap_names_the_colours(tmp_path):
    labelled.save(tmp_path / "JPEGImages" / "a.jpg", NOISE)
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colours[plane()] = (250, 50, 83)
    labelled.save(tmp_path / "SegmentationClass" / "a.png", colours)
    colours[plane()] = (128, 0, 0)
    labelled.save(tmp_path / "SegmentationObject" / "a.png", colours)
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbottle:250,50,83::\n"
    )
    data, _ = find.read_data([tmp_path])
    assert data.counts() == {"bottle": 1}
    assert areas(data) == [400]


def test_objects_without_classes(tmp_path):
    """A VOC folder may hold the objects alone; pictures may lie in images/."""
    labelled.save(tmp_path / "images" / "a.jpg", NOISE)
    labelled.save(tmp_path / "SegmentationObject" / "a.png", plane().astype(np.uint8))
    data, _ = find.read_data([tmp_path])
    assert fatal(data) == []
    assert data.counts() == {"object": 1}


@pytest.mark.parametrize("write", TOOLS, ids=lambda f: f.__name__)
def test_what_macos_leaves_beside_the_files_is_no_label(tmp_path, write):
    write(tmp_path)
    for path in [path for path in tmp_path.rglob("*.*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (tmp_path / "__MACOSX").mkdir()
    data, held = find.read_data([tmp_path])
    assert areas(data) == [400] * 3
    assert fatal(data) + fatal(held) == []


@pytest.mark.parametrize("write", TOOLS, ids=lambda f: f.__name__)
def test_a_folder_to_validate_by_gives_its_own_part(tmp_path, write):
    write(tmp_path)
    assert areas(find.read_validation([tmp_path])) == [400] * 2


def test_label_pictures_in_grey_saved_as_colours(tmp_path):
    labelled.save(tmp_path / "images" / "1.jpg", NOISE)
    grey = np.repeat(plane().astype(np.uint8)[..., None] * 255, 3, axis=2)
    labelled.save(tmp_path / "masks" / "1.png", grey)
    data, _ = find.read_data([tmp_path])
    assert areas(data) == [400]


# ---- COCO as people write it ------------------------------------------------------------------


def rle(full=None):
    found = cocomask.encode(np.asfortranarray((plane() if full is None else full).astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}


SEGMENTATIONS = {
    "flat": SQUARE,
    "pairs": PAIRS,
    "pairs in a list": [PAIRS],
    "nested once more": [[SQUARE]],
    "x and y": [[{"x": x, "y": y} for x, y in PAIRS]],
    "text of numbers": [[str(v) for v in SQUARE]],
    "JSON in text": json.dumps([SQUARE]),
    "numbers in text": "10,10 30,10 30,30 10,30",
    "an RLE in a list": [rle()],
    "an RLE in text": json.dumps(rle()),
    "Python's repr of bytes": {"size": [HEIGHT, WIDTH], "counts": repr(rle()["counts"].encode())},
    "a stray point": [SQUARE, [5, 5]],
    "a stray line": [SQUARE, [5, 5, 6, 6]],
    "an empty part": [SQUARE, []],
    "an odd part": [SQUARE, [1, 2, 3]],
    "a part of NaN": [SQUARE, [float("nan")] * 6],
    "numbers of an RLE in text": {
        "size": [HEIGHT, WIDTH],
        "counts": " ".join(["490 20", *["28 20"] * 19, str(HEIGHT * WIDTH - 490 - 20 * 48 + 28)]),
    },
    "shares": [[v / side for v, side in zip(SQUARE, (WIDTH, HEIGHT) * 4, strict=True)]],
}


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_an_outline_may_be_written_so(tmp_path, name):
    path = put(tmp_path, annotated(segmentation=SEGMENTATIONS[name]))
    data, _ = find.read_data([path])
    squares(data)
    is_odd = any(word in name for word in ("stray", "part", "shares"))
    assert len(notes(data)) == (3 if is_odd else 0)


def without(key):
    content = base()
    for item in content["annotations"]:
        del item[key]
    return content


def with_images(**changes):
    content = base()
    for image in content["images"]:
        image.update(changes)
    return content


def with_ids(image=lambda k: k, used=lambda k: k, category=1, of=1):
    content = annotated(category_id=category)
    content["categories"][0]["id"] = of
    for item in content["images"]:
        item["id"] = image(item["id"])
    for item in content["annotations"]:
        item["image_id"] = used(item["image_id"])
    return content


SPELLINGS = {
    "iscrowd '0'": annotated(iscrowd="0"),
    "iscrowd 'false'": annotated(iscrowd="false"),
    "iscrowd False": annotated(iscrowd=False),
    "iscrowd null": annotated(iscrowd=None),
    "no iscrowd": without("iscrowd"),
    "no ids": without("id"),
    "null ids": annotated(id=None),
    "equal ids": annotated(id=1),
    "text ids": with_ids(str, str, "1", "1"),
    "text where used": with_ids(used=str, category="1"),
    "text where given": with_ids(image=str, of="1"),
    "leading zeros": with_ids(image="{:06d}".format),
    "floats": with_ids(image=float, category=1.0, of="1.0"),
    "names for ids": with_ids(used="{}.jpg".format),
    "area NaN": annotated(area=float("nan")),
    "bbox NaN": annotated(bbox=[float("nan")] * 4),
    "no size": with_images(width=None, height=None),
    "size -1": with_images(width=-1, height=-1),
    "size 0": with_images(width=0, height=0),
    "size as text": with_images(width=str(WIDTH), height=str(HEIGHT)),
    "annotations as an object": base() | {"annotations": dict(enumerate(base()["annotations"]))},
    "images twice": base() | {"images": base()["images"] * 2},
    "images by id": base() | {"images": {str(k): {"file_name": f"{k}.jpg"} for k in (1, 2, 3)}},
    "categories by id": base() | {"categories": {"1": "person"}},
    "in a list": [base()],
    "category with a mark": base() | {"categories": [{"id": 1, "name": "\ufeffperson\u00a0"}]},
    "category by name": annotated(category_id="person"),
    "addresses alone": base()
    | {"images": [{"id": k, "coco_url": f"http://a.b/x/{k}.jpg"} for k in (1, 2, 3)]},
    "category with blanks": base() | {"categories": [{"id": 1, "name": " person "}]},
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_field_may_be_written_so(tmp_path, name):
    data, _ = find.read_data([put(tmp_path, SPELLINGS[name])])
    squares(data)


NAMES = {
    "slashes turned": ("sub\\{}", "sub/{}"),
    "another machine": ("C:\\set\\sub\\{}", "sub/{}"),
    "a longer path": ("datasets/x/{}", "images/{}"),
    "dots": ("./sub/../{}", "{}"),
    "a bucket": ("s3://bucket/a/{}", "{}"),
    "a question": ("{}?raw=1", "{}"),
    "no address": ("http://[{}", "[{}"),
    "folders in capitals": ("Images/{}", "images/{}"),
    "outside": ("..\\..\\media\\{}", "{}"),
    "an address": ("https://a.b/bucket/{}?X-Amz=1", "{}"),
    "a blank behind": ("{} ", "{}"),
    "percent": ("my%20{}", "my {}"),
    "percent on the disk": ("my {}", "my%20{}"),
    "composed": ("\u00e9{}", unicodedata.normalize("NFD", "\u00e9") + "{}"),
    "decomposed": (unicodedata.normalize("NFD", "\u00e9") + "{}", "\u00e9{}"),
    "capitals": ("PIC_{}", "pic_{}"),
    "another suffix": ("{}.png", "{}.jpg"),
    "no suffix": ("{}x", "{}x.jpg"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_may_be_named_so(tmp_path, name):
    said, is_ = NAMES[name]
    suffix = "" if "suffix" in name else ".jpg"
    content = base()
    for image in content["images"]:
        image["file_name"] = said.format(f"{image['id']}{suffix}")
    path = put(tmp_path, content, [is_.format(f"{k}{suffix}") for k in (1, 2, 3)])
    data, _ = find.read_data([path])
    squares(data)
    assert [s.path.name[-7:] for s in data.samples] == sorted(
        s.path.name[-7:] for s in data.samples
    )


def test_a_picture_that_two_files_fit_is_missing(tmp_path):
    content = base(1)
    content["images"][0]["file_name"] = "elsewhere/1.jpg"
    path = put(tmp_path, content, ("a/1.jpg", "b/1.jpg"))
    data, _ = find.read_data([path])
    assert [line.rpartition(": ")[2] for line in fatal(data)] == ["no such picture"]


def test_exchanged_sizes_are_taken_where_the_outlines_tell(tmp_path):
    wide = [40, 10, 60, 10, 60, 30, 40, 30]
    content = annotated(segmentation=[wide])
    content["annotations"][2]["segmentation"] = [SQUARE]
    for image in content["images"]:
        image.update(width=HEIGHT, height=WIDTH)
    data, _ = find.read_data([put(tmp_path, content)])
    assert areas(data) == [400, 400]
    assert sum("are exchanged" in note for note in notes(data)) == 2
    assert [line.endswith("(width and height are exchanged)") for line in fatal(data)] == [True]


def test_a_picture_listed_twice_is_one(tmp_path):
    content = base()
    content["images"].append(content["images"][0] | {"id": 9, "file_name": "./1.jpg"})
    other = [40, 10, 60, 10, 60, 30, 40, 30]
    for k, shape in ((8, SQUARE), (9, other)):
        item = content["annotations"][0] | {"id": k, "image_id": 9, "segmentation": [shape]}
        content["annotations"].append(item)
    data, _ = find.read_data([put(tmp_path, content)])
    assert [len(sample.instances) for sample in data.samples] == [2, 1, 1]
    assert sum("listed twice" in note for note in notes(data)) == 1


UNUSABLE = {
    "only a box": {"segmentation": []},
    "no outline": {"segmentation": None},
    "two points": {"segmentation": [[40, 10, 60, 30]], "bbox": None},
    "not finite": {"segmentation": [[float("nan")] * 6]},
    "RLE of another picture": {"segmentation": rle(np.ones((9, 9), bool))},
    "another category": {"category_id": 77},
    "text": {"segmentation": "nothing"},
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_object_that_is_left_out_is_a_region_that_is_not_judged(tmp_path, name):
    content = base()
    bad = content["annotations"][0] | {"id": 9, "bbox": [40, 10, 20, 20]} | UNUSABLE[name]
    if name == "another category":
        bad["segmentation"] = [[40, 10, 60, 10, 60, 30, 40, 30]]
    content["annotations"].append(bad)
    data, _ = find.read_data([put(tmp_path, content)])
    assert areas(data) == [400] * 3
    assert regions(data) == [(40, 10, 60, 30)]
    assert [problem.id for problem in data.problems if problem.fatal] == ["annotation 9"]


def test_crowds_are_objects_where_a_category_has_nothing_else(tmp_path):
    """CVAT writes what is drawn by brush with iscrowd 1."""
    content = annotated(iscrowd=1, segmentation=rle())
    data, _ = find.read_data([put(tmp_path, content)])
    squares(data)
    assert any("3 person objects are crowds" in note for note in notes(data))
    doubtful = annotated(iscrowd=1, track_id=5)  # as `tracker export` writes what it doubts
    assert areas(find.read_data([put(tmp_path, doubtful)])[0]) == []
    content["annotations"][0]["iscrowd"] = 0
    data, _ = find.read_data([put(tmp_path, content)])
    assert areas(data) == [400]
    assert any("2 person objects are crowds (iscrowd 1): not learnt" in n for n in notes(data))


def test_names_that_differ_only_in_capitals_are_told(tmp_path):
    content = base()
    content["categories"].append({"id": 2, "name": "Person "})
    content["annotations"][0]["category_id"] = 2
    data, _ = find.read_data([put(tmp_path, content)])
    assert data.counts() == {"person": 2, "Person": 1}
    assert "categories [person, Person]: differ only in capital letters: 2 categories" in notes(
        data
    )


LATIN = json.dumps(base() | {"info": "v\u00e9lo"}, ensure_ascii=False).encode("latin-1")
LINES = b"\n".join(json.dumps(item).encode() for item in base()["annotations"])
VIA = {"1.jpg1": {"filename": "1.jpg", "size": 1, "regions": []}}
WRAPPINGS = {
    "Latin-1": (LATIN, "is not UTF-8 text"),
    "gzip": (gzip.compress(b"{}"), "is packed .gzip."),
    "JSON lines": (LINES, "one JSON value a line"),
    "annotations alone": (base()["annotations"], "a list of annotations alone"),
    "results": ([{"image_id": 1, "score": 0.5}], "not COCO results"),
    "Label Studio": ([{"data": {}, "annotations": []}], "Label Studio's own"),
    "VIA": (VIA, "VGG Image Annotator"),
    "XML": (b"<annotation/>", "XML"),
    "no annotations": ({"images": [], "categories": []}, "it has no annotations"),
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_what_a_file_is_instead_is_named(tmp_path, name):
    content, said = WRAPPINGS[name]
    with pytest.raises(FormatError, match=said):
        find.read_data([put(tmp_path, content)])


def test_what_a_folder_holds_instead_is_named(tmp_path):
    labelled.save(tmp_path / "images" / "1.jpg", NOISE)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(FormatError, match="YOLO"):
        find.read_data([tmp_path])


# ---- pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("turn", labelled.UPRIGHT_BY)
@pytest.mark.parametrize("size", [(64, 48), (48, 48)], ids=["wide", "square"])
def test_labels_belong_to_the_upright_picture(tmp_path, turn, size, suffix):
    upright = np.zeros((size[1], size[0], 3), np.uint8)
    upright[2:20, 2:20] = 255
    image = Image.fromarray(upright)
    exif = image.getexif()
    exif[0x0112] = turn
    lying = (
        image if labelled.UPRIGHT_BY[turn] is None else image.transpose(labelled.UPRIGHT_BY[turn])
    )
    options = {"exif": exif} if turn > 1 else {}
    lying.save(tmp_path / f"1.{suffix}", **options)
    content = base(1)
    content["images"][0] |= {"file_name": f"1.{suffix}", "width": size[0], "height": size[1]}
    corners = [2, 2, 20, 2, 20, 20, 2, 20]
    content["annotations"][0]["segmentation"] = [corners]
    data, _ = find.read_data([put(tmp_path, content, ())])
    assert fatal(data) + notes(data) == []
    picture = read_picture(data.samples[0])
    mask = data.samples[0].instances[0].mask
    x1, y1, x2, y2 = mask.box
    assert picture[y1:y2, x1:x2].mean() > 200
    assert picture.mean() < 60


def test_a_turned_picture_whose_size_is_said_as_it_lies(tmp_path):
    """The file says 64x48, but the outline reaches where only the upright 48x64 has pixels."""
    image = Image.fromarray(NOISE)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "1.jpg", exif=exif)
    content = base(1)
    content["annotations"][0]["segmentation"] = [[10, 40, 30, 40, 30, 60, 10, 60]]
    data, _ = find.read_data([put(tmp_path, content, ())])
    squares(data, 1)
    assert read_picture(data.samples[0]).shape == (WIDTH, HEIGHT, 3)


def test_labels_that_fit_only_the_unturned_picture_are_told(tmp_path):
    image = Image.fromarray(NOISE)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "1.jpg", exif=exif)
    data, _ = find.read_data([put(tmp_path, base(1), ())])
    squares(data, 1)
    assert ["learnt lying" in note for note in notes(data)] == [True]
    assert read_picture(data.samples[0]).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_as_the_run_scales_it(tmp_path, suffix):
    grey = np.tile(np.linspace(0, 65535, WIDTH).astype(np.uint16), (HEIGHT, 1))
    path = tmp_path / f"1.{suffix}"
    Image.fromarray(grey).save(path)
    picture = read_picture(Sample(path, WIDTH, HEIGHT, ()))
    wanted = np.round(grey / 257)
    assert np.abs(picture[..., 0] - wanted).max() <= 0
    if suffix == "png":
        from tracker.config import SourceConfig
        from tracker.video.source import open_source

        with closing(open_source(str(path), SourceConfig())) as source:
            (frame,) = source
        assert np.abs(frame.image.astype(int) - picture).max() <= 1


def animated(path):
    frames = [Image.fromarray(NOISE), Image.fromarray(NOISE[::-1])]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)


def odd_exif(path):
    exif = Image.Exif()
    exif[271] = "X"
    exif[0x0112] = 77
    Image.fromarray(NOISE).save(path, exif=exif)


STILLS = [
    ("1.webp", animated),
    ("1.ppm", None),
    ("1.jp2", None),
    ("1.avif", None),
    ("1.gif", None),
    ("1.bmp", None),
    ("1.png", odd_exif),
]


@pytest.mark.parametrize(("name", "write"), STILLS, ids=[name for name, _ in STILLS])
def test_kinds_of_stills(tmp_path, name, write):
    path = tmp_path / name
    try:
        (write or Image.fromarray(NOISE).save)(path)
    except (KeyError, OSError):
        pytest.skip("this Pillow does not write it")
    content = base(1)
    content["images"][0]["file_name"] = name
    data, _ = find.read_data([put(tmp_path, content, ())], whole=True)
    squares(data, 1)
    picture = read_picture(data.samples[0]).astype(int)
    assert np.abs(picture - NOISE).mean() < 80


def float_tiff(path):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)).save(path, format="TIFF")


def heic(path):
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))


def huge(path):
    Image.new("1", (12000, 8000)).save(path, format="PNG")


def hostile(path):
    Image.new("1", (20000, 10000)).save(path, format="PNG")


PICTURES = [
    (float_tiff, "32 bits"),
    (heic, "HEIC"),
    (huge, "max_pixels"),
    (hostile, "max_pixels"),
    (lambda path: path.write_bytes(b""), "the file is empty"),
    (lambda path: path.mkdir(), "cannot be read"),
]


@pytest.mark.parametrize(("write", "said"), PICTURES, ids=lambda v: getattr(v, "__name__", v))
def test_why_a_picture_cannot_be_used(tmp_path, write, said):
    write(tmp_path / "1.jpg")
    for whole in (False, True):
        data, _ = find.read_data([put(tmp_path, base(1), ())], whole=whole)
        (line,) = fatal(data)
        assert said in line


# ---- the command ------------------------------------------------------------------------------


def boxes_only(content):
    for item in content["annotations"]:
        item["segmentation"] = []


def no_pictures(content):
    for image in content["images"]:
        image["file_name"] = f"..\\media\\gone{image['id']}.png"


def two_points(content):
    for item in content["annotations"]:
        item["segmentation"] = [[1, 1, 9, 9]]


def unknown_images(content):
    for item in content["annotations"]:
        del item["image_id"]


def no_categories(content):
    content["categories"] = []


def test_where_all_label_pictures_are_colours_it_is_told(tmp_path, tracker):
    for k in range(3):
        labelled.save(tmp_path / "set" / "images" / f"{k}.jpg", NOISE)
        labelled.save(tmp_path / "set" / "masks" / f"{k}.png", NOISE)
    for options in ((), ("--check",)):
        code, _, err = tracker("train", tmp_path / "set", *options)
        assert code == 2
        assert err.count("is a colour picture") == 3
        assert "no picture to train on has an object" in err.splitlines()[-1]


NOTHING_LEFT = [
    (boxes_only, "[annotation 1]: has only a box, no outline", "draw masks or polygons"),
    (no_pictures, "gone1.png: no such picture", "--set pictures=FOLDER"),
    (two_points, "[annotation 1]: a polygon has fewer than three points", "draw it anew"),
    (unknown_images, "[annotation 1]: image_id None is none of the images", "id of its picture"),
    (no_categories, "[annotation 1]: category_id 1 is none of the categories", "a name"),
]


@pytest.mark.parametrize("options", [(), ("--check",)], ids=["train", "check"])
@pytest.mark.parametrize(
    ("change", "line", "remedy"), NOTHING_LEFT, ids=[case[0].__name__ for case in NOTHING_LEFT]
)
def test_what_was_found_is_told_where_nothing_is_left(
    tmp_path, tracker, change, line, remedy, options
):
    content = base()
    change(content)
    code, _, err = tracker("train", put(tmp_path, content), *options)
    assert code == 2
    assert "Traceback" not in err
    assert line in err
    last = err.strip().splitlines()[-1]
    assert "no picture to train on has an object" in last
    assert err.index(line) < err.index(last)
    assert remedy in err or not options


def test_the_check_tells_classes_splits_and_kinds(tmp_path, tracker):
    roboflow(tmp_path)
    path = tmp_path / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"] += [
        content["annotations"][0] | {"id": k, "segmentation": [[1, 1, 9, 9]]}
        for k in range(100, 115)
    ]
    path.write_text(json.dumps(content))
    code, _, err = tracker("train", tmp_path, "--check")
    assert code == 2
    lines = err.splitlines()
    assert lines[0] == "3 pictures to train on: 3 person, 15 regions that are not judged"
    assert lines[1] == "2 pictures to validate by: 2 person"
    assert lines[2].startswith("cannot be used (15 times) Remedy: draw it anew")
    assert sum("[annotation 1" in line for line in lines) == 10
    assert "and 5 more: annotation 110, annotation 111" in err
    assert any("test: is named test" in line for line in lines)


def test_a_picture_that_is_trained_on_and_validated_by_is_told(tmp_path, tracker):
    path = put(tmp_path, base())
    code, _, err = tracker("train", path, "--val", path, "--check")
    assert code == 0
    assert err.count("is trained on and validated by") == 3


def test_the_bbox_of_an_export_is_the_masks_own(tmp_path):
    """The tracker's box, filtered over time, is kept beside it, and read back."""
    from tracker.formats import coco
    from tracker.types import LoggedFrame, LogInfo, TrackLog, Tracks

    mask = Mask(8, 8, np.pad(np.ones((20, 20), bool), 2))
    tracks = Tracks(
        np.array([1]),
        np.array([[0.5, 3.5, 51.5, 40.5]], np.float32),
        np.ones(1, np.float32),
        np.ones(1, np.int64),
        (mask,),
        np.zeros(1, np.int64),
    )
    frame = LoggedFrame(0, 0.0, WIDTH, HEIGHT, tracks)
    path = tmp_path / "log.json"
    coco.write(TrackLog(LogInfo(WIDTH, HEIGHT, ("", "person"), None, "a"), [frame]), path)
    (item,) = json.loads(path.read_text())["annotations"]
    assert item["bbox"] == BOX
    assert cocomask.toBbox(item["segmentation"]).tolist() == BOX
    (back,) = coco.read(path).frames
    assert back.tracks.boxes.tolist() == tracks.boxes.tolist()
