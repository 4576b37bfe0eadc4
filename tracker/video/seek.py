"""Find a place in a file again, or make marks of places without decoding.

A mark says where a frame lay, what its time was and what had been counted by then. From there a
file goes on exactly as if it had been decoded from its beginning: after a resume, behind `--start`,
and as a piece of work for another machine.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error

from tracker.errors import SourceError
from tracker.snapshot import ClockState, SourceMark
from tracker.types import SourceReport
from tracker.video.container import is_any
from tracker.video.picture import checksum, report_state, restore_report
from tracker.video.reading import Shown

if TYPE_CHECKING:
    from tracker.video.file import VideoFile

Pictures = Iterator[Shown | None]
_FEWEST = 32  # frames before a start that are worth a search
_CODECS = {"h264", "hevc", "vp9", "av1"}  # of which every packet shows one picture
_INDEXED = {"mov", "mp4", "matroska", "webm"}  # whose every packet tells the time of its picture


@dataclass(frozen=True, slots=True)
class Place:
    """One frame of a file, as its packets tell of it."""

    index: int
    pts: int
    clock: ClockState
    size: tuple[int, int]  # px, as stored
    report: SourceReport  # of what was read by then

    @property
    def time(self) -> float:
        """Seconds from the first frame."""
        return self.clock.last or 0.0

    def to_mark(self, *, skipped: bool) -> SourceMark:
        """Return the mark behind which a file goes on; the frames up to it were skipped or read."""
        passed = self.index + 1
        report = replace(
            self.report, frames=0 if skipped else passed, skipped=passed if skipped else 0
        )
        return SourceMark(
            index=self.index,
            pts=self.pts,
            clock=self.clock,
            size=self.size,
            report=report_state(report),
            ahead=0,
        )


def find_mark(file: VideoFile, mark: SourceMark) -> Pictures:
    """Return the pictures behind a mark: by its time where that is sure, else by counting.

    The file's report goes on from the mark's. Raises SourceError where another picture lies there.
    """
    pictures = find_time(file, mark) or _by_count(file, mark)
    if pictures is None:
        raise SourceError(
            f"{file.name}: is not the video that the run began with: frame {mark.index} is another"
        )
    return pictures


def mark_before(file: VideoFile, is_start: Callable[[int, float], bool]) -> SourceMark | None:
    """Return the mark of the last frame before the first for which `is_start(index, time)`.

    None where that is not worth it, or where only decoding tells times and numbers.
    """
    before = None
    for place in places(file):
        if is_start(place.index, place.time):
            break
        before = place
    else:
        return None  # no frame is the start: decoding will say so
    return before.to_mark(skipped=True) if before and before.index >= _FEWEST else None


def marks(file: VideoFile, every: int) -> Iterator[SourceMark]:
    """Yield the mark of each so manyth frame without decoding: the file in pieces of `every`.

    Ends where the container does not tell.
    """
    for place in places(file):
        if (place.index + 1) % every == 0:
            yield place.to_mark(skipped=False)


def places(file: VideoFile) -> Iterator[Place]:
    """Yield all frames of a file in the order in which they are shown, by its packets alone.

    Ends at the first that only decoding can tell: a packet that is damaged or knows no time, or two
    of one time. A picture is shown no earlier than it is decoded, so those before are in order.
    """
    shown = file.head[-1]
    codec = file.stream.codec_context.name
    told = isinstance(file.path, Path) and any(codec.startswith(name) for name in _CODECS)
    if not told or shown is None or not is_any(file.container, _INDEXED):
        return
    first = shown.picture
    report = SourceReport(declared_frames=file.report.declared_frames)
    clock, size = file.new_clock(report), (first.width, first.height)
    latest: int | None = None
    with file.open_again() as container:
        base = container.streams[file.stream.index].time_base or Fraction(1)
        for index, (pts, number) in enumerate(_shown(container, file.stream.index)):
            if (latest is None and pts != first.pts) or (latest is not None and pts <= latest):
                return
            latest, report.packets = pts, number
            clock.tell(float(pts) * base.numerator / base.denominator)
            yield Place(index, pts, clock.state(), size, replace(report))


def _shown(container: av.container.InputContainer, stream: int) -> Iterator[tuple[int, int]]:
    """Yield the times of the pictures in order, with the numbers of their packets, from 1."""
    waiting: list[tuple[int, int]] = []
    number = 0
    try:
        for packet in container.demux(container.streams[stream]):
            # Behind a cut (an edit list, a first packet that is no key) only decoding tells.
            odd = packet.pts is None or packet.is_corrupt or packet.is_discard
            if packet.size and (odd or (not number and not packet.is_keyframe)):
                return
            bound = packet.dts if packet.size else math.inf
            while waiting and bound is not None and waiting[0][0] < bound:
                yield heapq.heappop(waiting)
            number += bool(packet.size)
            if packet.size and packet.pts is not None:
                heapq.heappush(waiting, (packet.pts, number))
    except (av.error.FFmpegError, OSError, IndexError):
        return


def find_time(file: VideoFile, mark: SourceMark) -> Pictures | None:
    """Return the pictures behind a mark by its time; None where that does not surely find it."""
    report = _read_by(mark)
    if mark.pts is None or mark.ahead is None or report.clock_jumps or not report.complete:
        return None  # one time may be that of several pictures, or of a broken one
    restore_report(file.report, mark.report)
    try:
        file.container.seek(mark.pts, stream=file.stream, backward=True)
        pictures = file.decode(mark)
        for number, shown in enumerate(pictures):
            if shown is None or (not number and not shown.picture.key_frame):
                return None  # the container called a key what is none
            picture = shown.picture
            if picture.pts is None or picture.pts > mark.pts:
                return None
            if picture.pts == mark.pts:
                return pictures if _is_marked(file, picture, mark) else None
    except (av.error.FFmpegError, OSError):
        pass
    return None


def _by_count(file: VideoFile, mark: SourceMark) -> Pictures | None:
    """Return the pictures behind a mark by decoding all before it; None where another lies there.

    It lies at its time; where times repeat, at its number, for a mark that was found by packets may
    count pictures that decoding does not give.
    """
    report, known = file.report, _read_by(mark)
    by_time = mark.pts is not None and not known.clock_jumps
    file.reopen()
    pictures = file.decode()
    number = -1
    for shown in pictures:
        if shown is None:
            continue
        number += 1
        picture = shown.picture
        lies_there = picture.pts == mark.pts if by_time else number == mark.index
        if lies_there and _is_marked(file, picture, mark):
            # What has been read was counted just now, and may be more than it was then.
            read = {"packets": report.packets, "bad_packets": report.bad_packets}
            notes = tuple(dict.fromkeys([*known.notes, *report.notes]))
            restore_report(report, {**mark.report, **read, "notes": notes})
            return pictures
    return None


def _read_by(mark: SourceMark) -> SourceReport:
    report = SourceReport()
    restore_report(report, mark.report)
    return report


def _is_marked(file: VideoFile, picture: av.VideoFrame, mark: SourceMark) -> bool:
    return mark.picture is None or checksum(file.convert(picture)) == mark.picture
