"""Turn the packets of one stream into pictures, and see what becomes of each packet."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import av
import av.error

from tracker.types import SourceReport
from tracker.video.container import is_any
from tracker.video.health import Health, number_of, stands_alone
from tracker.video.picture import MOST_HELD_BACK

_MOST_ERRORS_IN_A_ROW = 500
_FORGIVING = {"mjpeg"}  # codecs whose damaged pictures are made up unless they are told not to
_DECODING_TIMES = {"avi", "asf", "mxf"}  # containers that tell when pictures are decoded


class Shown(NamedTuple):
    """A picture as the decoder shows it."""

    picture: av.VideoFrame
    suspect: bool  # decoded from damaged data, or from pictures that were


def prepare(stream: av.VideoStream, *, max_pixels: int, live: bool) -> None:
    """Set the decoder of a stream: its threads, its limit, and what it must not hide."""
    codec = stream.codec_context
    options = {"max_pixels": str(max_pixels)}
    # Frame threads would add their number of frames of delay to a live picture.
    codec.thread_type = "SLICE" if live else "AUTO"
    if codec.codec.canonical_name in _FORGIVING:
        options["err_detect"] = "explode"
        codec.thread_type = "NONE"  # so that an error is that of the packet just given
    codec.options = options
    codec.copy_opaque = True  # a picture tells the packet that it came of


class _ShowingTimes:
    """Give pictures their times where the container tells only those of decoding.

    Both are the same times in another order: the next picture that is shown has the earliest.
    """

    def __init__(self, stream: av.VideoStream) -> None:
        self._is_needed = is_any(stream.container, _DECODING_TIMES) and not stands_alone(stream)
        self._tick = stream.time_base
        self._waiting: list[tuple[int, int]] = []  # time and number of packets, a heap

    def take(self, packet: av.Packet[Any]) -> None:
        """Take in the next packet of which a picture is to come."""
        number = number_of(packet)
        if self._is_needed and packet.dts is not None and number is not None:
            heapq.heappush(self._waiting, (packet.dts, number))

    def lose(self, packet: av.Packet[Any]) -> None:
        """Take note that no picture comes of a packet."""
        number = number_of(packet)
        self._waiting = [entry for entry in self._waiting if entry[1] != number]
        heapq.heapify(self._waiting)

    def give(self, picture: av.VideoFrame) -> None:
        """Set the time of the next picture that is shown."""
        if not picture.time_base and self._tick:  # one of the last, which are flushed by hand
            picture.time_base = self._tick
        number = number_of(picture)
        while self._waiting and self._waiting[0][1] < (number or 0) - MOST_HELD_BACK:
            heapq.heappop(self._waiting)  # its picture never came
        if self._waiting and number is not None:
            picture.pts = heapq.heappop(self._waiting)[0]


class _ShowingOrder:
    """Hold back each picture until those are there that it may be made of.

    One that is shown before a picture it was made of would else be given out before the damage of
    that one is known.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._held: deque[av.VideoFrame] = deque()
        self._awaited: set[int] = set()  # numbers of packets whose pictures have not come
        self._reorders = False
        self._latest = -1  # the highest number of a picture that has come

    def expect(self, packet: av.Packet[Any]) -> None:
        """Take in the next packet of which a picture is to come."""
        number = number_of(packet)
        if number is not None:
            self._awaited.add(number)

    def lose(self, packet: av.Packet[Any]) -> None:
        """Take note that no picture comes of a packet."""
        self._awaited.discard(number_of(packet) or 0)

    def take(self, picture: av.VideoFrame) -> None:
        """Take in the next picture of the decoder."""
        self._health.saw(picture)
        self._held.append(picture)
        number = number_of(picture)
        if number is None:
            return
        self._reorders |= number < self._latest
        self._latest = max(self._latest, number)
        late = self._latest - MOST_HELD_BACK
        self._awaited = {n for n in self._awaited if n != number and n > late}

    def ready(self, *, all_of_them: bool) -> Iterator[av.VideoFrame]:
        """Yield the pictures that need no waiting."""
        while self._held:
            number = number_of(self._held[0])
            waits = (
                self._reorders
                and number is not None
                and min(self._awaited, default=number) < number
            )
            if waits and not all_of_them:
                return
            yield self._held.popleft()


def decode(
    packets: Iterable[av.Packet[Any]],
    stream: av.VideoStream,
    health: Health,
    report: SourceReport,
    count: Callable[[av.Packet[Any]], None],
) -> Iterator[Shown | None]:
    """Yield the pictures of packets, and None for each packet that could not be decoded.

    `count` hears of each packet of which a picture is to come.
    """
    times, order = _ShowingTimes(stream), _ShowingOrder(health)
    flushed, in_a_row = False, 0

    def show(pictures: Iterable[av.VideoFrame], *, all_of_them: bool = False) -> Iterator[Shown]:
        for picture in pictures:
            order.take(picture)
        for picture in order.ready(all_of_them=all_of_them):
            times.give(picture)
            yield Shown(picture, health.is_suspect(picture))

    with _at_rest_afterwards(stream):
        for packet in packets:
            flushed |= not packet.size
            if health.take(packet):
                count(packet)
                times.take(packet)
                order.expect(packet)
            try:
                pictures = packet.decode()
            except EOFError:
                continue
            except (av.error.FFmpegError, ValueError):
                times.lose(packet)
                order.lose(packet)
                if made_up := _made_up(packet, stream):
                    yield Shown(made_up, suspect=True)
                    continue
                health.lost(packet)
                in_a_row += 1
                if in_a_row >= _MOST_ERRORS_IN_A_ROW:
                    report.notes.append(f"gave up after {in_a_row} undecodable packets in a row")
                    return
                yield None
                continue
            if pictures:
                in_a_row = 0
            yield from show(pictures)
        if not flushed:
            with suppress(EOFError, av.error.FFmpegError):
                yield from show(stream.codec_context.decode(None))
        yield from show([], all_of_them=True)


@contextmanager
def _at_rest_afterwards(stream: av.VideoStream) -> Iterator[None]:
    """Let the threads of a decoder come to rest when its reading has ended, however it ended.

    PyAV 18 gives a decoder up while it holds Python's lock, and waits for its threads, which need
    that lock to let go of a packet's number.
    """
    try:
        yield
    finally:
        stream.codec_context.flush_buffers()


def _made_up(packet: av.Packet[Any], stream: av.VideoStream) -> av.VideoFrame | None:
    """Return what can be had of a damaged picture whose decoder makes the rest up."""
    name = stream.codec_context.codec.canonical_name
    if name not in _FORGIVING:
        return None
    forgiving = av.CodecContext.create(name, "r")
    try:
        pictures: Any = [*forgiving.decode(packet), *forgiving.decode(None)]  # type: ignore[attr-defined]
    except (av.error.FFmpegError, EOFError, ValueError):
        return None
    return pictures[0] if pictures else None
