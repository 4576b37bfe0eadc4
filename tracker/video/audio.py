"""Carry a source's sound into an output: copied where MP4 can hold it, else encoded as AAC."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.bitstream import BitStreamFilterContext

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.types import AudioTrack
from tracker.video.address import on_disk
from tracker.video.container import Container, demux, open_address, open_container
from tracker.video.picture import reason

_CLOCK_JUMP_S = 5.0  # shorter gaps are silence, and stay
# Hz (ISO/IEC 14496-3, 1.6.3.4): those that players know.
_AAC_RATES = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000]
_HIGHEST_AAC_RATE = 48_000  # Hz, for sounds beyond all: more than anybody hears
# What MP4 holds and players know. AC-3 is not among them: its head needs a packet, and a part of a
# video may hold none.
_COPIED = {"aac", "mp3", "opus", "flac", "alac"}


class AudioFeed:
    """Read sound beside the video and mux it as far as the pictures have come.

    Trouble with the sound never ends a run: it stops the sound and leaves a note.
    """

    def __init__(self, track: AudioTrack, output: av.container.OutputContainer) -> None:
        self.notes: list[str] = []
        self._output = output
        self._origin = track.origin
        self._waiting: Any = None  # a packet or frame that lies ahead of the pictures
        self._last = float("-inf")  # s, on the source's clock, of the newest sound muxed
        self._offset = 0.0  # s, added since the source's clock jumped
        self._step = 0.02  # s, between the latest two pieces of sound
        self._taken = float("-inf")  # s, from the first picture, of the newest sound taken over
        self._ended = self._copies = False
        self._input: av.container.InputContainer | None = None
        try:
            self._input = _open(track.path)
            source = self._input.streams.audio[0]
            codec: Any = source.codec_context
            if codec is None:
                raise ValueError("its codec is unknown")
            self._copies = codec.codec.canonical_name in _COPIED and _fits(source)
            if self._copies:
                self._stream: Any = output.add_stream_from_template(source)
                self._items: Iterator[Any] = self._unpacked(source)
            else:
                self._stream = output.add_stream("aac", rate=_nearest_rate(codec.sample_rate))
                self._stream.layout = "stereo" if codec.channels > 1 else "mono"
                self._items = self._frames(source)
                self.notes.append(f"the sound was encoded anew: {codec.name} to aac")
        except (av.error.FFmpegError, OSError, IndexError, ValueError, SourceError) as exc:
            why = reason(exc) if isinstance(exc, OSError | av.error.FFmpegError) else str(exc)
            self.notes.append(f"the sound was left out: {why}")
            self._ended = True
            self._items = iter(())

    def take(self, packet: Any) -> None:
        """Mux a packet of an earlier output; what the input has up to there is left out."""
        if self._input and not self._ended:
            self._taken = float(packet.pts * packet.time_base)
            packet.stream = self._stream
            self._output.mux(packet)

    def mux_until(self, time: float, first_time: float) -> None:
        """Mux all sound before `time`; `first_time` is the source time of the first picture."""
        try:
            self._mux_until(time, first_time)
        except (av.error.FFmpegError, ValueError) as exc:
            self._give_up(exc)

    def flush(self) -> None:
        """Write what the encoder still holds."""
        try:
            if self._input and not self._copies and not self._ended:
                self._mux(self._stream.encode(None))
        except (av.error.FFmpegError, ValueError) as exc:
            self._give_up(exc)

    def _mux_until(self, time: float, first_time: float) -> None:
        while not self._ended:
            item = self._waiting or next(self._items, None)
            self._waiting = None
            if item is None:
                return
            at = float(item.pts * item.time_base) - self._origin + self._offset
            if abs(at - self._last) > _CLOCK_JUMP_S and self._last > float("-inf"):
                self._offset += self._last + self._step - at  # go on where the sound was
                at = self._last + self._step
            if at >= time:
                self._waiting = item
                return
            if at < first_time - 1e-3 or at <= self._last:
                continue  # before the first picture, or twice the same
            if self._last > float("-inf"):
                self._step = at - self._last
            self._last = at
            reaches = at if self._copies else at + item.samples / item.sample_rate
            if reaches - first_time < self._taken + 1e-3:
                continue  # taken over; what only begins there is cut when it is encoded
            item.pts = max(0, round((at - first_time) / item.time_base))
            if self._copies:
                item.dts = item.pts
                item.stream = self._stream
                self._output.mux(item)
            else:
                self._mux(self._stream.encode(item))

    def _mux(self, packets: list[Any]) -> None:
        """Write what was encoded, without the silence before it that AAC begins with.

        A time below zero would push all pictures back by as much.
        """
        for packet in packets:
            if float(packet.pts * packet.time_base) > max(self._taken, -2e-3) + 1e-3:
                self._output.mux(packet)

    def _give_up(self, exc: BaseException) -> None:
        self._ended = True
        self.notes.append(f"the sound ends at {max(self._last, 0.0):.1f} s: {reason(exc)}")

    def close(self) -> None:
        """Release the input."""
        if self._input:
            self._input.close()

    def _unpacked(self, source: Any) -> Iterator[Any]:
        """Yield packets as MP4 holds them: AAC without the heads that it has in broadcasts."""
        codec = source.codec_context
        is_packed = codec.codec.canonical_name == "aac" and not codec.extradata
        unpack = BitStreamFilterContext("aac_adtstoasc", source) if is_packed else None
        for packet in self._packets(source):
            yield from unpack.filter(packet) if unpack else [packet]

    def _packets(self, source: Any) -> Iterator[Any]:
        assert self._input is not None
        try:
            for packet in demux(self._input, source):
                if packet.pts is not None and packet.size:
                    yield packet
        except (av.error.FFmpegError, OSError) as exc:
            self.notes.append(f"the sound ends early: {reason(exc)}")

    def _frames(self, source: Any) -> Iterator[Any]:
        resampler = av.AudioResampler(
            format="fltp", layout=self._stream.layout, rate=self._stream.sample_rate
        )
        for packet in self._packets(source):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                for resampled in resampler.resample(frame):
                    if resampled.pts is None or resampled.time_base is None:
                        continue
                    # Unchanged frames pass with the container's clock, others with the samples'.
                    clock = Fraction(1, resampled.sample_rate)
                    resampled.pts = round(resampled.pts * resampled.time_base / clock)
                    resampled.time_base = clock
                    yield resampled


def _nearest_rate(rate: int) -> int:
    """Return the lowest rate of AAC that loses nothing of a sound, else its highest, Hz."""
    return min((known for known in _AAC_RATES if known >= rate), default=_HIGHEST_AAC_RATE)


def _fits(source: Any) -> bool:
    """Whether MP4 holds this sound as it is: tried with its first packets, in memory."""
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as trial:
            trial.add_stream_from_template(source)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _open(place: str) -> Container:
    """Open a file or an address once more, beside its pictures; raise what opening raises."""
    config = SourceConfig()
    if on_disk(place) is None:
        return open_address(place, config)
    return open_container(Path(place), max_pixels=config.max_pixels)
