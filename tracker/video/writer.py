"""Write H.264 video that plays everywhere, keeps its times and sound, and survives a crash."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from tracker.errors import SinkError
from tracker.types import AudioTrack, Image
from tracker.video.audio import AudioFeed
from tracker.video.picture import FALLBACK_RATE, reason

_CLOCK = 90_000  # ticks/s: exact for every usual frame rate, and fine enough for any other
_BT709 = 1  # the code of ITU-T H.273: untagged colours are guessed, by each player its own way
_GOP_S = 1.0  # a killed run loses at most the fragment of one group of pictures


class VideoWriter:
    """Encode pictures at their own times into an MP4 file.

    The file is fragmented while it grows (readable after a kill) and an ordinary MP4 once closed.
    It is called NAME.part.mp4 until then. Raises SinkError; the first error is kept and raised
    again by `close`.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        rate: Fraction | None = None,
        crf: int = 23,
        preset: str = "veryfast",
        audio: AudioTrack | None = None,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self.path = path
        self.notes: list[str] = []
        self._part = path.with_suffix(f".part{path.suffix}")
        self._size = (width + width % 2, height + height % 2)  # 4:2:0 has no odd sizes
        self._rate = rate or FALLBACK_RATE
        self._first_time: float | None = None
        self._last_tick = -1
        self._error: SinkError | None = None
        self._closed = False
        self._reformatter = VideoReformatter()
        self._audio: AudioFeed | None = None
        try:
            self._file = _RawFile(self._part.open("wb+", buffering=0))
        except OSError as exc:
            raise SinkError(f"{path}: cannot be written: {exc.strerror}") from exc
        try:
            self._open(crf, preset, audio, pixel_aspect)
        except BaseException:
            self._file.close()
            self._part.unlink(missing_ok=True)
            raise

    def write(self, image: Image, time: float) -> None:
        """Append a picture that is shown at `time` (s); another size is fitted into the first."""
        if self._error:
            raise self._error
        try:
            if self._first_time is None:
                self._first_time = time
            tick = max(self._last_tick + 1, round((time - self._first_time) * _CLOCK))
            self._last_tick = tick
            frame = self._to_frame(image)
            frame.pts, frame.time_base = tick, Fraction(1, _CLOCK)
            if self._audio:
                self._audio.mux_until(time, self._first_time)
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as exc:
            self._error = SinkError(f"{self.path}: cannot be written: {reason(exc)}")
            raise self._error from exc

    def close(self) -> None:
        """Finish the file and give it its final name; without a picture, leave no file."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._error:
                self._finish()
        except (av.error.FFmpegError, OSError) as exc:
            self._error = SinkError(f"{self.path}: cannot be finished: {reason(exc)}")
        finally:
            try:
                self._container.close()
            except (av.error.FFmpegError, OSError) as exc:
                self._error = self._error or SinkError(
                    f"{self.path}: cannot be finished: {reason(exc)}"
                )
            if self._audio:
                self._audio.close()
            self._file.close()
        if self._error:
            raise self._error
        if self._first_time is None:
            self._part.unlink(missing_ok=True)
        else:
            self._part.replace(self.path)

    def _open(
        self, crf: int, preset: str, audio: AudioTrack | None, pixel_aspect: Fraction
    ) -> None:
        self._container = av.open(
            self._file,
            "w",
            format="mp4",
            options={
                "movflags": "hybrid_fragmented+frag_keyframe+default_base_moof",
                "flush_packets": "1",
            },
        )
        self._stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"preset": preset, "crf": str(crf)}
        )
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.sample_aspect_ratio = pixel_aspect
        codec = self._stream.codec_context
        codec.gop_size = max(1, round(self._rate * Fraction(_GOP_S)))
        codec.max_b_frames = 0  # so that what is on disk ends with the last picture written
        codec.time_base = Fraction(1, _CLOCK)
        codec.colorspace, codec.color_range = _BT709, ColorRange.MPEG.value
        codec.color_primaries = codec.color_trc = _BT709
        if audio:
            self._audio = AudioFeed(audio, self._container)
            self.notes += self._audio.notes

    def _finish(self) -> None:
        if self._first_time is None:
            return
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        if self._audio:
            end = self._first_time + self._last_tick / _CLOCK + float(1 / self._rate)
            self._audio.mux_until(end, self._first_time)
            self._audio.flush()

    def _to_frame(self, image: Image) -> av.VideoFrame:
        width, height = self._size
        h, w = image.shape[:2]
        if w > width or h > height or (w + w % 2, h + h % 2) != self._size:
            scale = min(width / w, height / h)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            w, h = max(1, round(w * scale)), max(1, round(h * scale))
            fitted = self._reformatter.reformat(frame, width=w, height=h)
            image = fitted.to_ndarray()  # type: ignore[assignment]
        if (w, h) != self._size:
            image = np.pad(image, ((0, height - h), (0, width - w), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        return self._reformatter.reformat(
            frame,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )


class _RawFile(io.RawIOBase):
    """A file that is closed even when the muxer fails: PyAV 18 leaks its own after ENOSPC."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:  # type: ignore[override]
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
