"""Follow objects between two pictures by the flow of their own pixels.

A few corners inside each object's mask are followed from one small grey picture to the next and
back again (Lucas-Kanade); the median of those that come home is how far the object moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tracker.associate.camera_motion import picture_from, picture_state, shrink
from tracker.associate.kalman import KalmanFilter
from tracker.associate.track_table import TrackTable
from tracker.masks import Mask
from tracker.snapshot import PictureState
from tracker.types import Image

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Picture = npt.NDArray[np.uint8]

WIDTH = 960  # px, at most, of the picture in which the flow is followed
CORNERS = 12  # of one object
FEWEST = 4  # corners that must come home
HOME = 0.7  # px of the small picture: so near to where it began a corner is home
SPREAD = 1.5  # px of the small picture: median deviation of one object's corners, at most
SMALLEST = 3  # px of the small picture: the least side of an object that has corners
INNER = 0.6  # of a box's sides: there, and not at its edges, an object without a mask is


class ObjectFlow:
    """Remember the picture before, and tell how far each object has moved since."""

    def __init__(self) -> None:
        self._before: Picture | None = None

    def correct(
        self,
        tracks: TrackTable,
        kalman: KalmanFilter,
        image: Image | None,
        moved: FloatArray,
        covariance: FloatArray,
        step: float,
    ) -> None:
        """Correct predicted tracks, of those that were seen last, by what the picture shows.

        `moved`, (T, 2) px, is how far all were predicted to move: it is corrected too. `covariance`
        is theirs before the prediction over `step` s. Without a picture all stay as predicted.
        """
        if image is None:
            self._before = None
            return
        rows = np.flatnonzero(tracks.source >= 0)
        masks = [tracks.masks[row] for row in rows.tolist()]
        shift, sure = self.measure(image, tracks.box[rows], masks, moved[rows])
        rows, shift = rows[sure], shift[sure]
        tracks.mean[rows], tracks.covariance[rows] = kalman.correct_shift(
            tracks.mean[rows],
            tracks.covariance[rows],
            covariance[rows],
            shift - moved[rows],
            step,
        )
        moved[rows] = shift

    def measure(
        self, image: Image, boxes: FloatArray, masks: Sequence[Mask | None], guess: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """Return the objects' shifts since the picture before, (N, 2) px, and which are sure, (N,).

        `boxes`, (N, 4), and `masks` say where they were then; `guess`, (N, 2) px, how far they
        should have moved.
        """
        scale = max(1.0, image.shape[1] / WIDTH)
        before, now = self._before, shrink(image, scale)
        self._before = now
        shifts, sure = np.zeros((len(boxes), 2)), np.zeros(len(boxes), np.bool_)
        if before is None or before.shape != now.shape or not len(boxes):
            return shifts, sure
        corners = _corners(before, boxes / scale, masks, scale)
        counts = [len(found) for found in corners]
        if not sum(counts):
            return shifts, sure
        owner = np.repeat(np.arange(len(boxes)), counts)
        start = np.concatenate(corners)
        end, home = _there_and_back(before, now, start, (guess / scale)[owner])
        moved = (end - start).astype(np.float64)
        for row, count in enumerate(counts):
            mine = moved[(owner == row) & home]
            if len(mine) < max(FEWEST, count / 2):
                continue
            middle = np.median(mine, axis=0)
            sure[row] = np.median(np.abs(mine - middle), axis=0).max() <= SPREAD
            shifts[row] = middle * scale
        return shifts, sure

    def state(self) -> PictureState | None:
        """Return all that `restore` needs."""
        return picture_state(self._before)

    def restore(self, state: PictureState | None) -> None:
        """Continue exactly where `state` was taken."""
        self._before = picture_from(state)


def _corners(
    picture: Picture, boxes: FloatArray, masks: Sequence[Mask | None], scale: float
) -> list[npt.NDArray[np.float32]]:
    """Return of each object points that are easy to follow, (K, 2) px of the small picture.

    Where objects overlap nobody knows whose the pixels are: no points there.
    """
    height, width = picture.shape
    windows = []
    cover = np.zeros(picture.shape, np.uint8)
    for box, mask in zip(boxes, masks, strict=True):
        inside, x, y = _inside(box, mask, scale)
        x1, y1 = max(x, 0), max(y, 0)
        x2 = max(min(x + inside.shape[1], width), x1)
        y2 = max(min(y + inside.shape[0], height), y1)
        inside = inside[y1 - y : y2 - y, x1 - x : x2 - x]
        windows.append((x1, y1, x2, y2, inside))
        cover[y1:y2, x1:x2] += inside
    corners = []
    for x1, y1, x2, y2, inside in windows:
        found = None
        if min(inside.shape) >= SMALLEST:
            found = cv2.goodFeaturesToTrack(
                picture[y1:y2, x1:x2],
                maxCorners=CORNERS,
                qualityLevel=0.05,
                minDistance=3,
                mask=inside * (cover[y1:y2, x1:x2] < 2),
            )
        points = np.zeros((0, 2)) if found is None else found[:, 0] + np.array([x1, y1])
        corners.append(points.astype(np.float32))
    return corners


def _inside(box: FloatArray, mask: Mask | None, scale: float) -> tuple[Picture, int, int]:
    """Return which pixels are the object's, and where in the small picture they begin."""
    if mask is None or not mask.bits.size:
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * INNER
        x1, y1, x2, y2 = np.rint(np.concatenate([centre - half, centre + half])).astype(int)
        return np.ones((max(y2 - y1, 0), max(x2 - x1, 0)), np.uint8), int(x1), int(y1)
    bits = mask.bits.view(np.uint8)
    if scale > 1:
        size = (max(1, round(bits.shape[1] / scale)), max(1, round(bits.shape[0] / scale)))
        bits = np.asarray(cv2.resize(bits, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    return bits, round(mask.x / scale), round(mask.y / scale)


def _there_and_back(
    before: Picture, now: Picture, start: npt.NDArray[np.float32], guess: FloatArray
) -> tuple[npt.NDArray[np.float32], BoolArray]:
    """Return where the points are in the picture `now`, (K, 2), and which ones come home, (K,)."""
    window: Any = {"winSize": (11, 11), "maxLevel": 2, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
    step = guess.astype(np.float32)
    end, there, _ = cv2.calcOpticalFlowPyrLK(before, now, start, start + step, **window)
    back, again, _ = cv2.calcOpticalFlowPyrLK(now, before, end, end - step, **window)
    home = (there[:, 0] == 1) & (again[:, 0] == 1)
    home &= np.abs(back - start).max(axis=1) <= HOME
    return np.asarray(end, np.float32), home
