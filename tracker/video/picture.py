"""What files and live streams share: monotonic times, upright pictures, reasons without secrets."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

from tracker.snapshot import ClockState
from tracker.types import Frame, Image, SourceReport

Wanted = Callable[[int, float], bool]  # of a frame: its index and its time, s
FALLBACK_RATE = Fraction(25)  # frames/s where a source names none
_SMALL_STEP_BACK_S = 0.5
_LONGEST_GAP_S = 600.0  # a leap further forward is a clock jump, not a pause


class Clock:
    """Turns container times into seconds from the first frame that never run backwards."""

    def __init__(self, rate: Fraction, report: SourceReport) -> None:
        self.step = float(1 / rate)
        self.last: float | None = None
        self._offset: float | None = None
        self._report = report

    def state(self) -> ClockState:
        """Return what `restore` needs."""
        return ClockState(last=self.last, offset=self._offset)

    def restore(self, state: ClockState) -> None:
        """Go on where `state` was taken."""
        self.last, self._offset = state.last, state.offset

    def compare(self, duration: int | None) -> None:
        """Note in the report where a source ends well before what it declares, in us."""
        if duration and self.last is not None and not self._report.clock_jumps:
            end, claimed = self.last + self.step, duration / 1e6
            if end < 0.9 * claimed - self.step:
                self._report.notes.append(f"the video ends at {end:.1f} s of {claimed:.1f} s")

    def tell(self, raw: float | None) -> float:
        """Return the time of the next frame, whose container time is `raw`."""
        if self.last is None:
            self._offset = -raw if raw is not None else None
            self.last = 0.0
            return 0.0
        if raw is None:
            self.last += self.step
            return self.last
        if self._offset is None:
            self._offset = self.last + self.step - raw
        time = raw + self._offset
        if 0 < self.last - time < _SMALL_STEP_BACK_S:
            time = self.last  # two pictures in the wrong order, not another clock
        if time < self.last - 1e-6 or time - self.last > _LONGEST_GAP_S:
            self._report.clock_jumps += 1
            self._offset += self.last + self.step - time
            time = self.last + self.step
        elif time - self.last > 1.5 * self.step:
            self._report.gaps += 1
        self.last = max(time, self.last)
        return self.last


def report_state(report: SourceReport) -> dict[str, int | tuple[str, ...] | None]:
    """Return what a mark keeps of a report."""
    return {**asdict(report), "notes": tuple(report.notes)}


def restore_report(
    report: SourceReport, values: Mapping[str, int | tuple[str, ...] | None]
) -> None:
    """Let a report go on counting from what `report_state` gave of another."""
    for name, value in values.items():
        setattr(report, name, list(value) if isinstance(value, tuple) else value)


class FrameMaker:
    """Turns decoded pictures into frames, and counts what it sees of them."""

    def __init__(self, report: SourceReport) -> None:
        self._report = report
        self._reformatter = VideoReformatter()
        self.size: tuple[int, int] | None = None  # px, as stored, of the latest picture

    def make(
        self, picture: av.VideoFrame, index: int, time: float, *, suspect: bool, wanted: bool
    ) -> Frame | None:
        """Return the frame if it is wanted; an unwanted picture is never converted."""
        size = (picture.width, picture.height)
        self._report.size_changes += self.size not in (None, size)
        self.size = size
        self._report.rotation = (-int(picture.rotation)) % 360
        if not wanted:
            self._report.skipped += 1
            return None
        self._report.suspect += suspect
        self._report.frames += 1
        image = upright(picture, self._reformatter)
        image.flags.writeable = False  # it is nobody else's: no copy is needed
        return Frame(index, time, image, suspect)


def checksum(image: Image) -> int:
    """Return a number that tells pictures apart: the CRC-32 of their pixels."""
    return zlib.crc32(np.ascontiguousarray(image).data)


def upright(picture: av.VideoFrame, reformatter: VideoReformatter) -> Image:
    """Convert to RGB, then turn and mirror as the display matrix asks, by quarter turns."""
    image: Image = reformatter.reformat(picture, format="rgb24").to_ndarray()  # type: ignore[assignment]
    a, b, c, d = _display_matrix(picture)
    if is_turned(picture):
        image, flip_x, flip_y = image.transpose(1, 0, 2), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def is_turned(picture: av.VideoFrame) -> bool:
    """Whether the upright picture has width and height exchanged."""
    a, b, c, d = _display_matrix(picture)
    return abs(a) + abs(d) < abs(b) + abs(c)


def _display_matrix(picture: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return a, b, c, d of x' = a x + c y, y' = b x + d y (ISO 14496-12, 6.2.2), 16.16 fixed."""
    side_data: Any = picture.side_data  # iterates over its values
    for data in side_data:
        if data.type == Type.DISPLAYMATRIX:
            a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
            return a, b, c, d
    return 1 << 16, 0, 0, 1 << 16


def reason(exc: BaseException) -> str:
    """Say why in the system's words, without the URL that PyAV puts into its exceptions."""
    return getattr(exc, "strerror", None) or type(exc).__name__
