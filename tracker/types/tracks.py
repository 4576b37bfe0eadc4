"""Who is where in a frame, and logs of whole videos."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tracker.errors import MissingExtraError
from tracker.masks import Mask, mask_to_rle
from tracker.types.arrays import FloatArray, IntArray, check_length, own_columns

if TYPE_CHECKING:
    import supervision

Box = tuple[float, float, float, float]  # xyxy px


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A detection of a track from before the track was confirmed."""

    id: int
    frames_ago: int  # frames given to the associator since
    time: float  # s
    box: Box
    score: float
    label: int  # of the detection
    mask: Mask | None
    source: int  # row of that frame's detections


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The confirmed tracks present in one frame, by ascending id."""

    ids: IntArray  # (N,) from 1, unique in a run, never reused
    boxes: FloatArray  # (N, 4)
    scores: FloatArray  # (N,) of the last matched detection
    labels: IntArray  # (N,) voted over the track's life
    masks: tuple[Mask | None, ...]  # N; None where there is only a box
    sources: IntArray  # (N,) row in the frame's Detections, or -1: the box is only predicted
    earlier: tuple[Sighting, ...] = ()  # of the tracks that this frame confirmed, oldest first

    def __post_init__(self) -> None:
        n = len(self.ids)
        own_columns(
            self,
            ids=(self.ids, (n,), np.int64),
            boxes=(self.boxes, (n, 4), np.float32),
            scores=(self.scores, (n,), np.float32),
            labels=(self.labels, (n,), np.int64),
            sources=(self.sources, (n,), np.int64),
        )
        check_length("masks", self.masks, n)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def observed(self) -> npt.NDArray[np.bool_]:
        """Which tracks were seen in this frame, (N,); the others are predicted."""
        return self.sources >= 0

    @classmethod
    def empty(cls) -> Tracks:
        """Return the value for a frame without tracks."""
        none = np.zeros(0, np.int64)
        return cls(
            ids=none,
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            labels=none.copy(),
            masks=(),
            sources=none.copy(),
        )

    def to_supervision(self, width: int, height: int) -> supervision.Detections:
        """Convert to `supervision.Detections` with tracker ids, for a frame of this size in px.

        Masks become a `CompactMask`, so no full-frame array is made; tracks without a mask get an
        empty one. Raises MissingExtraError where supervision is not installed.
        """
        try:
            import supervision
            from supervision.detection.compact_mask import CompactMask
        except ImportError as exc:
            raise MissingExtraError("Tracks.to_supervision", "supervision") from exc
        masks = None
        if any(mask is not None for mask in self.masks):
            nothing = Mask(0, 0, np.zeros((1, 1), np.bool_))
            crops = [mask.clipped(width, height) if mask else nothing for mask in self.masks]
            crops = [crop if crop.bits.size else nothing for crop in crops]
            corners = np.array([crop.box for crop in crops], np.float32)
            corners[:, 2:] -= 1  # supervision's boxes include their last pixel
            masks = CompactMask.from_coco_rle(
                [mask_to_rle(crop, width, height) for crop in crops], corners, (height, width)
            )
        return supervision.Detections(
            xyxy=self.boxes.copy(),
            mask=masks,
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            tracker_id=self.ids.copy(),
        )


@dataclass(frozen=True, slots=True)
class LogInfo:
    """What a track log says once, about the whole run."""

    width: int  # px, of the first frame
    height: int  # px
    categories: tuple[str, ...]  # label -> name
    rate: Fraction | None = None  # nominal frames per second of the source
    source: str = ""  # name of the file or URL, without credentials


@dataclass(frozen=True, slots=True, eq=False)
class LoggedFrame:
    """One frame of a track log: a FrameResult without its picture."""

    index: int
    time: float  # s
    width: int  # px
    height: int  # px
    tracks: Tracks
    suspect: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TrackLog:
    """A whole track log; `frames` may be a stream that can be read once."""

    info: LogInfo
    frames: Iterable[LoggedFrame]
    notes: tuple[str, ...] = ()  # what its reader changed or supposed, a sentence each
