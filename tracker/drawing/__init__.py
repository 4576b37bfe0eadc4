"""Paint tracks, lines and counts on a frame."""

from __future__ import annotations

import colorsys
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from tracker.config import OutputConfig
from tracker.masks import Mask
from tracker.snapshot import TrailState
from tracker.types import FrameResult, Image, LineCount, Tracks

Color = tuple[int, int, int]
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MASK_OPACITY = 0.45
_GOLDEN_RATIO = 0.6180339887498949
_LINE_COLOR: Color = (255, 214, 10)
_INK: Color = (245, 245, 245)
_PANEL_LINES = 12
_TRAIL_SMOOTHING_S = 0.25


def color_of(id_: int) -> Color:
    """Return the RGB colour of an id: the same in every run, far from its neighbours'.

    The golden ratio spreads hues evenly however many ids there are; three levels of brightness
    keep apart the ids whose hues are close.
    """
    hue = (id_ * _GOLDEN_RATIO) % 1.0
    value, saturation = ((1.0, 0.85), (0.8, 0.95), (1.0, 0.55))[id_ % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


class Annotator:
    """Draw results on copies of their frames; keeps the short trail behind each object."""

    def __init__(self, categories: Sequence[str], config: OutputConfig | None = None) -> None:
        self._categories = categories
        self._config = config or OutputConfig()
        self._size: tuple[int, int] | None = None  # px, of the latest frame
        self._trails: dict[int, deque[tuple[float, float, float]]] = {}  # id -> time, x, y

    def draw(
        self,
        result: FrameResult,
        *,
        unique: Mapping[str, int] | None = None,
        lines: Sequence[LineCount] = (),
    ) -> Image:
        """Return an annotated copy: masks, boxes, labels, trails, lines, and the counts panel.

        `unique` and `lines` stand on it instead of what was counted.
        """
        if result.counts is not None:
            counted = {self._categories[label]: n for label, n in result.counts.unique.items()}
            lines = lines or result.counts.lines
            unique = counted if unique is None else unique
        image = result.frame.image.copy()
        tracks, pen = result.tracks, _Pen(image)
        colors = list(map(color_of, tracks.ids.tolist()))
        if self._config.masks:
            pen.masks(tracks, colors)
        self._extend_trails(result)
        for id_, color in zip(tracks.ids.tolist(), colors, strict=True):
            pen.path(self._trails.get(id_, ()), color)
        if self._config.boxes:
            pen.boxes(tracks, colors)
        for line in lines:
            pen.line(line)
        if self._config.panel:
            pen.panel(self._panel_lines(result, unique or {}, lines))
        if self._config.labels:
            self._label(pen, tracks, colors)
        return image

    def _label(self, pen: _Pen, tracks: Tracks, colors: Sequence[Color]) -> None:
        for row in np.argsort(tracks.boxes[:, 3], kind="stable").tolist():  # near ones on top
            name = self._categories[int(tracks.labels[row])]
            text = f"#{tracks.ids[row]} {name} {tracks.scores[row]:.2f}"
            pen.label(text, tracks.boxes[row], colors[row])

    def state(self) -> tuple[tuple[TrailState, ...], tuple[int, int] | None]:
        """Return the trails and the size of their frames, px: all that `restore` needs."""
        trails = (TrailState(id=id_, points=tuple(trail)) for id_, trail in self._trails.items())
        return tuple(trails), self._size

    def restore(self, trails: Sequence[TrailState], size: tuple[int, int] | None) -> None:
        """Continue exactly where the state was taken."""
        self._size = size
        self._trails = {trail.id: deque(trail.points) for trail in trails}

    def _extend_trails(self, result: FrameResult) -> None:
        now, tracks = result.frame.time, result.tracks
        if self._size != (size := (result.frame.width, result.frame.height)):
            self._trails.clear()
            self._size = size
        for id_, box in zip(tracks.ids.tolist(), tracks.boxes, strict=True):
            trail = self._trails.setdefault(id_, deque())
            x, y = float(box[0] + box[2]) / 2, float(box[3])
            if trail:  # feet that hide and show again must not throw the path about
                before, last_x, last_y = trail[-1]
                share = 1 - np.exp((before - now) / _TRAIL_SMOOTHING_S)
                x, y = last_x + share * (x - last_x), last_y + share * (y - last_y)
            trail.append((now, x, y))
        for id_, trail in list(self._trails.items()):
            while trail and now - trail[0][0] > self._config.trail_s:
                trail.popleft()
            if not trail:
                del self._trails[id_]

    def _panel_lines(
        self, result: FrameResult, unique: Mapping[str, int], lines: Sequence[LineCount]
    ) -> list[str]:
        minutes, seconds = divmod(result.frame.time, 60)
        text = [f"{int(minutes):02d}:{seconds:05.2f}  frame {result.frame.index}"]
        present: dict[str, int] = {}
        for label in result.tracks.labels.tolist():
            name = self._categories[label]
            present[name] = present.get(name, 0) + 1
        ranked = sorted(unique, key=lambda name: (-unique[name], name))
        text += [f"{name}: {present.get(name, 0)} now, {unique[name]} in all" for name in ranked]
        text += [f"{line.name}: {line.entered} in, {line.left} out" for line in lines]
        if len(text) > _PANEL_LINES:
            text = [*text[: _PANEL_LINES - 1], f"and {len(text) - _PANEL_LINES + 1} more"]
        return text


class _Pen:
    """Draws on one picture with strokes and letters that fit its size."""

    def __init__(self, image: Image) -> None:
        self._image = image
        height, width = image.shape[:2]
        size = min(height, width * 9 / 16)
        self.thickness = max(1, round(size / 400))
        self._scale = max(0.38, size / 1250)
        self._stroke = max(1, round(size / 900))
        self._labels: list[tuple[int, int, int, int]] = []  # xyxy px of those drawn so far

    def masks(self, tracks: Tracks, colors: Sequence[Color]) -> None:
        for mask, color in zip(tracks.masks, colors, strict=True):
            if mask is not None:
                _blend(self._image, mask, color, self.thickness)

    def path(self, trail: Collection[tuple[float, float, float]], color: Color) -> None:
        if len(trail) > 1:
            points = [(round(x), round(y)) for _, x, y in trail]
            line = np.array(points, np.int32).reshape(-1, 1, 2)
            cv2.polylines(self._image, [line], False, color, self.thickness, cv2.LINE_AA)

    def boxes(self, tracks: Tracks, colors: Sequence[Color]) -> None:
        rows = zip(tracks.boxes, tracks.observed, tracks.masks, colors, strict=True)
        for box, seen, mask, color in rows:  # one carried with its mask is not guessed
            self.box(box, color, dashed=not seen and mask is None)

    def box(self, box: npt.NDArray[np.float32], color: Color, *, dashed: bool) -> None:
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        if not dashed:
            cv2.rectangle(self._image, (x1, y1), (x2, y2), color, self.thickness)
            return
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
        for (ax, ay), (bx, by) in pairwise(corners):
            steps = max(1, round(float(np.hypot(bx - ax, by - ay)) / (8 * self.thickness)))
            for k in range(0, steps, 2):
                start = (ax + (bx - ax) * k // steps, ay + (by - ay) * k // steps)
                end = (ax + (bx - ax) * (k + 1) // steps, ay + (by - ay) * (k + 1) // steps)
                cv2.line(self._image, start, end, color, self.thickness)

    def label(self, text: str, box: npt.NDArray[np.float32], color: Color) -> None:
        width, height, baseline = self._measure(text)
        pad = max(2, height // 4)
        width, tall = width + 2 * pad, height + baseline + 2 * pad
        x, top = self._place(box, width, tall)
        self._labels.append((x, top, x + width, top + tall))
        cv2.rectangle(self._image, (x, top), (x + width, top + tall), color, cv2.FILLED)
        bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
        ink = (0, 0, 0) if bright else (255, 255, 255)
        self._write(text, (x + pad, top + pad + height), ink)

    def _place(self, box: npt.NDArray[np.float32], width: int, height: int) -> tuple[int, int]:
        """Find room for a label near its box that hides no other label, or else the usual place."""
        frame_height, frame_width = self._image.shape[:2]
        x1, y1, _, y2 = (round(float(v)) for v in box)
        x = min(max(0, x1), max(0, frame_width - width))
        above = y1 - height
        tops = [above, above - height, y1, y2 - height, above - 2 * height]
        inside = [top for top in tops if 0 <= top <= frame_height - height]
        for top in inside:
            if not any(
                x < right and left < x + width and top < low and high < top + height
                for left, high, right, low in self._labels
            ):
                return x, top
        return x, inside[0] if inside else max(0, min(y1, frame_height - height))

    def line(self, line: LineCount) -> None:
        (x1, y1), (x2, y2) = line.start, line.end
        start, end = (round(x1), round(y1)), (round(x2), round(y2))
        cv2.line(self._image, start, end, _LINE_COLOR, self.thickness + 1, cv2.LINE_AA)
        length = max(float(np.hypot(x2 - x1, y2 - y1)), 1e-6)
        reach = max(12.0, min(length / 4, 40.0 * self._scale * 2))
        middle = ((x1 + x2) / 2, (y1 + y2) / 2)  # the arrow points to the side that is "in"
        tip = (middle[0] - (y2 - y1) / length * reach, middle[1] + (x2 - x1) / length * reach)
        cv2.arrowedLine(
            self._image,
            (round(middle[0]), round(middle[1])),
            (round(tip[0]), round(tip[1])),
            _LINE_COLOR,
            self.thickness + 1,
            cv2.LINE_AA,
            tipLength=0.35,
        )
        text = f"{line.name}: {line.entered} in, {line.left} out"
        at = np.array([x1, y1, x2, y2], np.float32)
        self.label(text, np.minimum(at, at[[2, 3, 0, 1]]), _LINE_COLOR)

    def panel(self, lines: list[str]) -> None:
        sizes = [self._measure(text) for text in lines]
        pad = max(4, sizes[0][1] // 2)
        step = max(height + baseline for _, height, baseline in sizes) + pad // 2
        width = min(max(w for w, _, _ in sizes) + 2 * pad, self._image.shape[1])
        height = min(step * len(lines) + 2 * pad, self._image.shape[0])
        corner = self._image[:height, :width]
        corner[:] = (corner * 0.35).astype(np.uint8)  # dark glass: the scene stays visible
        for k, text in enumerate(lines):
            self._write(text, (pad, pad + k * step + sizes[k][1]), _INK)

    def _measure(self, text: str) -> tuple[int, int, int]:
        (width, height), baseline = cv2.getTextSize(text, _FONT, self._scale, self._stroke)
        return int(width), int(height), int(baseline)

    def _write(self, text: str, origin: tuple[int, int], color: Color) -> None:
        cv2.putText(self._image, text, origin, _FONT, self._scale, color, self._stroke, cv2.LINE_AA)


def _blend(image: Image, mask: Mask, color: Color, thickness: int) -> None:
    """Tint the mask's pixels and draw its outline; only the crop is touched."""
    mask = mask.clipped(image.shape[1], image.shape[0])
    if not mask.bits.size:
        return
    x1, y1, x2, y2 = mask.box
    crop = image[y1:y2, x1:x2]
    tint = np.array(color, np.float32) * _MASK_OPACITY
    crop[mask.bits] = (crop[mask.bits] * (1 - _MASK_OPACITY) + tint).astype(np.uint8)
    outline, _ = cv2.findContours(
        mask.bits.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(
        image, outline, -1, color, max(1, thickness // 2), cv2.LINE_AA, offset=(x1, y1)
    )
