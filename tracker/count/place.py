"""Where an object stands and how far it moved, whatever hides a part of it.

A box shows what is seen of an object. Where the picture ends, or something stands in front, the box
is cut: its middle moves though the object stands still, or lags behind where it goes. The edge that
nothing cuts tells how far the object moved, its size from before where the rest of it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from tracker.snapshot import ExtentState, PlaceState
from tracker.types.counts import Point

Anchor = Literal["center", "bottom"]
Size = tuple[int, int]  # px, width and height of a frame

BORDER_SHARE = 0.01  # of the picture: a box that ends so close to its border is cut by it
_NEW_SHAPE = 1.15  # times as wide for its height, or as tall for its width: something cuts it
_STAYED_SHARE = 0.25  # of the change: an edge that moved less stayed where it was
_LONGEST_S = 0.5  # between two boxes: after longer ones the object may have turned round
_WHOLE_SHARE = 0.8  # of an object's size that is the whole object again
_USUAL_S = 1.0  # in which a box that grows is believed to show one object
_HEAL_S = 5.0  # in which a box that stays smaller becomes the whole object
_AVERAGE_S = 0.3  # in which the velocity follows
LEAVE_S = 2.0  # who leaves the picture is wholly out of it within this time


class Extent:
    """An object along one axis, px."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high  # of the box
        self.size = high - low  # of the whole object
        self.usual = self.size  # of the box where nothing cuts it, of the last second
        self.offset = 0.0  # from the box's middle to the object's

    @property
    def seen(self) -> float:
        """How much the box shows."""
        return self.high - self.low

    def at(self, share: float) -> float:
        """Return the place below which so much of the whole object lies: 0.5 is its middle."""
        return (self.low + self.high) / 2 + self.offset + (share - 0.5) * self.size

    def cut(self, length: int | None) -> tuple[bool, bool]:
        """Tell whether the borders of the picture, at 0 and at `length`, cut the box."""
        if length is None:
            return False, False
        near = max(1.0, BORDER_SHARE * length)
        return self.low <= near, self.high >= length - near

    def time_beyond(self, speed: float, length: int | None, time: float) -> float | None:
        """Return in how many s the box, at this speed in px/s, is wholly beyond a border.

        None if not in `time` s; one that the border of the picture cuts may take longer.
        """
        if length is None or not speed:
            return None
        needed = max(length - self.low if speed > 0 else self.high, 0.0) / abs(speed)
        return needed if needed <= (LEAVE_S if self.cut(length)[speed > 0] else time) else None

    def follow(self, new: Extent, length: int | None, *, share: float, hides: bool) -> float:
        """Take in the next box and return how far the point at `share` moved, px.

        Where something `hides` a part of the object, an edge that stayed in place tells.
        """
        low, high = new.low - self.low, new.high - self.high
        moved = low + share * (high - low)
        was, now = self.cut(length), new.cut(length)
        self.low, self.high = new.low, new.high
        if now[0] != now[1]:
            self.size = max(self.size, self.seen)
            self.offset = (self.size - self.seen) / 2 * (now[1] - now[0])
            return (high if now[0] else low) if was == now else moved
        stayed = min(low, high, key=abs)
        if hides and abs(stayed) <= _STAYED_SHARE * (low - high):
            self.size = self.size if self.offset else min(self.size, self.usual)
            self.offset += stayed - (low + high) / 2
            return stayed
        return moved

    def heal(self, step: float) -> None:
        """Believe the box in `step` s: where it has the object's size at once, else slowly."""
        self.size += (self.seen - self.size) * (1 - math.exp(-step / _HEAL_S))
        unseen = max(self.size - self.seen, 0.0) / 2
        self.offset = min(max(self.offset, -unseen), unseen)
        if not self.offset or self.seen >= _WHOLE_SHARE * self.size:
            self.size, self.offset = self.seen, 0.0
            self.usual += (self.seen - self.usual) * (1 - math.exp(-step / _USUAL_S))

    def scale(self, factor: float) -> None:
        """Follow a change of the picture's size."""
        self.low, self.high = self.low * factor, self.high * factor
        self.size, self.offset = self.size * factor, self.offset * factor
        self.usual *= factor

    def state(self) -> ExtentState:
        """Return all that `restored` needs."""
        return ExtentState(
            low=self.low,
            high=self.high,
            size=self.size,
            usual=self.usual,
            offset=self.offset,
        )

    @classmethod
    def restored(cls, state: ExtentState) -> Extent:
        """Return the extent whose state was taken."""
        extent = cls(state.low, state.high)
        extent.size, extent.usual, extent.offset = state.size, state.usual, state.offset
        return extent


class Place:
    """Where one object was seen last, and how it moves."""

    def __init__(
        self,
        label: int,
        box: Sequence[float],
        picture: Size | None,
        *,
        frame: int,
        time: float,
        gap: float,
    ) -> None:
        """Begin with the first sighting, `gap` s behind the frame before; 0 in the first frame."""
        x1, y1, x2, y2 = box
        self.x, self.y = Extent(x1, x2), Extent(y1, y2)
        self.label, self.frame, self.time, self.gap = label, frame, time, gap
        self.velocity: Point | None = None  # px/s; None before the second sighting
        self.enters = self.is_cut(picture)  # cut by a border since it was first seen

    @property
    def box(self) -> tuple[float, float, float, float]:
        """What was seen of it last, xyxy px."""
        return self.x.low, self.y.low, self.x.high, self.y.high

    def point(self, anchor: Anchor) -> Point:
        """Return the anchor of the whole object, px."""
        return self.x.at(0.5), self.y.at(_SHARES[anchor])

    def move(
        self, box: Sequence[float], time: float, picture: Size | None, anchor: Anchor
    ) -> Point:
        """Take in the next sighting and return how far the object's anchor moved, px.

        What is learnt of the object's size may place the anchor elsewhere, which is no movement.
        """
        x1, y1, x2, y2 = box
        x, y, step = Extent(x1, x2), Extent(y1, y2), time - self.time
        width, height = picture or (None, None)
        wider, taller = _growth(self.x, x, width), _growth(self.y, y, height)
        narrows = step <= _LONGEST_S and wider < taller / _NEW_SHAPE and wider < 1
        lowers = step <= _LONGEST_S and taller < wider / _NEW_SHAPE and taller < 1
        dx = self.x.follow(x, width, share=0.5, hides=narrows)
        dy = self.y.follow(y, height, share=_SHARES[anchor], hides=lowers)
        for axis, length in ((self.x, width), (self.y, height)):
            if not any(axis.cut(length)):
                axis.heal(step)
        self._average(dx, dy, step)
        self.time = time
        self.enters = self.enters and self.is_cut(picture)
        return dx, dy

    def way(self, time: float) -> Point:
        """Return how far the object goes in so many s, px."""
        vx, vy = self.velocity or (0.0, 0.0)
        return vx * time, vy * time

    def way_in(self, first: Sequence[float], picture: Size | None) -> Point:
        """Return how far the object moved, px, from the frame before its `first` box to that.

        Nothing unless it came over the picture's border.
        """
        x1, y1, x2, y2 = first
        return self._way(Extent(x1, x2), Extent(y1, y2), picture, -1, self.gap, self.gap)

    def way_out(self, picture: Size | None, time: float, *, first: bool) -> Point:
        """Return how far the object, unseen since, went by `time`, px, until it was out of sight.

        Nothing unless it went over the picture's border, which of one that no border cuts yet only
        the `first` frame without it can tell.
        """
        unseen = time - self.time
        return self._way(self.x, self.y, picture, 1, unseen, unseen if first else 0.0)

    def _way(
        self, x: Extent, y: Extent, picture: Size | None, sign: int, time: float, at_once: float
    ) -> Point:
        """Return the way of `time` s, or until a box that goes over a border is beyond it."""
        vx, vy = self.velocity or (0.0, 0.0)
        width, height = picture or (None, None)
        beyond = (
            x.time_beyond(sign * vx, width, at_once),
            y.time_beyond(sign * vy, height, at_once),
        )
        known = [needed for needed in beyond if needed is not None]
        return self.way(min(time, *known) if known else 0.0)

    def is_cut(self, picture: Size | None) -> bool:
        """Whether a border of the picture cuts the box."""
        width, height = picture or (None, None)
        return any(self.x.cut(width)) or any(self.y.cut(height))

    def resize(self, sx: float, sy: float) -> None:
        """Follow a change of the picture's size."""
        self.x.scale(sx)
        self.y.scale(sy)
        if self.velocity:
            self.velocity = self.velocity[0] * sx, self.velocity[1] * sy

    def state(self, id_: int) -> PlaceState:
        """Return all that `restored` needs."""
        return PlaceState(
            id=id_,
            label=self.label,
            x=self.x.state(),
            y=self.y.state(),
            velocity=self.velocity,
            frame=self.frame,
            time=self.time,
            gap=self.gap,
            enters=self.enters,
        )

    @classmethod
    def restored(cls, state: PlaceState) -> Place:
        """Return the place whose state was taken."""
        box = (state.x.low, state.y.low, state.x.high, state.y.high)
        place = cls(state.label, box, None, frame=state.frame, time=state.time, gap=state.gap)
        place.x, place.y = Extent.restored(state.x), Extent.restored(state.y)
        place.velocity, place.enters = state.velocity, state.enters
        return place

    def _average(self, dx: float, dy: float, step: float) -> None:
        """Take the latest movement into the velocity."""
        if step <= 0:
            self.velocity = self.velocity or (0.0, 0.0)
            return
        vx, vy = self.velocity or (dx / step, dy / step)
        share = 1 - math.exp(-step / _AVERAGE_S)
        self.velocity = vx + share * (dx / step - vx), vy + share * (dy / step - vy)


_SHARES: dict[Anchor, float] = {"center": 0.5, "bottom": 1.0}  # of its height above the anchor


def _growth(old: Extent, new: Extent, length: int | None) -> float:
    """Return how many times larger the box is than it was; 1 where the picture's border cuts it."""
    if any(old.cut(length)) or any(new.cut(length)) or old.seen <= 0 or new.seen <= 0:
        return 1.0
    return new.seen / old.seen
