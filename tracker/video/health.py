"""Tell whole pictures from suspect ones, and what was lost from what was left out on purpose."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import av

from tracker.types import SourceReport

_MOST_NAMED = 10  # losses
_REMEMBERED = 64  # packets: more than a decoder holds back
_CYCLES = 2  # key packets without a key picture between which all of a picture is refreshed
_HAS_UNITS = {"h264", "hevc"}  # whose decoders show nothing before they have all they need
_NEVER_TELL_KEYS = {"cinepak", "flashsv", "flashsv2", "msrle", "msvideo1", "qtrle", "roq"}
_NEVER_TELL_KEYS |= {"rpza", "smc", "svq1"}  # decoders; the container may
_DEPENDS_ON_NONE = {"cfhd", "png", "apng"}  # codecs of single pictures that FFmpeg does not tell
_TELL_DAMAGE = {"h264", "mpeg1video", "mpeg2video"}  # decoders that mark what they made up
_ZEROS_IN_UNIT = re.compile(rb"\0\0\0[^\0]")  # 00 00 03 is written instead (ISO 14496-10, 7.4.1)
_ZEROS_IN_STREAM = re.compile(rb"\0\0\0[^\0\1]")  # or 00 00 01, before a unit
_USUAL = 32  # steps between pictures that tell what is usual
_FEWEST = 4  # of them
_REGULAR = 0.9  # share of the usual step in a stream in which a hole is a loss
_LONGEST_HOLE_S = 5.0  # a longer one is a pause, as of a camera that waits for motion


class Health:
    """Follow the packets and the pictures of one stream.

    What is decoded behind damage is suspect until a key picture, or until all of a picture has
    been refreshed; a codec whose pictures need no others has suspect ones only where damage is.
    """

    def __init__(
        self, stream: av.VideoStream, report: SourceReport, holes: Holes | None = None
    ) -> None:
        """Begin at the first packet; `holes` finds lost pictures where times can tell them."""
        codec = stream.codec_context.codec
        name = codec.canonical_name
        self._report, self._holes = report, holes
        # In a transport stream a splice looks like a loss to all but the decoder.
        is_broadcast = stream.container.format.name == "mpegts"
        self._believes_flags = not (is_broadcast and name in _TELL_DAMAGE)
        self._is_illegal = _unit_check(stream)
        self._alone = codec.intra_only or name in _DEPENDS_ON_NONE
        self._hides = name == "vp8"
        self._keys: deque[int | None] = deque(maxlen=_REMEMBERED)  # times of key packets
        self._times: deque[float] = deque(maxlen=_REMEMBERED)  # s, of packets that are to show
        self._tells_keys = False  # the decoder, not only the container
        self._packets = 0
        self._shown = -1  # number of the packet decoded last of those whose picture came
        self._damages: list[int] = []  # numbers of packets behind which no picture has come yet
        self._cycles = 0
        self.left_out = 0  # packets whose pictures are not to be seen
        self.suspect = name not in _HAS_UNITS | _NEVER_TELL_KEYS  # until a key says otherwise

    def take(self, packet: av.Packet[Any]) -> bool:
        """Take in the next packet; return whether a picture is to come of it.

        None comes of what an edit list cuts off, and of what is only kept for others.
        """
        if not packet.size:
            return False
        packet.opaque = self._packets
        if packet.is_keyframe:
            self._keys.append(packet.pts)
        if (packet.is_corrupt and self._believes_flags) or self._is_illegal(packet):
            self._damages.append(self._packets)
        self._packets += 1
        if packet.is_discard or (self._hides and not _vp8_is_shown(packet)):
            self.left_out += 1
            self.suspect &= not packet.is_keyframe  # those behind it can be decoded
            return False
        if packet.pts is not None and packet.time_base:
            self._times.append(float(packet.pts * packet.time_base))
        return True

    def lost(self, packet: av.Packet[Any]) -> None:
        """Note that a packet could not be decoded: the latest, or one of those before it."""
        self._damages.append(self._shown + 1)
        self._report.bad_packets += 1
        if packet.pts is not None and packet.time_base:
            self._name(f"the picture at {float(packet.pts * packet.time_base):.2f} s is lost")

    def is_suspect(self, picture: av.VideoFrame) -> bool:
        """Take in the next picture that is shown."""
        opaque = picture.opaque
        number = opaque if isinstance(opaque, int) else self._packets
        self._shown = max(self._shown, number)
        self._look_for_hole(picture, number)
        if picture.is_corrupt:
            self._damages.append(number)
        self._tells_keys |= picture.key_frame
        claimed = picture.pts is not None and picture.pts in self._keys
        self._cycles += claimed and not picture.key_frame
        is_key = picture.key_frame or (claimed and not self._tells_keys)
        reached = [damage for damage in self._damages if damage <= number]
        if reached:
            self._damages = [damage for damage in self._damages if damage > number]
            self._cycles = 0
            self.suspect = max(reached) == number or not (is_key or self._alone)
        elif is_key or self._alone or self._cycles >= _CYCLES:
            self.suspect = False
        return self.suspect

    def _look_for_hole(self, picture: av.VideoFrame, number: int) -> None:
        """Note what is missing right before a picture, and that this one may need it."""
        end = picture.time
        if self._holes is None or picture.pts is None or end is None:
            return
        start = self._holes.latest
        lost = self._holes.before(end)
        if not lost or start is None:
            return
        self._damages.append(number - 1)
        # Those whose packets were there are counted by them.
        lost -= sum(start < time < end for time in self._times)
        if lost > 0:
            self._report.missing += lost
            self._name(f"{lost} missing before the picture at {end:.2f} s")

    def _name(self, loss: str) -> None:
        """Note where something was lost, for the first few losses."""
        if len(self._report.notes) < _MOST_NAMED:
            self._report.notes.append(loss)


class Holes:
    """Find the pictures that are missing between two of a stream whose steps are all the same."""

    def __init__(self, *, longest_s: float = _LONGEST_HOLE_S) -> None:
        self._longest = longest_s
        self._steps: deque[float] = deque(maxlen=_USUAL)
        self.latest: float | None = None  # s, of the latest picture

    def before(self, time: float) -> int:
        """Return how many pictures are missing before one of this time, s."""
        latest, self.latest = self.latest, time
        if latest is None or time <= latest:
            return 0
        step, usual = time - latest, self._usual()
        if usual is None or step > self._longest:
            self._steps.append(step)
            return 0
        lost = round(step / usual) - 1
        if lost < 1 or abs(step - (lost + 1) * usual) > _tolerance(usual) * (lost + 1):
            self._steps.append(step)
            return 0
        return lost

    def _usual(self) -> float | None:
        """Return the step that nearly all have, s."""
        if len(self._steps) < _FEWEST:
            return None
        [(common, _)] = Counter(round(step, 3) for step in self._steps).most_common(1)
        alike = [step for step in self._steps if abs(step - common) <= _tolerance(common)]
        return sum(alike) / len(alike) if len(alike) >= _REGULAR * len(self._steps) else None


def _tolerance(step: float) -> float:
    """Return how far a step may be off: the clocks of some containers tick once a millisecond."""
    return max(0.0011, 0.02 * step)


def _unit_check(stream: av.VideoStream) -> Callable[[av.Packet[Any]], bool]:
    """Return what tells whether a packet holds zeros that no encoder of H.264 or HEVC writes.

    So do the holes of a download that was never finished; HEVC's decoder says nothing of them.
    """
    codec = stream.codec_context
    if codec.codec.canonical_name not in _HAS_UNITS:
        return lambda _packet: False
    if (codec.extradata or b"")[:1] == b"\1":  # a length stands before each unit
        return _has_illegal_unit
    return lambda packet: _ZEROS_IN_STREAM.search(memoryview(packet)) is not None


def _has_illegal_unit(packet: av.Packet[Any]) -> bool:
    data, place = memoryview(packet), 0
    while place + 4 < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        place += 4
        if _ZEROS_IN_UNIT.search(data[place : place + length]):
            return True
        place += length
    return False


def _vp8_is_shown(packet: av.Packet[Any]) -> bool:
    """Read the bit `show_frame` (RFC 6386, 9.1)."""
    return bool(memoryview(packet)[0] & 0x10)
