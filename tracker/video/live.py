"""Read cameras and network streams, where silence and an unexpected end are faults."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import av
import av.error

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.snapshot import SourceMark
from tracker.types import Frame, SourceReport, StreamInfo
from tracker.video.address import advice, is_camera, to_address
from tracker.video.picture import FALLBACK_RATE, Clock, FrameMaker, Wanted, reason

_ADVICE = {
    "ExitError": "no answer in time",
    "HTTPUnauthorizedError": "user name or password is wrong (401)",
    "HTTPForbiddenError": "access is forbidden (403)",
    "HTTPNotFoundError": "the address is not known there (404)",
    "ConnectionRefusedError": "nothing answers at this address (connection refused)",
}


class LiveStream:
    """One camera or network stream; a URL that declares a length is read as a file is."""

    def __init__(self, uri: str, config: SourceConfig) -> None:
        self.name = uri
        self._config = config
        self._closing = threading.Lock()
        self._container = self._open()
        streams = self._container.streams.video
        if not streams:
            self.close()
            raise SourceError(f"{uri}: holds no video stream")
        self._stream = stream = streams[0]
        codec: av.VideoCodecContext | None = stream.codec_context
        if codec is None:  # FFmpeg has no decoder for it
            self.close()
            raise SourceError(f"{uri}: the codec of its pictures is unknown")
        if codec.width * codec.height > config.max_pixels:
            self.close()
            raise SourceError(
                f"{uri}: pictures of {codec.width} x {codec.height} px are larger than "
                f"source.max_pixels ({config.max_pixels}) allows"
            )
        codec.thread_type = "SLICE"  # frame threads would add their number of frames of delay
        rate = stream.average_rate or stream.guessed_rate
        self._rate = rate if rate and Fraction(1, 10) <= rate <= 1000 else None
        live = not self._container.duration
        self.report = SourceReport()
        started = datetime.now(UTC) if live else None
        self.info = StreamInfo(
            codec.width, codec.height, self._rate, None, live=live, started=started
        )
        # A multipart JPEG stream carries no times: FFmpeg invents 25 frames/s.
        self._has_times = self._container.format.name != "mpjpeg"

    def mark(self) -> None:
        """Return None: what a camera showed cannot be seen again."""

    def frames(
        self, wanted: Wanted, finished: Wanted, mark: SourceMark | None = None
    ) -> Iterator[Frame]:
        """Yield the frames for which `wanted(index, time)`, until `finished(index, time)`."""
        assert mark is None
        report, maker = self.report, FrameMaker(self.report)
        clock = Clock(self._rate or FALLBACK_RATE, report)
        index, suspect = 0, True
        try:
            for picture in self._pictures():
                if picture is None or picture.is_corrupt:
                    suspect = True
                elif picture.key_frame:
                    suspect = False
                if picture is None:
                    continue
                stamp = picture.time if picture.pts is not None else None
                moment = clock.tell(stamp if self._has_times else time.monotonic())
                if finished(index, moment):
                    return
                frame = maker.make(
                    picture, index, moment, suspect=suspect, wanted=wanted(index, moment)
                )
                if frame is not None:
                    yield frame
                index += 1
            if self.info.live:
                raise SourceError(f"{self.name}: the stream ended after {index} frames")
            clock.compare(self._container.duration)
        finally:
            self.close()

    def close(self) -> None:
        """Release the camera or connection; safe to call twice."""
        with self._closing:
            self._container.close()

    def _open(self) -> av.container.InputContainer:
        config, uri = self._config, self.name
        target = to_address(uri)
        arguments: dict[str, Any] = {}
        options = {"max_pixels": str(config.max_pixels)}
        if is_camera(uri):
            target, arguments = _camera(uri)
        elif uri.lower().startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # lost UDP packets are wrong pictures without a flag
        try:
            container: av.container.InputContainer = av.open(
                target,
                options=options,
                timeout=(config.open_timeout_s, config.read_timeout_s),
                **arguments,
            )
            return container
        except (av.error.FFmpegError, OSError, ValueError) as exc:
            why = _why(exc)
        # Not where it is caught: as a context the error would carry the address along.
        raise SourceError(f"{uri}: cannot be opened ({why}{advice(uri)})")

    def _pictures(self) -> Iterator[av.VideoFrame | None]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, EOFError):
                return
            except av.error.ExitError:
                packet, fault = None, f"no picture came for {self._config.read_timeout_s:g} s"
            except (av.error.FFmpegError, OSError, IndexError) as exc:
                packet, fault = None, f"the connection broke ({_why(exc)})"
            if packet is None:
                raise SourceError(f"{self.name}: {fault}")
            self.report.packets += bool(packet.size)
            try:
                yield from packet.decode()
            except EOFError:
                return
            except (av.error.FFmpegError, ValueError):
                self.report.bad_packets += 1
                yield None


def _camera(uri: str) -> tuple[str, dict[str, Any]]:
    """Return what PyAV opens for a camera index or device on this system."""
    if sys.platform == "darwin":
        return uri, {"format": "avfoundation"}
    if sys.platform == "win32":
        raise SourceError(f"camera {uri}: on Windows give the camera as an rtsp or http URL")
    return (f"/dev/video{uri}" if uri.isdecimal() else uri), {"format": "v4l2"}


def _why(exc: BaseException) -> str:
    return _ADVICE.get(type(exc).__name__) or reason(exc)
