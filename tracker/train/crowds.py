"""Tell crowds from single objects that a tool calls crowds."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

from tracker.train.problems import Problem
from tracker.train.samples import Dataset, Instance


def without_false_crowds(
    train: Dataset, held: Dataset | None = None
) -> tuple[Dataset, Dataset | None]:
    """Return the data with a category's crowds taken as objects where it has nothing else.

    CVAT writes every mask that is drawn by brush with iscrowd 1. `held` has the same categories.
    """
    parts = [train] if held is None else [train, held]
    objects = {one.label for one in _instances(parts) if not one.crowd}
    marked = Counter(one.label for one in _instances(parts) if one.crowd and one.marked)
    alone = marked.keys() - objects
    problems = [
        _told(train.categories[label], count, taken=label in alone)
        for label, count in sorted(marked.items())
    ]
    changed = [_with_objects(part, alone) for part in parts]
    first = dataclasses.replace(changed[0], problems=(*train.problems, *problems))
    return first, None if held is None else changed[1]


def _instances(parts: Sequence[Dataset]) -> Iterator[Instance]:
    for part in parts:
        for sample in part.samples:
            yield from sample.instances


def _told(name: str, count: int, *, taken: bool) -> Problem:
    what = "not learnt"
    if taken:
        what = "taken as objects, as the category has no others"
    text = f"{count} {name} objects are crowds (iscrowd 1): {what}"
    return Problem("categories", name, text, False, "crowd")


def _with_objects(data: Dataset, labels: set[int]) -> Dataset:
    """Return the data with the crowds of these labels as objects."""

    def changed(one: Instance) -> Instance:
        if one.marked and one.label in labels:
            return dataclasses.replace(one, crowd=False, marked=False)
        return one

    samples = (
        dataclasses.replace(sample, instances=tuple(changed(one) for one in sample.instances))
        for sample in data.samples
    )
    return dataclasses.replace(data, samples=tuple(samples))
