"""Read a project of Supervisely: meta.json, and folders ann/ and img/ of each data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracker.errors import FormatError
from tracker.files import JsonObject
from tracker.masks import Mask
from tracker.train.labels.drawn import Drawn, Page, read_size, to_samples
from tracker.train.labels.finder import PictureFinder, Where, below
from tracker.train.labels.label_json import read_label_json
from tracker.train.labels.labelme import decode_bitmap
from tracker.train.labels.shapes import ShapeError, around, fill
from tracker.train.labels.values import listed, named
from tracker.train.picture_file import SUFFIXES
from tracker.train.problems import Findings, Problem
from tracker.train.samples import BACKGROUND, Dataset, Sample


def find_project(root: Path) -> Path | None:
    """Return the folder with meta.json: `root`, or one above it if that is a data set."""
    above = (root.resolve().parent, root.resolve().parent.parent)
    places = (root, *above) if (root / "ann").is_dir() else (root,)
    return next((place for place in places if (place / "meta.json").is_file()), None)


def find_sets(root: Path) -> list[Path]:
    """Return the data sets of a project, or of one below it: folders with ann/."""
    return [folder.parent for folder in below(root, "ann") if folder.is_dir()]


def read(root: Path, folder: Path, pictures: Path | None = None) -> Dataset:
    """Read one data set of a project; its classes are the project's. Raises FormatError."""
    meta = read_label_json(root / "meta.json")
    classes = listed(meta.get("classes"))
    if classes is None:
        raise FormatError(f"{root / 'meta.json'}: has no list 'classes'")
    names = [named(item.get("title")) for item in classes if isinstance(item, dict)]
    samples: list[Sample] = []
    problems: list[Problem] = []
    for path in below(folder / "ann", "*.json"):
        findings = Findings(str(path))
        try:
            page = _page(path, read_label_json(path), names, findings)
        except FormatError as exc:
            findings.refuse("annotation", "", str(exc).removeprefix(f"{path}: "))
        else:
            finder = PictureFinder(path, Where(pictures or folder / "img"))
            samples += to_samples([page], finder, findings)
        problems += findings.problems
    return Dataset(tuple(samples), (BACKGROUND, *names), tuple(problems))


def _page(path: Path, content: JsonObject, names: list[str], findings: Findings) -> Page:
    said = content.get("size")
    said = said if isinstance(said, dict) else {}
    try:
        size = read_size(said.get("width"), said.get("height"))
    except ValueError:
        size = None  # the picture knows
    name = path.stem  # a.png.json; older projects have a.json
    page = Page(name if name.lower().endswith(SUFFIXES) else f"{name}.png", size)
    objects = listed(content.get("objects")) or []
    page.objects = [_drawn(number, item, names, findings) for number, item in enumerate(objects)]
    return page


def _drawn(number: int, item: Any, names: list[str], findings: Findings) -> Drawn:
    entry = item if isinstance(item, dict) else {}
    name = f"object {entry.get('id', f'{number} (from 0)')}"
    title = named(entry.get("classTitle"))
    known = title in names
    if not known:
        text = f"classTitle {title!r:.40} is none of meta.json's classes"
        findings.refuse("category", name, text)
    drawn = Drawn(str(entry.get("id", number)), name, names.index(title) + 1 if known else 0, None)
    drawn.crowd = not known  # of whatever it is, it is no background
    try:
        drawn.segmentation = [_mask(entry)]
    except ShapeError as exc:
        points = entry.get("points")
        drawn.error = exc
        drawn.box = around(points.get("exterior")) if isinstance(points, dict) else None
    return drawn


def _mask(item: JsonObject) -> Mask:
    """Return the pixels of an object; raise ShapeError."""
    kind = item.get("geometryType") or ("bitmap" if item.get("bitmap") else "polygon")
    points = item.get("points")
    if kind in ("bitmap", "alpha_mask"):
        return _bitmap(item.get("bitmap") or item.get(kind))
    if not isinstance(points, dict):
        raise ShapeError("has no points")
    if kind == "polygon":
        return fill(
            [points.get("exterior")], [[hole] for hole in listed(points.get("interior")) or []]
        )
    if kind == "rectangle":
        return fill(_rectangle(points.get("exterior")), [])
    raise ShapeError(f"a {kind!s:.20} has no area: draw a polygon or a bitmap")


def _bitmap(bitmap: Any) -> Mask:
    content = bitmap if isinstance(bitmap, dict) else {}
    plane = decode_bitmap(content.get("data"), packed=True)
    try:
        x, y = (int(v) for v in content["origin"])
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise ShapeError("its bitmap has no origin") from exc
    return Mask(x, y, plane).tight()


def _rectangle(corners: Any) -> list[list[float]]:
    """Return the four corners of a rectangle given by two; raise ShapeError."""
    try:
        (x1, y1), (x2, y2) = ((float(x), float(y)) for x, y in corners)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ShapeError("its points are not two") from exc
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
