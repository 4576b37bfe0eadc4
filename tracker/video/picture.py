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
from av.video.reformatter import Colorspace, VideoReformatter

from tracker.snapshot import ClockState
from tracker.types import Frame, Image, SourceReport

Matrix = tuple[int, int, int, int]  # a, b, c, d of x' = a x + c y, y' = b x + d y
Wanted = Callable[[int, float], bool]  # of a frame: its index and its time, s
_SLOWEST, _LIKELY, _FASTEST = Fraction(1, 10), 300, 1000  # frames/s
FALLBACK_RATE = Fraction(25)  # frames/s where a source names none
_SMALL_STEP_BACK_S = 0.5
MOST_HELD_BACK = 16  # pictures, by any decoder (H.264, A.3.1)
_LONGEST_GAP_S = 600.0  # where clocks may leap, a step further forward is one and no pause
_HD_WIDTH, _HD_HEIGHT = 1280, 720  # px: from either on untagged colours are those of HD
_UNTAGGED = 2  # the code of ITU-T H.273 for colours of which nothing is said
# Whose side data PyAV 18 may not be asked for: it frees the name of an ICC profile twice.
_PNG = {"png", "apng"}
_JPEG = {"mjpeg", "mjpegb", "jpegls", "ljpeg", "webp"}  # whose colours are BT.601 at any size


def _without_a_name(cls: type[Type], value: object) -> Any:
    """Return a member for a kind of side data that FFmpeg knows and PyAV's list does not."""
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"KIND_{value}", value
    return member


# Else reading the side data of a picture with an EXIF tag raises ValueError.
Type._missing_ = classmethod(_without_a_name)  # type: ignore[assignment]


class Clock:
    """Turns container times into seconds from the first frame that never run backwards."""

    def __init__(self, rate: Fraction, report: SourceReport, *, leaps: bool = True) -> None:
        """Begin; where the clock `leaps`, a step back or a very long one forward is a leap."""
        self.step = float(1 / rate)
        self._longest = _LONGEST_GAP_S if leaps else float("inf")
        self._leaps, self._behind = leaps, 0  # pictures in a row that are behind
        self.last: float | None = None
        self._offset: float | None = None
        self._report = report

    def state(self) -> ClockState:
        """Return what `restore` needs."""
        return ClockState(last=self.last, offset=self._offset)

    def restore(self, state: ClockState) -> None:
        """Go on where `state` was taken."""
        self.last, self._offset = state.last, state.offset

    def _is_disorder(self, back: float) -> bool:
        """Whether a step back of so many seconds is that of a picture in the wrong place.

        It is another clock where clocks may leap, and where all pictures from there on are behind.
        """
        self._behind = self._behind + 1 if back > 0 else 0
        most = _SMALL_STEP_BACK_S if self._leaps else float("inf")
        return 0 < back < most and self._behind <= MOST_HELD_BACK

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
        if self._is_disorder(self.last - time):
            return self.last
        if time < self.last - 1e-6 or time - self.last > self._longest:
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

    def __init__(self, report: SourceReport, stream: av.VideoStream) -> None:
        self._report = report
        self._reformatter = VideoReformatter()
        name = stream.codec_context.codec.canonical_name
        self._is_jpeg = name in _JPEG
        self._is_png = name in _PNG
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
        image = self.convert(picture)
        image.flags.writeable = False  # it is nobody else's: no copy is needed
        return Frame(index, time, image, suspect)

    def convert(self, picture: av.VideoFrame) -> Image:
        """Return the upright picture in RGB."""
        return upright(picture, self._reformatter, self.matrix(picture), is_jpeg=self._is_jpeg)

    def matrix(self, picture: av.VideoFrame) -> Matrix:
        """Return how a picture is to be turned and mirrored."""
        return _turn_by(picture.rotation) if self._is_png else _display_matrix(picture)


def checksum(image: Image) -> int:
    """Return a number that tells pictures apart: the CRC-32 of their pixels."""
    return zlib.crc32(np.ascontiguousarray(image).data)


def upright(
    picture: av.VideoFrame, reformatter: VideoReformatter, matrix: Matrix, *, is_jpeg: bool = False
) -> Image:
    """Convert to RGB, then turn and mirror as the display matrix asks, by quarter turns.

    Colours that are not tagged are taken as players take them: by BT.709 in HD, else, and in
    JPEG, by BT.601.
    """
    untagged = picture.colorspace == _UNTAGGED and not is_jpeg
    is_hd = picture.width >= _HD_WIDTH or picture.height >= _HD_HEIGHT
    source = Colorspace.ITU709 if untagged and is_hd else None
    converted = reformatter.reformat(picture, format="rgb24", src_colorspace=source)
    image: Image = converted.to_ndarray()  # type: ignore[assignment]
    a, b, c, d = matrix
    if is_turned(matrix):
        image, flip_x, flip_y = image.transpose(1, 0, 2), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def is_turned(matrix: Matrix) -> bool:
    """Whether the upright picture has width and height exchanged."""
    a, b, c, d = matrix
    return abs(a) + abs(d) < abs(b) + abs(c)


def _turn_by(degrees: float) -> Matrix:
    """Return the matrix of a turn to the left by quarters, as PyAV tells it."""
    quarters = {0: (1, 0, 0, 1), 90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}
    return quarters.get(int(degrees) % 360, quarters[0])


def _display_matrix(picture: av.VideoFrame) -> Matrix:
    """Return a, b, c, d of x' = a x + c y, y' = b x + d y (ISO 14496-12, 6.2.2), 16.16 fixed."""
    side_data: Any = picture.side_data  # iterates over its values
    for data in side_data:
        if data.type == Type.DISPLAYMATRIX:
            a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
            return a, b, c, d
    return 1 << 16, 0, 0, 1 << 16


def usable_rate(stream: av.VideoStream) -> Fraction | None:
    """Return the rate that a stream declares, frames/s, where it can be believed.

    Browsers and recorders declare the ticks of their clock, 1000 a second; the times say better.
    """
    rates = [rate for rate in (stream.average_rate, stream.guessed_rate) if rate]
    believed = [rate for rate in rates if _SLOWEST <= rate <= _FASTEST]
    if not believed:
        return None
    likely = [rate for rate in believed if rate <= _LIKELY]
    return (likely or believed)[0]


def reason(exc: BaseException) -> str:
    """Say why in the system's words, without the URL that PyAV puts into its exceptions."""
    return getattr(exc, "strerror", None) or type(exc).__name__
