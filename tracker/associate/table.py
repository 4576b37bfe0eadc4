"""Every track of one video, one row each: columns are arrays, so that a frame is a few array calls.

A track is tentative until it has an id, confirmed while the latest frame shows it, lost while not;
one that is gone has no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.masks import Mask, mask_to_rle, rle_to_mask

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


_COLUMNS = {
    "mean": (4, 2),
    "covariance": (4, 3),
    "box": (4,),
    "body": (2,),
    "offset": (2,),
    "cruise": (2,),
    "score": (),
    "total": (),
    "seen": (),
    "hits": (),
    "id": (),
    "source": (),
    "votes": (0,),
    "embedding": (0,),
}  # column -> shape of one row
_WHOLE = ("hits", "id", "source")


@dataclass(slots=True, eq=False)
class TrackTable:
    """The tracks by age, oldest first; boxes xyxy px, times s."""

    mean: FloatArray  # centre of the whole object and size of what is seen of it; see kalman.py
    covariance: FloatArray
    box: FloatArray  # as last detected, and carried since
    body: FloatArray  # w, h of the whole object, px: a box may show only a part of it
    offset: FloatArray  # from the whole object's centre to that of the part last seen, px
    cruise: FloatArray  # velocity averaged over the last moments, px/s
    score: FloatArray  # of the last detection
    total: FloatArray  # sum of all scores
    seen: FloatArray  # when last detected
    hits: IntArray  # detections so far
    id: IntArray  # given when confirmed, 0 before
    source: IntArray  # row of the latest detected frame's detections, -1 = not seen there
    votes: FloatArray  # sum of scores a label, (T, labels met so far)
    embedding: FloatArray  # running mean of its detections', zeros = unknown
    masks: list[Mask | None]  # as last detected, and carried since
    past: list[list[tuple[int, int]]]  # frame and row of the detections before the confirming one

    def __len__(self) -> int:
        return len(self.id)

    @property
    def label(self) -> IntArray:
        """The class with the most votes, (T,); the lower label wins a tie."""
        if not self.votes.size:
            return np.zeros(len(self), np.int64)
        best: IntArray = self.votes.argmax(axis=1)
        return best

    @property
    def seen_part(self) -> FloatArray:
        """Centre and size of what should be seen now, (T, 4) cxcywh px."""
        return np.concatenate([self.mean[:, :2, 0] + self.offset, self.mean[:, 2:, 0]], axis=1)

    @property
    def trust(self) -> FloatArray:
        """Mean score of the track's detections, (T,)."""
        return self.total / np.maximum(self.hits, 1)

    def rows(self, chosen: BoolArray) -> TrackTable:
        """Return a table of these rows alone."""
        part = TrackTable(**{name: getattr(self, name) for name in (*_COLUMNS, "masks", "past")})
        part.keep(chosen)
        return part

    def keep(self, kept: BoolArray) -> None:
        """Drop the other rows."""
        if kept.all():
            return
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name)[kept])
        rows = np.flatnonzero(kept).tolist()
        self.masks = [self.masks[row] for row in rows]
        self.past = [self.past[row] for row in rows]

    def append(self, new: TrackTable) -> None:
        """Add rows at the end."""
        self._widen("votes", new.votes.shape[1])
        new._widen("votes", self.votes.shape[1])
        self._widen("embedding", new.embedding.shape[1])
        if new.embedding.shape[1] != self.embedding.shape[1]:
            new.embedding = np.zeros((len(new), self.embedding.shape[1]))
        for name in _COLUMNS:
            setattr(self, name, np.concatenate([getattr(self, name), getattr(new, name)]))
        self.masks += new.masks
        self.past += new.past

    def vote(self, rows: IntArray, labels: IntArray, scores: FloatArray) -> None:
        """Add one detection's word on each of these rows' classes."""
        self._widen("votes", int(labels.max(initial=-1)) + 1)
        self.votes[rows, labels] += scores

    def blend_embedding(self, rows: IntArray, new: npt.NDArray[Any], share: float) -> None:
        """Move the appearance of these rows towards `new`, (len(rows), D); D may be 0."""
        if not new.shape[1]:
            return
        if self.embedding.shape[1] != new.shape[1]:  # the first, or those of another detector
            self.embedding = np.zeros((len(self), new.shape[1]))
        old = self.embedding[rows]
        known = old.any(axis=1, keepdims=True)
        self.embedding[rows] = np.where(known, (1 - share) * old + share * new, new)

    def rescale(self, sx: float, sy: float) -> None:
        """Bring all into a picture of another size; masks are known again when they are seen."""
        scale = np.array([sx, sy, sx, sy])
        self.mean = self.mean * scale[:, None]
        self.covariance = self.covariance * (scale**2)[:, None]
        self.body, self.offset = self.body * scale[:2], self.offset * scale[:2]
        self.cruise, self.box = self.cruise * scale[:2], self.box * scale
        self.masks = [None] * len(self)

    def move(self, motion: FloatArray) -> None:
        """Take all along with the camera: `motion` (2, 3), a similarity transform in px."""
        turn, shift = motion[:, :2], motion[:, 2]
        scale = float(np.hypot(turn[0, 0], turn[1, 0]))
        self.mean[:, :2, 0] = self.mean[:, :2, 0] @ turn.T + shift
        self.mean[:, :2, 1] = self.mean[:, :2, 1] @ turn.T
        self.mean[:, 2:] *= scale
        self.covariance *= scale**2
        self.cruise, self.offset = self.cruise @ turn.T, self.offset @ turn.T
        self.body = self.body * scale

    def carry(self, shift: FloatArray) -> None:
        """Move what was seen last by `shift`, (T, 2) px; masks by whole pixels."""
        seen = np.flatnonzero(self.source >= 0)
        before = np.rint((self.box[seen, :2] + self.box[seen, 2:]) / 2)
        self.box[seen] += np.tile(shift[seen], 2)
        # Rounded places, not steps, are compared: so no error adds up.
        steps = np.rint((self.box[seen, :2] + self.box[seen, 2:]) / 2) - before
        for row, (dx, dy) in zip(seen.tolist(), steps.astype(int).tolist(), strict=True):
            mask = self.masks[row]
            self.masks[row] = mask.moved(dx, dy) if mask is not None else None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        columns = {name: getattr(self, name).tolist() for name in _COLUMNS}
        masks = [_mask_to_json(mask) for mask in self.masks]
        past = [[list(sighting) for sighting in track] for track in self.past]
        widths = {name: getattr(self, name).shape[1] for name in ("votes", "embedding")}
        return columns | {"masks": masks, "past": past, "widths": widths}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrackTable:
        """Return the table that `to_json` gave."""
        rows = len(content["id"])
        columns: dict[str, Any] = {}
        for name, shape in _COLUMNS.items():
            array = np.array(content[name], np.int64 if name in _WHOLE else np.float64)
            if not array.size:
                width = content["widths"].get(name)
                array = array.reshape(rows, *(shape if width is None else (width,)))
            columns[name] = array
        masks = [_mask_from_json(item) for item in content["masks"]]
        past = [[(int(frame), int(row)) for frame, row in track] for track in content["past"]]
        return cls(**columns, masks=masks, past=past)

    @classmethod
    def empty(cls) -> TrackTable:
        """Return a table without rows."""
        nothing: dict[str, Any] = {name: [] for name in (*_COLUMNS, "masks", "past")}
        return cls.from_json(nothing | {"widths": {}})

    def _widen(self, name: str, columns: int) -> None:
        old = getattr(self, name)
        if old.shape[1] < columns:
            wide = np.zeros((len(self), columns))
            wide[:, : old.shape[1]] = old
            setattr(self, name, wide)


def _mask_to_json(mask: Mask | None) -> dict[str, Any] | None:
    if mask is None:
        return None
    # The window stands in for the frame, which the tracker never sees.
    height, width = mask.bits.shape
    window = Mask(0, 0, mask.bits)
    rle = mask_to_rle(window, width, height) if window.bits.size else None
    return {"x": mask.x, "y": mask.y, "size": [height, width], "rle": rle}


def _mask_from_json(item: dict[str, Any] | None) -> Mask | None:
    if item is None:
        return None
    height, width = item["size"]
    bits = np.zeros((height, width), np.bool_)
    if item["rle"]:
        seen = rle_to_mask(item["rle"])
        x1, y1, x2, y2 = seen.box
        bits[y1:y2, x1:x2] = seen.bits
    return Mask(item["x"], item["y"], bits)
