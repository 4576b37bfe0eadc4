"""Read a video file: every picture that can be had, upright, at its own time, and what was lost."""

from __future__ import annotations

import errno
import itertools
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import av.error
import av.stream
from av.video.reformatter import VideoReformatter

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.types import AudioTrack, Frame, SourceReport, StreamInfo
from tracker.video.picture import (
    FALLBACK_RATE,
    Clock,
    FrameMaker,
    checksum,
    is_turned,
    reason,
    restore_report,
    upright,
)

# Containers of real footage. Playlists and scripts (m3u8, ffconcat, sdp) can name other files and
# hosts, so they are not among them, and no protocol but `file` may be opened from within.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,gif,h264,hevc,"
    "mjpeg,m4v,ivf,obu,mxf,wtv,dv,nut,png_pipe,jpeg_pipe,bmp_pipe,webp_pipe,tiff_pipe,image2"
)
_MOST_ERRORS_IN_A_ROW = 500

Wanted = Callable[[int, float], bool]


class VideoFile:
    """Decode one file (or stream of bytes) with PyAV.

    A damaged packet is skipped and counted; pictures are suspect from there to the next key frame.
    What the container declares is compared with what was found.
    """

    def __init__(self, path: Path | IO[bytes], *, name: str, config: SourceConfig) -> None:
        self.name, self._path = name, path
        self._mark: dict[str, Any] | None = None
        self._max_pixels = config.max_pixels
        self._closing = threading.Lock()
        self._container = self._open(path)
        try:
            self._stream = stream = self._pick_stream()
            rate = stream.average_rate or stream.guessed_rate
            self._rate = rate if rate and Fraction(1, 10) <= rate <= 1000 else None
            self.report = SourceReport(declared_frames=stream.frames or None)
            self._decoded = self._pictures()
            self._head = self._read_head()
        except BaseException:
            self.close()
            raise
        first = self._head[-1]
        assert first is not None  # _read_head ends with a picture
        turned = is_turned(first)
        aspect = Fraction(stream.sample_aspect_ratio or 0) or Fraction(1)
        self.info = StreamInfo(
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            rate=self._rate,
            frame_count=stream.frames or self._frames_by_duration(),
            pixel_aspect=1 / aspect if turned else aspect,
        )
        self.audio: AudioTrack | None = None
        self.audio_note: str | None = None  # why there is none though the source has sound
        if self._container.streams.audio and not isinstance(path, Path):
            self.audio_note = f"the sound of {self.name} is lost: it can be read only once"
        elif self._container.streams.audio:
            origin = float(first.time) if first.pts is not None and first.time else 0.0
            self.audio = AudioTrack(str(path), origin)

    def frames(
        self, wanted: Wanted, finished: Wanted, mark: dict[str, Any] | None = None
    ) -> Iterator[Frame]:
        """Yield the frames for which `wanted(index, time)`, until `finished(index, time)`.

        Unwanted pictures are decoded but never converted. With a `mark`, only those behind it.
        """
        report, maker = self.report, FrameMaker(self.report)
        clock = Clock(self._rate or FALLBACK_RATE, report)
        index, suspect, ended_early = 0, True, False
        pictures: Iterator[av.VideoFrame | None] = itertools.chain(self._head, self._decoded)
        try:
            if mark is not None:
                pictures = self._behind(mark)
                index, suspect = mark["index"] + 1, mark["suspect"]
                clock.restore(mark["clock"])
                maker.size = tuple(mark["size"])
            for picture in pictures:
                if picture is None:
                    suspect = True
                    continue
                if picture.is_corrupt:
                    suspect = True
                elif picture.key_frame:
                    suspect = False  # from a key frame on the picture is whole again
                before = clock.last
                time = clock.tell(None if picture.pts is None else picture.time)
                if finished(index, time):
                    ended_early = True
                    break
                frame = maker.make(
                    picture, index, time, suspect=suspect, wanted=wanted(index, time)
                )
                if frame is not None:
                    self._mark = {
                        "index": index,
                        "pts": None if time == before else picture.pts,  # twins are counted
                        "suspect": suspect,
                        "clock": clock.state(),
                        "size": maker.size,
                        "report": asdict(report),
                    }
                    yield frame
                index += 1
            if not ended_early:
                self._compare_with_claims(index, clock)
        finally:
            self.close()

    def mark(self) -> dict[str, Any] | None:
        """Return where the file was when it gave its latest frame; None if it is read only once."""
        return self._mark if isinstance(self._path, Path) else None

    def close(self) -> None:
        """Release the file; safe to call twice."""
        with self._closing:
            self._container.close()

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
        streams = [s for s in self._container.streams.video if not s.disposition & pictures]
        if not streams:
            only_sound = " (only sound)" if self._container.streams.audio else ""
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
        for picture in self._decoded:
            head.append(picture)
            if picture is not None:
                return head
        raise SourceError(f"{self.name}: holds no picture that can be decoded")

    def _frames_by_duration(self) -> int | None:
        if self._rate and self._stream.duration and self._stream.time_base:
            return max(1, round(self._stream.duration * self._stream.time_base * self._rate))
        if self._rate and self._container.duration:
            return max(1, round(Fraction(self._container.duration, av.time_base) * self._rate))
        return None

    # ---- going on ---------------------------------------------------------------------------

    def _behind(self, mark: dict[str, Any]) -> Iterator[av.VideoFrame | None]:
        """Return the pictures behind the marked one, sought by its time or, if need be, by count.

        Raises SourceError where another picture is found at the mark.
        """
        pictures = self._by_time(mark) or self._by_count(mark)
        if pictures is None:
            raise SourceError(
                f"{self.name}: is not the video that the run began with: frame {mark['index']} "
                "is another"
            )
        restore_report(self.report, mark["report"])
        return pictures

    def _by_time(self, mark: dict[str, Any]) -> Iterator[av.VideoFrame | None] | None:
        report = SourceReport(**mark["report"])
        if mark["pts"] is None or report.clock_jumps or not report.complete:
            return None  # one time may be that of several pictures, or of a broken one
        try:
            self._container.seek(mark["pts"], stream=self._stream, backward=True)
            pictures = self._pictures()
            for picture in pictures:
                if picture is None or picture.pts is None or picture.pts > mark["pts"]:
                    return None
                if picture.pts == mark["pts"]:
                    return pictures if _is_marked(picture, mark) else None
        except (av.error.FFmpegError, OSError):
            pass
        return None

    def _by_count(self, mark: dict[str, Any]) -> Iterator[av.VideoFrame | None] | None:
        assert isinstance(self._path, Path)
        with self._closing:
            self._container.close()
            self._container = self._open(self._path)
        self._stream = self._pick_stream()
        pictures = self._pictures()
        number = -1
        for picture in pictures:
            number += picture is not None
            if picture is not None and number == mark["index"]:
                return pictures if _is_marked(picture, mark) else None
        return None

    # ---- decoding ---------------------------------------------------------------------------

    def _packets(self) -> Iterator[av.Packet[Any]]:
        packets = self._container.demux(self._stream)
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

    def _pictures(self) -> Iterator[av.VideoFrame | None]:
        """Yield decoded pictures, and None for each packet that could not be decoded."""
        report, flushed, in_a_row = self.report, False, 0
        for packet in self._packets():
            if packet.size:
                report.packets += 1
            else:
                flushed = True
            try:
                pictures = packet.decode()
            except EOFError:
                continue
            except (av.error.FFmpegError, ValueError):
                report.bad_packets += 1
                in_a_row += 1
                if in_a_row >= _MOST_ERRORS_IN_A_ROW:
                    report.notes.append(f"gave up after {in_a_row} undecodable packets in a row")
                    return
                yield None
                continue
            if pictures:
                in_a_row = 0
            yield from pictures
        if not flushed:
            try:
                yield from self._stream.codec_context.decode(None)
            except (EOFError, av.error.FFmpegError):
                return

    def _compare_with_claims(self, found: int, clock: Clock) -> None:
        report = self.report
        report.missing = max(0, report.packets - found - report.bad_packets)
        declared = report.declared_frames
        if declared and declared > found:
            report.notes.append(f"{found} of {declared} declared frames were found")
        if not (declared and declared <= found):
            clock.compare(self._container.duration)


def _is_marked(picture: av.VideoFrame, mark: dict[str, Any]) -> bool:
    known: int | None = mark.get("picture")
    return known is None or checksum(upright(picture, VideoReformatter())) == known
