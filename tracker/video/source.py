"""Open whatever holds a video: a file, images, a camera, a URL or standard input."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tracker.config import SourceConfig, parse_position, parse_stride
from tracker.errors import SourceError
from tracker.snapshot import SourceMark
from tracker.types import Frame, StreamInfo
from tracker.types.stages import Source
from tracker.video.address import on_disk
from tracker.video.container import has_end, no_picture, open_address
from tracker.video.file import VideoFile
from tracker.video.images import ImageSequence
from tracker.video.listing import is_image, is_pattern
from tracker.video.live import LiveStream
from tracker.video.picture import FALLBACK_RATE, checksum
from tracker.video.spool import Spooled, from_address, from_pipe
from tracker.video.stills import holds_video


def open_source(
    uri: str | Path, config: SourceConfig | None = None, mark: SourceMark | None = None
) -> Source:
    """Open a video by its name.

    `uri` is a file, a folder or glob of images, a camera index ("0") or device ("/dev/video0"), an
    rtsp/http(s)/udp/tcp/srt/rtmp URL (in its password `${NAME}` is an environment variable), a file
    URL, or "-" for standard input. Only the part that `config` names is given; with the `mark` of a
    file or images, only what lies behind it. Raises SourceError with one sentence for anything that
    holds no video.
    """
    config = config or SourceConfig()
    text = str(uri)
    if text == "-":
        return _from_pipe(config)
    place = on_disk(text)
    if place is None:
        spooled = from_address(text, timeout_s=config.open_timeout_s)
        if spooled and not holds_video(spooled.path):
            images = ImageSequence(str(spooled.path), config, name=text)
            return _Clip(images, config, kept=spooled)
        return _Clip(_at_address(text, config), config)
    return _Clip(open_stored(place, config, name=text), config, mark)


def open_stored(place: str, config: SourceConfig, *, name: str) -> VideoFile | ImageSequence:
    """Open a file, or a folder or glob of images; raise SourceError."""
    path = Path(place)
    try:
        is_still = is_image(path) and path.is_file() and not holds_video(path)
        is_images = is_still or is_pattern(place) or path.is_dir()
    except OSError as exc:
        raise SourceError(f"{name}: {exc.strerror}") from None
    if is_images:
        return ImageSequence(place, config)
    return VideoFile(path, name=name, config=config)


def _from_pipe(config: SourceConfig) -> Source:
    """Open standard input: a video, or pictures, which are read as a file is."""
    if spooled := from_pipe(sys.stdin.buffer):
        images = ImageSequence(str(spooled.path), config, name="standard input")
        return _Clip(images, config, kept=spooled)
    return _Clip(VideoFile(sys.stdin.buffer, name="standard input", config=config), config)


def _at_address(uri: str, config: SourceConfig) -> VideoFile | LiveStream:
    """Open an address: what ends by itself is read as a file is, byte for byte."""
    container = open_address(uri, config)
    if has_end(container, over_http=uri.lower().startswith("http")):
        return VideoFile(uri, name=uri, config=config, container=container)
    return LiveStream(uri, container, config)


class _Clip:
    """The part of a video between start and end, at a stride."""

    def __init__(
        self,
        source: VideoFile | ImageSequence | LiveStream,
        config: SourceConfig,
        mark: SourceMark | None = None,
        *,
        kept: Spooled | None = None,
    ) -> None:
        """Take over a source, and the file that is `kept` for it."""
        self._source, self._config, self._mark = source, config, mark
        self._kept = kept
        self._start = parse_position(config.start)
        self._end = None if config.end is None else parse_position(config.end)
        self._stride = parse_stride(config.stride)
        self._taken = mark.taken if mark else 0  # frames that the stride has seen
        self._next_time = mark.next_time if mark else 0.0  # s, when it takes the next
        self._latest: Frame | None = None
        self.report = source.report
        self.info = replace(source.info, frame_count=_expected(source.info, config))

    def __iter__(self) -> Iterator[Frame]:
        if isinstance(self._source, VideoFile) and not self._mark and self._start[1]:
            self._source.skip_to(self._has_begun)
        for frame in self._source.frames(self._is_wanted, self._is_over, self._mark):
            self._latest = frame
            yield frame
        if self.report.frames:
            return
        if self.report.skipped:
            raise SourceError(
                f"{self._source.name}: no frame lies between the start "
                f"({self._config.start}) and the end ({self._config.end or 'of the video'})"
            )
        raise no_picture(self._source.name, self._source.name)

    def mark(self) -> SourceMark | None:
        """Return where the source was when it gave the latest frame."""
        mark = self._source.mark()
        if mark is None or self._latest is None:
            return None
        place = {"taken": self._taken, "next_time": self._next_time}
        return mark.model_copy(update={**place, "picture": checksum(self._latest.image)})

    def close(self) -> None:
        """Release the source."""
        self._source.close()
        if self._kept:
            self._kept.close()

    def _has_begun(self, index: int, time: float) -> bool:
        unit, start = self._start
        return (index if unit == "frames" else time + 1e-6) >= start

    def _is_over(self, index: int, time: float) -> bool:
        if self._end is None:
            return False
        unit, end = self._end
        return (index if unit == "frames" else time + 1e-6) >= end

    def _is_wanted(self, index: int, time: float) -> bool:
        if not self._has_begun(index, time):
            return False
        unit, stride = self._stride
        first, self._taken = not self._taken, self._taken + 1
        if unit == "frames":
            return (self._taken - 1) % int(stride) == 0
        if first:
            self._next_time = time + stride
            return True
        if time + 1e-6 < self._next_time:
            self._taken -= 1
            return False
        # Keep to the grid, so that one late frame does not delay all that follow.
        steps = max(1, int((time + 1e-6 - self._next_time) / stride) + 1)
        self._next_time += steps * stride
        return True


def _expected(info: StreamInfo, config: SourceConfig) -> int | None:
    """Return how many frames the part will have, as far as the container's claims go."""
    if info.frame_count is None:
        return None
    rate = float(info.rate or FALLBACK_RATE)

    def frame_at(position: float | str) -> float:
        unit, value = parse_position(position)
        return value if unit == "frames" else value * rate

    end = info.frame_count if config.end is None else min(info.frame_count, frame_at(config.end))
    unit, stride = parse_stride(config.stride)
    step = stride if unit == "frames" else max(1.0, stride * rate)
    return max(1, math.ceil((end - frame_at(config.start)) / step))
