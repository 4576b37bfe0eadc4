"""Labelled pictures, and what is wrong with them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageOps

from tracker.files import JsonObject
from tracker.masks import Mask, rle_to_mask
from tracker.types import Image

BACKGROUND = "__background__"
_TURN = 0x0112  # EXIF's orientation: from 5 on, width and height are exchanged
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")  # Pillow's EPS would run a program


@dataclass(frozen=True, slots=True)
class Instance:
    """One labelled object, or a crowd: a region in which nothing is right or wrong."""

    id: str
    label: int  # index into the data set's categories; 0 for a crowd of any of them
    rle: JsonObject = field(repr=False)  # COCO RLE of the whole picture
    crowd: bool = False

    @property
    def mask(self) -> Mask:
        """The pixels, in their tight window."""
        return rle_to_mask(self.rle)


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture."""

    path: Path
    width: int  # px
    height: int  # px
    instances: tuple[Instance, ...]
    group: str = ""  # pictures of one group, as a clip, look alike: a split keeps them together


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one item of a data set."""

    file: str
    id: str  # of the picture or the object; empty for the whole file
    text: str
    fatal: bool = True  # the item cannot be used; else it only looks like a mistake

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.file}{f' [{self.id}]' if self.id else ''}: {self.text}"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled pictures with one list of categories, and the problems found on the way."""

    samples: tuple[Sample, ...]
    categories: tuple[str, ...]  # label -> name; 0 is the background
    problems: tuple[Problem, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the number of objects of each category, crowds left out."""
        found = Counter(
            one.label for sample in self.samples for one in sample.instances if not one.crowd
        )
        return {name: found[label] for label, name in enumerate(self.categories) if label}


def read_picture(sample: Sample) -> Image:
    """Decode a picture to RGB; where only its EXIF rotation makes it fit the labels, turn it.

    Raises OSError, also where its size is not the labels'.
    """
    with Pillow.open(sample.path, formats=_FORMATS) as file:
        if file.size != (sample.width, sample.height):
            turned = ImageOps.exif_transpose(file)
            if turned.size != (sample.width, sample.height):
                raise OSError(f"{sample.path}: is {file.size}, not {(sample.width, sample.height)}")
            return np.array(turned.convert("RGB"))
        return np.array(file.convert("RGB"))


def find_picture_problem(sample: Sample, *, whole: bool = False) -> Problem | None:
    """Look at a picture's header: whether it is there, can be read, and has the labels' size.

    With `whole` it is decoded to the end.
    """
    try:
        with Pillow.open(sample.path, formats=_FORMATS) as file:
            width, height = file.size
            if whole:
                file.load()
            wanted = (sample.width, sample.height)
            # Asked only where it matters: for it, Pillow decodes a PNG to its end.
            if (height, width) == wanted != (width, height) and file.getexif().get(_TURN, 1) >= 5:
                width, height = wanted
    except FileNotFoundError:
        return Problem(str(sample.path), "", "no such picture")
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as exc:
        return Problem(str(sample.path), "", f"cannot be read as a picture ({type(exc).__name__})")
    if (width, height) != (sample.width, sample.height):
        said = f"{sample.width}x{sample.height}"
        return Problem(str(sample.path), "", f"is {width}x{height} px, its labels say {said}")
    return None


def checked(data: Dataset, *, whole: bool = False) -> Dataset:
    """Return the usable samples, with the problems of their pictures and categories added."""
    good, problems = [], list(data.problems)
    for sample in data.samples:
        problem = find_picture_problem(sample, whole=whole)
        if problem is None:
            good.append(sample)
        else:
            problems.append(problem)
    left = dataclasses.replace(data, samples=tuple(good))
    for name, count in left.counts().items():
        if not count:
            problems.append(Problem("categories", name, "has no examples", fatal=False))
    return dataclasses.replace(left, problems=tuple(problems))


def join(parts: Sequence[Dataset], categories: Sequence[str] = ()) -> Dataset:
    """Return one data set of several; categories of one name are one.

    With `categories` (from 1 on, without the background), objects of others are left out.
    """
    names = list(categories) or list(
        dict.fromkeys(name for part in parts for name in part.categories[1:])
    )
    joined: list[Sample] = []
    for part in parts:
        new = {
            old: names.index(name) + 1 for old, name in enumerate(part.categories) if name in names
        }
        new[0] = 0
        for sample in part.samples:
            kept = tuple(
                dataclasses.replace(one, label=new[one.label])
                for one in sample.instances
                if one.label in new
            )
            joined.append(dataclasses.replace(sample, instances=kept))
    problems = tuple(problem for part in parts for problem in part.problems)
    return Dataset(tuple(joined), (BACKGROUND, *names), problems)


def split(data: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Return training and validation samples; whole groups (clips) stay together.

    Groups are drawn at random until the validation has `share` of the pictures. Raises ValueError
    where there is only one picture.
    """
    groups = _groups(data.samples, share)
    names = list(groups)
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    if "end" in groups and len(groups) == 2:
        order = [names.index("end")]
    wanted = share * len(data.samples)
    held = set[int]()
    for k in order:  # a group that is far too large is left where others fit
        group = groups[names[k]]
        if len(held) < wanted and len(held) + len(group) <= max(1, 1.5 * wanted):
            held.update(group)
    if not held:
        held.update(sorted(groups.values(), key=len)[0])
    if not held or len(held) == len(data.samples):
        raise ValueError("too few pictures to hold some back for validation")

    def part(rows: Iterable[int]) -> Dataset:
        return Dataset(tuple(data.samples[k] for k in rows), data.categories)

    everything = range(len(data.samples))
    return part(k for k in everything if k not in held), part(sorted(held))


def _groups(samples: Sequence[Sample], share: float) -> dict[str, list[int]]:
    """Return the numbers of each group's samples; of one clip alone the end is held back."""
    groups: dict[str, list[int]] = {}
    for k, sample in enumerate(samples):
        groups.setdefault(sample.group or f"picture {k}", []).append(k)
    if len(groups) != 1:
        return groups
    (rows,) = groups.values()
    cut = len(rows) - max(1, round(share * len(rows)))
    return {"start": rows[:cut], "end": rows[cut:]}
