"""Follow damage through the pictures that are made of damaged ones, until all is whole again.

Packets have numbers in the order of decoding; a picture has that of the packet it came of.
"""

from __future__ import annotations

from collections import deque

_REMEMBERED = 64  # packets: more than a decoder holds back
_CYCLES = 2  # key packets without a key picture between which all of a picture is refreshed


class Recovery:
    """Tell suspect pictures from whole ones.

    What is decoded behind damage is suspect until a key picture, or until all of a picture has been
    refreshed; where pictures stand `alone`, only those are suspect in which damage is.
    """

    def __init__(self, *, alone: bool, suspect: bool) -> None:
        """Begin; `suspect` are the pictures before the first key."""
        self._alone, self.suspect = alone, suspect
        self._keys: deque[int] = deque(maxlen=_REMEMBERED)  # numbers of packets said to be keys
        self._claims_differ = False  # else a container calls all packets keys
        self._tells_keys = False  # the decoder, not only the container
        self._cycles = 0
        self._ahead: list[float] = []  # numbers of damages that no picture has reached yet
        self._worst = -1.0  # number of the latest damage that pictures have reached

    def take(self, number: int, *, is_key: bool) -> None:
        """Take in the next packet and whether its container says that it is a key."""
        self._claims_differ |= not is_key
        if is_key:
            self._keys.append(number)

    def damage(self, number: float) -> None:
        """Take note of damage in a packet, or between two."""
        self._ahead.append(number)

    def is_suspect(self, number: int, *, is_key: bool) -> bool:
        """Take in the next picture and whether its decoder says that it is a key."""
        is_reached = self._reach(number)
        if self._worst == number:
            self.suspect = True
        elif self._is_whole(number, is_key=is_key):
            self.suspect = False
        elif is_reached:
            self.suspect = True
        return self.suspect

    def _reach(self, number: int) -> bool:
        """Return whether damage lies at or before a packet that no picture had reached so far."""
        reached = [damage for damage in self._ahead if damage <= number]
        if not reached:
            return False
        self._ahead = [damage for damage in self._ahead if damage > number]
        self._worst = max(reached)
        self._cycles = 0
        return True

    def _is_whole(self, number: int, *, is_key: bool) -> bool:
        """Return whether nothing of a picture comes of what lies before it."""
        self._tells_keys |= is_key
        is_claimed = number in self._keys
        if is_claimed and self._claims_differ and not is_key:
            self._cycles += 1
        if self._alone or self._cycles >= _CYCLES:
            return True
        counts_as_key = is_key or (is_claimed and not self._tells_keys)
        return counts_as_key and number > self._worst


class Leading:
    """The packets that follow the first key packet but are shown before it.

    In an open group of pictures they need some that lay before the place of a cut; no player shows
    them where it begins there.
    """

    def __init__(self, *, begins: bool) -> None:
        """Begin; there are some only where the stream `begins`, not where it is gone on with."""
        self._may_come = begins
        self._first_time: int | None = None  # of the first key packet
        self._numbers: set[int] = set()

    def take(self, number: int, time: int | None, *, is_key: bool) -> None:
        """Take in the next packet and the time of its picture."""
        if not self._may_come or time is None:
            return
        if self._first_time is None:
            self._first_time = time if is_key else None
        elif is_key:
            self._may_come = False
        elif time < self._first_time:
            self._numbers.add(number)

    def left_out(self, number: int) -> int:
        """Return how many are left out for good, since the picture of a packet is shown now."""
        if number in self._numbers:
            self._numbers.remove(number)
            return 0
        count = len(self._numbers)
        self._numbers.clear()
        return count
