"""Turn the packets of one stream into pictures, and see what becomes of each packet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import av
import av.error

from tracker.types import SourceReport
from tracker.video.health import Health

_MOST_ERRORS_IN_A_ROW = 500
_FORGIVING = {"mjpeg"}  # codecs whose damaged pictures are made up unless they are told not to


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
    flushed, in_a_row = False, 0
    for packet in packets:
        flushed |= not packet.size
        if health.take(packet):
            count(packet)
        try:
            pictures = packet.decode()
        except EOFError:
            continue
        except (av.error.FFmpegError, ValueError):
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
        for picture in pictures:
            yield Shown(picture, health.is_suspect(picture))
    if not flushed:
        with suppress(EOFError, av.error.FFmpegError):
            for picture in stream.codec_context.decode(None):
                yield Shown(picture, health.is_suspect(picture))


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
