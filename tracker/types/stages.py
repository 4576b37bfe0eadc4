"""What each stage of a lane promises; nobody asks for more, and nobody has less."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from tracker.config import CountConfig
from tracker.snapshot import CountState, Snapshot, SourceMark, TrackerState
from tracker.types.arrays import Image
from tracker.types.counts import FrameResult
from tracker.types.detections import Detections
from tracker.types.frames import Frame, SourceReport, StreamInfo
from tracker.types.tracks import Tracks


class Source(Protocol):
    """Gives the frames of one video, once."""

    info: StreamInfo
    report: SourceReport

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames in order; raise SourceError where no more can be had."""

    def mark(self) -> SourceMark | None:
        """Return where the latest frame lay, to go on behind it; None where nobody can go back."""

    def close(self) -> None:
        """Release the file or camera; safe to call twice and from another thread."""


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What a detector is and how it runs; what it reports of itself may change as it learns."""

    name: str
    categories: tuple[str, ...]  # label -> name
    batch_size: int = 1  # frames that it takes at once
    device: str = ""
    precision: str = ""  # of the dense layers
    threads: int = 0  # of the CPU
    weights: str = ""  # where they came from
    sha256: str | None = None  # of their file
    notes: tuple[str, ...] = ()  # what the user should know of how it ran, a sentence each


class Detector(Protocol):
    """Finds instances, in batches; one serves all lanes."""

    @property
    def info(self) -> DetectorInfo:
        """What it is, and how it runs by now."""

    @property
    def categories(self) -> Sequence[str]:
        """Name of each label."""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one Detections per frame, in order."""

    def reset(self) -> None:
        """Forget what was learnt from the videos so far: each is detected as if it came first."""


@runtime_checkable
class StreamingDetector(Detector, Protocol):
    """A detector that works on several batches at once."""

    @property
    def overlaps(self) -> bool:
        """Whether that gains anything here; else `detect` does as well."""

    def stream(self, batches: Iterable[Sequence[Frame]]) -> Iterator[list[Detections]]:
        """Yield what `detect` returns for each batch, in order."""


class Associator(Protocol):
    """Links detections across frames; one instance per video."""

    def update(self, detections: Detections, time: float, image: Image | None = None) -> Tracks:
        """Advance to `time` (s) and return the confirmed tracks present there."""

    def carry(self, time: float, image: Image | None = None) -> Tracks:
        """Advance to `time` (s) over a frame that was not detected; return the tracks, carried.

        Only called where the detector does not see every frame.
        """

    def state(self) -> TrackerState:
        """Return all that `restore` needs."""

    def restore(self, state: TrackerState) -> None:
        """Continue exactly where `state` was taken."""


@runtime_checkable
class Counting(Protocol):
    """Counts what every frame of a lane shows, once."""

    @property
    def config(self) -> CountConfig:
        """What is counted."""

    def count(self, result: FrameResult) -> FrameResult:
        """Return the result with its events and the totals after it."""

    def state(self) -> CountState:
        """Return all that counting on needs."""


class Sink(Protocol):
    """Consumes results, in frame order."""

    def write(self, result: FrameResult) -> None:
        """Accept the next frame's result."""

    def close(self) -> None:
        """Finish and release; safe to call twice."""


@runtime_checkable
class CountingSink(Sink, Protocol):
    """A sink that shows counts, and brings its counting along for lanes that are given none."""

    counting: Counting  # shared by all of a lane that count the same


class Recorder(Protocol):
    """Keeps snapshots of a lane."""

    def due(self, frames: int) -> bool:
        """Whether a snapshot should travel with frame number `frames`; asked where frames begin."""

    def publish(self, snapshot: Snapshot) -> None:
        """Take a snapshot that all stages have added to; all sinks have written its frame."""


def as_detector(found: Any) -> Detector:
    """Return a detector of the user's own, which has `categories` and `detect`, as a complete one.

    Its `batch_size`, `stream`, `overlaps` and `reset` are used where it has them. Raises ValueError
    for an object that cannot detect.
    """
    if isinstance(getattr(found, "info", None), DetectorInfo):
        return cast(Detector, found)
    if not callable(getattr(found, "detect", None)) or not hasattr(found, "categories"):
        raise ValueError(f"a detector must have categories and detect, got {type(found).__name__}")
    return _OwnStreaming(found) if callable(getattr(found, "stream", None)) else _Own(found)


class _Own:
    """A user's detector with all that the protocol asks for; the border to what users write."""

    def __init__(self, found: Any) -> None:
        self._found = found

    @property
    def info(self) -> DetectorInfo:
        return DetectorInfo(
            type(self._found).__name__,
            tuple(self._found.categories),
            getattr(self._found, "batch_size", 1),
        )

    @property
    def categories(self) -> Sequence[str]:
        names: Sequence[str] = self._found.categories
        return names

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        found: list[Detections] = self._found.detect(frames)
        return found

    def reset(self) -> None:
        reset = getattr(self._found, "reset", None)
        if callable(reset):
            reset()


class _OwnStreaming(_Own):
    """The same, of one that works on several batches at once."""

    @property
    def overlaps(self) -> bool:
        return bool(getattr(self._found, "overlaps", True))

    def stream(self, batches: Iterable[Sequence[Frame]]) -> Iterator[list[Detections]]:
        yield from self._found.stream(batches)
