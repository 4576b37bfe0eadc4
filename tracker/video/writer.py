"""Write H.264 video that plays everywhere, keeps its times and sound, and survives a crash."""

from __future__ import annotations

import errno
import io
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from tracker.errors import SinkError
from tracker.types import AudioTrack, Image
from tracker.video.audio import AudioFeed
from tracker.video.picture import FALLBACK_RATE, reason

_LARGEST = 16_384  # px, of either side, that encoders of H.264 take
_CLOCK = 90_000  # ticks/s: exact for every usual frame rate, and fine enough for any other
_BT709 = 1  # the code of ITU-T H.273: untagged colours are guessed, by each player its own way
_HELD_S = 1.0  # twice what the muxer waits for sound
_GOP_S = 1.0  # a killed run loses at most the fragment of one group of pictures


@dataclass(frozen=True, slots=True)
class WriterState:
    """How far a video was written."""

    frames: int  # given to the encoder
    first_time: float | None  # s
    last_tick: int  # of the latest frame


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
        state: WriterState | None = None,
    ) -> None:
        """Open the file; with a `state`, go on behind the frames that were written by then."""
        self.path = path = Path(path)
        self.notes: list[str] = []
        self._part = path.with_suffix(f".part{path.suffix}")
        self._size = self._fit(width, height)
        self._rate = rate or FALLBACK_RATE
        self._first_time: float | None = state.first_time if state else None
        self._last_tick: int = state.last_tick if state else -1
        self._frames: int = state.frames if state else 0  # given to the encoder
        self._kept = self._frames  # of them, by an earlier writer
        self.durable = self._kept  # pictures that a kill can no longer take
        self._muxed = 0  # pictures
        self._groups: deque[tuple[float, int]] = deque()  # s of a key frame, pictures before it
        self._error: SinkError | None = None
        self._closed = False
        self._reformatter = VideoReformatter()
        self._audio: AudioFeed | None = None
        # What is there already is copied; until all of it is safe, the old file stays.
        self._old = self._part if self._frames else None
        self._growing = path.with_suffix(f".joined.part{path.suffix}") if state else self._part
        try:
            if self._old and not self._old.exists():
                path.replace(self._old)  # a run that was stopped gave it its final name
            self._file = _RawFile(self._growing.open("wb+", buffering=0))
        except OSError as exc:
            raise SinkError(f"{path}: cannot be written: {exc.strerror}") from exc
        try:
            self._open(crf, preset, audio, pixel_aspect)
            if self._old:
                self._copy(self._old)
        except BaseException as exc:
            self._file.close()
            self._growing.unlink(missing_ok=True)
            if isinstance(exc, av.error.FFmpegError | OSError):
                raise SinkError(f"{path}: cannot be continued: {reason(exc)}") from None
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
            self._frames += 1
            for packet in self._stream.encode(frame):
                self._mux(packet)
        except (av.error.FFmpegError, OSError) as exc:
            self._error = SinkError(f"{self.path}: cannot be written: {reason(exc)}")
            raise self._error from exc

    def state(self) -> WriterState:
        """Return what a writer that goes on needs; raise SinkError where it cannot."""
        if self._error:
            raise self._error
        return WriterState(self._frames, self._first_time, self._last_tick)

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
            with suppress(OSError):
                self._file.sync()
            self._file.close()
        if self._error:
            raise self._error
        try:
            self._name()
        except OSError as exc:
            self._error = SinkError(f"{self.path}: cannot be finished: {exc.strerror}")
            raise self._error from exc

    def _fit(self, width: int, height: int) -> tuple[int, int]:
        """Return a size that is even, as 4:2:0 wants it, and no larger than H.264 allows."""
        if max(width, height) > _LARGEST:
            scale = _LARGEST / max(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
            self.notes.append(
                f"{self.path.name}: scaled to {width} x {height} px: H.264 holds no larger pictures"
            )
        return width + width % 2, height + height % 2

    def _name(self) -> None:
        """Give the file its final name; without a picture, remove it."""
        if self._first_time is None:
            self._growing.unlink(missing_ok=True)
            return
        if self._growing.stat().st_ino != self._file.number:  # another run's, in a folder made anew
            raise FileNotFoundError(errno.ENOENT, "it is gone")
        self._growing.replace(self.path)
        self.durable = self._frames
        if self._old:
            self._old.unlink(missing_ok=True)

    def _open(
        self, crf: int, preset: str, audio: AudioTrack | None, pixel_aspect: Fraction
    ) -> None:
        self._container = av.open(
            self._file,
            "w",
            format="mp4",
            options={
                "movflags": "hybrid_fragmented+frag_keyframe+default_base_moof+delay_moov",
                "flush_packets": "1",
                "max_interleave_delta": "500000",  # us, that pictures wait for sound
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

    def _copy(self, old: Path) -> None:
        """Take over the pictures and the sound of what a run left; raise SinkError."""
        self._container.start_encoding()
        with av.open(f"file:{old.absolute()}") as source:  # a name may look like a protocol
            video = source.streams.video[0]
            before, now = (
                _parameter_sets(one.codec_context.extradata or b"") for one in (video, self._stream)
            )
            if before != now:
                raise SinkError(f"{self.path}: cannot be continued: the encoder is another now")
            # As the encoder gives them: the muxer would take lengths for start codes.
            unpacked = BitStreamFilterContext("h264_mp4toannexb", video)
            sound = source.streams.audio[:1] if self._audio else ()
            with suppress(av.error.FFmpegError):  # it was cut in the middle of a write
                for packet in source.demux([video, *sound]):
                    self._take_over(packet, unpacked)
        if self._muxed < self._kept:
            raise SinkError(
                f"{self.path}: cannot be continued: {self._muxed} of {self._kept} frames are left"
            )

    def _take_over(self, packet: Any, unpacked: BitStreamFilterContext) -> None:
        """Take over one packet of what a run left, if it lies before where the run goes on."""
        if packet.pts is None or packet.time_base is None:
            return
        is_before = packet.pts * packet.time_base < Fraction(self._last_tick, _CLOCK)
        if packet.stream.type == "video" and self._muxed < self._kept:
            for plain in unpacked.filter(packet):
                plain.stream = self._stream
                self._mux(plain)
        elif self._audio and packet.stream.type == "audio" and is_before:
            self._audio.take(packet)

    def _mux(self, packet: Any) -> None:
        """Write a picture; a key frame sends all before it to the disk."""
        safe = 0
        at = float(packet.pts * packet.time_base)
        if packet.is_keyframe:
            self._groups.append((at, self._muxed))
        self._container.mux(packet)
        self._muxed += 1
        # With sound the muxer holds pictures back for a while, so what is safe is older.
        while self._groups and self._groups[0][0] <= at - (_HELD_S if self._audio else 0.0):
            safe = self._groups.popleft()[1]
        if safe > self.durable or (self._old and safe >= self._kept):
            self._file.sync()
        self.durable = max(self.durable, safe)
        if self._old and safe >= self._kept:
            self._growing.replace(self._part)
            self._growing, self._old = self._part, None

    def _finish(self) -> None:
        if self._first_time is None:
            return
        for packet in self._stream.encode(None):
            self._mux(packet)
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


def _parameter_sets(extradata: bytes) -> list[bytes]:
    """Return the SPS and PPS of H.264, as MP4 keeps them (ISO/IEC 14496-15) or as Annex B does."""
    if extradata[:1] != b"\x01":
        return [part for part in extradata.split(b"\0\0\0\1") if part]
    found, place = [], 5
    for _ in ("SPS", "PPS"):
        count, place = extradata[place] & 0x1F, place + 1
        for _ in range(count):
            end = place + 2 + int.from_bytes(extradata[place : place + 2])
            found.append(extradata[place + 2 : end])
            place = end
    return found


class _RawFile(io.RawIOBase):
    """A file that is closed even when the muxer fails: PyAV 18 leaks its own after ENOSPC."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.number = os.fstat(file.fileno()).st_ino

    def write(self, data: bytes) -> int:  # type: ignore[override]
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
