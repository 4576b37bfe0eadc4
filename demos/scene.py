"""Scripted scenes of textured moving objects with exact masks and ids: a demo and an oracle.

Objects follow a path, hide each other by depth, leave and return, and keep their id for ever. What
an object shows of itself is its mask; one that shows less than `Scene.visible` of itself is hidden:
it is neither in the truth nor detected.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tracker.masks import Mask
from tracker.types import Detections, Frame, Image, SourceReport, StreamInfo, Tracks
from tracker.video.writer import VideoWriter

CATEGORIES = ("__background__", "person", "car", "dog")
Path2D = Callable[[float], tuple[float, float] | None]  # time, s -> centre, px; None = not there


@dataclass(frozen=True)
class Actor:
    """One object: label 0 is scenery that hides others and is never detected itself."""

    id: int
    label: int
    width: int  # px
    height: int  # px
    path: Path2D
    depth: float = 0.0  # larger is nearer and hides the others
    shape: str = "person"  # or "car", "dog", "box"


@dataclass(frozen=True)
class Scene:
    """Actors on a textured ground, seen at given times."""

    name: str
    width: int
    height: int
    times: tuple[float, ...]  # s
    actors: tuple[Actor, ...]
    visible: float = 0.4  # share of its pixels that an object must show
    zoom: tuple[int, int] | None = None  # from this frame on, pictures are so many times larger

    def scale(self, index: int) -> int:
        """Return how many times larger than the scene this frame is."""
        return self.zoom[1] if self.zoom and index >= self.zoom[0] else 1

    def image(self, index: int) -> Image:
        """Render one frame."""
        picture, scale = self._paint(index), self.scale(index)
        return picture.repeat(scale, axis=0).repeat(scale, axis=1)

    def _paint(self, index: int) -> Image:
        image = _ground(self.width, self.height).copy()
        for actor in sorted(self.actors, key=lambda a: a.depth):
            mask = self._outline(actor, index)
            if mask is None:
                continue
            x1, y1, x2, y2 = mask.box
            skin = _skin(actor.width, actor.height, actor.id, _color(actor))
            whole_x, whole_y = self._corner(actor, index)
            part = skin[y1 - whole_y : y2 - whole_y, x1 - whole_x : x2 - whole_x]
            image[y1:y2, x1:x2][mask.bits] = part[mask.bits]
        return image

    def truth(self, index: int) -> Tracks:
        """Return the visible objects of one frame with their visible masks."""
        in_front: list[Mask] = []
        found: list[tuple[Actor, Mask]] = []
        for actor in sorted(self.actors, key=lambda a: -a.depth):
            whole = self._outline(actor, index)
            if whole is None:
                continue
            bits = whole.bits.copy()
            for other in in_front:
                _cut(bits, whole, other)
            in_front.append(whole)
            seen = Mask(whole.x, whole.y, bits).tight()
            full = _outline(actor.width, actor.height, actor.shape).sum()
            if actor.label and seen.area >= self.visible * full:
                found.append((actor, seen))
        found.sort(key=lambda item: item[0].id)
        scale = self.scale(index)
        found = [(actor, _enlarged(mask, scale)) for actor, mask in found]
        boxes = np.array([mask.box for _, mask in found], np.float32).reshape(-1, 4)
        return Tracks(
            ids=np.array([actor.id for actor, _ in found], np.int64),
            boxes=boxes,
            scores=np.ones(len(found), np.float32),
            labels=np.array([actor.label for actor, _ in found], np.int64),
            masks=tuple(mask for _, mask in found),
            sources=np.arange(len(found), dtype=np.int64),
        )

    def write_video(self, path: Path) -> None:
        """Encode the scene as H.264 with exactly its times."""
        writer = VideoWriter(path, self.width, self.height, crf=20)
        for index, time in enumerate(self.times):
            writer.write(self.image(index), time)
        writer.close()

    def _outline(self, actor: Actor, index: int) -> Mask | None:
        if actor.path(self.times[index]) is None:
            return None
        x, y = self._corner(actor, index)
        mask = Mask(x, y, _outline(actor.width, actor.height, actor.shape))
        mask = mask.clipped(self.width, self.height)
        return mask if mask.bits.size and mask.bits.any() else None

    def _corner(self, actor: Actor, index: int) -> tuple[int, int]:
        x, y = actor.path(self.times[index]) or (0.0, 0.0)
        return round(x - actor.width / 2), round(y - actor.height / 2)


class SceneSource:
    """Give a scene's frames without a file."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.info = StreamInfo(scene.width, scene.height, None, len(scene.times))
        self.report = SourceReport()

    def __iter__(self) -> Iterator[Frame]:
        for index, time in enumerate(self._scene.times):
            self.report.frames += 1
            yield Frame(index, time, self._scene.image(index))

    def close(self) -> None:
        """Do nothing."""


class SceneDetector:
    """A detector stub: reads a scene's truth by frame number and adds a real detector's faults.

    `noise` moves box edges (share of the size), `miss` drops objects, `clutter` adds false boxes a
    frame; hidden parts lower the score. With all at 0 it is perfect. The same frame always gives
    the same answer.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        noise: float = 0.0,
        miss: float = 0.0,
        clutter: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._scene, self._seed = scene, seed
        self._noise, self._miss, self._clutter = noise, miss, clutter
        self.categories: Sequence[str] = CATEGORIES

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one Detections per frame."""
        return [self._detect(frame.index) for frame in frames]

    def _detect(self, index: int) -> Detections:
        random = np.random.default_rng((self._seed, index))
        truth = self._scene.truth(index)
        rows: list[tuple[float, npt.NDArray[np.float32], int, Mask]] = []
        for k in range(len(truth)):
            box, mask = truth.boxes[k], truth.masks[k]
            if mask is None or random.random() < self._miss:
                continue
            size = np.tile(box[2:] - box[:2], 2)
            moved = box + (random.normal(0, 1, 4) * self._noise * size).astype(np.float32)
            if self._noise:
                dx, dy = ((moved - box)[:2] + (moved - box)[2:]) / 2
                mask = mask.moved(round(float(dx)), round(float(dy)))
            score = 1.0 if not self._noise else float(random.uniform(0.75, 0.98))
            rows.append((score, moved, int(truth.labels[k]), mask))
        for _ in range(random.poisson(self._clutter)):
            w, h = random.integers(20, 60, 2)
            x = int(random.integers(0, self._scene.width - w))
            y = int(random.integers(0, self._scene.height - h))
            box = np.array([x, y, x + w, y + h], np.float32)
            mask = Mask(x, y, _outline(int(w), int(h), "person"))
            rows.append((float(random.uniform(0.1, 0.6)), box, 1, mask))
        return as_detections(rows)


def as_detections(
    rows: Sequence[tuple[float, npt.NDArray[np.float32], int, Mask]],
) -> Detections:
    """Return detections of (score, box, label, mask), by descending score."""
    rows = sorted(rows, key=lambda row: -row[0])
    return Detections(
        boxes=np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[0] for row in rows], np.float32),
        labels=np.array([row[2] for row in rows], np.int64),
        masks=tuple(row[3] for row in rows),
    )


# ---- scenes ---------------------------------------------------------------------------------


def line(x1: float, y1: float, x2: float, y2: float, start: float, end: float) -> Path2D:
    """Walk straight from one point to another between two times; absent before and after."""

    def path(time: float) -> tuple[float, float] | None:
        if not start <= time <= end:
            return None
        share = (time - start) / (end - start)
        return x1 + share * (x2 - x1), y1 + share * (y2 - y1)

    return path


def still(x: float, y: float) -> Path2D:
    """Stand for ever."""
    return lambda _: (x, y)


def steady(seconds: float, fps: float) -> tuple[float, ...]:
    """Return evenly spaced times."""
    return tuple(k / fps for k in range(round(seconds * fps)))


def crossing(fps: float = 25.0) -> Scene:
    """Two people walk through each other's paths; the nearer hides the farther for a moment."""
    return Scene(
        "crossing",
        480,
        270,
        steady(4.0, fps),
        (
            Actor(1, 1, 40, 90, line(40, 130, 440, 150, 0, 4.0), depth=1),
            Actor(2, 1, 36, 84, line(440, 140, 40, 140, 0, 4.0), depth=0),
        ),
    )


def occlusion(fps: float = 25.0) -> Scene:
    """A person walks behind a pillar and is hidden for about a second."""
    return Scene(
        "occlusion",
        640,
        270,
        steady(5.6, fps),
        (
            Actor(1, 1, 40, 96, line(30, 140, 610, 140, 0, 5.6)),
            Actor(2, 0, 120, 250, still(320, 135), depth=9, shape="box"),
            Actor(3, 1, 36, 90, line(80, 150, 200, 160, 0, 5.6)),
        ),
    )


def leave_and_return(fps: float = 25.0) -> Scene:
    """A car stays, a person leaves the picture and comes back a second later."""

    def path(time: float) -> tuple[float, float] | None:
        return 200 + 140 * (time if time < 2.6 else 5.2 - time), 150.0

    return Scene(
        "leave_and_return",
        480,
        270,
        steady(5.2, fps),
        (Actor(1, 1, 40, 90, path), Actor(2, 2, 110, 50, still(110, 210), shape="car")),
    )


def crowd(count: int = 12, seconds: float = 6.0, fps: float = 25.0, seed: int = 1) -> Scene:
    """Many people on smooth paths of their own, near ones in front of far ones."""
    random = np.random.default_rng(seed)
    actors = []
    for k in range(count):
        x, y, dx, dy = random.uniform((60, 90, -45, -12), (580, 270, 45, 12))
        wave, phase = random.uniform(6, 20), random.uniform(0, 6)
        scale = 0.6 + y / 400

        def path(
            t: float,
            x: float = x,
            y: float = y,
            dx: float = dx,
            dy: float = dy,
            wave: float = wave,
            phase: float = phase,
        ) -> tuple[float, float]:
            px = _bounce(x + dx * t + wave * math.sin(t + phase), 30, 610)
            return px, _bounce(y + dy * t, 80, 290)

        actors.append(Actor(k + 1, 1, round(30 * scale), round(70 * scale), path, depth=y))
    return Scene("crowd", 640, 360, steady(seconds, fps), tuple(actors))


def uneven_times(seed: int = 3) -> Scene:
    """The crossing, seen at a variable frame rate: 12 to 50 frames a second and a pause."""
    random = np.random.default_rng(seed)
    times, time = [], 0.0
    while time <= 4.0:
        times.append(round(time, 3))
        time += float(random.uniform(0.02, 0.08)) + (0.3 if len(times) == 20 else 0.0)
    scene = crossing()
    return Scene("uneven_times", scene.width, scene.height, tuple(times), scene.actors)


def size_change(fps: float = 25.0) -> Scene:
    """The crossing, but the camera switches to twice the resolution in the middle."""
    scene = crossing(fps)
    return replace(scene, name="size_change", zoom=(len(scene.times) // 2, 2))


def street(seconds: float = 12.0, fps: float = 25.0) -> Scene:
    """People, cars and a dog pass, meet, and hide behind a lamp post: for the demo."""
    actors = [
        Actor(1, 2, 130, 60, line(-70, 290, 720, 290, 0.0, 5.0), depth=5, shape="car"),
        Actor(2, 2, 120, 56, line(720, 245, -70, 245, 2.0, 9.0), depth=3, shape="car"),
        Actor(3, 1, 34, 84, line(-20, 170, 660, 180, 0.5, 11.5), depth=1),
        Actor(4, 1, 32, 80, line(660, 165, -20, 175, 1.0, 11.0), depth=0.5),
        Actor(5, 1, 36, 88, line(120, 400, 180, 120, 3.0, 11.5), depth=6),
        Actor(6, 3, 44, 30, line(60, 340, 660, 215, 4.0, 11.0), depth=7, shape="dog"),
        Actor(7, 1, 33, 82, line(430, 110, 460, 400, 0.0, 8.0), depth=4),
        Actor(8, 0, 16, 220, still(215, 120), depth=20, shape="box"),
    ]
    return Scene("street", 640, 360, steady(seconds, fps), tuple(actors))


def random_street(seed: int, seconds: float = 6.0, fps: float = 10.0) -> Scene:
    """People, cars and a few dogs of random sizes on random ways: to train and test models."""
    random = np.random.default_rng(seed)
    width, height = [(640, 360), (480, 270), (640, 480)][seed % 3]
    actors = []
    for k in range(int(random.integers(4, 14))):
        label = int(random.choice([1, 2, 3], p=[0.6, 0.33, 0.07]))
        size = float(random.uniform(0.08, 0.4) if label == 1 else random.uniform(0.08, 0.25))
        tall = size * height
        ratio = {1: 0.4, 2: 2.15, 3: 1.45}[label] * random.uniform(0.85, 1.15)
        start, end = random.uniform((0.0, 0.25), (1.0, 0.95), (2, 2)) * (width, height)
        way = line(*start.tolist(), *end.tolist(), 0.0, seconds)
        shape = CATEGORIES[label]
        number = int(random.integers(1, 100_000)) * 20 + k  # also its colours
        actors.append(Actor(number, label, round(tall * ratio), round(tall), way, k, shape))
    pillar = Actor(
        0, 0, int(random.integers(8, 30)), height, still(width * 0.4, height / 2), 99, "box"
    )
    return Scene(f"random_street_{seed}", width, height, steady(seconds, fps), (*actors, pillar))


# ---- drawing --------------------------------------------------------------------------------


def _bounce(value: float, low: float, high: float) -> float:
    span = high - low
    folded = (value - low) % (2 * span)
    return low + (folded if folded <= span else 2 * span - folded)


def _enlarged(mask: Mask, scale: int) -> Mask:
    bits = mask.bits.repeat(scale, axis=0).repeat(scale, axis=1)
    return Mask(mask.x * scale, mask.y * scale, bits)


def _cut(bits: npt.NDArray[np.bool_], mask: Mask, other: Mask) -> None:
    x1, y1, x2, y2 = mask.box
    ox1, oy1, ox2, oy2 = other.box
    left, top, right, bottom = max(x1, ox1), max(y1, oy1), min(x2, ox2), min(y2, oy2)
    if left < right and top < bottom:
        hidden = other.bits[top - oy1 : bottom - oy1, left - ox1 : right - ox1]
        bits[top - y1 : bottom - y1, left - x1 : right - x1] &= ~hidden


def _color(actor: Actor) -> tuple[int, int, int]:
    if actor.label == 0:
        return 52, 52, 56
    random = np.random.default_rng(actor.id + 20)
    r, g, b = colorsys.hsv_to_rgb(random.random(), 0.35 + 0.4 * random.random(), 0.85)
    return round(r * 255), round(g * 255), round(b * 255)


@lru_cache(maxsize=256)
def _outline(width: int, height: int, shape: str) -> npt.NDArray[np.bool_]:
    """Draw a silhouette that touches all four sides of its window."""
    y, x = np.mgrid[:height, :width]
    u, v = (x + 0.5) / width, (y + 0.5) / height  # 0 to 1 across the window

    def oval(cu: float, cv: float, ru: float, rv: float) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = ((u - cu) / ru) ** 2 + ((v - cv) / rv) ** 2 <= 1
        return inside

    if shape == "person":
        head = oval(0.5, 0.1, 0.1 * height / width, 0.1)
        legs = (v > 0.55) & (np.abs(np.abs(u - 0.5) - 0.18) < 0.14)
        return head | oval(0.5, 0.42, 0.5, 0.25) | legs
    if shape == "car":
        body = (v > 0.4) & (v < 0.85)
        cabin = (v <= 0.4) & (np.abs(u - 0.5) < 0.2 + 0.3 * v)
        return body | cabin | oval(0.2, 0.82, 0.1, 0.18) | oval(0.8, 0.82, 0.1, 0.18)
    if shape == "dog":
        legs = (v > 0.5) & ((np.abs(u - 0.2) < 0.06) | (np.abs(u - 0.75) < 0.06))
        return oval(0.45, 0.45, 0.45, 0.25) | oval(0.85, 0.25, 0.15, 0.25) | legs
    return np.ones((height, width), np.bool_)


@lru_cache(maxsize=256)
def _skin(width: int, height: int, seed: int, color: tuple[int, int, int]) -> Image:
    """Paint a coarse pattern, darker towards the foot, so that no two objects look alike."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 16, (height // 8 + 2, width // 8 + 2, 1))
    pattern = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
    shade = np.linspace(20, -30, height)[:, None, None]
    return np.clip(np.array(color) + pattern + shade, 0, 255).astype(np.uint8)


@lru_cache(maxsize=8)
def _ground(width: int, height: int) -> Image:
    """Paint a wall, a pavement and a road with a dashed line."""
    image = np.zeros((height, width, 3), np.float64)
    wall, kerb = round(height * 0.3), round(height * 0.55)
    image[:wall], image[wall:kerb], image[kerb:] = (74, 70, 66), (104, 106, 104), (58, 60, 64)
    image[kerb : kerb + 3] = (140, 140, 136)
    middle = round(height * 0.78)
    for x in range(0, width, 60):
        image[middle : middle + 3, x : x + 30] = (150, 150, 140)
    grain = np.random.default_rng(0).normal(0, 2.5, (height, width, 1))
    return np.clip(image + grain, 0, 255).astype(np.uint8)
