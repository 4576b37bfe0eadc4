"""Read label pictures: one PNG a picture, whose values say which object each pixel belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from tracker.errors import FormatError
from tracker.files import JsonObject
from tracker.masks import Mask, mask_to_rle
from tracker.train.labels.label_folders import Pictures, Place
from tracker.train.problems import Findings, Problem
from tracker.train.samples import BACKGROUND, Dataset, Instance, Sample, join

NEITHER = (
    "neither a COCO file nor folders of pictures and label pictures, as images/ and masks/, nor "
    "another form that is read"
)
CITYSCAPES = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip  # github.com/mcordts/cityscapesScripts, helpers/labels.py: those with instances
Pair = tuple[Path, Path]  # picture, label picture
Plane = npt.NDArray[np.int64]  # (H, W) values
_FORMATS = ("PNG", "BMP", "TIFF", "GIF", "JPEG")
_FLAT = 0.05  # of the pixels between black and white, in soft edges
_LARGEST_ID = 1000  # values from here on are class * 1000 + number, below the object's number


def read(place: Place, category: str = "object") -> Dataset:
    """Read Penn-Fudan's form (value = number of the object), Cityscapes' or another's.

    In Cityscapes' `*_instanceIds.png`, and wherever values reach 1000, a value is class * 1000 +
    number. Classes without a name are called "class N"; where values have no class, all objects
    are of `category` ("person" in Penn-Fudan's folders). Folders of classes within that of the
    label pictures name their objects. Raises FormatError.
    """
    problems: list[Problem] = []
    pairs = _pairs(place, problems)
    if not pairs:
        text = f"no label picture has a picture of its name in {place.pictures}"
        raise FormatError(f"{place.masks}: {text}")
    if place.classes:
        return _by_class(place, pairs, problems)
    is_cityscapes = place.form == "cityscapes"
    data = from_planes(
        _planes(pairs, problems),
        problems,
        CITYSCAPES if is_cityscapes else {},
        "person" if place.masks.name == "PedMasks" else category,
    )
    return _a_sample_a_picture(data) if place.form == "objects" else data


def _a_sample_a_picture(data: Dataset) -> Dataset:
    """Return data whose pictures have several label pictures with the objects of all."""
    samples: dict[Path, Sample] = {}
    problems = list(data.problems)
    for sample in data.samples:
        first = samples.get(sample.path, sample)
        if (first.width, first.height) != (sample.width, sample.height):
            text = "its label pictures differ in size"
            problems.append(Problem(str(sample.path), "", text, True, "label picture"))
            continue
        before = first.instances if first is not sample else ()
        samples[sample.path] = replace(first, instances=(*before, *sample.instances), group="")
    return replace(data, samples=tuple(samples.values()), problems=tuple(problems))


def _planes(pairs: Iterable[Pair], problems: list[Problem]) -> Iterator[tuple[Path, Path, Plane]]:
    for picture, path in pairs:
        plane = load_plane(path, problems)
        if plane is not None:
            yield picture, path, plane


def _by_class(place: Place, pairs: Sequence[Pair], problems: list[Problem]) -> Dataset:
    """Return the data of label pictures in a folder a class; a picture has those of all."""
    parts = []
    for name in place.classes:
        own = [pair for pair in pairs if pair[1].relative_to(place.masks).parts[0] == name]
        parts.append(from_planes(_planes(own, problems), (), {}, name))
    text = f"its folders are taken as classes: {', '.join(place.classes)}"
    problems.append(Problem(str(place.masks), "", text, False, "folders"))
    return _a_sample_a_picture(replace(join(parts), problems=tuple(problems)))


def _pairs(place: Place, problems: list[Problem]) -> list[Pair]:
    """Return each picture with its label picture; note those that are alone."""
    known = Pictures(place.pictures)
    pairs: list[Pair] = []
    for path in place.label_pictures():
        named = path.parent if place.form == "objects" and path.parent != place.masks else path
        picture = known.of(named, named.parent.relative_to(place.masks))
        if picture is not None:
            pairs.append((picture, path))
        else:
            problems.append(
                Problem(str(path), "", "has no picture of its name", kind="picture missing")
            )
    seen = {picture for picture, _ in pairs}
    problems += [
        Problem(str(path), "", "has no label picture", False, "unlabelled")
        for path in known.paths
        if path not in seen and place.has(path, place.pictures)
    ]
    return pairs


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
        with Pillow.open(path, formats=_FORMATS) as file:
            plane = np.array(file)
            is_lossy, has_palette = file.format == "JPEG", file.mode == "P"
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
    if not has_palette and is_smoothed(plane):
        values = len(np.unique(plane)) - 2
        text = f"has smoothed edges ({values} values between 0 and 255): one object from 128 on"
        findings.note("smoothed", "", text)
        plane = plane >= 128
    elif is_lossy and plane.any():
        findings.refuse("label picture", "", "is JPEG, which changes numbers of objects: save PNG")
        return None
    if not plane.any():
        findings.note("label picture", "", "labels nothing")
    return plane.astype(np.int64)


def is_smoothed(plane: npt.NDArray[Any]) -> bool:
    """Tell whether values (H, W) are of black and white with soft edges: no numbers of objects.

    Then what lies between has next to no pixel whose four neighbours are equal to it.
    """
    if plane.dtype != np.uint8 or plane.max(initial=0) < 250:
        return False
    between = (plane > 0) & (plane < 250)
    if len(np.unique(plane[between])) < 2 or min(plane.shape) < 3:
        return False
    inner = plane[1:-1, 1:-1]
    same = between[1:-1, 1:-1].copy()
    for other in (plane[:-2, 1:-1], plane[2:, 1:-1], plane[1:-1, :-2], plane[1:-1, 2:]):
        same &= other == inner
    return bool(same.sum() <= _FLAT * between.sum())
