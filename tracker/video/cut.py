"""See by its bytes that a file was cut off, where its container declares no length."""

from __future__ import annotations

import re
from pathlib import Path

_SYNC = 0x47  # begins each packet of a transport stream (ISO/IEC 13818-1, 2.4.3.2)
_STEPS = ((188, 0), (192, 4), (204, 0))  # bytes from packet to packet, and before the sync
_SEEN = 4  # packets that must begin where one is expected
# Of the colours in YUV4MPEG2: pixels across and down for each sample of chroma, and its planes.
_SAMPLES = {"420": (2, 2, 2), "422": (2, 1, 2), "444": (1, 1, 2), "411": (4, 1, 2)}
_SAMPLES["mono"] = (1, 1, 0)
_DEEP = re.compile(r"p1\d|mono1\d")  # samples of two bytes
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_PAGE = b"OggS"  # begins each page (RFC 3533, 6)
_LONGEST_PAGE = 27 + 255 + 255 * 255  # bytes


def ends_in_the_middle(path: Path, formats: set[str]) -> bool:
    """Whether a transport stream or an Ogg file ends in the middle of a packet or page."""
    if "mpegts" in formats:
        return _ends_in_packet(path)
    if "yuv4mpegpipe" in formats:
        return _ends_in_frame(path)
    if "asf" in formats:
        return _is_shorter_than_said(path)
    return "ogg" in formats and _ends_in_page(path)


def has_no_index(path: Path) -> bool:
    """Whether this is an MP4 or MOV file whose index (moov) is missing or cut off.

    Only the boxes' heads are read (ISO/IEC 14496-12, 4.2).
    """
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4]), head[4:8]
            if place == 0 and kind != b"ftyp":
                return False
            if length == 1:
                length = int.from_bytes(head[8:16])
            if kind == b"moov":
                return place + length > size
            if length < 8:
                break
            place += length
    return place > 0


def _ends_in_packet(path: Path) -> bool:
    size = path.stat().st_size
    with path.open("rb") as file:
        for step, before in _STEPS:
            rest = size % step
            begin = size - rest - step * _SEEN
            if rest <= before or begin < 0:
                continue
            file.seek(begin)
            if set(file.read()[before::step]) == {_SYNC}:
                return True
    return False


def _ends_in_frame(path: Path) -> bool:
    """Whether raw pictures, all of one size behind a line each, end within one (YUV4MPEG2)."""
    with path.open("rb") as file:
        head, line = file.readline(4096), file.readline(4096)
    told = {field[:1]: field[1:].decode("ascii", "replace") for field in head.split()[1:]}
    colours = told.get(b"C", "420")
    samples = next((n for name, n in _SAMPLES.items() if colours.startswith(name)), None)
    sizes = (told.get(b"W", ""), told.get(b"H", ""))
    if samples is None or not all(size.isdecimal() for size in sizes):
        return False
    width, height = (int(size) for size in sizes)
    across, down, planes = samples
    chroma = -(-width // across) * -(-height // down) * planes
    depth = 2 if _DEEP.search(colours) else 1
    rest: int = path.stat().st_size - len(head)
    return rest % (len(line) + (width * height + chroma) * depth) != 0


def _is_shorter_than_said(path: Path) -> bool:
    """Whether a file of Windows Media is shorter than its properties say (ASF, 3.2)."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return False
    is_live = head[at + 88] & 1
    return not is_live and path.stat().st_size < int.from_bytes(head[at + 40 : at + 48], "little")


def _ends_in_page(path: Path) -> bool:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _LONGEST_PAGE))
        tail = file.read()
    page = tail[tail.rfind(_PAGE) :]
    if len(page) < 27:
        return True
    lengths = page[27 : 27 + page[26]]
    return len(page) < 27 + page[26] + sum(lengths)
