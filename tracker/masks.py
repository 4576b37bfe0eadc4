"""Instance masks as cropped bitmaps: IoU, moving, and COCO RLE without full-frame arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

Rle = dict[str, Any]  # COCO run lengths: {"size": [height, width], "counts": str}
MAX_RLE_PIXELS = 1 << 28  # a 16384 x 16384 frame; anything larger in a file is a mistake or hostile


class MaskJson(NamedTuple):
    """A mask as JSON types: its window, px, and the counts of the window's COCO RLE."""

    x: int
    y: int
    width: int
    height: int
    counts: str  # empty for a window without pixels


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """One instance's pixels: a bitmap and where its top-left corner lies in the frame.

    The bitmap is copied where it can be written to.
    """

    x: int  # column of bits[0, 0] in the frame, px
    y: int  # row of bits[0, 0] in the frame, px
    bits: BoolArray  # (h, w)
    _area: list[int] = field(default_factory=list, init=False, repr=False)  # once it is known

    def __post_init__(self) -> None:
        if self.bits.ndim != 2 or self.bits.dtype != np.bool_:
            raise ValueError(f"bits must be (h, w) bool, got {self.bits.shape} {self.bits.dtype}")
        if self.bits.flags.writeable:
            bits = self.bits.copy()
            bits.flags.writeable = False
            object.__setattr__(self, "bits", bits)

    def to_json(self) -> MaskJson:
        """Return the one JSON form of a mask; `from_json` gives it back, window and all."""
        height, width = self.bits.shape
        if not self.bits.size:
            return MaskJson(self.x, self.y, width, height, "")
        window = mask_to_rle(Mask(0, 0, self.bits), width, height)
        return MaskJson(self.x, self.y, width, height, window["counts"])

    @classmethod
    def from_json(cls, content: MaskJson) -> Mask:
        """Return the mask that `to_json` was asked for; raise ValueError for a malformed one."""
        x, y, width, height, counts = content
        bits = np.zeros((height, width), np.bool_)
        if counts:
            seen = rle_to_mask({"size": [height, width], "counts": counts})
            x1, y1, x2, y2 = seen.box
            bits[y1:y2, x1:x2] = seen.bits
        bits.flags.writeable = False
        return cls(x, y, bits)

    @property
    def area(self) -> int:
        """Number of set pixels."""
        if not self._area:
            self._area.append(int(np.count_nonzero(self.bits)))
        return self._area[0]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The crop window, xyxy in px, half-open."""
        h, w = self.bits.shape
        return self.x, self.y, self.x + w, self.y + h

    def tight(self) -> Mask:
        """Return the same pixels in the smallest window; an empty mask gets a (0, 0) window."""
        pixels = self.bits.view(np.uint8)  # whose maximum is many times faster than any()
        if not pixels.size:
            return Mask(0, 0, np.zeros((0, 0), np.bool_))
        rows = pixels.max(axis=1).view(np.bool_)
        columns = pixels.max(axis=0).view(np.bool_)
        if not rows.any():
            return Mask(0, 0, np.zeros((0, 0), np.bool_))
        top, bottom = int(rows.argmax()), len(rows) - int(rows[::-1].argmax())
        left, right = int(columns.argmax()), len(columns) - int(columns[::-1].argmax())
        if (top, left) == (0, 0) and (bottom, right) == self.bits.shape:
            return self
        bits = np.ascontiguousarray(self.bits[top:bottom, left:right])
        bits.flags.writeable = False
        return Mask(self.x + left, self.y + top, bits)

    def moved(self, dx: int, dy: int) -> Mask:
        """Return the same bitmap shifted by whole pixels; it may leave the frame."""
        moved = Mask(self.x + dx, self.y + dy, self.bits)
        object.__setattr__(moved, "_area", self._area)  # the same pixels, counted once
        return moved

    def clipped(self, width: int, height: int) -> Mask:
        """Return the part that lies in a frame of this size."""
        x1, y1, x2, y2 = self.box
        if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
            return self
        cx1, cy1 = min(max(x1, 0), width), min(max(y1, 0), height)
        cx2, cy2 = max(min(x2, width), cx1), max(min(y2, height), cy1)
        return Mask(cx1, cy1, self.bits[cy1 - y1 : cy2 - y1, cx1 - x1 : cx2 - x1])


def intersection(a: Mask, b: Mask) -> int:
    """Count the pixels that both masks cover; only the overlap of the windows is looked at."""
    ax1, ay1, ax2, ay2 = a.box
    bx1, by1, bx2, by2 = b.box
    x1, y1, x2, y2 = max(ax1, bx1), max(ay1, by1), min(ax2, bx2), min(ay2, by2)
    if x1 >= x2 or y1 >= y2:
        return 0
    return int(
        np.count_nonzero(
            a.bits[y1 - ay1 : y2 - ay1, x1 - ax1 : x2 - ax1]
            & b.bits[y1 - by1 : y2 - by1, x1 - bx1 : x2 - bx1]
        )
    )


def mask_iou(
    a: Sequence[Mask],
    b: Sequence[Mask],
    pairs: BoolArray | None = None,
    *,
    rows: int | None = None,
) -> FloatArray:
    """Return pairwise mask IoU in [0, 1], (len(a), len(b)); two empty masks have IoU 0.

    The cost follows the objects' size, not the frame's: only the overlap of two crop windows is
    looked at. With `pairs`, (len(a), len(b)) bool, all other pairs are left at 0. With `rows`, of
    a higher overlap no fewer rows, evenly spread, stand for all: faster, and off by less than 0.03
    for large masks of ordinary shape.
    """
    iou = np.zeros((len(a), len(b)), np.float32)
    if not a or not b:
        return iou
    boxes_a, boxes_b = (np.array([m.box for m in masks], np.int64) for masks in (a, b))
    top_left = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    bottom_right = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    overlap = np.asarray((top_left < bottom_right).all(axis=-1))
    if pairs is not None:
        overlap &= pairs
    i, j = np.nonzero(overlap)
    windows = np.concatenate([top_left[i, j], bottom_right[i, j]], axis=1).tolist()
    for row, column, (x1, y1, x2, y2) in zip(i.tolist(), j.tolist(), windows, strict=True):
        one, other = a[row], b[column]
        step = 1 if rows is None else max(1, (y2 - y1) // rows)
        top = y1 + step // 2  # the middle of each step stands for it
        first = one.bits[top - one.y : y2 - one.y : step, x1 - one.x : x2 - one.x]
        second = other.bits[top - other.y : y2 - other.y : step, x1 - other.x : x2 - other.x]
        both = float(np.count_nonzero(first & second))
        if step > 1:
            both *= (y2 - y1) / len(first)
        iou[row, column] = min(1.0, both / max(one.area + other.area - both, 1.0))
    return iou


def mask_to_rle(mask: Mask, width: int, height: int) -> Rle:
    """Encode as COCO RLE of a width x height frame: {"size": [height, width], "counts": str}.

    Pixels outside the frame are dropped. The runs are computed in the crop: column-major order
    makes a frame-high gap between two columns a plain offset.
    """
    mask = mask.clipped(width, height)
    h, w = mask.bits.shape
    total = width * height
    edges = np.zeros(
        (w, h + 2), np.int8
    )  # a zero above and below, so that each column stands alone
    edges[:, 1:-1] = mask.bits.T
    change = np.diff(edges, axis=1)
    column, row = np.nonzero(change == 1)
    starts = (mask.x + column) * height + mask.y + row
    column, row = np.nonzero(change == -1)
    ends = (mask.x + column) * height + mask.y + row
    joined = starts[1:] == ends[:-1]  # runs that go on from the foot of a column to the next head
    starts = starts[np.concatenate([[True], ~joined])] if len(starts) else starts
    ends = ends[np.concatenate([~joined, [True]])] if len(ends) else ends
    bounds = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(np.concatenate([[0], bounds, [total]]))
    if counts[-1] == 0 and len(counts) > 1:
        counts = counts[:-1]
    rle = coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def plain_counts(rle: Rle) -> list[int]:
    """Return the counts as uncompressed RLE has them, a list of runs; raise ValueError."""
    return list(map(int, _runs(rle)[1]))


def check_rle(rle: Rle) -> None:
    """Raise ValueError for a malformed COCO RLE, without decoding it."""
    _runs(rle)


def rle_to_mask(rle: Rle) -> Mask:
    """Decode a COCO RLE to a tight mask; raise ValueError for anything malformed."""
    height, runs = _runs(rle)
    bounds = np.cumsum(runs)
    starts, ends = bounds[0:-1:2], bounds[1::2]
    if not len(starts) or starts[0] == ends[-1]:
        return Mask(0, 0, np.zeros((0, 0), np.bool_))
    left, right = int(starts[0] // height), int((ends[-1] - 1) // height) + 1
    flips = np.zeros((right - left) * height + 1, np.int8)
    np.add.at(flips, starts - left * height, 1)
    np.add.at(flips, ends - left * height, -1)
    band = np.cumsum(flips[:-1], dtype=np.int8).astype(np.bool_).reshape(right - left, height)
    return Mask(left, 0, np.ascontiguousarray(band.T)).tight()


def _runs(rle: Rle) -> tuple[int, npt.NDArray[np.int64]]:
    """Return the frame's height and the checked run lengths."""
    try:
        height, width = (int(v) for v in rle["size"])
        counts = rle["counts"]
    except (KeyError, TypeError, ValueError) as exc:
        raise ValueError(f"RLE must have size [height, width] and counts, got {rle!r:.80}") from exc
    if height < 1 or width < 1 or height * width > MAX_RLE_PIXELS:
        raise ValueError(f"RLE size {height} x {width} is out of range")
    runs = np.asarray(counts, np.int64) if isinstance(counts, list) else _uncompress(counts)
    if len(runs) and (runs.min() < 0 or runs.sum() != height * width):
        raise ValueError(f"RLE counts must add up to {height} x {width}, got {int(runs.sum())}")
    return height, runs


def _uncompress(counts: str | bytes) -> npt.NDArray[np.int64]:
    """Return the run lengths of a compressed counts string.

    pycocotools decodes only to full frames. The code is its own (maskApi.c, rleFrString): groups
    of 5 bits, low first, 0x20 = more follow, 0x10 of the last = sign; from the fourth number on
    each is the difference to the one two places before.
    """
    text = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    groups = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if len(groups) and (groups.min() < 0 or groups.max() > 63 or groups[-1] & 0x20):
        raise ValueError("RLE counts hold a character that is none of the format's")
    last = (groups & 0x20) == 0
    number = np.concatenate([[0], np.cumsum(last)[:-1]]) if len(groups) else groups
    first = np.flatnonzero(np.concatenate([[True], last[:-1]])) if len(groups) else groups
    place = np.arange(len(groups)) - first[number]
    if len(place) and place.max() > 6:
        raise ValueError("RLE counts hold a number that is too long")
    runs = np.zeros(len(first), np.int64)
    np.add.at(runs, number, (groups & 0x1F) << (5 * place))
    negative = (groups[last] & 0x10) != 0
    runs[negative] -= np.int64(1) << (5 * (place[last][negative] + 1))
    if len(runs) > 3:
        runs[1::2] = np.cumsum(runs[1::2])
        runs[2::2] = np.cumsum(runs[2::2])
    return runs
