"""Labelled pictures, and what is wrong with them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tracker.files import JsonObject
from tracker.masks import Mask, rle_to_mask
from tracker.train import picture_file
from tracker.train.problems import Problem
from tracker.types import Image

BACKGROUND = "__background__"


@dataclass(frozen=True, slots=True)
class Instance:
    """One labelled object, or a crowd: a region in which nothing is right or wrong."""

    id: str
    label: int  # index into the data set's categories; 0 for a crowd of any of them
    rle: JsonObject = field(repr=False)  # COCO RLE of the whole picture
    crowd: bool = False
    marked: bool = False  # a crowd because its file calls it one, which some tools do of objects

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
    """Decode a picture to RGB, upright; unturned where only so it fits its labels.

    Raises OSError, also where its size is not the labels'.
    """
    return picture_file.decode(sample.path, (sample.width, sample.height))


def checked(data: Dataset, *, whole: bool = False) -> Dataset:
    """Return the usable samples, with the problems of their pictures and categories added.

    A picture that is listed twice is one sample with the objects of both.
    """
    good: dict[Path, Sample] = {}
    problems = list(data.problems)
    for sample in data.samples:
        size = (sample.width, sample.height)
        problem = picture_file.find_problem(sample.path, size, whole=whole)
        if problem is not None:
            problems.append(problem)
            if problem.fatal:
                continue
        place = sample.path.resolve()
        if place in good:
            good[place] = _both(good[place], sample, problems)
        else:
            good[place] = sample
    left = dataclasses.replace(data, samples=tuple(good.values()))
    problems += _category_problems(left)
    return dataclasses.replace(left, problems=tuple(problems))


def _both(first: Sample, second: Sample, problems: list[Problem]) -> Sample:
    """Return the sample of a picture that is listed twice."""
    text = "is listed twice: taken as one picture with the objects of both"
    problems.append(Problem(str(first.path), "", text, False, "picture twice"))
    if (first.width, first.height) != (second.width, second.height):
        return first  # one is labelled upright, the other as the picture lies
    known = {(one.label, one.crowd, str(one.rle["counts"])) for one in first.instances}
    more = (
        one
        for one in second.instances
        if (one.label, one.crowd, str(one.rle["counts"])) not in known
    )
    return dataclasses.replace(first, instances=(*first.instances, *more))


def _category_problems(data: Dataset) -> list[Problem]:
    found = []
    for name, count in data.counts().items():
        if not count:
            found.append(Problem("categories", name, "has no examples", False, "no examples"))
    alike: dict[str, list[str]] = {}
    for name in data.categories[1:]:
        alike.setdefault(name.casefold(), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            text = f"differ only in capital letters: {len(names)} categories"
            found.append(Problem("categories", ", ".join(names), text, False, "category name"))
    return found


def shared(train: Dataset, held: Dataset) -> list[Problem]:
    """Return a note about each picture that is trained on and validated by."""
    known = {sample.path.resolve() for sample in train.samples}
    text = "is trained on and validated by: the scores will be too good"
    return [
        Problem(str(sample.path), "", text, False, "picture twice")
        for sample in held.samples
        if sample.path.resolve() in known
    ]


def foreign(train: Dataset, held: Dataset) -> list[Problem]:
    """Return a note about each category to validate by that the training lacks."""
    known = ", ".join(train.categories[1:])
    alike = {name.casefold(): name for name in train.categories}
    found = []
    for name, count in held.counts().items():
        if name in train.categories or not count:
            continue
        text = f"{count} objects to validate by are left out: the training has only {known}"
        if name.casefold() in alike:
            text += f" ({name} and {alike[name.casefold()]} differ in capital letters alone)"
        found.append(Problem("categories", name, text, False, "category lost"))
    return found


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
    where there are fewer than two pictures.
    """
    if len(data.samples) < 2:
        raise ValueError("too few pictures to hold some back for validation")
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
    if len(held) == len(data.samples):
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
