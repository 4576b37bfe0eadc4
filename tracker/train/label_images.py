"""Read label pictures: one PNG a picture, whose values say which object each pixel belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from tracker.errors import FormatError
from tracker.masks import Mask, mask_to_rle
from tracker.train.samples import BACKGROUND, Dataset, Instance, Problem, Sample

CITYSCAPES = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip  # github.com/mcordts/cityscapesScripts, helpers/labels.py: those with instances
_PICTURES = ("PNGImages", "JPEGImages", "images", "img", "frames")
_MASKS = ("PedMasks", "masks", "labels", "instances", "annotations")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_LARGEST_ID = 1000  # values from here on are class * 1000 + number, below the object's number


def find_folders(root: Path) -> tuple[Path, Path] | None:
    """Return the folders of pictures and of label pictures that lie in `root`, if they do."""
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return root / "leftImg8bit", root / "gtFine"
    pictures = next((root / name for name in _PICTURES if (root / name).is_dir()), None)
    masks = next((root / name for name in _MASKS if (root / name).is_dir()), None)
    return (pictures, masks) if pictures and masks else None


def read_all(root: Path) -> list[tuple[Dataset, bool]]:
    """Return the data set of a folder, and whether it is to validate by; Cityscapes has both.

    Raises FormatError.
    """
    if (root / "gtFine" / "train").is_dir() and (root / "gtFine" / "val").is_dir():
        return [(read(root, part="train"), False), (read(root, part="val"), True)]
    return [(read(root), False)]


def read(root: Path, category: str = "object", part: str = "") -> Dataset:
    """Read Penn-Fudan's form (value = number of the object), Cityscapes' or another's.

    In Cityscapes' `*_instanceIds.png`, and wherever values reach 1000, a value is class * 1000 +
    number. Classes without a name are called "class N"; where values have no class, all objects
    are of `category` ("person" in Penn-Fudan's folders). Only the folder `part` of both folders
    is read, if it is given. Raises FormatError.
    """
    folders = find_folders(root)
    if folders is None:
        raise FormatError(
            f"{root}: holds neither a COCO file nor folders of pictures and label pictures, as "
            "images/ and masks/"
        )
    pictures, masks = (folder / part for folder in folders)
    is_cityscapes = folders[1].name == "gtFine"
    if masks.name == "PedMasks":
        category = "person"
    by_place = {
        (path.parent.relative_to(pictures), _stem(path)): path
        for path in sorted(pictures.rglob("*"))
        if path.suffix.lower() in _SUFFIXES
    }
    times = Counter(stem for _, stem in by_place)
    by_stem = {stem: path for (_, stem), path in by_place.items() if times[stem] == 1}
    problems: list[Problem] = []
    found: list[tuple[Path, Path]] = []
    for path in sorted(masks.rglob("*.png")):
        if is_cityscapes and not path.name.endswith("_instanceIds.png"):
            continue
        stem = _stem(path)
        picture = by_place.get((path.parent.relative_to(masks), stem), by_stem.get(stem))
        if picture is not None:
            found.append((picture, path))
        else:
            problems.append(Problem(str(path), "", "has no picture of its name"))
    if not found:
        raise FormatError(f"{masks}: no label picture has a picture of its name in {pictures}")
    seen = {picture for picture, _ in found}
    problems += [
        Problem(str(path), "", "has no label picture", fatal=False)
        for path in by_place.values()
        if path not in seen
    ]
    planes = ((picture, path, load_plane(path, problems)) for picture, path in found)
    return from_planes(
        ((picture, path, plane) for picture, path, plane in planes if plane is not None),
        problems,
        CITYSCAPES if is_cityscapes else {},
        category,
    )


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
    numbers: dict[int, int] = {}  # class -> label
    samples = []
    for picture, path, plane in planes:
        height, width = plane.shape
        instances = []
        for value in np.unique(plane).tolist():
            of_any = ignored is not None and value // _LARGEST_ID == ignored
            group = value < _LARGEST_ID and value in named
            class_ = value if group else value // _LARGEST_ID
            if value == 0 or (named and class_ not in named and not of_any):
                continue
            label = 0 if of_any else numbers.setdefault(class_, len(numbers) + 1)
            crowd = of_any or group
            mask = Mask(0, 0, plane == value).tight()
            rle = mask_to_rle(mask, width, height)
            instances.append(Instance(f"{path.name}:{value}", label, rle, crowd))
        samples.append(Sample(picture, width, height, tuple(instances), path.parent.name))
    names = [named.get(class_, f"class {class_}" if class_ else category) for class_ in numbers]
    if len({sample.group for sample in samples}) == 1:  # one folder of single pictures
        samples = [Sample(s.path, s.width, s.height, s.instances) for s in samples]
    return Dataset(tuple(samples), (BACKGROUND, *(names or [category])), tuple(problems))


def load_plane(path: Path, problems: list[Problem]) -> npt.NDArray[np.int64] | None:
    """Return a label picture's values (H, W), of a palette's the numbers; note what is wrong."""
    try:
        with Pillow.open(path, formats=("PNG",)) as file:
            plane = np.array(file)
    except (OSError, SyntaxError, ValueError) as exc:
        problems.append(Problem(str(path), "", f"cannot be read ({type(exc).__name__})"))
        return None
    if plane.ndim != 2:
        problems.append(
            Problem(str(path), "", "is a colour picture; values must be numbers of objects")
        )
        return None
    if not plane.any():
        problems.append(Problem(str(path), "", "labels nothing", fatal=False))
    return plane.astype(np.int64)


def _stem(path: Path) -> str:
    """Return what a picture and its label picture have in common in their names."""
    stem = path.stem
    for ending in ("_mask", "_gtFine_instanceIds", "_leftImg8bit", "_label", "_instance"):
        stem = stem.removesuffix(ending)
    return stem
