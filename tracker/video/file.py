"""Read a video file: every picture that can be had, upright, at its own time, and what was lost."""

from __future__ import annotations

import errno
import itertools
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import av.error
import av.stream

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.snapshot import SourceMark
from tracker.types import AudioTrack, Frame, SourceReport, StreamInfo
from tracker.video.picture import (
    FALLBACK_RATE,
    Clock,
    FrameMaker,
    Wanted,
    is_turned,
    reason,
    report_state,
)
from tracker.video.seek import find_mark, find_time, mark_before, restart

# Containers of real footage. Playlists and scripts (m3u8, ffconcat, sdp) can name other files and
# hosts, so they are not among them, and no protocol but `file` may be opened from within.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,gif,h264,hevc,"
    "mjpeg,m4v,ivf,obu,mxf,wtv,dv,nut,png_pipe,jpeg_pipe,bmp_pipe,webp_pipe,tiff_pipe,image2"
)
_MOST_ERRORS_IN_A_ROW = 500
_RECENT = 256  # packets: more than a decoder holds


class VideoFile:
    """Decode one file (or stream of bytes) with PyAV.

    A damaged packet is skipped and counted; pictures are suspect from there to the next key frame.
    What the container declares is compared with what was found.
    """

    def __init__(self, path: Path | IO[bytes], *, name: str, config: SourceConfig) -> None:
        self.name, self.path = name, path
        self._max_pixels = config.max_pixels
        self._recent: deque[int | None] = deque(maxlen=_RECENT)  # times of packets
        self._known: SourceMark | None = None  # up to there packets come for the second time
        self._again = 0  # and so many more
        self._closing = threading.Lock()
        self.container = self._open(path)
        try:
            self.stream = stream = self._pick_stream()
            rate = stream.average_rate or stream.guessed_rate
            self._rate = rate if rate and Fraction(1, 10) <= rate <= 1000 else None
            self.report = SourceReport(declared_frames=stream.frames or None)
            self._pictures: Iterator[av.VideoFrame | None] = self.decode()
            self.head = self._read_head()
        except BaseException:
            self.close()
            raise
        self._maker = FrameMaker(self.report)
        self._clock = self.new_clock(self.report)
        self._start: SourceMark | None = None  # what lies before it nobody wants
        self._index = -1  # of the latest picture
        self._pts: int | None = None  # of the latest frame; None where another has the same time
        self._suspect = True  # from a key frame on pictures are whole
        self.info = self._describe(self.head[-1])

    def frames(
        self, wanted: Wanted, finished: Wanted, mark: SourceMark | None = None
    ) -> Iterator[Frame]:
        """Yield the frames for which `wanted(index, time)`, until `finished(index, time)`.

        Unwanted pictures are decoded but never converted. With a `mark`, only those behind it;
        raises SourceError where another picture lies there.
        """
        try:
            for picture in self._behind(mark):
                if picture is None:
                    self._suspect = True
                    continue
                time = self._pass(picture)
                if finished(self._index, time):
                    return
                take = wanted(self._index, time)
                frame = self._maker.make(
                    picture, self._index, time, suspect=self._suspect, wanted=take
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

    def open_again(self) -> av.container.InputContainer:
        """Return the file opened once more, beside this one; raise SourceError."""
        return self._open(self.path)

    def reopen(self) -> None:
        """Go back to the beginning; raise SourceError."""
        with self._closing:
            self.container.close()
            self.container = self.open_again()
        self.stream = self._pick_stream()

    def new_clock(self, report: SourceReport) -> Clock:
        """Return a clock at the file's beginning."""
        return Clock(self._rate or FALLBACK_RATE, report)

    def skip_to(self, is_start: Callable[[int, float], bool]) -> None:
        """Let `frames` begin near the first frame for which `is_start(index, time)`.

        Where packets do not surely tell numbers and times it begins at the beginning. What lies
        before is not looked at: damage there is not told.
        """
        self._start = mark_before(self, is_start)

    def _behind(self, mark: SourceMark | None) -> Iterator[av.VideoFrame | None]:
        """Return the pictures behind a mark, or those that are looked at where there is none."""
        if mark is None and self._start is None:
            return itertools.chain(self.head, self._pictures)
        if mark is not None:
            pictures = find_mark(self, mark)
        elif self._start is not None and (found := find_time(self, self._start)):
            mark, pictures = self._start, found
        else:
            restart(self)
            return self.decode()
        self._index, self._suspect = mark.index, mark.suspect
        self._maker.size = mark.size[0], mark.size[1]
        if mark.clock:
            self._clock.restore(mark.clock)
        return pictures

    def _pass(self, picture: av.VideoFrame) -> float:
        """Take in the next picture and return its time, s."""
        if picture.is_corrupt:
            self._suspect = True
        elif picture.key_frame:
            self._suspect = False
        before = self._clock.last
        time = self._clock.tell(None if picture.pts is None else picture.time)
        self._index += 1
        self._pts = None if time == before else picture.pts
        return time

    def _describe(self, first: av.VideoFrame | None) -> StreamInfo:
        """Return what is claimed, and what the first picture shows to be true."""
        assert first is not None  # the head ends with a picture
        stream, turned = self.stream, is_turned(first)
        aspect = Fraction(stream.sample_aspect_ratio or 0) or Fraction(1)
        audio, note = None, ""
        if self.container.streams.audio and isinstance(self.path, Path):
            origin = float(first.time) if first.pts is not None and first.time else 0.0
            audio = AudioTrack(str(self.path), origin)
        elif self.container.streams.audio:
            note = f"the sound of {self.name} is lost: it can be read only once"
        return StreamInfo(
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            rate=self._rate,
            frame_count=stream.frames or self._frames_by_duration(),
            pixel_aspect=1 / aspect if turned else aspect,
            audio=audio,
            audio_note=note,
        )

    # ---- opening ----------------------------------------------------------------------------

    def _open(self, path: Path | IO[bytes]) -> av.container.InputContainer:
        options = {
            "format_whitelist": _FORMATS,
            "protocol_whitelist": "file",
            "max_pixels": str(self._max_pixels),
        }
        target: Any = path
        if isinstance(path, Path):
            self._check_file(path)
            target = f"file:{path.absolute()}"  # so that 'concat:a|b' stays a file's name
        else:
            options.pop("protocol_whitelist")
        try:
            container: av.container.InputContainer = av.open(target, options=options)
        except (av.error.FFmpegError, OSError, ValueError) as exc:
            why = reason(exc)
            if getattr(exc, "errno", None) == errno.EINVAL:
                why = "its format is none that is read here"
            raise SourceError(f"{self.name}: is not a video that can be read ({why})") from None
        return container

    def _check_file(self, path: Path) -> None:
        try:
            status = path.stat()
        except OSError as exc:
            raise SourceError(f"{self.name}: {reason(exc)}") from None
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{self.name}: is not a regular file")
        if not status.st_size:
            raise SourceError(f"{self.name}: the file is empty (0 bytes)")

    def _pick_stream(self) -> av.VideoStream:
        pictures = av.stream.Disposition.attached_pic  # the cover of a song is no video
        streams = [s for s in self.container.streams.video if not s.disposition & pictures]
        if not streams:
            only_sound = " (only sound)" if self.container.streams.audio else ""
            raise SourceError(f"{self.name}: holds no video stream{only_sound}")
        stream = streams[0]
        codec = stream.codec_context
        if codec is None or not codec.width or not codec.height:
            raise SourceError(
                f"{self.name}: the codec or the size of its pictures is unknown, or they are "
                f"larger than source.max_pixels ({self._max_pixels}) allows"
            )
        if codec.width * codec.height > self._max_pixels:
            raise SourceError(
                f"{self.name}: pictures of {codec.width} x {codec.height} px are larger than "
                f"source.max_pixels ({self._max_pixels}) allows"
            )
        codec.thread_type = "AUTO"
        codec.options = {"max_pixels": str(self._max_pixels)}
        return stream

    def _read_head(self) -> list[av.VideoFrame | None]:
        """Decode up to the first picture, so that size and rotation are facts, not claims."""
        head: list[av.VideoFrame | None] = []
        for picture in self._pictures:
            head.append(picture)
            if picture is not None:
                return head
        raise SourceError(f"{self.name}: holds no picture that can be decoded")

    def _frames_by_duration(self) -> int | None:
        if self._rate and self.stream.duration and self.stream.time_base:
            return max(1, round(self.stream.duration * self.stream.time_base * self._rate))
        if self._rate and self.container.duration:
            return max(1, round(Fraction(self.container.duration, av.time_base) * self._rate))
        return None

    # ---- decoding ---------------------------------------------------------------------------

    def packets(self) -> Iterator[av.Packet[Any]]:
        """Yield the packets of the pictures; what ends them too early becomes a note."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                yield next(packets)
            except StopIteration:
                return
            except IndexError:  # PyAV 18: a stream that appears mid-file breaks the final flush
                self.report.notes.append("a new stream appeared in the middle of the file")
                return
            except (av.error.FFmpegError, OSError) as exc:
                self.report.notes.append(f"reading stopped: {reason(exc)}")
                return

    def decode(self, known: SourceMark | None = None) -> Iterator[av.VideoFrame | None]:
        """Yield decoded pictures, and None for each packet that could not be decoded.

        Packets that had been read at the mark `known` have been counted before.
        """
        flushed, in_a_row = False, 0
        self._known, self._again = known, 0
        for packet in self.packets():
            flushed |= not packet.size
            self._count(packet)
            try:
                pictures = packet.decode()
            except EOFError:
                continue
            except (av.error.FFmpegError, ValueError):
                self.report.bad_packets += 1
                in_a_row += 1
                if in_a_row >= _MOST_ERRORS_IN_A_ROW:
                    why = f"gave up after {in_a_row} undecodable packets in a row"
                    self.report.notes.append(why)
                    return
                yield None
                continue
            if pictures:
                in_a_row = 0
            yield from pictures
        if not flushed:
            with suppress(EOFError, av.error.FFmpegError):
                yield from self.stream.codec_context.decode(None)

    def _count(self, packet: av.Packet[Any]) -> None:
        """Count a packet, once: a decoder that went back reads some of them again."""
        if not packet.size:
            return
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
        report, found = self.report, self._index + 1
        report.missing = max(0, report.packets - found - report.bad_packets)
        declared = report.declared_frames
        if declared and declared > found:
            report.notes.append(f"{found} of {declared} declared frames were found")
        if not (declared and declared <= found):
            self._clock.compare(self.container.duration)
