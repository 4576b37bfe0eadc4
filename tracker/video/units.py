"""Read the units of H.264 and HEVC: zeros that belong to none, and the numbers that order pictures.

The numbers tell a picture that was lost from a pause: a camera that skips a picture goes on
counting, one whose packet is gone leaves a hole. References are to ITU-T H.264 and H.265.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import av

CODECS = {"h264", "hevc"}
_ZEROS_IN_UNIT = re.compile(rb"\0\0\0[^\0]")  # 00 00 03 is written instead (H.264, 7.4.1)
_ZEROS_IN_STREAM = re.compile(rb"\0\0\0[^\0\1]")  # or 00 00 01, before a unit
_START = b"\0\0\1"
_SHORTEST, _LONGEST = 4, 16  # bits
_HEAD = 96  # bytes of a unit that hold all that is read here
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


def usual_step(stream: av.VideoStream) -> int | None:
    """Return by how much most encoders of a stream's codec count from picture to picture."""
    return {"h264": 2, "hevc": 1}.get(stream.codec_context.codec.canonical_name)


class Order(NamedTuple):
    """Where a picture stands in the order of showing."""

    sequence: int  # the numbers of different ones are not comparable
    number: int
    modulus: int  # the numbers begin again here
    lacks_reference: bool = False  # a picture that others are made of is missing before it

    def steps_to(self, other: Order) -> int | None:
        """Return by how much the other's number is higher; None where nothing tells."""
        if self.sequence != other.sequence:
            return None
        return (other.number - self.number) % self.modulus


class Units:
    """Read the units of one stream, packet by packet."""

    def __init__(self, stream: av.VideoStream) -> None:
        """Begin at the first packet; parameters may stand before it."""
        codec = stream.codec_context
        extra = codec.extradata or b""
        is_hevc = codec.codec.canonical_name == "hevc"
        self._has_lengths = extra[:1] == b"\1"
        self._length_size = 4
        self._reader: _Reader = _Hevc() if is_hevc else _H264()
        with suppress(IndexError):  # damaged: pictures may bring their own
            if self._has_lengths:
                self._length_size = (extra[21 if is_hevc else 4] & 3) + 1
                parameters = _hvcc(extra) if is_hevc else _avcc(extra)
            else:
                parameters = _in_stream(memoryview(extra))
            for unit in parameters:
                self._reader.read(bytes(unit[:_HEAD]))

    def has_illegal_zeros(self, packet: av.Packet[Any]) -> bool:
        """Whether a packet holds zeros that no encoder writes, as a download with holes does."""
        data = memoryview(packet)
        if not self._has_lengths:
            return _ZEROS_IN_STREAM.search(data) is not None
        return any(_ZEROS_IN_UNIT.search(unit) for unit in self._split(data))

    def order(self, packet: av.Packet[Any]) -> Order | None:
        """Return where the packet's picture stands, or None where it cannot be told."""
        with suppress(IndexError):  # damaged: the unit ends before what is to be read
            for unit in self._split(memoryview(packet)):
                found = self._reader.read(bytes(unit[:_HEAD]))
                if found is not None:
                    return found
        return None

    def _split(self, data: memoryview) -> Iterator[memoryview]:
        if self._has_lengths:
            return _by_length(data, self._length_size)
        return _in_stream(data)


def _by_length(data: memoryview, size: int) -> Iterator[memoryview]:
    """Yield units before each of which stands its length (ISO/IEC 14496-15, 5.3.4.2)."""
    place = 0
    while place + size < len(data):
        length = int.from_bytes(data[place : place + size])
        place += size
        yield data[place : place + length]
        place += length


def _in_stream(data: memoryview) -> Iterator[memoryview]:
    """Yield units before each of which stands 00 00 01 (H.264, annex B)."""
    content = bytes(data)
    start = content.find(_START)
    while start >= 0:
        start += len(_START)
        following = content.find(_START, start)
        yield data[start : following if following >= 0 else len(data)]
        start = following


def _avcc(extra: bytes) -> Iterator[memoryview]:
    """Yield the parameter sets of H.264 in MP4 (ISO/IEC 14496-15, 5.3.3.1)."""
    data, place = memoryview(extra), 5
    for _ in ("SPS", "PPS"):
        count = data[place] & 0x1F if place < len(data) else 0
        place += 1
        for _ in range(count):
            length = int.from_bytes(data[place : place + 2])
            yield data[place + 2 : place + 2 + length]
            place += 2 + length


def _hvcc(extra: bytes) -> Iterator[memoryview]:
    """Yield the parameter sets of HEVC in MP4 (ISO/IEC 14496-15, 8.3.3.1)."""
    data, place = memoryview(extra), 23
    for _ in range(data[22] if len(data) > place else 0):
        count = int.from_bytes(data[place + 1 : place + 3])
        place += 3
        for _ in range(count):
            length = int.from_bytes(data[place : place + 2])
            yield data[place + 2 : place + 2 + length]
            place += 2 + length


class _Bits:
    """The bits of a unit behind its header; raises IndexError behind its end."""

    def __init__(self, unit: bytes, header: int) -> None:
        data = unit[header:].replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(data), 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        if count > self._left:
            raise IndexError("the unit ends too early")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def golomb(self) -> int:
        """Return the next unsigned number of Exp-Golomb's code (H.264, 9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def length(self) -> int:
        """Return the length of a number, bits: 4 to 16 (H.264, 7.4.2.1.1; H.265, 7.4.3.2.1)."""
        length = self.golomb() + _SHORTEST
        if length > _LONGEST:
            raise IndexError("no number is so long")
        return length

    def signed_golomb(self) -> int:
        """Return the next signed number of that code."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -code // 2


class _Reader:
    """Reads units, keeps what later ones need, and numbers the sequences of pictures."""

    def __init__(self) -> None:
        self.sequence = 0

    def read(self, unit: bytes) -> Order | None:
        """Take in a unit; return the order of the picture that begins with it."""
        raise NotImplementedError


class _H264(_Reader):
    """Reads H.264's (7.3.2.1.1, 7.3.3)."""

    def __init__(self) -> None:
        super().__init__()
        self._frame_bits = self._order_bits = 0
        self._latest_reference: int | None = None  # its number, which goes on by one
        self._may_skip = False
        self._kind: int | None = None  # of the numbers; None where none can be told
        self._planes_apart = self._has_fields = False

    def read(self, unit: bytes) -> Order | None:
        kind = unit[0] & 0x1F
        if kind == 7:
            self._parameters(_Bits(unit, 1))
        if kind not in (1, 5) or self._kind is None:
            return None
        is_start = kind == 5
        self.sequence += is_start
        bits = _Bits(unit, 1)
        for _ in range(3):  # first macroblock, kind of slice, picture parameters
            bits.golomb()
        if self._planes_apart:
            bits.take(2)
        frame = bits.take(self._frame_bits)
        lacks = self._follow_references(frame, unit[0], is_start=is_start)
        if self._has_fields and bits.take(1):
            bits.take(1)
        if self._kind == 2:  # shown as decoded (8.2.1.3)
            is_reference = bool(unit[0] & 0x60)
            number = 2 * frame - (not is_reference)
            return Order(self.sequence, number, 2 << self._frame_bits, lacks)
        if is_start:
            bits.golomb()
        return Order(self.sequence, bits.take(self._order_bits), 1 << self._order_bits, lacks)

    def _follow_references(self, frame: int, head: int, *, is_start: bool) -> bool:
        """Take in a picture's frame number; return whether one before it is missing (7.4.3)."""
        latest, size = self._latest_reference, 1 << self._frame_bits
        if head & 0x60:
            self._latest_reference = frame
        if is_start or latest is None or self._may_skip:
            return False
        return frame not in (latest, (latest + 1) % size)

    def _parameters(self, bits: _Bits) -> None:
        profile = bits.take(8)
        bits.take(16)
        bits.golomb()
        self._planes_apart = False
        if profile in _HIGH_PROFILES:
            self._colours(bits)
        self._frame_bits = bits.length()
        kind = bits.golomb()
        if kind == 0:
            self._order_bits = bits.length()
        self._kind = kind
        if kind == 1:  # by a table (8.2.1.2), which hardly anybody writes
            self._kind = None
            return
        bits.golomb()  # frames that are kept
        self._may_skip = bool(bits.take(1))
        bits.golomb()  # width
        bits.golomb()  # height
        self._has_fields = not bits.take(1)

    def _colours(self, bits: _Bits) -> None:
        """Read over what the high profiles add."""
        colours = bits.golomb()
        if colours == 3:
            self._planes_apart = bool(bits.take(1))
        bits.golomb()
        bits.golomb()
        bits.take(1)
        if bits.take(1):
            for k in range(12 if colours == 3 else 8):
                if bits.take(1):
                    _pass_scaling(bits, 16 if k < 6 else 64)


def _pass_scaling(bits: _Bits, size: int) -> None:
    """Read over one list of factors (H.264, 7.3.2.1.1.1)."""
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last


class _Hevc(_Reader):
    """Reads HEVC's (7.3.2.2, 7.3.2.3, 7.3.6.1)."""

    def __init__(self) -> None:
        super().__init__()
        self._order_bits = 0  # unknown so far
        self._planes_apart = False
        self._extra_bits = 0
        self._tells_output = False

    def read(self, unit: bytes) -> Order | None:
        kind = (unit[0] >> 1) & 0x3F
        if kind == 33:
            self._parameters(_Bits(unit, 2))
        elif kind == 34:
            self._picture_parameters(_Bits(unit, 2))
        is_picture = kind < 10 or 16 <= kind <= 21
        if not is_picture or not self._order_bits:
            return None
        is_key, modulus = kind >= 16, 1 << self._order_bits
        self.sequence += is_key and kind != 21  # all but CRA, which goes on counting
        bits = _Bits(unit, 2)
        if not bits.take(1):
            return None  # no picture begins here
        if kind in (19, 20):
            return Order(self.sequence, 0, modulus)
        if is_key:
            bits.take(1)
        bits.golomb()
        bits.take(self._extra_bits)
        bits.golomb()
        bits.take(self._tells_output + 2 * self._planes_apart)
        return Order(self.sequence, bits.take(self._order_bits), modulus)

    def _parameters(self, bits: _Bits) -> None:
        bits.take(4)
        layers = bits.take(3)
        bits.take(1 + 96)
        present = [bits.take(2) for _ in range(layers)]
        if layers:
            bits.take(2 * (8 - layers))
        for flags in present:
            bits.take(88 * (flags >> 1) + 8 * (flags & 1))
        bits.golomb()
        self._planes_apart = bits.golomb() == 3 and bool(bits.take(1))
        bits.golomb()  # width
        bits.golomb()  # height
        if bits.take(1):
            for _ in range(4):
                bits.golomb()
        bits.golomb()
        bits.golomb()
        self._order_bits = bits.length()

    def _picture_parameters(self, bits: _Bits) -> None:
        bits.golomb()
        bits.golomb()
        bits.take(1)
        self._tells_output = bool(bits.take(1))
        self._extra_bits = bits.take(3)
