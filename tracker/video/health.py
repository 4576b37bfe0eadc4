"""Tell whole pictures from suspect ones, and what was lost from what was left out on purpose."""

from __future__ import annotations

from collections import deque
from typing import Any

import av

from tracker.types import SourceReport
from tracker.video import units
from tracker.video.container import is_any, is_playlist
from tracker.video.holes import Holes
from tracker.video.recovery import Leading, Recovery

_MOST_NAMED = 10  # losses
_REMEMBERED = 64  # packets: more than a decoder holds back
_BEFORE = 0.5  # a packet: where one is missing, before it
_NEVER_TELL_KEYS = {"cinepak", "flashsv", "flashsv2", "msrle", "msvideo1", "qtrle", "roq"}
_NEVER_TELL_KEYS |= {"rpza", "smc", "svq1"}  # decoders; the container may
_DEPENDS_ON_NONE = {"cfhd", "png", "apng"}  # codecs of single pictures that FFmpeg does not tell
_TELL_DAMAGE = {"h264", "mpeg1video", "mpeg2video"}  # decoders that mark what they made up


class _Number:
    """The number of a packet, as an object of its own.

    PyAV 18 tells what rides along by its address: two packets may not share one, as small integers
    of two streams would.
    """

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


def stands_alone(stream: av.VideoStream) -> bool:
    """Whether each picture of a stream can be decoded without any other."""
    codec = stream.codec_context.codec
    return codec.intra_only or codec.canonical_name in _DEPENDS_ON_NONE


def holes_of(stream: av.VideoStream) -> Holes:
    """Return what finds lost pictures of a stream by their numbers and times."""
    return Holes(
        has_segments=is_playlist(stream.container),
        is_sent=is_any(stream.container, {"mpegts", "mpeg"}),
        step_s=float(1 / stream.base_rate) if stream.base_rate else None,
        usual_count=units.usual_step(stream),
    )


def number_of(item: av.Packet[Any] | av.VideoFrame) -> int | None:
    """Return the number of a packet, or of the packet that a picture came of."""
    return item.opaque.value if isinstance(item.opaque, _Number) else None


class Health:
    """Follow the packets and the pictures of one stream: what is whole, lost, or left out."""

    def __init__(
        self,
        stream: av.VideoStream,
        report: SourceReport,
        holes: Holes | None = None,
        *,
        begins: bool = False,
    ) -> None:
        """Begin at a packet; `holes` finds lost pictures where times can tell them.

        Where the stream `begins`, pictures that need some from before it are left out.
        """
        name = stream.codec_context.codec.canonical_name
        self._report, self._holes = report, holes
        # In a transport stream, and in pieces of one, a splice looks like a loss to all but the
        # decoder.
        is_broadcast = is_any(stream.container, {"mpegts", "hls"})
        self._believes_flags = not (is_broadcast and name in _TELL_DAMAGE)
        self._units = units.Units(stream) if name in units.CODECS else None
        self._orders: dict[int, units.Order] = {}  # by number of packet
        self._hides = name == "vp8"
        self._times: deque[float] = deque(maxlen=_REMEMBERED)  # s, of packets that are to show
        self._packets = 0
        self._shown = -1  # number of the packet decoded last of those whose picture came
        self._leading = Leading(begins=begins)
        self._recovery = Recovery(
            alone=stands_alone(stream), suspect=name not in units.CODECS | _NEVER_TELL_KEYS
        )
        self.left_out = 0  # packets whose pictures are not to be seen

    @property
    def suspect(self) -> bool:
        """Whether the latest picture was suspect."""
        return self._recovery.suspect

    @suspect.setter
    def suspect(self, is_suspect: bool) -> None:
        self._recovery.suspect = is_suspect

    def take(self, packet: av.Packet[Any]) -> bool:
        """Take in the next packet; return whether a picture is to come of it.

        None comes of what an edit list cuts off, and of what is only kept for others.
        """
        if not packet.size:
            return False
        number = self._packets
        self._packets += 1
        packet.opaque = _Number(number)
        self._recovery.take(number, is_key=packet.is_keyframe)
        if self._is_damaged(packet, number):
            self._recovery.damage(number)
        if packet.is_discard or (self._hides and not _vp8_is_shown(packet)):
            self.left_out += 1
            self.suspect &= not packet.is_keyframe  # those behind it can be decoded
            return False
        if packet.pts is not None and packet.time_base:
            self._times.append(float(packet.pts * packet.time_base))
        if not self._units:
            self._look_for_lost_packets(packet, number)
        self._leading.take(number, packet.pts, is_key=packet.is_keyframe)
        return True

    def lost(self, packet: av.Packet[Any]) -> None:
        """Note that a packet could not be decoded: the latest, or one of those before it."""
        self._recovery.damage(self._shown + 1)
        self._report.bad_packets += 1
        if packet.pts is not None and packet.time_base:
            self._name(f"the picture at {float(packet.pts * packet.time_base):.2f} s is lost")

    def saw(self, picture: av.VideoFrame) -> None:
        """Take in a picture as it comes of the decoder; others may be shown before it."""
        number = number_of(picture)
        if picture.is_corrupt and number is not None:
            self._recovery.damage(number)

    def is_suspect(self, picture: av.VideoFrame) -> bool:
        """Take in the next picture that is shown."""
        number = number_of(picture)
        if number is None:
            number = self._packets
        self._shown = max(self._shown, number)
        left_out = self._leading.left_out(number)
        self.left_out += left_out
        self._report.packets -= left_out
        if self._units:
            self._look_for_hole(picture, number)
        return self._recovery.is_suspect(number, is_key=picture.key_frame)

    def _is_damaged(self, packet: av.Packet[Any], number: int) -> bool:
        """Whether a packet is said, or seen by its units, to be damaged."""
        said = packet.is_corrupt and self._believes_flags
        if self._units is None:
            return said
        if order := self._units.order(packet):
            self._orders[number] = order
            if order.lacks_reference and self._holes is not None:
                self._recovery.damage(number - _BEFORE)
            self._orders.pop(number - _REMEMBERED, None)
        return said or self._units.has_illegal_zeros(packet)

    def _look_for_lost_packets(self, packet: av.Packet[Any], number: int) -> None:
        """Note what is missing right before a packet, in the order of decoding."""
        if self._holes is None or packet.dts is None or not packet.time_base:
            return
        time = float(packet.dts * packet.time_base)
        if lost := self._holes.before(time, None):
            self._recovery.damage(number - _BEFORE)
            self._miss(lost, time)

    def _look_for_hole(self, picture: av.VideoFrame, number: int) -> None:
        """Note what is missing right before a picture, and that this one may need it."""
        end = picture.time
        if self._holes is None or picture.pts is None or end is None:
            return
        start = self._holes.latest
        lost = self._holes.before(end, self._orders.get(number))
        if not lost or start is None:
            return
        self._recovery.damage(number - _BEFORE)
        # Those whose packets were there are counted by them.
        lost -= sum(start < time < end for time in self._times)
        if lost > 0:
            self._miss(lost, end)

    def _miss(self, lost: int, time: float) -> None:
        self._report.missing += lost
        self._name(f"{lost} missing before the picture at {time:.2f} s")

    def _name(self, loss: str) -> None:
        """Note where something was lost, for the first few losses."""
        if len(self._report.notes) < _MOST_NAMED:
            self._report.notes.append(loss)


def _vp8_is_shown(packet: av.Packet[Any]) -> bool:
    """Read the bit `show_frame` (RFC 6386, 9.1)."""
    return bool(memoryview(packet)[0] & 0x10)
