"""Objects as a label file draws them, and how they become a picture's sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tracker.files import JsonObject
from tracker.train.labels.finder import PictureFinder
from tracker.train.labels.shapes import (
    LARGEST_SIDE,
    Box,
    ShapeError,
    are_in_shares,
    extent,
    rectangle,
    rle_sizes,
    to_rle,
)
from tracker.train.labels.values import whole
from tracker.train.picture_file import Size, upright_size
from tracker.train.problems import Findings
from tracker.train.samples import Instance, Sample


@dataclass(slots=True)
class Drawn:
    """One object as it is drawn."""

    id: str
    name: str  # by which problems call it
    label: int  # 0 is of any category
    segmentation: Any  # what `shapes.to_rle` takes
    box: Any = None  # COCO's bbox: x, y, width, height
    crowd: bool = False
    marked: bool = False  # a crowd because its file calls it one
    error: ShapeError | None = None  # why it has no outline


@dataclass(slots=True)
class Page:
    """One picture of a label file, and what is drawn on it."""

    file_name: str
    size: Size | None = None  # px; None where the file does not say
    name: str = ""  # by which problems call it
    group: str = ""
    objects: list[Drawn] = field(default_factory=list)


def read_size(width: object, height: object) -> Size | None:
    """Return the size that a file says, None where it says none (nothing, 0, -1).

    Raises ValueError for one that no picture has.
    """
    if any(isinstance(side, float) and not np.isfinite(side) for side in (width, height)):
        raise ValueError("its width and height are out of range")
    sides = [whole(side) or 0 for side in (width, height)]
    if max(sides) > LARGEST_SIDE:
        raise ValueError("its width and height are out of range")
    return (sides[0], sides[1]) if min(sides) > 0 else None


def to_samples(
    pages: Iterable[Page], finder: PictureFinder, findings: Findings
) -> tuple[Sample, ...]:
    """Return the samples of pages; what cannot be used is left out and told."""
    samples = []
    pages = list(pages)
    shares = are_in_shares(one.segmentation for page in pages for one in page.objects)
    for page in pages:
        path = finder.find(page.file_name)
        size = _settle_size(page, path, findings)
        if size is not None:
            samples.append(to_sample(page, path, size, findings, shares=shares))
    finder.note(findings)
    return tuple(samples)


def to_sample(
    page: Page, path: Path, size: Size, findings: Findings, *, shares: bool = False
) -> Sample:
    """Return the sample of a page whose picture has this size.

    An object whose outline cannot be used becomes a crowd of any category, where its box tells its
    place: a region in which nothing is right or wrong.
    """
    found = (_instance(one, size, findings, shares=shares) for one in page.objects)
    instances = tuple(one for one in found if one is not None)
    return Sample(path, *size, instances, page.group)


def _instance(one: Drawn, size: Size, findings: Findings, *, shares: bool) -> Instance | None:
    try:
        if one.error is not None and not one.segmentation:
            raise one.error
        rle, faults = to_rle(one.segmentation, *size, shares=shares)
    except ShapeError as exc:
        return _refused(one, size, exc, findings)
    for fault in faults:
        findings.note(fault.kind, one.name, fault.text)
    return Instance(one.id, one.label, rle, one.crowd, one.marked)


def _refused(one: Drawn, size: Size, error: ShapeError, findings: Findings) -> Instance | None:
    """Tell that an object is not learnt, and return the region in which it lies."""
    kind, text = error.kind, str(error)
    box = _box(one.box, size)
    if box is not None and not one.segmentation and one.error is None:
        kind, text = "box only", "has only a box, no outline"
    place = box or extent(one.segmentation)
    region = None if place is None else rectangle(_wide(place), *size)
    known = "the region is not judged" if region else "and nothing tells where it lies"
    findings.refuse(kind, one.name, f"{text}; {known}")
    return None if region is None else region_of(one.id, region)


def region_of(id_: str, rle: JsonObject) -> Instance:
    """Return a region of a picture in which nothing is right or wrong."""
    return Instance(id_, 0, rle, crowd=True)


def _wide(box: Box) -> Box:
    """Return a box that has pixels also where its points lie on one line."""
    x1, y1, x2, y2 = box
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _box(box: Any, size: Size) -> Box | None:
    """Return COCO's bbox as x1, y1, x2, y2; None where it is none."""
    try:
        x, y, width, height = (float(v) for v in box)
    except (TypeError, ValueError, OverflowError):
        return None
    values = np.array([x, y, width, height])
    if not np.isfinite(values).all() or min(width, height) <= 0:
        return None
    if values.min() >= 0 and values.max() <= 1:  # shares of the picture
        values *= (*size, *size)
    x, y, width, height = values.tolist()
    return x, y, x + width, y + height


def _settle_size(page: Page, path: Path, findings: Findings) -> Size | None:
    """Return the size in which the labels of a picture are drawn; None where nothing tells it."""
    if page.size is not None and _fits(page, page.size):
        return page.size
    own = upright_size(path)
    if page.size is None:
        if own is None:
            text = f"{path}: no such picture, or none that can be read, and its size is not said"
            findings.refuse("picture missing", page.name, text)
        return own
    if own == page.size[::-1] and own != page.size and _fits(page, own):
        text = f"its width and height are exchanged: its picture is {own[0]}x{own[1]} px"
        findings.note("picture size", page.name, text)
        return own
    return page.size


def _fits(page: Page, size: Size) -> bool:
    """Tell whether all outlines of a page lie in a picture of this size."""
    for one in page.objects:
        if any(said != size for said in rle_sizes(one.segmentation)):
            return False
        box = extent(one.segmentation)
        if box is not None and (box[2] > size[0] + 1 or box[3] > size[1] + 1):
            return False
    return True
