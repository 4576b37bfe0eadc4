"""Read label pictures: one PNG a picture, whose values say which object each pixel belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from tracker.errors import FormatError
from tracker.files import JsonObject
from tracker.masks import Mask, mask_to_rle
from tracker.train.labels.finder import below
from tracker.train.picture_file import SUFFIXES
from tracker.train.problems import Findings, Problem
from tracker.train.samples import BACKGROUND, Dataset, Instance, Sample

NEITHER = (
    "neither a COCO file nor folders of pictures and label pictures, as images/ and masks/, nor "
    "another form that is read"
)
CITYSCAPES = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip  # github.com/mcordts/cityscapesScripts, helpers/labels.py: those with instances
_PICTURES = ("PNGImages", "JPEGImages", "images", "img", "frames")
_MASKS = ("PedMasks", "masks", "labels", "instances", "annotations")
_SPLITS = {"train", "val", "valid", "validation", "test"}  # folders within both folders
Places = dict[tuple[Path, str], Path]  # folder and name without suffix -> picture
_LARGEST_ID = 1000  # values from here on are class * 1000 + number, below the object's number


def find_folders(root: Path) -> tuple[Path, Path] | None:
    """Return the folders of pictures and of label pictures that lie in `root`, if they do."""
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return root / "leftImg8bit", root / "gtFine"
    pictures = next((root / name for name in _PICTURES if (root / name).is_dir()), None)
    masks = next((root / name for name in _MASKS if (root / name).is_dir()), None)
    return (pictures, masks) if pictures and masks else None


def parts(root: Path) -> list[str]:
    """Return the folders that split a set, [""] where none does; nothing where there is no set."""
    folders = find_folders(root)
    if folders is None or not below(folders[1], "*.png"):
        return []
    names = sorted(path.name for path in folders[1].iterdir() if path.is_dir())
    both = [name for name in names if (folders[0] / name).is_dir()]
    return both if both and set(both) <= _SPLITS and "train" in both else [""]


def read(root: Path, category: str = "object", part: str = "") -> Dataset:
    """Read Penn-Fudan's form (value = number of the object), Cityscapes' or another's.

    In Cityscapes' `*_instanceIds.png`, and wherever values reach 1000, a value is class * 1000 +
    number. Classes without a name are called "class N"; where values have no class, all objects
    are of `category` ("person" in Penn-Fudan's folders). Only the folder `part` of both folders
    is read, if it is given. Raises FormatError.
    """
    folders = find_folders(root)
    if folders is None:
        raise FormatError(f"{root}: holds {NEITHER}")
    pictures, masks = (folder / part for folder in folders)
    is_cityscapes = folders[1].name == "gtFine"
    problems: list[Problem] = []
    pairs = _pairs(pictures, masks, "*_instanceIds.png" if is_cityscapes else "*.png", problems)
    if not pairs:
        raise FormatError(f"{masks}: no label picture has a picture of its name in {pictures}")
    planes = ((picture, path, load_plane(path, problems)) for picture, path in pairs)
    return from_planes(
        ((picture, path, plane) for picture, path, plane in planes if plane is not None),
        problems,
        CITYSCAPES if is_cityscapes else {},
        "person" if masks.name == "PedMasks" else category,
    )


def _pairs(
    pictures: Path, masks: Path, pattern: str, problems: list[Problem]
) -> list[tuple[Path, Path]]:
    """Return each picture with its label picture; note those that are alone."""
    by_place = _by_place(pictures)
    times = Counter(stem for _, stem in by_place)
    by_stem = {stem: path for (_, stem), path in by_place.items() if times[stem] == 1}
    pairs: list[tuple[Path, Path]] = []
    for path in below(masks, pattern):
        stem = _stem(path)
        picture = by_place.get((path.parent.relative_to(masks), stem), by_stem.get(stem))
        if picture is not None:
            pairs.append((picture, path))
        else:
            problems.append(
                Problem(str(path), "", "has no picture of its name", kind="picture missing")
            )
    seen = {picture for picture, _ in pairs}
    problems += [
        Problem(str(path), "", "has no label picture", False, "unlabelled")
        for path in by_place.values()
        if path not in seen
    ]
    return pairs


def _by_place(pictures: Path) -> Places:
    return {
        (path.parent.relative_to(pictures), _stem(path)): path
        for path in below(pictures, "*")
        if path.suffix.lower() in SUFFIXES
    }


@dataclass(slots=True)
class _Classes:
    """What the values of label pictures mean, and which classes have come up."""

    named: dict[int, str]
    ignored: int | None  # class whose values are crowds of any category
    labels: dict[int, int] = field(default_factory=dict)  # class -> label

    def instance(self, id_: str, value: int, rle: JsonObject) -> Instance | None:
        """Return what a value stands for; None for background and classes that are left out."""
        class_ = value // _LARGEST_ID
        if self.ignored is not None and class_ == self.ignored:
            return Instance(id_, 0, rle, crowd=True)
        group = value < _LARGEST_ID and value in self.named  # Cityscapes: several of a class
        class_ = value if group else class_
        if self.named and class_ not in self.named:
            return None
        label = self.labels.setdefault(class_, len(self.labels) + 1)
        return Instance(id_, label, rle, crowd=group)

    def names(self, category: str) -> list[str]:
        """Return the names of the labels; `category` stands for no class."""
        found = [
            self.named.get(class_, f"class {class_}" if class_ else category)
            for class_ in self.labels
        ]
        return found or [category]


def from_planes(
    planes: Iterable[tuple[Path, Path, npt.NDArray[Any]]],
    problems: Sequence[Problem],
    named: dict[int, str],
    category: str,
    ignored: int | None = None,
) -> Dataset:
    """Return a data set of (picture, its label file, values (H, W)); one mask a value.

    Values of class `ignored` are crowds of any category. Where there are `named` classes, others
    are left out, and a value that is the bare number of a named one is a crowd of it.
    """
    classes = _Classes(named, ignored)
    samples = []
    for picture, path, plane in planes:
        height, width = plane.shape
        instances = tuple(_instances(path.name, plane, classes))
        samples.append(Sample(picture, width, height, instances, path.parent.name))
    if len({sample.group for sample in samples}) == 1:  # one folder of single pictures
        samples = [Sample(s.path, s.width, s.height, s.instances) for s in samples]
    return Dataset(tuple(samples), (BACKGROUND, *classes.names(category)), tuple(problems))


def _instances(name: str, plane: npt.NDArray[Any], classes: _Classes) -> Iterator[Instance]:
    height, width = plane.shape
    for value in np.unique(plane).tolist():
        if value:
            rle = mask_to_rle(Mask(0, 0, plane == value).tight(), width, height)
            one = classes.instance(f"{name}:{value}", value, rle)
            if one is not None:
                yield one


def load_plane(path: Path, problems: list[Problem]) -> npt.NDArray[np.int64] | None:
    """Return a label picture's values (H, W), of a palette's the numbers; note what is wrong.

    A colour picture will do where it is grey all over.
    """
    findings = Findings(str(path), problems)
    try:
        with Pillow.open(path, formats=("PNG",)) as file:
            plane = np.array(file)
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as exc:
        findings.refuse("label picture", "", f"cannot be read ({type(exc).__name__})")
        return None
    if plane.ndim == 3:
        colours = plane[..., : 3 if plane.shape[2] > 2 else 1]
        if (colours != colours[..., :1]).any():
            text = "is a colour picture; values must be numbers of objects"
            findings.refuse("label picture", "", text)
            return None
        plane = colours[..., 0]
    if not plane.any():
        findings.note("label picture", "", "labels nothing")
    return plane.astype(np.int64)


def _stem(path: Path) -> str:
    """Return what a picture and its label picture have in common in their names."""
    stem = path.stem
    for ending in ("_mask", "_gtFine_instanceIds", "_leftImg8bit", "_label", "_instance"):
        stem = stem.removesuffix(ending)
    return stem
