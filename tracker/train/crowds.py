"""Tell crowds from single objects that a tool calls crowds."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

from tracker.train.problems import Problem
from tracker.train.samples import Dataset, Instance


def without_false_crowds(
    train: Dataset, held: Dataset | None = None
) -> tuple[Dataset, Dataset | None]:
    """Return the data with a category's crowds taken as objects where a part has nothing else.

    CVAT writes every mask that is drawn by brush with iscrowd 1. `held` has the same categories.
    """
    return _changed(train, ""), None if held is None else _changed(held, " to validate by")


def _changed(data: Dataset, where: str) -> Dataset:
    objects = {one.label for one in _instances(data) if not one.crowd}
    marked = Counter(one.label for one in _instances(data) if one.crowd and one.marked)
    alone = marked.keys() - objects
    problems = [
        _told(data.categories[label], count, where, taken=label in alone)
        for label, count in sorted(marked.items())
    ]
    changed = _with_objects(data, alone)
    return dataclasses.replace(changed, problems=(*data.problems, *problems))


def _instances(data: Dataset) -> Iterator[Instance]:
    for sample in data.samples:
        yield from sample.instances


def _told(name: str, count: int, where: str, *, taken: bool) -> Problem:
    what = "not learnt"
    if taken:
        what = "taken as objects, as the category has no others"
    text = f"{count} {name} objects{where} are crowds (iscrowd 1): {what}"
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
