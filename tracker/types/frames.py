"""Pictures with their times, and what is known of the video they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

import numpy as np

from tracker.types.arrays import Image, read_only


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """Where the sound of a source lies, for a sink that keeps it."""

    path: str  # a file the writer may open again
    origin: float  # s, on the file's own clock, of the source's first frame


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is claimed about a video before it is read; the frames are the truth."""

    width: int  # px, upright
    height: int  # px, upright
    rate: Fraction | None  # nominal frames per second; None if unknown
    frame_count: int | None  # the container's claim, not a promise; None if unknown or live
    live: bool = False  # a camera: frames that nobody takes in time are lost
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel to its height; pixels are kept as is
    audio: AudioTrack | None = None  # its sound, where a sink can read it again
    audio_note: str = ""  # why there is none though the source has sound
    remarks: tuple[str, ...] = ()  # a sentence on each odd thing by which nothing is lost
    started: datetime | None = None  # of a live source: the moment (UTC) of time 0


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture, upright.

    The picture is copied where it can be written to: give it read-only to spare that.
    """

    index: int  # position in the source, from 0; gaps are dropped or skipped frames
    time: float  # s, never decreasing
    image: Image
    suspect: bool = False  # decoded from damaged data: the picture may be wrong

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"image must be (H, W, 3) uint8, got {self.image.shape} {self.image.dtype}"
            )
        object.__setattr__(self, "image", read_only(self.image))

    @property
    def width(self) -> int:
        """Picture width, px."""
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        """Picture height, px."""
        return int(self.image.shape[0])


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
