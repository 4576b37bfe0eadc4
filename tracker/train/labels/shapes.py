"""Outlines as tools write them (polygons in any nesting, RLE, bitmaps) as COCO RLE."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from tracker.files import JsonObject
from tracker.masks import MAX_RLE_PIXELS, Mask, mask_to_rle, rle_to_mask
from tracker.train.problems import Kind

LARGEST_SIDE = 1 << 16  # px of a picture
_FARTHEST = 4  # picture sizes that a corner may lie outside
_MOST_POINTS = 500  # of a polygon that is looked at for crossings: the test is quadratic
_DEEPEST = 5  # lists in lists
_BEYOND = 0.02  # of a picture that shares of it may lie outside
_LONGEST_LITERAL = 1_000_000  # letters; JSON may be longer
_CIRCLE = 72  # points
Points = npt.NDArray[np.float64]  # (N, 2) x, y in px
Box = tuple[float, float, float, float]  # x1, y1, x2, y2


class ShapeError(ValueError):
    """An outline that cannot be used."""

    def __init__(self, text: str, kind: Kind = "segmentation") -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Fault:
    """What is odd about an outline that is used."""

    text: str
    kind: Kind


@dataclass(slots=True)
class _Parts:
    """The parts of an outline, sorted by what they are."""

    rings: list[Points] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    rles: list[JsonObject] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # what is wrong with the others

    def __bool__(self) -> bool:
        return bool(self.rings or self.masks or self.rles)


def to_rle(
    segmentation: Any, width: int, height: int, *, shares: bool = False
) -> tuple[JsonObject, list[Fault]]:
    """Return an outline's RLE in a picture of this size, and what is odd about it.

    An outline is a polygon or a list of them (flat, in pairs, as {x, y}, nested, as JSON text), an
    RLE or a list of them, or a `Mask`. Parts that are none are left out where others are good.
    With `shares` polygons that may be in shares of the picture are, even where they are whole.
    Raises ShapeError.
    """
    parts = _sorted_parts(segmentation)
    if not parts:
        raise ShapeError(parts.bad[0] if parts.bad else "has no segmentation")
    faults = [Fault(f"a part of it is left out: {text}", "part") for text in parts.bad]
    if _is_in_shares(parts.rings, width, height, whole=shares):
        parts.rings = [ring * (width, height) for ring in parts.rings]
        faults.append(Fault("its polygon is in shares of the picture (0 to 1)", "shares"))
    rles = [_checked_rle(rle, width, height) for rle in parts.rles]
    rles += [mask_to_rle(mask, width, height) for mask in parts.masks]
    if parts.rings:
        rles += _from_rings(parts.rings, width, height)
        faults += _oddities(parts.rings, width, height)
    rle = coco.merge(rles) if len(rles) > 1 else rles[0]
    if not coco.area(rle):
        raise ShapeError("its polygon is empty" if parts.rings else "its mask is empty")
    return _plain(rle), faults


def extent(segmentation: Any) -> Box | None:
    """Return the box around all points and bitmaps of an outline, good or not; None without any."""
    found: list[Points] = []
    for part in _flattened(segmentation):
        if isinstance(part, Mask):
            found.append(np.array(part.box, np.float64).reshape(2, 2))
        elif isinstance(part, np.ndarray):
            found.append(part[np.isfinite(part).all(axis=1)])
    points = np.concatenate(found) if found else np.zeros((0, 2))
    if not len(points):
        return None
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x1, y1, x2, y2


def around(points: Any) -> list[float] | None:
    """Return the box around points as COCO's bbox, at least a px large; None without points."""
    box = extent([points])
    if box is None:
        return None
    x1, y1, x2, y2 = box
    return [x1, y1, max(1.0, x2 - x1), max(1.0, y2 - y1)]


def rle_sizes(segmentation: Any) -> list[tuple[int, int]]:
    """Return width and height of the picture that each RLE of an outline says it is of."""
    sizes = []
    for part in _flattened(segmentation):
        size = part.get("size") if isinstance(part, dict) else None
        if isinstance(size, list) and len(size) == 2 and all(isinstance(v, int) for v in size):
            sizes.append((size[1], size[0]))
    return sizes


def rectangle(box: Box, width: int, height: int) -> JsonObject | None:
    """Return the RLE of a box's pixels in a picture; None where it has none."""
    if not all(math.isfinite(v) for v in box):
        return None
    x1, y1 = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    x2, y2 = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    if x1 >= x2 or y1 >= y2:
        return None
    return mask_to_rle(Mask(x1, y1, np.ones((y2 - y1, x2 - x1), np.bool_)), width, height)


def circle(centre: Sequence[float], edge: Sequence[float]) -> list[list[float]]:
    """Return the points of a circle through a point."""
    radius = math.dist(centre, edge)
    angles = [2 * math.pi * k / _CIRCLE for k in range(_CIRCLE)]
    return [[centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)] for a in angles]


def ellipse(box: Any) -> list[list[float]] | None:
    """Return the points of the ellipse in a box x1, y1, x2, y2; None where that is none."""
    try:
        x1, y1, x2, y2 = (float(v) for v in box)
    except (TypeError, ValueError, OverflowError):
        return None
    angles = [2 * math.pi * k / _CIRCLE for k in range(_CIRCLE)]
    return [
        [(x1 + x2 + (x2 - x1) * math.cos(a)) / 2, (y1 + y2 + (y2 - y1) * math.sin(a)) / 2]
        for a in angles
    ]


def fill(outer: Any, holes: Sequence[Any]) -> Mask:
    """Return the pixels of a polygon without those of its holes; raise ShapeError."""
    rings = [_sorted_parts(ring) for ring in (outer, *holes)]
    if not rings[0].rings:
        raise ShapeError(rings[0].bad[0] if rings[0].bad else "has no points")
    points = np.concatenate(rings[0].rings)
    corner = np.floor(points.min(axis=0))  # whole px: the raster stays where it was
    sides = np.ceil(points.max(axis=0)) - corner + 1
    if np.abs(points).max() > LARGEST_SIDE or sides.prod() > MAX_RLE_PIXELS:
        raise ShapeError("its polygon lies far outside the picture")
    width, height = sides.astype(np.int64).tolist()
    bits = _plane([ring - corner for ring in rings[0].rings], width, height)
    for hole in rings[1:]:
        if hole.rings:
            bits &= ~_plane([ring - corner for ring in hole.rings], width, height)
    return Mask(int(corner[0]), int(corner[1]), bits).tight()


def crosses_itself(polygon: Points) -> bool:
    """Tell whether two sides of a polygon (N, 2) properly cross; touching is no crossing."""
    n = len(polygon)
    if n < 4 or n > _MOST_POINTS:
        return False
    start, end = polygon, np.roll(polygon, -1, axis=0)

    def side(p: Points, q: Points, r: Points) -> npt.NDArray[Any]:
        """Return the sign of the turn p -> q -> r, pairwise, (N, N)."""
        d, e = (q - p)[:, None], r[None] - p[:, None]
        turn: npt.NDArray[Any] = np.sign(d[..., 0] * e[..., 1] - d[..., 1] * e[..., 0])
        return turn

    a, b = side(start, end, start), side(start, end, end)
    apart = a * b < 0  # the ends of side j lie on different sides of side i
    return bool((apart & apart.T).any())


# ---- parts ----------------------------------------------------------------------------------


def _sorted_parts(segmentation: Any) -> _Parts:
    parts = _Parts()
    for part in _flattened(segmentation):
        if isinstance(part, Mask):
            parts.masks.append(part)
        elif isinstance(part, dict):
            parts.rles.append(part)
        elif isinstance(part, str):
            parts.bad.append(part)
        elif len(part) < 3 or not np.isfinite(part).all():
            parts.bad.append("a polygon has fewer than three points, or some that are not finite")
        else:
            parts.rings.append(part)
    return parts


def _flattened(value: Any, depth: int = 0) -> Iterator[Points | Mask | JsonObject | str]:
    """Yield the rings, bitmaps and RLEs of an outline, and sentences about what is none."""
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, (Mask, dict)):
        yield value
    elif not isinstance(value, list) or depth > _DEEPEST:
        if value is not None:
            yield f"its segmentation is malformed ({value!r:.40})"
    elif value and _is_ring(value):
        yield _ring(value)
    elif not value and depth:
        yield "a polygon has fewer than three points, or some that are not finite"
    else:
        for part in value:
            yield from _flattened(part, depth + 1)


def _from_text(text: str) -> Any:
    """Return what is written in a text: JSON, a Python literal, or numbers with blanks between."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    if len(text) < _LONGEST_LITERAL:
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return ast.literal_eval(text.strip())
    return re.findall(r"[^\s,;]+", text)


def _is_ring(value: list[Any]) -> bool:
    """Tell whether a list is one polygon: of numbers, or of three or more pairs or {x, y}."""
    if all(isinstance(v, (int, float, str)) for v in value):
        return True
    if all(isinstance(v, dict) and {"x", "y"} <= v.keys() for v in value):
        return True
    return len(value) > 2 and all(_is_pair(v) for v in value)


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(v, (int, float, str)) for v in value)
    )


def _ring(value: list[Any]) -> Points | str:
    if isinstance(value[0], dict):
        value = [v[name] for v in value for name in ("x", "y")]
    try:
        numbers = np.asarray(value, np.float64).ravel()
        if len(numbers) % 2:
            return "its segmentation is malformed (an odd number of values)"
        return numbers.reshape(-1, 2)
    except (TypeError, ValueError, OverflowError) as exc:
        return f"its segmentation is malformed ({exc!s:.80})"


# ---- rasters --------------------------------------------------------------------------------


def are_in_shares(segmentations: Iterable[Any]) -> bool:
    """Tell whether the polygons of all these outlines are in shares of the picture (0 to 1)."""
    fractions = False
    for segmentation in segmentations:
        rings = _sorted_parts(segmentation).rings
        if rings and not _is_small(rings):
            return False
        fractions = fractions or any((ring % 1 > 0).any() for ring in rings)
    return fractions


def _is_small(rings: list[Points]) -> bool:
    points = np.concatenate(rings)
    return bool(((points >= -_BEYOND) & (points <= 1 + _BEYOND)).all())


def _is_in_shares(rings: list[Points], width: int, height: int, *, whole: bool) -> bool:
    """Tell whether polygons are in shares of the picture: in px they would not fill one."""
    if not rings or min(width, height) < 2:
        return False
    return _is_small(rings) and (whole or any((ring % 1 > 0).any() for ring in rings))


def _from_rings(rings: list[Points], width: int, height: int) -> list[JsonObject]:
    farthest = max(float(np.abs(ring).max()) for ring in rings)
    if farthest > _FARTHEST * max(width, height):  # pycocotools walks along every side
        raise ShapeError("its polygon lies far outside the picture")
    found: list[JsonObject] = coco.frPyObjects(
        [ring.ravel().tolist() for ring in rings], height, width
    )
    return found


def _plane(rings: list[Points], width: int, height: int) -> npt.NDArray[np.bool_]:
    mask = rle_to_mask(_plain(coco.merge(_from_rings(rings, width, height))))
    x1, y1, x2, y2 = mask.box
    plane = np.zeros((height, width), np.bool_)
    plane[y1:y2, x1:x2] = mask.bits
    return plane


def _oddities(rings: list[Points], width: int, height: int) -> list[Fault]:
    faults = []
    if any(crosses_itself(ring) for ring in rings):
        faults.append(Fault("its polygon crosses itself", "outline"))
    points = np.concatenate(rings)
    if points.min() < -1 or (points.max(axis=0) > (width + 1, height + 1)).any():
        faults.append(Fault("its polygon leaves the picture", "outline"))
    return faults


def _checked_rle(rle: JsonObject, width: int, height: int) -> JsonObject:
    """Return an RLE that pycocotools can take; raise ShapeError."""
    try:
        rle = dict(_plainly_counted(rle))
        rle.setdefault("size", [height, width])  # some leave it to the picture
        if [int(v) for v in rle["size"]] != [height, width]:
            raise ShapeError(f"its RLE has size {rle['size']}, not {[height, width]}")
        if not rle_to_mask(rle).area:  # also checks the runs
            raise ShapeError("its mask is empty")
        if isinstance(rle["counts"], list):
            encoded: JsonObject = coco.frPyObjects(rle, height, width)
            return encoded
        return {"size": [height, width], "counts": rle["counts"]}
    except ShapeError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as exc:
        raise ShapeError(f"its segmentation is malformed ({exc!s:.80})") from exc


def _plainly_counted(rle: JsonObject) -> JsonObject:
    """Return an RLE of Python's repr of bytes, or of numbers in a text, as COCO writes it."""
    counts = rle["counts"]
    if not isinstance(counts, str):
        return rle
    numbers = counts.replace(",", " ").split()
    if len(numbers) > 1 and all(number.isdecimal() for number in numbers):
        return rle | {"counts": [int(number) for number in numbers]}
    if counts.startswith(("b'", 'b"')):
        with suppress(SyntaxError, ValueError, AttributeError):
            return rle | {"counts": ast.literal_eval(counts).decode("ascii")}
    return rle


def _plain(rle: JsonObject) -> JsonObject:
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(v) for v in rle["size"]], "counts": text}
