"""Read labelme's files: one JSON a picture, with its shapes and maybe the picture itself."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from tracker.errors import FormatError
from tracker.files import JsonObject
from tracker.masks import Mask
from tracker.train.labels.drawn import Drawn, Page, read_size, to_sample, to_samples
from tracker.train.labels.finder import PictureFinder, Where
from tracker.train.labels.label_json import OtherFormError, read_label_json
from tracker.train.labels.shapes import ShapeError, around, circle
from tracker.train.labels.values import named
from tracker.train.picture_file import upright_size
from tracker.train.problems import Findings, Problem
from tracker.train.samples import BACKGROUND, Dataset, Sample

_IGNORED = "__ignore__"  # labelme's name of what is neither an object nor background
_NOTHING = {"_background_", BACKGROUND}
_POLYGONS = {  # forks of labelme turn rectangles
    "polygon", "rotation", "oriented_rectangle", "rotated_rectangle", "quadrilateral",
}  # fmt: skip
_MOST_BYTES = 1 << 28  # of a bitmap, unpacked


def is_labelme(content: JsonObject) -> bool:
    """Tell whether a JSON object is labelme's."""
    return isinstance(content.get("shapes"), list) and "images" not in content


def read(paths: Iterable[Path], where: Where | None = None) -> Dataset:
    """Read the files of a folder; what is not labelme's among them is left out. Raises FormatError.

    Shapes of one label and `group_id` are one object. Polygons, rectangles, circles and masks are
    read; `__ignore__` is a region that nobody judges.
    """
    samples: list[Sample] = []
    problems: list[Problem] = []
    names: list[str] = []
    finders: dict[Path, PictureFinder] = {}  # a folder of labels each: it is looked through once
    for path in paths:
        findings = Findings(str(path))
        try:
            content = read_label_json(path)
        except OtherFormError:
            continue
        except FormatError as exc:
            findings.refuse("annotation", "", str(exc).removeprefix(f"{path}: "))
            content = {}
        if is_labelme(content):
            if path.parent not in finders:
                finders[path.parent] = PictureFinder(path, where)
            samples += _samples(path, content, finders[path.parent], names, findings)
        problems += findings.problems
    return Dataset(tuple(samples), (BACKGROUND, *names), tuple(problems))


def _samples(
    path: Path, content: JsonObject, finder: PictureFinder, names: list[str], findings: Findings
) -> Iterable[Sample]:
    try:
        size = read_size(content.get("imageWidth"), content.get("imageHeight"))
    except ValueError:
        size = None  # the picture knows
    page = Page(str(content.get("imagePath") or path.with_suffix(".jpg").name), size, "")
    page.objects = _objects(content["shapes"], names, findings)
    held = content.get("imageData")
    if not finder.find(page.file_name).is_file() and isinstance(held, str) and held:
        own = upright_size(path)
        if own:
            return [to_sample(page, path, own, findings)]
        text = f"its imageData cannot be read, and there is no picture {page.file_name}"
        findings.refuse("picture unreadable", "", text)
        return []
    return to_samples([page], finder, findings)


def _objects(shapes: list[Any], names: list[str], findings: Findings) -> list[Drawn]:
    objects: dict[Any, Drawn] = {}
    for number, shape in enumerate(shapes):
        name = f"shape {number} (from 0)"
        label = named(shape.get("label")) if isinstance(shape, dict) else ""
        if not label:
            findings.refuse("category", name, "has no label")
            label = _IGNORED
            shape = shape if isinstance(shape, dict) else {}
        if label in _NOTHING:
            continue
        if label not in names and label != _IGNORED:
            names.append(label)
        group = shape.get("group_id")
        key = number if group is None else (label, str(group))
        known = objects.setdefault(key, _drawn(number, name, label, names))
        try:
            known.segmentation += _outline(shape)
        except ShapeError as exc:
            known.error, known.box = exc, around(shape.get("points"))
    return list(objects.values())


def _drawn(number: int, name: str, label: str, names: list[str]) -> Drawn:
    ignored = label == _IGNORED
    return Drawn(str(number), name, 0 if ignored else names.index(label) + 1, [], crowd=ignored)


def _outline(shape: JsonObject) -> list[Any]:
    """Return the parts of a shape's outline as `to_rle` takes them; raise ShapeError."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points") or []
    if kind in _POLYGONS:
        return [points]
    corners = _corners(points)
    if kind == "mask":
        return [_bitmap(shape.get("mask"), corners[0])]
    if kind == "circle":
        return [circle(*corners)]
    if kind == "rectangle":
        (x1, y1), (x2, y2) = corners
        return [[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]]
    raise ShapeError(f"a {kind!s:.20} has no area: draw a polygon")


def _corners(points: Any) -> list[list[float]]:
    """Return the two points that make a rectangle, a circle or a bitmap; raise ShapeError."""
    try:
        corners = np.asarray(points, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        corners = np.zeros((0, 2))
    if len(corners) == 4:  # a rectangle of newer versions
        corners = np.stack([corners.min(axis=0), corners.max(axis=0)])
    if len(corners) != 2 or not np.isfinite(corners).all():
        raise ShapeError("its points are not two")
    found: list[list[float]] = corners.tolist()
    return found


def _bitmap(text: Any, corner: list[float]) -> Mask:
    plane = decode_bitmap(text, packed=False)
    return Mask(round(corner[0]), round(corner[1]), plane).tight()


def decode_bitmap(text: Any, *, packed: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return the plane (H, W) of a PNG in base64, `packed` by zlib or not; raise ShapeError."""
    try:
        data = base64.b64decode(text)
        if packed:
            data = zlib.decompressobj().decompress(data, _MOST_BYTES)
        with Pillow.open(io.BytesIO(data), formats=("PNG",)) as file:
            plane = np.array(file)
    except Exception as exc:  # binascii, zlib and Pillow each have their own
        raise ShapeError(f"its bitmap is malformed ({type(exc).__name__})") from exc
    if plane.ndim == 3:
        plane = plane[..., 3] if plane.shape[2] == 4 else plane.max(axis=2)
    return plane > 0
