"""Paint the moment of an event: the object, its surroundings and the line; and sheets of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tracker.drawing import color_of
from tracker.masks import Mask
from tracker.types import Image
from tracker.types.counts import Point

WIDTH, HEIGHT = 480, 360  # px, of the picture above its caption
_CAPTION = 46  # px, its height
_AROUND = 2.4  # times the object's size that is shown
_LEAST = 96.0  # px of the frame that are shown at least
_ARROW = 44  # px
_LINE_COLOR = (255, 214, 10)
_GROUND = 24
_INK = (245, 245, 245)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class Moment:
    """What is shown of an event; px of the frame."""

    id: int
    point: Point  # where it happened
    box: tuple[float, float, float, float] | None  # xyxy; None where the object is not known there
    size: tuple[float, float]  # of the object, about
    mask: Mask | None
    line: tuple[Point, Point] | None  # seen from first to second its right side is in


def draw_moment(image: Image, moment: Moment, caption: Sequence[str]) -> Image:
    """Return a new picture of (HEIGHT + caption, WIDTH): the part of a frame around an event."""
    view = _View(image, moment)
    color = color_of(moment.id)
    if moment.mask is not None:
        view.outline(moment.mask, color)
    elif moment.box is not None:
        view.box(moment.box, color)
    if moment.line is not None:
        view.line(*moment.line, at=moment.point)
    view.dot(moment.point, color)
    return view.captioned(caption)


class _View:
    """The part of a frame that is shown, enlarged to fill the picture."""

    def __init__(self, image: Image, moment: Moment) -> None:
        frame_height, frame_width = image.shape[:2]
        x1, y1, width, height = _window(moment, frame_width, frame_height)
        self._scale = min(WIDTH / width, HEIGHT / height)
        shown = (max(1, round(width * self._scale)), max(1, round(height * self._scale)))
        left, top = (WIDTH - shown[0]) // 2, (HEIGHT - shown[1]) // 2
        self._origin = (x1 - left / self._scale, y1 - top / self._scale)
        self._image = np.full((HEIGHT + _CAPTION, WIDTH, 3), _GROUND, np.uint8)
        how = cv2.INTER_AREA if self._scale < 1 else cv2.INTER_LINEAR
        part = np.ascontiguousarray(image[y1 : y1 + height, x1 : x1 + width])
        resized = cv2.resize(part, shown, interpolation=how)
        self._image[top : top + shown[1], left : left + shown[0]] = resized

    def outline(self, mask: Mask, color: tuple[int, int, int]) -> None:
        found, _ = cv2.findContours(
            mask.bits.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        for contour in found:
            corner = np.array([mask.x + 0.5, mask.y + 0.5])
            self._polygon(contour.reshape(-1, 2).astype(np.float64) + corner, color)

    def box(self, box: tuple[float, float, float, float], color: tuple[int, int, int]) -> None:
        x1, y1, x2, y2 = box
        self._polygon(np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]), color)

    def line(self, start: Point, end: Point, *, at: Point) -> None:
        """Draw a counting line, and at a place on it an arrow to the side that is in."""
        canvas = self._canvas()
        inside, *ends = cv2.clipLine((0, 0, WIDTH, HEIGHT), self._place(start), self._place(end))
        if inside:
            cv2.line(canvas, ends[0], ends[1], _LINE_COLOR, 2, cv2.LINE_AA)
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = max(float(np.hypot(dx, dy)), 1e-6)
        x, y = self._place(at)
        tip = (round(x - dy / length * _ARROW), round(y + dx / length * _ARROW))
        cv2.arrowedLine(canvas, (x, y), tip, _LINE_COLOR, 2, cv2.LINE_AA, tipLength=0.3)
        corner = (tip[0] + 4, tip[1] - 8)
        cv2.rectangle(canvas, corner, (tip[0] + 24, tip[1] + 8), _LINE_COLOR, cv2.FILLED)
        _write(canvas, "in", (tip[0] + 7, tip[1] + 5), (0, 0, 0))

    def dot(self, point: Point, color: tuple[int, int, int]) -> None:
        cv2.circle(self._canvas(), self._place(point), 5, _INK, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(self._canvas(), self._place(point), 4, color, cv2.FILLED, cv2.LINE_AA)

    def captioned(self, caption: Sequence[str]) -> Image:
        self._image[HEIGHT:] = _GROUND
        for number, text in enumerate(caption):
            _write(self._image, text, (8, HEIGHT + 18 + 20 * number), _INK)
        return self._image

    def _canvas(self) -> Image:
        return self._image[:HEIGHT]

    def _polygon(self, points: npt.NDArray[np.float64], color: tuple[int, int, int]) -> None:
        places = ((points - self._origin) * self._scale).round().astype(np.int32)
        cv2.polylines(self._canvas(), [places.reshape(-1, 1, 2)], True, color, 2, cv2.LINE_AA)

    def _place(self, point: Point) -> tuple[int, int]:
        x, y = ((p - o) * self._scale for p, o in zip(point, self._origin, strict=True))
        return round(float(np.clip(x, -1e6, 1e6))), round(float(np.clip(y, -1e6, 1e6)))


class ContactSheet:
    """Pictures of moments side by side, in order, until it is full."""

    COLUMNS, ROWS = 6, 8
    _WIDTH = 240
    _HEIGHT = round(_WIDTH * (HEIGHT + _CAPTION) / WIDTH)

    def __init__(self) -> None:
        shape = (self.ROWS * self._HEIGHT, self.COLUMNS * self._WIDTH, 3)
        self._image = np.full(shape, _GROUND, np.uint8)
        self.pictures = 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room left."""
        return self.pictures == self.COLUMNS * self.ROWS

    def add(self, picture: Image) -> None:
        """Put a picture behind those that are there."""
        row, column = divmod(self.pictures, self.COLUMNS)
        y, x = row * self._HEIGHT, column * self._WIDTH
        size = (self._WIDTH, self._HEIGHT)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        self._image[y : y + self._HEIGHT, x : x + self._WIDTH] = small
        self.pictures += 1

    def image(self) -> Image:
        """Return the sheet as far as it is filled."""
        rows = -(-self.pictures // self.COLUMNS)
        return self._image[: rows * self._HEIGHT]


def _window(moment: Moment, frame_width: int, frame_height: int) -> tuple[int, int, int, int]:
    """Return the part of a frame to show, x, y, width and height in px: object, event, and around.

    Where the frame is large enough it has the picture's shape.
    """
    x1, y1, x2, y2 = moment.box or (*moment.point, *moment.point)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    across = max(moment.size[0] * _AROUND, 2.4 * abs(moment.point[0] - x), _LEAST)
    down = max(moment.size[1] * _AROUND, 2.4 * abs(moment.point[1] - y))
    across = max(across, down * WIDTH / HEIGHT)
    width = min(frame_width, max(1, round(across)))
    height = min(frame_height, max(1, round(across * HEIGHT / WIDTH)))
    left = min(max(0, round(x - width / 2)), frame_width - width)
    top = min(max(0, round(y - height / 2)), frame_height - height)
    return left, top, width, height


def _write(image: Image, text: str, place: tuple[int, int], color: tuple[int, int, int]) -> None:
    cv2.putText(image, text, place, _FONT, 0.5, color, 1, cv2.LINE_AA)
