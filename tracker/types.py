"""The values that flow between stages, and what each stage promises.

Conventions, used everywhere and never repeated in docstrings:
  N        instances in one frame
  boxes    xyxy float32: x1, y1, x2, y2 in px of the upright source frame, half-open,
           x right, y down
  images   RGB uint8 (H, W, 3)
  times    seconds from the source's first frame, taken from the container
  labels   indices into the detector's `categories`; 0 is the background where a model has one
All values are immutable and their arrays are read-only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tracker.errors import MissingExtraError
from tracker.masks import Mask, mask_to_rle

if TYPE_CHECKING:
    import supervision

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is claimed about a video before it is read; the frames are the truth."""

    width: int  # px, upright
    height: int  # px, upright
    rate: Fraction | None  # nominal frames per second; None if unknown
    frame_count: int | None  # the container's claim, not a promise; None if unknown or live
    live: bool = False  # a camera: frames that nobody takes in time are lost
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel to its height; pixels are kept as is


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture, upright."""

    index: int  # position in the source, from 0; gaps are dropped or skipped frames
    time: float  # s, never decreasing
    image: Image
    suspect: bool = False  # decoded from damaged data: the picture may be wrong

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"image must be (H, W, 3) uint8, got {self.image.shape} {self.image.dtype}"
            )
        _freeze(self.image)

    @property
    def width(self) -> int:
        """Picture width, px."""
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        """Picture height, px."""
        return int(self.image.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The instances found in one frame, by descending score."""

    boxes: FloatArray  # (N, 4)
    scores: FloatArray  # (N,) in [0, 1]
    labels: IntArray  # (N,)
    masks: tuple[Mask | None, ...]  # N; None from a detector that gives boxes only
    embeddings: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # (N, D)

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.labels.size and self.labels.min() < 0:
            raise ValueError(f"labels must not be negative, got {self.labels.min()}")
        if not self.embeddings.size:
            object.__setattr__(self, "embeddings", np.zeros((n, 0), np.float32))
        check_array("boxes", self.boxes, (n, 4), np.float32)
        check_array("scores", self.scores, (n,), np.float32)
        check_array("labels", self.labels, (n,), np.int64)
        check_array("embeddings", self.embeddings, (n, self.embeddings.shape[-1]), np.float32)
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
class Tracks:
    """The confirmed tracks present in one frame, by ascending id."""

    ids: IntArray  # (N,) from 1, unique in a run, never reused
    boxes: FloatArray  # (N, 4)
    scores: FloatArray  # (N,) of the last matched detection
    labels: IntArray  # (N,) voted over the track's life
    masks: tuple[Mask | None, ...]  # N; None where there is only a box
    sources: IntArray  # (N,) row in the frame's Detections, or -1: the box is only predicted

    def __post_init__(self) -> None:
        n = len(self.ids)
        check_array("ids", self.ids, (n,), np.int64)
        check_array("boxes", self.boxes, (n, 4), np.float32)
        check_array("scores", self.scores, (n,), np.float32)
        check_array("labels", self.labels, (n,), np.int64)
        check_array("sources", self.sources, (n,), np.int64)
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


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """All that is known about one frame: what every sink receives."""

    frame: Frame
    detections: Detections
    tracks: Tracks


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


@dataclass(slots=True)
class SourceReport:
    """What a source read and what it lost; complete only after the last frame."""

    packets: int = 0  # compressed pictures found
    frames: int = 0  # pictures handed on
    skipped: int = 0  # pictures left out by start, end or stride
    bad_packets: int = 0  # could not be decoded at all
    missing: int = 0  # packets that gave neither a picture nor an error
    suspect: int = 0  # pictures decoded from damaged data
    dropped: int = 0  # live pictures that came too fast to be processed
    gaps: int = 0  # jumps in time longer than one and a half frames
    clock_jumps: int = 0  # times that ran backwards or leapt; re-based
    size_changes: int = 0
    rotation: int = 0  # degrees clockwise that were applied
    declared_frames: int | None = None  # the container's claim
    notes: list[str] = field(default_factory=list)  # one sentence each

    @property
    def complete(self) -> bool:
        """Whether every picture that was there came out whole."""
        return not (self.bad_packets or self.missing or self.suspect or self.dropped or self.notes)


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """Where the sound of a source lies, for a sink that keeps it."""

    path: str  # a file the writer may open again
    origin: float  # s, on the file's own clock, of the source's first frame


class Source(Protocol):
    """Gives the frames of one video, once."""

    info: StreamInfo
    report: SourceReport

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames in order; raise SourceError where no more can be had."""

    def mark(self, index: int) -> dict[str, Any] | None:
        """Return where frame `index` lay, in JSON types, to go on behind it; None for cameras."""

    def close(self) -> None:
        """Release the file or camera; safe to call twice and from another thread."""


class Detector(Protocol):
    """Finds instances, in batches."""

    @property
    def categories(self) -> Sequence[str]:
        """Name of each label."""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one Detections per frame, in order."""


class Associator(Protocol):
    """Links detections across frames; one instance per video."""

    def update(self, detections: Detections, time: float, image: Image | None = None) -> Tracks:
        """Advance to `time` (s) and return the confirmed tracks present there."""

    def carry(self, time: float, image: Image | None = None) -> Tracks:
        """Advance to `time` (s) over a frame that was not detected; return the tracks, carried.

        Only called where the detector does not see every frame.
        """

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs, made of JSON types only."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""


class Sink(Protocol):
    """Consumes results, in frame order."""

    def write(self, result: FrameResult) -> None:
        """Accept the next frame's result."""

    def close(self) -> None:
        """Finish and release; safe to call twice."""


def check_array(
    name: str, array: npt.NDArray[Any], shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    """Make `array` read-only; raise ValueError unless it has exactly this shape and dtype."""
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name} must be {shape} {np.dtype(dtype)}, got {array.shape} {array.dtype}"
        )
    _freeze(array)


def check_length(name: str, items: Sequence[Any], length: int) -> None:
    """Raise ValueError unless `items` has this length."""
    if len(items) != length:
        raise ValueError(f"{name} must have length {length}, got {len(items)}")


def _freeze(array: npt.NDArray[Any]) -> None:
    array.flags.writeable = False
