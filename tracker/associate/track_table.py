"""Every track of one video, one row each: columns are arrays, so that a frame is a few array calls.

A track is tentative until it has an id, confirmed while the latest frame shows it, lost while not;
one that is gone has no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.masks import Mask
from tracker.snapshot import SightingState, TableState
from tracker.types import Detections, Sighting
from tracker.types.tracks import Box

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


LONGEST_PAST = 64  # detections of a tentative track that are remembered
_COLUMNS = {
    "mean": (4, 2),
    "covariance": (4, 3),
    "box": (4,),
    "body": (2,),
    "offset": (2,),
    "average_velocity": (2,),
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


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """A detection of a track that was not confirmed then."""

    frame: int  # position among the frames of the tracker
    time: float  # s
    box: Box
    score: float
    label: int
    mask: Mask | None
    source: int  # row of that frame's detections

    @classmethod
    def of(
        cls, detections: Detections, source: int, frame: int, time: float, *, mask: bool
    ) -> Past:
        """Return the detection in row `source` of the tracker's frame number `frame`."""
        x1, y1, x2, y2 = detections.boxes[source].tolist()
        score, label = float(detections.scores[source]), int(detections.labels[source])
        seen = detections.masks[source] if mask else None
        return cls(frame, time, (x1, y1, x2, y2), score, label, seen, source)

    def sighting(self, id_: int, frames_ago: int) -> Sighting:
        """Return what is told of it once the track has its id."""
        mask, row = self.mask, self.source
        return Sighting(id_, frames_ago, self.time, self.box, self.score, self.label, mask, row)

    def state(self) -> SightingState:
        """Return all that `restored` needs."""
        return SightingState(
            frame=self.frame,
            time=self.time,
            box=self.box,
            score=self.score,
            label=self.label,
            mask=self.mask.to_json() if self.mask else None,
            source=self.source,
        )

    @classmethod
    def restored(cls, state: SightingState) -> Past:
        """Return the detection whose `state` was taken."""
        mask = Mask.from_json(state.mask) if state.mask else None
        x1, y1, x2, y2 = state.box
        box = (x1, y1, x2, y2)
        return cls(state.frame, state.time, box, state.score, state.label, mask, state.source)


@dataclass(slots=True, eq=False)
class TrackTable:
    """The tracks by age, oldest first; boxes xyxy px, times s."""

    mean: FloatArray  # centre of the whole object and size of what is seen of it; see kalman.py
    covariance: FloatArray
    box: FloatArray  # as last detected, and carried since
    body: FloatArray  # w, h of the whole object, px: a box may show only a part of it
    offset: FloatArray  # from the whole object's centre to that of the part last seen, px
    average_velocity: FloatArray  # velocity averaged over the last moments, px/s
    score: FloatArray  # of the last detection
    total: FloatArray  # sum of all scores
    seen: FloatArray  # when last detected
    hits: IntArray  # detections so far
    id: IntArray  # given when confirmed, 0 before
    source: IntArray  # row of the latest detected frame's detections, -1 = not seen there
    votes: FloatArray  # sum of scores a label, (T, labels met so far)
    embedding: FloatArray  # running mean of its detections', zeros = unknown
    masks: list[Mask | None]  # as last detected, and carried since
    past: list[list[Past]]  # the detections before the confirming one

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
        part = TrackTable(**self._columns(), masks=self.masks, past=self.past)
        part.keep(chosen)
        return part

    def keep(self, kept: BoolArray) -> None:
        """Drop the other rows."""
        if kept.all():
            return
        for name, column in self._columns().items():
            setattr(self, name, column[kept])
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
        added = new._columns()
        for name, column in self._columns().items():
            setattr(self, name, np.concatenate([column, added[name]]))
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

    def remember(self, row: int, past: Past) -> None:
        """Keep a detection of a tentative track, to be told when it is confirmed."""
        self.past[row].append(past)
        del self.past[row][:-LONGEST_PAST]

    def tell_past(self, row: int, frame: int) -> list[Sighting]:
        """Return, once, what is remembered of a track that frame number `frame` confirmed."""
        past, self.past[row] = self.past[row], []
        return [one.sighting(int(self.id[row]), frame - one.frame) for one in past]

    def rescale(self, sx: float, sy: float) -> None:
        """Bring all into a picture of another size; masks and past are not known in it."""
        scale = np.array([sx, sy, sx, sy])
        self.mean = self.mean * scale[:, None]
        self.covariance = self.covariance * (scale**2)[:, None]
        self.body, self.offset = self.body * scale[:2], self.offset * scale[:2]
        self.average_velocity, self.box = self.average_velocity * scale[:2], self.box * scale
        self.masks = [None] * len(self)
        self.past = [[] for _ in self.past]

    def move(self, motion: FloatArray) -> None:
        """Take all along with the camera: `motion` (2, 3), a similarity transform in px."""
        turn, shift = motion[:, :2], motion[:, 2]
        scale = float(np.hypot(turn[0, 0], turn[1, 0]))
        self.mean[:, :2, 0] = self.mean[:, :2, 0] @ turn.T + shift
        self.mean[:, :2, 1] = self.mean[:, :2, 1] @ turn.T
        self.mean[:, 2:] *= scale
        self.covariance *= scale**2
        self.average_velocity, self.offset = self.average_velocity @ turn.T, self.offset @ turn.T
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

    def state(self) -> TableState:
        """Return all that `restored` needs."""
        columns = {name: rows_of(column) for name, column in self._columns().items()}
        return TableState(
            **columns,
            masks=tuple(mask.to_json() if mask else None for mask in self.masks),
            past=tuple(tuple(one.state() for one in track) for track in self.past),
            labels=self.votes.shape[1],
            features=self.embedding.shape[1],
        )

    @classmethod
    def restored(cls, state: TableState) -> TrackTable:
        """Return the table whose `state` was taken."""
        rows, values = len(state.id), dict(state)
        widths = {"votes": (state.labels,), "embedding": (state.features,)}
        columns: dict[str, Any] = {}
        for name, shape in _COLUMNS.items():
            array = np.array(values[name], np.int64 if name in _WHOLE else np.float64)
            columns[name] = array.reshape(rows, *widths.get(name, shape))
        masks = [Mask.from_json(mask) if mask else None for mask in state.masks]
        past = [[Past.restored(one) for one in track] for track in state.past]
        return cls(**columns, masks=masks, past=past)

    @classmethod
    def empty(cls) -> TrackTable:
        """Return a table without rows."""
        columns: dict[str, Any] = {
            name: np.zeros((0, *shape), np.int64 if name in _WHOLE else np.float64)
            for name, shape in _COLUMNS.items()
        }
        return cls(**columns, masks=[], past=[])

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return {name: getattr(self, name) for name in _COLUMNS}

    def _widen(self, name: str, columns: int) -> None:
        old = self._columns()[name]
        if old.shape[1] < columns:
            wide = np.zeros((len(self), columns))
            wide[:, : old.shape[1]] = old
            setattr(self, name, wide)


def rows_of(array: npt.NDArray[Any]) -> Any:
    """Return an array as tuples of plain numbers, as deep as it is."""
    return _tuples(array.tolist())


def _tuples(values: Any) -> Any:
    return tuple(map(_tuples, values)) if isinstance(values, list) else values
