"""Tell whole pictures from suspect ones, and what was lost from what was left out on purpose."""

from __future__ import annotations

from collections import deque
from typing import Any

import av

from tracker.types import SourceReport
from tracker.video import units
from tracker.video.holes import Holes

_MOST_NAMED = 10  # losses
_REMEMBERED = 64  # packets: more than a decoder holds back
_BEFORE = 0.5  # a packet: where one is missing, before it
_CYCLES = 2  # key packets without a key picture between which all of a picture is refreshed
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


def number_of(item: av.Packet[Any] | av.VideoFrame) -> int | None:
    """Return the number of a packet, or of the packet that a picture came of."""
    return item.opaque.value if isinstance(item.opaque, _Number) else None


class Health:
    """Follow the packets and the pictures of one stream.

    What is decoded behind damage is suspect until a key picture, or until all of a picture has
    been refreshed; a codec whose pictures need no others has suspect ones only where damage is.
    """

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
        codec = stream.codec_context.codec
        name = codec.canonical_name
        self._report, self._holes = report, holes
        # In a transport stream, and in pieces of one, a splice looks like a loss to all but the
        # decoder.
        is_broadcast = stream.container.format.name in ("mpegts", "hls")
        self._believes_flags = not (is_broadcast and name in _TELL_DAMAGE)
        self._units = units.Units(stream) if name in units.CODECS else None
        self._orders: dict[int, units.Order] = {}  # by number of packet
        self._alone = stands_alone(stream)
        self._hides = name == "vp8"
        self._keys: deque[int] = deque(maxlen=_REMEMBERED)  # numbers of key packets
        self._times: deque[float] = deque(maxlen=_REMEMBERED)  # s, of packets that are to show
        self._tells_keys = False  # the decoder, not only the container
        self._packets = 0
        self._shown = -1  # number of the packet decoded last of those whose picture came
        self._damages: list[float] = []  # numbers of packets behind which no picture has come yet
        self._worst = -1.0  # number of the latest damage that pictures have reached
        self._claims_differ = False  # else a container calls all packets keys
        self._cycles = 0
        self._begins = begins
        self._first_key: tuple[int, int] | None = None  # number and time
        self._leading: set[int] = set()  # numbers of packets that may need what is not there
        self.left_out = 0  # packets whose pictures are not to be seen
        self.suspect = name not in units.CODECS | _NEVER_TELL_KEYS  # until a key says so

    def take(self, packet: av.Packet[Any]) -> bool:
        """Take in the next packet; return whether a picture is to come of it.

        None comes of what an edit list cuts off, and of what is only kept for others.
        """
        if not packet.size:
            return False
        packet.opaque = _Number(self._packets)
        if packet.is_keyframe:
            self._keys.append(self._packets)
        self._claims_differ |= not packet.is_keyframe
        if (packet.is_corrupt and self._believes_flags) or self._look_into(packet):
            self._damages.append(self._packets)
        self._packets += 1
        if packet.is_discard or (self._hides and not _vp8_is_shown(packet)):
            self.left_out += 1
            self.suspect &= not packet.is_keyframe  # those behind it can be decoded
            return False
        if packet.pts is not None and packet.time_base:
            self._times.append(float(packet.pts * packet.time_base))
        if not self._units:
            self._look_for_lost_packets(packet)
        self._follow_beginning(packet, self._packets - 1)
        return True

    def _follow_beginning(self, packet: av.Packet[Any], number: int) -> None:
        """Remember the packets that follow the first key packet but are shown before it.

        In an open group of pictures they need some that lay before the place of a cut.
        """
        if not self._begins or packet.pts is None:
            return
        if self._first_key is None:
            self._first_key = (number, packet.pts) if packet.is_keyframe else None
        elif packet.is_keyframe:
            self._begins = False
        elif packet.pts < self._first_key[1]:
            self._leading.add(number)

    def _leave_out_leading(self) -> None:
        """Take those of which no picture came for left out on purpose: no player shows them."""
        self.left_out += len(self._leading)
        self._report.packets -= len(self._leading)
        self._leading.clear()

    def lost(self, packet: av.Packet[Any]) -> None:
        """Note that a packet could not be decoded: the latest, or one of those before it."""
        self._damages.append(self._shown + 1)
        self._report.bad_packets += 1
        if packet.pts is not None and packet.time_base:
            self._name(f"the picture at {float(packet.pts * packet.time_base):.2f} s is lost")

    def saw(self, picture: av.VideoFrame) -> None:
        """Take in a picture as it comes of the decoder; others may be shown before it."""
        number = number_of(picture)
        if picture.is_corrupt and number is not None:
            self._damages.append(number)

    def is_suspect(self, picture: av.VideoFrame) -> bool:
        """Take in the next picture that is shown."""
        number = number_of(picture)
        if number is None:
            number = self._packets
        self._shown = max(self._shown, number)
        if number in self._leading:
            self._leading.remove(number)
        elif self._leading:
            self._leave_out_leading()
        if self._units:
            self._look_for_hole(picture, number)
        self._tells_keys |= picture.key_frame
        claimed = number in self._keys
        self._cycles += claimed and self._claims_differ and not picture.key_frame
        is_key = picture.key_frame or (claimed and not self._tells_keys)
        reached = [damage for damage in self._damages if damage <= number]
        if reached:
            self._damages = [damage for damage in self._damages if damage > number]
            self._cycles, self._worst = 0, max(reached)
        if self._worst == number:
            self.suspect = True
        elif (is_key and number > self._worst) or self._alone or self._cycles >= _CYCLES:
            self.suspect = False
        elif reached:
            self.suspect = True
        return self.suspect

    def _look_into(self, packet: av.Packet[Any]) -> bool:
        """Read the units of a packet, if it has some; return whether they are damaged."""
        if self._units is None:
            return False
        if order := self._units.order(packet):
            self._orders[self._packets] = order
            self._orders.pop(self._packets - _REMEMBERED, None)
        return self._units.has_illegal_zeros(packet)

    def _look_for_lost_packets(self, packet: av.Packet[Any]) -> None:
        """Note what is missing right before a packet, in the order of decoding."""
        if self._holes is None or packet.dts is None or not packet.time_base:
            return
        time = float(packet.dts * packet.time_base)
        if lost := self._holes.before(time, None):
            self._damages.append(self._packets - 1 - _BEFORE)
            self._miss(lost, time)

    def _miss(self, lost: int, time: float) -> None:
        self._report.missing += lost
        self._name(f"{lost} missing before the picture at {time:.2f} s")

    def _look_for_hole(self, picture: av.VideoFrame, number: int) -> None:
        """Note what is missing right before a picture, and that this one may need it."""
        end = picture.time
        if self._holes is None or picture.pts is None or end is None:
            return
        start = self._holes.latest
        lost = self._holes.before(end, self._orders.get(number))
        if not lost or start is None:
            return
        self._damages.append(number - _BEFORE)
        # Those whose packets were there are counted by them.
        lost -= sum(start < time < end for time in self._times)
        if lost > 0:
            self._miss(lost, end)

    def _name(self, loss: str) -> None:
        """Note where something was lost, for the first few losses."""
        if len(self._report.notes) < _MOST_NAMED:
            self._report.notes.append(loss)


def _vp8_is_shown(packet: av.Packet[Any]) -> bool:
    """Read the bit `show_frame` (RFC 6386, 9.1)."""
    return bool(memoryview(packet)[0] & 0x10)
