"""Open whatever holds a video: a file, images, a camera, a URL or standard input."""

from __future__ import annotations

import glob
import math
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracker.config import SourceConfig, parse_position, parse_stride
from tracker.errors import SourceError
from tracker.types import Frame, Source, StreamInfo
from tracker.video.address import on_disk
from tracker.video.file import VideoFile
from tracker.video.images import ImageSequence, is_image
from tracker.video.live import LiveStream
from tracker.video.picture import FALLBACK_RATE

_MARKS = 4096  # frames that may be on their way through a run


def open_source(
    uri: str | Path, config: SourceConfig | None = None, mark: dict[str, Any] | None = None
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
        return _Clip(VideoFile(sys.stdin.buffer, name="standard input", config=config), config)
    place = on_disk(text)
    if place is None:
        return _Clip(LiveStream(text, config), config)
    path = Path(place)
    try:
        is_pattern = not path.exists() and (set("*?") & set(place) or glob.glob(place))  # noqa: PTH207
        is_images = path.is_dir() or is_pattern or is_image(path)
    except OSError as exc:
        raise SourceError(f"{text}: {exc.strerror}") from None
    if is_images and (is_pattern or path.exists()):
        return _Clip(ImageSequence(place, config), config, mark)
    return _Clip(VideoFile(path, name=text, config=config), config, mark)


class _Clip:
    """The part of a video between start and end, at a stride."""

    def __init__(
        self,
        source: VideoFile | ImageSequence | LiveStream,
        config: SourceConfig,
        mark: dict[str, Any] | None = None,
    ) -> None:
        self._source, self._config, self._mark = source, config, mark
        self._marks: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_MARKS)
        self.report = source.report
        self.info = replace(source.info, frame_count=_expected(source.info, config))
        self.audio_note = source.audio_note if isinstance(source, VideoFile) else None
        self.audio = source.audio if isinstance(source, VideoFile) else None

    def __iter__(self) -> Iterator[Frame]:
        start_unit, start = parse_position(self._config.start)
        end_unit, end = parse_position(self._config.end if self._config.end is not None else "0")
        has_end = self._config.end is not None
        stride_unit, stride = parse_stride(self._config.stride)
        taken, next_time = self._mark["clip"] if self._mark else (0, 0.0)

        def wanted(index: int, time: float) -> bool:
            nonlocal taken, next_time
            if (index if start_unit == "frames" else time + 1e-6) < start:
                return False
            if stride_unit == "frames":
                taken += 1
                return (taken - 1) % int(stride) == 0
            if taken and time + 1e-6 < next_time:
                return False
            # Keep to the grid, so that one late frame does not delay all that follow.
            steps = 1 if not taken else max(1, int((time + 1e-6 - next_time) / stride) + 1)
            next_time = (time if not taken else next_time) + steps * stride
            taken += 1
            return True

        def finished(index: int, time: float) -> bool:
            return has_end and (index if end_unit == "frames" else time + 1e-6) >= end

        for frame in self._source.frames(wanted, finished, self._mark):
            if (mark := self._source.mark()) is not None:
                self._marks.append((frame.index, {**mark, "clip": [taken, next_time]}))
            yield frame
        if not self.report.frames:
            if self.report.skipped:
                raise SourceError(
                    f"{self._source.name}: no frame lies between the start "
                    f"({self._config.start}) and the end ({self._config.end or 'of the video'})"
                )
            raise SourceError(f"{self._source.name}: holds no picture that can be decoded")

    def mark(self, index: int) -> dict[str, Any] | None:
        """Return where the source was when it gave frame `index`."""
        while self._marks:
            number, mark = self._marks.popleft()
            if number == index:
                return mark
        return None

    def close(self) -> None:
        """Release the source."""
        self._source.close()


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
