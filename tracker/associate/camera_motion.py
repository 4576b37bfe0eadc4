"""How the camera moved between two frames, from the background's flow.

Corners of the background, with the objects left out, are followed from frame to frame on a small
grey picture (Lucas-Kanade); a similarity transform explains most of them (RANSAC). A camera that
has stood still for a while is looked at only now and then, and when its picture changes at large.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tracker.associate.track_table import rows_of
from tracker.snapshot import CameraState, PictureState
from tracker.types import Image

FloatArray = npt.NDArray[np.float64]

SMALL_WIDTH = 320  # px, of the picture in which the flow is followed
CORNERS = 120
FEWEST = 12  # corners that must agree
STILL = 0.15  # px of the small picture: less than this is the noise of a camera that stands
STILL_FRAMES = 15  # after so many, only every LOOK_EVERY-th is looked at
LOOK_EVERY = 4
CHANGE = 1.5  # times the usual difference of two pictures, and a grey level: the camera moves


class CameraMotion:
    """Follow the background of one video."""

    def __init__(self) -> None:
        self._before: npt.NDArray[np.uint8] | None = None
        self._objects: FloatArray = np.zeros((0, 4))  # where they were then, small px
        self._still = 0  # frames in a row without motion
        self._skipped = 0  # frames since the last look
        self._change = 0.0  # mean difference of two pictures while the camera stands, grey levels

    def update(self, image: Image, boxes: npt.NDArray[Any]) -> FloatArray | None:
        """Return the motion from the frame before to this one, or None for none.

        `boxes`, (N, 4), are this frame's objects. The motion is a similarity transform (2, 3): a
        point p, px, of the earlier frame lies at M @ (p, 1) in this one.
        """
        scale = max(1.0, image.shape[1] / SMALL_WIDTH)
        small = shrink(image, scale)
        before, objects = self._before, self._objects
        self._before, self._objects = small, np.asarray(boxes, np.float64) / scale
        if before is None or before.shape != small.shape:
            return None
        change = float(cv2.absdiff(before, small).mean())
        calm = change <= CHANGE * self._change + 1
        if self._still >= STILL_FRAMES and calm and self._skipped + 1 < LOOK_EVERY:
            self._skipped += 1
            return None
        self._skipped = 0
        motion = _follow(before, small, objects)
        if motion is None:
            return None
        corners = np.array([[0, 0], [small.shape[1], 0], [0, small.shape[0]]], np.float64)
        moved = corners @ motion[:, :2].T + motion[:, 2] - corners
        if np.abs(moved).max() < STILL:
            self._still += 1
            self._change += (change - self._change) / min(self._still, STILL_FRAMES)
            return None
        self._still = 0
        motion[:, 2] *= scale
        return np.round(motion, 6)

    def state(self) -> CameraState:
        """Return all that `restore` needs."""
        return CameraState(
            picture=picture_state(self._before),
            objects=rows_of(self._objects),
            still=self._still,
            skipped=self._skipped,
            change=self._change,
        )

    def restore(self, state: CameraState) -> None:
        """Continue exactly where `state` was taken."""
        self._before = picture_from(state.picture)
        self._objects = np.array(state.objects, np.float64).reshape(-1, 4)
        self._still, self._skipped, self._change = state.still, state.skipped, state.change


def shrink(image: Image, scale: float) -> npt.NDArray[np.uint8]:
    """Return a small picture of the green, nearest to grey; of a large one few pixels are read."""
    step = max(1, int(scale // 2))
    size = (round(image.shape[1] / scale), max(1, round(image.shape[0] / scale)))
    green = np.ascontiguousarray(image[::step, ::step, 1])
    return np.asarray(cv2.resize(green, size, interpolation=cv2.INTER_AREA), np.uint8)


def picture_state(picture: npt.NDArray[np.uint8] | None) -> PictureState | None:
    """Return a small grey picture as it is remembered."""
    if picture is None:
        return None
    packed = base64.b64encode(zlib.compress(picture.tobytes(), 1)).decode("ascii")
    return PictureState(width=picture.shape[1], height=picture.shape[0], zlib=packed)


def picture_from(state: PictureState | None) -> npt.NDArray[np.uint8] | None:
    """Return the picture that `picture_state` was given."""
    if state is None:
        return None
    data = zlib.decompress(base64.b64decode(state.zlib))
    return np.frombuffer(data, np.uint8).reshape(state.height, state.width)


def _follow(
    before: npt.NDArray[np.uint8], now: npt.NDArray[np.uint8], objects: FloatArray
) -> FloatArray | None:
    """Return the similarity transform (2, 3) of the background, small px; None if it is unsure."""
    background = np.full(before.shape, 255, np.uint8)
    for x1, y1, x2, y2 in np.rint(objects).astype(int).tolist():
        background[max(y1 - 2, 0) : max(y2 + 2, 0), max(x1 - 2, 0) : max(x2 + 2, 0)] = 0
    corners = cv2.goodFeaturesToTrack(
        before, maxCorners=CORNERS, qualityLevel=0.01, minDistance=6, mask=background
    )
    if corners is None or len(corners) < FEWEST:
        return None
    window: Any = {"winSize": (11, 11), "maxLevel": 3}
    # OpenCV's stubs want an array where None asks for a new one.
    found, ok, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None, **window)  # type: ignore[call-overload]
    good = ok[:, 0] == 1
    if good.sum() < FEWEST:
        return None
    motion, inliers = cv2.estimateAffinePartial2D(
        corners[good], found[good], method=cv2.RANSAC, ransacReprojThreshold=1.0
    )
    if motion is None or inliers.sum() < max(FEWEST, 0.5 * good.sum()):
        return None
    size = float(np.hypot(motion[0, 0], motion[1, 0]))
    return np.asarray(motion, np.float64) if 0.5 < size < 2 else None
