"""What a detector found in a frame, and saved detections of a whole video."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from tracker.masks import Mask
from tracker.types.arrays import FloatArray, IntArray, check_length, own_columns
from tracker.types.tracks import LogInfo


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The instances found in one frame, by descending score.

    Raises ValueError, naming the field, for a wrong shape or dtype and for NaN.
    """

    boxes: FloatArray  # (N, 4)
    scores: FloatArray  # (N,) in [0, 1]
    labels: IntArray  # (N,)
    masks: tuple[Mask | None, ...]  # N; None from a detector that gives boxes only
    embeddings: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # (N, D)

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.labels.size and self.labels.min() < 0:
            raise ValueError(f"labels must not be negative, got {self.labels.min()}")
        looks = self.embeddings if self.embeddings.size else np.zeros((n, 0), np.float32)
        own_columns(
            self,
            boxes=(self.boxes, (n, 4), np.float32),
            scores=(self.scores, (n,), np.float32),
            labels=(self.labels, (n,), np.int64),
            embeddings=(looks, (n, looks.shape[-1]), np.float32),
        )
        check_length("masks", self.masks, n)

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """Return the value for a frame in which nothing was found."""
        return cls(
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            labels=np.zeros(0, np.int64),
            masks=(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class LoggedDetections:
    """One frame of saved detections: what a detector found, without its picture."""

    index: int
    time: float  # s
    width: int  # px; 0 = not known
    height: int  # px; 0 = not known
    detections: Detections
    suspect: bool = False

    def only(self, labels: Collection[int]) -> LoggedDetections:
        """Return the same frame with detections of these classes alone."""
        found = self.detections
        rows = np.flatnonzero(np.isin(found.labels, list(labels)))
        kept = Detections(
            boxes=found.boxes[rows],
            scores=found.scores[rows],
            labels=found.labels[rows],
            masks=tuple(found.masks[row] for row in rows.tolist()),
            embeddings=found.embeddings[rows],
        )
        return replace(self, detections=kept)


@dataclass(frozen=True, slots=True, eq=False)
class DetectionLog:
    """Saved detections of a whole video; `frames` may be a stream that can be read once."""

    info: LogInfo
    frames: Iterable[LoggedDetections]
    has_masks: bool  # whether any detection has one
