"""Count unique objects per class, over the whole run and per time bin."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

from tracker.snapshot import BinState, ObjectState, TotalsState
from tracker.types import Tracks


@dataclass(slots=True)
class SeenObject:
    """When one object was seen; times in s."""

    id: int
    label: int  # as voted last
    first_seen: float
    last_seen: float
    frames: int = 1


@dataclass(frozen=True, slots=True)
class BinCount:
    """One class in one time bin."""

    number: int  # from 0
    label: int
    unique: int  # different objects seen
    new: int  # of these, seen for the first time in the run
    max_at_once: int


class Totals:
    """Keep a line per object and per bin; memory grows with them, not with the frames."""

    def __init__(self, bin_s: float) -> None:
        self.objects: dict[int, SeenObject] = {}
        self.unique: Counter[int] = Counter()  # label -> different objects so far
        self.max_at_once: Counter[int] = Counter()
        self.bins: list[BinCount] = []  # of the bins that are over
        self._bin_s = bin_s
        self._bin = 0
        self._in_bin: dict[int, int] = {}  # id -> label
        self._new_in_bin: set[int] = set()
        self._peak_in_bin: Counter[int] = Counter()

    def update(self, tracks: Tracks, time: float) -> None:
        """Take in one frame; only objects that were seen in it count, not predicted ones.

        An object is first seen in the frame that confirms it.
        """
        if (number := self.bin_of(time)) > self._bin:
            self._close_bin(number)
        present: Counter[int] = Counter()
        seen = tracks.observed
        for id_, label in zip(tracks.ids[seen].tolist(), tracks.labels[seen].tolist(), strict=True):
            known = self.objects.get(id_)
            if known is None:
                self.objects[id_] = SeenObject(id_, label, time, time)
                self.unique[label] += 1
                self._new_in_bin.add(id_)
            else:
                if label != known.label:  # the vote of its life has changed
                    self.unique[known.label] -= 1
                    self.unique[label] += 1
                known.label, known.last_seen = label, time
                known.frames += 1
            self._in_bin[id_] = label
            present[label] += 1
        for label, number in present.items():
            self.max_at_once[label] = max(self.max_at_once[label], number)
            self._peak_in_bin[label] = max(self._peak_in_bin[label], number)

    def state(self) -> TotalsState:
        """Return all that `restore` needs."""
        return TotalsState(
            objects=tuple(ObjectState(**asdict(item)) for item in self.objects.values()),
            max_at_once=tuple(self.max_at_once.items()),
            bins=tuple(BinState(**asdict(item)) for item in self.bins),
            bin=self._bin,
            in_bin=tuple(self._in_bin.items()),
            new_in_bin=tuple(sorted(self._new_in_bin)),
            peak_in_bin=tuple(self._peak_in_bin.items()),
        )

    def restore(self, state: TotalsState) -> None:
        """Continue exactly where `state` was taken."""
        self.objects = {item.id: SeenObject(**dict(item)) for item in state.objects}
        self.unique = Counter(item.label for item in state.objects)
        self.max_at_once = Counter(dict(state.max_at_once))
        self.bins = [BinCount(**dict(item)) for item in state.bins]
        self._bin, self._in_bin = state.bin, dict(state.in_bin)
        self._new_in_bin = set(state.new_in_bin)
        self._peak_in_bin = Counter(dict(state.peak_in_bin))

    def bin_of(self, time: float) -> int:
        """Return the number of the bin that holds `time` (s); its start belongs to it."""
        return int(time / self._bin_s + 1e-9)  # 0.3 / 0.1 is a hair below 3

    def table(self) -> list[BinCount]:
        """Return all bins so far, by time and label, the open one too; empty ones have no line."""
        return self.bins + self._open_bin()

    def _close_bin(self, next_bin: int) -> None:
        self.bins += self._open_bin()
        self._bin = next_bin
        self._in_bin, self._new_in_bin, self._peak_in_bin = {}, set(), Counter()

    def _open_bin(self) -> list[BinCount]:
        per_label = Counter(self._in_bin.values())
        new = Counter(self._in_bin[id_] for id_ in self._new_in_bin)
        return [
            BinCount(self._bin, label, number, new[label], self._peak_in_bin[label])
            for label, number in sorted(per_label.items())
        ]
