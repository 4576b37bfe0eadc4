"""Read cameras and network streams, where silence and an unexpected end are faults."""

from __future__ import annotations

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
from tracker.video.container import Container, choose_streams, fault
from tracker.video.health import Health
from tracker.video.picture import FALLBACK_RATE, Clock, FrameMaker, Wanted, usable_rate
from tracker.video.reading import decode, prepare


class LiveStream:
    """One camera or network stream that has been opened, and never ends by itself."""

    def __init__(self, uri: str, container: Container, config: SourceConfig) -> None:
        self.name = uri
        self._container, self._config = container, config
        self._closing = threading.Lock()
        try:
            self._stream = choose_streams(
                container, name=uri, max_pixels=config.max_pixels, wanted=config.stream
            )[0]
        except BaseException:
            self.close()
            raise
        prepare(self._stream, max_pixels=config.max_pixels, live=True)
        codec = self._stream.codec_context
        self._rate = usable_rate(self._stream)
        self.report = SourceReport()
        self.info = StreamInfo(
            codec.width,
            codec.height,
            self._rate,
            None,
            pixel_aspect=Fraction(self._stream.sample_aspect_ratio or 0) or Fraction(1),
            live=True,
            started=datetime.now(UTC),
        )
        # A multipart JPEG stream carries no times: FFmpeg invents 25 frames/s.
        self._has_times = container.format.name != "mpjpeg"

    def mark(self) -> None:
        """Return None: what a camera showed cannot be seen again."""

    def frames(
        self, wanted: Wanted, finished: Wanted, mark: SourceMark | None = None
    ) -> Iterator[Frame]:
        """Yield the frames for which `wanted(index, time)`, until `finished(index, time)`."""
        assert mark is None
        report, maker = self.report, FrameMaker(self.report, self._stream)
        clock = Clock(self._rate or FALLBACK_RATE, report, leaps=True)
        health = Health(self._stream, report)
        index = 0
        try:
            for shown in decode(self._packets(), self._stream, health, report, self._count):
                if shown is None:
                    continue
                picture = shown.picture
                stamp = picture.time if picture.pts is not None else None
                moment = clock.tell(stamp if self._has_times else time.monotonic())
                if finished(index, moment):
                    return
                frame = maker.make(
                    picture, index, moment, suspect=shown.suspect, wanted=wanted(index, moment)
                )
                if frame is not None:
                    yield frame
                index += 1
            raise SourceError(f"{self.name}: the stream ended after {index} frames")
        finally:
            self.close()

    def close(self) -> None:
        """Release the camera or connection; safe to call twice."""
        with self._closing:
            self._container.close()

    def _count(self, _packet: av.Packet[Any]) -> None:
        self.report.packets += 1

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Yield the packets; raise SourceError where the connection is silent or breaks."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, EOFError):
                return
            except av.error.ExitError:
                packet, why = None, f"no picture came for {self._config.read_timeout_s:g} s"
            except (av.error.FFmpegError, OSError, IndexError) as exc:
                packet, why = None, f"the connection broke ({fault(exc)})"
            if packet is None:
                raise SourceError(f"{self.name}: {why}")
            yield packet
