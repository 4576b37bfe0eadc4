"""Read Pascal VOC's folders: JPEGImages, SegmentationObject, SegmentationClass, ImageSets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from tracker.errors import FormatError
from tracker.masks import Mask, mask_to_rle
from tracker.train.labels.drawn import region_of
from tracker.train.labels.finder import PictureFinder, Where, below
from tracker.train.labels.splits import Split, folder_split, is_both, split_of
from tracker.train.picture_file import SUFFIXES
from tracker.train.problems import Findings
from tracker.train.samples import BACKGROUND, Dataset, Instance, Sample, join

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip  # host.robots.ox.ac.uk/pascal/VOC/voc2012/segexamples: 1 to 20 of the palette
_VOID = 255  # borders, and what is too hard to tell
_OBJECTS, _CLASSES = "SegmentationObject", "SegmentationClass"
_LISTS = ("ImageSets/Segmentation", "ImageSets/Main", "ImageSets")
_NAME_LISTS = ("class_names.txt", "labels.txt", "classes.txt")
Plane = npt.NDArray[np.int64]  # (H, W) numbers of colours
Names = dict[int, str]  # number of a colour -> class


def find_roots(root: Path) -> list[Path]:
    """Return the folders with SegmentationObject/: the root, or VOCdevkit's below it."""
    places = [root, *sorted(root.glob("*")), *sorted(root.glob("VOCdevkit/*"))]
    return [place for place in dict.fromkeys(places) if (place / _OBJECTS).is_dir()]


def splits(root: Path) -> list[Split]:
    """Return what the lists of a folder are for; "" stands for all pictures that none names.

    Without a list to train on, that is what the others leave.
    """
    found = sorted({split_of(path.stem) for path in _lists(root)} - {""})
    return found if "train" in found else ["", *found]


def _lists(root: Path) -> list[Path]:
    """Return the lists that are named for one split; of Train and trainval, Train."""
    folders = [root / name for name in _LISTS]
    found = [[p for p in sorted(folder.glob("*.txt")) if p.name[0] != "."] for folder in folders]
    named = next((kept for kept in map(_of_splits, found) if kept), [])
    plain = [path for path in named if not is_both(path.stem)]
    return plain if any(split_of(path.stem) == "train" for path in plain) else named


def _of_splits(paths: list[Path]) -> list[Path]:
    return [path for path in paths if folder_split(path.stem)]


def read(root: Path, split: Split = "", pictures: Path | None = None) -> Dataset:
    """Read the pictures of one split, or all. 255 is a region that nobody judges.

    Classes are the 20 of VOC, or those of the labelmap.txt that CVAT and Datumaro write, or of
    labelme's class_names.txt. Raises FormatError.
    """
    findings = Findings(str(root / _OBJECTS))
    has_classes = (root / _CLASSES).is_dir()
    mapped = _read_labelmap(root / "labelmap.txt") if has_classes else {1: "object"}
    names = mapped or _read_names(root) or dict(enumerate(CLASSES, 1))
    order = tuple(dict.fromkeys(names.values()))
    folder = root / "JPEGImages"
    finder = PictureFinder(
        root / _OBJECTS, Where(pictures or (folder if folder.is_dir() else None))
    )
    samples = []
    for stem in _stems(root, split):
        objects = _load(root / _OBJECTS / f"{stem}.png", findings)
        classes = None if objects is None else np.ones_like(objects)
        if has_classes:
            classes = _load(root / _CLASSES / f"{stem}.png", findings, mapped=bool(mapped))
        if objects is None or classes is None:
            continue
        if classes.shape != objects.shape:
            findings.refuse("label picture", stem, f"its {_CLASSES} has another size")
            continue
        found = tuple(_instances(stem, objects, classes, names, findings))
        height, width = objects.shape
        samples.append(Sample(finder.find(_picture_name(root, stem)), width, height, found))
    finder.note(findings)
    data = Dataset(tuple(samples), (BACKGROUND, *order), tuple(findings.problems))
    return data if mapped or names != dict(enumerate(CLASSES, 1)) else _of_those_found(data)


def _of_those_found(data: Dataset) -> Dataset:
    """Return the data with those of VOC's classes that they have."""
    return join([data], [name for name, count in data.counts().items() if count] or CLASSES)


def _stems(root: Path, split: Split) -> list[str]:
    """Return the names of the pictures of a split, without what is held back from training."""
    lists = _lists(root)
    named = [(split_of(path.stem), is_both(path.stem), _listed(path)) for path in lists]
    kept = [stem for found, _, stems in named if found == split for stem in stems]
    if not split:
        folder = root / _OBJECTS
        files = (path.relative_to(folder) for path in below(folder, "*.png"))
        kept = [path.with_suffix("").as_posix() for path in files]
    held = {stem for found, _, stems in named if found in ("val", "test") for stem in stems}
    mixed = not split or any(both for found, both, _ in named if found == split)
    return list(dict.fromkeys(stem for stem in kept if not mixed or stem not in held))


def _listed(path: Path) -> list[str]:
    """Return the names in a list, without suffixes; raise FormatError."""
    names = [line.split()[0] for line in _text(path).splitlines() if line.strip()]
    return [name.rpartition(".")[0] if name.lower().endswith(SUFFIXES) else name for name in names]


def _picture_name(root: Path, stem: str) -> str:
    folder = root / "JPEGImages"
    names = (f"{stem}{suffix}" for suffix in SUFFIXES)
    return next((name for name in names if (folder / name).is_file()), f"{stem}.jpg")


def _instances(
    stem: str,
    objects: Plane,
    classes: Plane,
    names: Names,
    findings: Findings,
) -> Iterator[Instance]:
    order = list(dict.fromkeys(names.values()))
    height, width = objects.shape
    for number in np.unique(objects).tolist():
        if number == 0:
            continue
        bits = objects == number
        rle = mask_to_rle(Mask(0, 0, bits).tight(), width, height)
        id_ = f"{stem}:{number}"
        if number == _VOID:
            yield region_of(id_, rle)
            continue
        name = names.get(_most_frequent(classes[bits]))
        if name is None:
            text = f"is of no known class in {_CLASSES}; the region is not judged"
            findings.refuse("category", id_, text)
            yield region_of(id_, rle)
        else:
            yield Instance(id_, order.index(name) + 1, rle)


def _most_frequent(values: Plane) -> int:
    numbers, counts = np.unique(values[values != _VOID], return_counts=True)
    return int(numbers[counts.argmax()]) if len(numbers) else _VOID


def _load(path: Path, findings: Findings, *, mapped: bool = False) -> Plane | None:
    """Return the numbers of a label picture's colours in VOC's palette; note what is wrong.

    Of a palette they are the colours' where these are `mapped` to classes, else its own numbers.
    """
    try:
        with Pillow.open(path, formats=("PNG",)) as file:
            if file.mode in ("RGB", "RGBA") or (file.mode == "P" and mapped):
                return _numbers(np.array(file.convert("RGB")).astype(np.int64))
            return np.array(file.convert("L") if file.mode == "LA" else file).astype(np.int64)
    except FileNotFoundError:
        findings.refuse("label picture", "", f"{path}: no such label picture")
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as exc:
        findings.refuse("label picture", "", f"{path}: cannot be read ({type(exc).__name__})")
    return None


def _numbers(colours: npt.NDArray[np.int64]) -> Plane:
    """Return the place of each colour (H, W, 3) in VOC's palette; other colours come behind it.

    The palette's number has bit k of red, green, blue at 3 * (7 - k), + 1, + 2 (VOC's devkit).
    """
    numbers = np.zeros(colours.shape[:2], np.int64)
    for bit in range(8):
        for channel in range(3):
            numbers |= ((colours[..., channel] >> (7 - bit)) & 1) << (3 * bit + channel)
    return numbers


def _read_names(root: Path) -> Names:
    """Return the classes of labelme's class_names.txt, a line a class from 0 on."""
    path = next((root / name for name in _NAME_LISTS if (root / name).is_file()), None)
    if path is None:
        return {}
    lines = [line.strip() for line in _text(path).splitlines() if line.strip()]
    lines = [line for line in lines if line != "__ignore__"]
    first = 0 if lines and lines[0].strip("_").lower() == "background" else 1
    return {number: name for number, name in enumerate(lines, first) if number}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise FormatError(f"{path}: cannot be read as UTF-8 text") from exc


def _read_labelmap(path: Path) -> Names:
    """Return the classes of `name:r,g,b:parts:actions` lines; none where there is no such file."""
    if not path.is_file():
        return {}
    names: Names = {}
    try:
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            name, colour = line.split(":")[:2] if line.count(":") else ("", "")
            if name.strip() and not name.startswith("#") and name.strip() != "background":
                rgb = np.array([[[int(v) for v in colour.split(",")]]], np.int64)
                names[int(_numbers(rgb)[0, 0])] = name.strip()
    except (OSError, ValueError, IndexError) as exc:
        raise FormatError(f"{path}: is no list of name:red,green,blue ({exc})") from exc
    return names
