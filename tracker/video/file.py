"""Read a video file: every picture that can be had, upright, at its own time, and what was lost."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import av.error

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.snapshot import SourceMark
from tracker.types import AudioTrack, Frame, Image, SourceReport, StreamInfo
from tracker.video.claims import Claims
from tracker.video.container import (
    Container,
    choose_streams,
    demux,
    fault,
    has_leaps,
    no_picture,
    open_address,
    open_file,
)
from tracker.video.health import Health, holes_of
from tracker.video.picture import (
    FALLBACK_RATE,
    Clock,
    FrameMaker,
    Wanted,
    is_turned,
    reason,
    report_state,
    restore_report,
    usable_rate,
)
from tracker.video.reading import Shown, decode, prepare
from tracker.video.remarks import remarks, tells_times
from tracker.video.seek import find_mark, find_time, mark_before

_RECENT = 256  # packets: more than a decoder holds


class VideoFile:
    """Decode one file with PyAV, by its path, its address or as bytes that come once.

    A damaged packet is skipped and counted; pictures are suspect from there until all is whole.
    What the container declares is compared with what was found.
    """

    def __init__(
        self,
        path: Path | str | IO[bytes],
        *,
        name: str,
        config: SourceConfig,
        container: Container | None = None,
    ) -> None:
        """Open it, or take over the `container` of an address, and read the first picture."""
        self.name, self.path, self._config = name, path, config
        self.report = SourceReport()
        self._recent: deque[int | None] = deque(maxlen=_RECENT)  # times of packets
        self._known: SourceMark | None = None  # up to there packets come for the second time
        self._again = 0  # and so many more
        self._broken = ""  # why a connection gives no more
        self._closing = threading.Lock()
        self.container = container or self.open_again()
        try:
            self._number, self.head = self._choose()
        except BaseException:
            self.close()
            raise
        self._tells_times = tells_times(self.stream)
        self._rate = self._choose_rate()
        self._maker = FrameMaker(self.report, self.stream)
        self._clock = self.new_clock(self.report)
        self._start: SourceMark | None = None  # what lies before it nobody wants
        self._index = -1  # of the latest picture
        self._pts: int | None = None  # of the latest frame; None where another has the same time
        self._suspect = True  # the latest picture
        self.info = self._describe(self.head[-1])

    def frames(
        self, wanted: Wanted, finished: Wanted, mark: SourceMark | None = None
    ) -> Iterator[Frame]:
        """Yield the frames for which `wanted(index, time)`, until `finished(index, time)`.

        Unwanted pictures are decoded but never converted. With a `mark`, only those behind it;
        raises SourceError where another picture lies there.
        """
        try:
            for shown in self._behind(mark):
                if shown is None:
                    continue
                time = self._pass(shown)
                if finished(self._index, time):
                    return
                frame = self._maker.make(
                    shown.picture,
                    self._index,
                    time,
                    suspect=shown.suspect,
                    wanted=wanted(self._index, time),
                )
                if frame is not None:
                    yield frame
            self._compare_with_claims()
        finally:
            self.close()

    def mark(self) -> SourceMark | None:
        """Return where the latest frame lay; None before it, and for what is read only once."""
        size = self._maker.size
        if size is None or not isinstance(self.path, Path):
            return None
        return SourceMark(
            index=self._index,
            pts=self._pts,
            suspect=self._suspect,
            clock=self._clock.state(),
            size=size,
            report=report_state(self.report),
            ahead=self._ahead(),
        )

    def close(self) -> None:
        """Release the file; safe to call twice."""
        with self._closing:
            self.container.close()

    def open_again(self) -> Container:
        """Return the file opened once more, beside this one; raise SourceError."""
        if isinstance(self.path, str):
            return open_address(self.path, self._config)
        return open_file(self.path, name=self.name, max_pixels=self._config.max_pixels)

    def reopen(self) -> None:
        """Go back to the beginning, as if nothing had been read; raise SourceError."""
        with self._closing:
            self.container.close()
            self.container = self.open_again()
        self._begin(self._number)

    def new_clock(self, report: SourceReport) -> Clock:
        """Return a clock at the file's beginning."""
        return Clock(self._rate or FALLBACK_RATE, report, leaps=has_leaps(self.container))

    def convert(self, picture: av.VideoFrame) -> Image:
        """Return a picture as it is given out."""
        return self._maker.convert(picture)

    def skip_to(self, is_start: Callable[[int, float], bool]) -> None:
        """Let `frames` begin near the first frame for which `is_start(index, time)`.

        Where packets do not surely tell numbers and times it begins at the beginning. What lies
        before is not looked at: damage there is not told.
        """
        self._start = mark_before(self, is_start)

    def _behind(self, mark: SourceMark | None) -> Iterator[Shown | None]:
        """Return the pictures behind a mark, or those that are looked at where there is none."""
        if mark is None and self._start is None:
            return itertools.chain(self.head, self._pictures)
        if mark is not None:
            pictures = find_mark(self, mark)
        elif self._start is not None and (found := find_time(self, self._start)):
            mark, pictures = self._start, found
        else:
            self.reopen()
            return self.decode()
        self._index, self.health.suspect = mark.index, mark.suspect
        self._maker.size = mark.size[0], mark.size[1]
        if mark.clock:
            self._clock.restore(mark.clock)
        return pictures

    def _pass(self, shown: Shown) -> float:
        """Take in the next picture and return its time, s."""
        picture, before = shown.picture, self._clock.last
        time = self._clock.tell(picture.time if self._tells_times else None)
        self._index += 1
        self._suspect = shown.suspect
        self._pts = None if time == before else picture.pts
        return time

    def _describe(self, shown: Shown | None) -> StreamInfo:
        """Return what is claimed, and what the first picture shows to be true."""
        assert shown is not None  # the head ends with a picture
        first, stream = shown.picture, self.stream
        turned = is_turned(self._maker.matrix(first))
        aspect = Fraction(stream.sample_aspect_ratio or 0) or Fraction(1)
        audio, note = None, ""
        if self.container.streams.audio and isinstance(self.path, Path | str):
            origin = float(first.time) if first.pts is not None and first.time else 0.0
            audio = AudioTrack(str(self.path), origin)
        elif self.container.streams.audio:
            note = f"the sound of {self.name} is lost: it can be read only once"
        return StreamInfo(
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            rate=self._rate,
            frame_count=self._claims.expected_frames(self._rate),
            pixel_aspect=1 / aspect if turned else aspect,
            audio=audio,
            audio_note=note,
            remarks=remarks(stream, first, self._maker.convert),
        )

    def _choose_rate(self) -> Fraction | None:
        """Return the frames/s that are declared, or given where the container tells no times."""
        if self._tells_times:
            return usable_rate(self.stream)
        given = Fraction(self._config.fps or 0).limit_denominator(1000)
        return given or self.stream.codec_context.framerate or FALLBACK_RATE

    # ---- opening ----------------------------------------------------------------------------

    def _choose(self) -> tuple[int, list[Shown | None]]:
        """Return the number of the first stream that decodes, and all up to its first picture.

        So size and rotation are facts, not claims. Raises SourceError.
        """
        streams = choose_streams(
            self.container,
            name=self.name,
            max_pixels=self._config.max_pixels,
            wanted=self._config.stream,
        )
        numbers = [stream.index for stream in streams]
        if not isinstance(self.path, Path | str):
            del numbers[1:]  # what has been read does not come again
        for number in numbers:
            if number != numbers[0]:
                self.container.close()
                self.container = self.open_again()
            self._begin(number)
            head: list[Shown | None] = []
            for shown in self._pictures:
                head.append(shown)
                if shown is not None:
                    return number, head
        if self._broken:
            raise SourceError(f"{self.name}: {self._broken}")
        raise no_picture(self.path, self.name)

    def _begin(self, number: int) -> None:
        """Prepare to read one stream from its beginning."""
        self._number = number
        self.stream = self._pick_stream()
        self._claims = Claims(self.container, self.stream)
        fresh = SourceReport(declared_frames=self._claims.frames)
        restore_report(self.report, report_state(fresh))
        self._pictures = self.decode()

    def _pick_stream(self) -> av.VideoStream:
        stream = self.container.streams[self._number]
        assert isinstance(stream, av.VideoStream)
        prepare(stream, max_pixels=self._config.max_pixels, live=False)
        return stream

    # ---- decoding ---------------------------------------------------------------------------

    def packets(self) -> Iterator[av.Packet[Any]]:
        """Yield the packets of the pictures; what ends them too early becomes a note.

        The sound's are read too: they tell whether the file reaches the end that it declares.
        """
        packets = demux(self.container, self.stream, *self.container.streams.audio)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except IndexError:  # PyAV 18: a stream that appears mid-file breaks the final flush
                self.report.notes.append("a new stream appeared in the middle of the file")
                return
            except (av.error.FFmpegError, OSError) as exc:
                if isinstance(self.path, str):  # what the decoder still holds is shown first
                    self._broken = f"the connection broke ({fault(exc)})"
                    return
                self.report.notes.append(f"reading stopped: {reason(exc)}")
                return
            if packet.stream_index == self._number:
                yield packet
            else:
                self._claims.take_sound(packet)

    def decode(self, known: SourceMark | None = None) -> Iterator[Shown | None]:
        """Yield decoded pictures, and None for each packet that could not be decoded.

        Packets that had been read at the mark `known` have been counted before.
        """
        self._known, self._again = known, 0
        self.health = Health(self.stream, self.report, holes_of(self.stream), begins=known is None)
        return decode(self.packets(), self.stream, self.health, self.report, self._count)

    def _count(self, packet: av.Packet[Any]) -> None:
        """Count a packet, once: a decoder that went back reads some of them again."""
        time = packet.dts if packet.pts is None else packet.pts
        self._recent.append(time)
        if self._known is not None:
            if self._known.pts == time:
                self._again, self._known = self._known.ahead or 0, None
        elif self._again:
            self._again -= 1
        else:
            self.report.packets += 1

    def _ahead(self) -> int | None:
        """Return how many packets were read behind that of the latest frame."""
        times = list(self._recent)
        if self._pts is None or times.count(self._pts) != 1:
            return None
        return len(times) - 1 - times.index(self._pts)

    def _compare_with_claims(self) -> None:
        """Note what is missing of what the container declares; raise SourceError.

        A connection may break behind the last picture: where nothing is missing, it has just ended.
        """
        report, found = self.report, self._index + 1
        report.missing += max(0, report.packets - found - report.bad_packets)
        declared = (report.declared_frames or 0) - self.health.left_out
        noted = len(report.notes)
        if declared <= 0 or self._claims.are_slots(declared, found):
            self._compare_with_duration()
        elif declared > found:
            report.notes.append(f"{found} of {declared} declared frames were found")
        if isinstance(self.path, Path) and self._claims.is_cut(self.path):
            report.notes.append("the file ends in the middle of a packet: it was cut off")
        if self._broken and (len(report.notes) > noted or not self._is_length_known):
            raise SourceError(f"{self.name}: {self._broken}")

    def _compare_with_duration(self) -> None:
        """Note where the file ends well before what it declares."""
        last = self._clock.last
        if last is None or self.report.clock_jumps:
            return
        step = max(self._clock.step, last / max(1, self._index))  # the mean, if times are uneven
        if short := self._claims.shortfall(last, step):
            end, claimed = short
            self.report.missing += self._claims.missing(end, claimed, step)
            self.report.notes.append(f"the video ends at {end:.1f} s of {claimed:.1f} s")

    @property
    def _is_length_known(self) -> bool:
        return bool(self.report.declared_frames or self.container.duration)
