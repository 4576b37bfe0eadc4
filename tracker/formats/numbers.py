"""The class numbers that text formats fix, and which names mean the same class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

NAMELESS = ("__background__", "N/A", "")  # what lists of categories hold in unused places
# Of one line each: names that people give to the same class.
_ALIKE = (
    ("pedestrian", "pedestrians", "person", "persons", "people", "human"),
    ("car", "cars", "vehicle", "vehicles", "automobile", "van"),
    ("bicycle", "bicycles", "bike"),
    ("motorbike", "motorbikes", "motorcycle", "motorcycles"),
)


@dataclass(frozen=True, slots=True)
class FixedNumbers:
    """What a format's readers take its class numbers for."""

    format: str
    names: Mapping[int, str]
    free: int  # first number for classes that the format does not know

    def name(self, number: int) -> str:
        """Return the class that a number means; of one that means none, the number."""
        return self.names.get(number, str(number))

    def categories(self, labels: Sequence[int]) -> tuple[str, ...]:
        """Return names for all labels up to the largest of these."""
        return tuple(self.name(label) for label in range(max(labels, default=-1) + 1))


MOT = FixedNumbers(  # MOT16 (arXiv 1603.00831, table 3); -1 and 0 = the file tells no class
    "MOTChallenge",
    {
        0: "object",
        -1: "object",
        1: "pedestrian",
        2: "person on vehicle",
        3: "car",
        4: "bicycle",
        5: "motorbike",
        6: "non motorized vehicle",
        7: "static person",
        8: "distractor",
        9: "occluder",
        10: "occluder on the ground",
        11: "occluder full",
        12: "reflection",
        13: "crowd",
    },
    free=14,
)
MOTS = FixedNumbers(  # KITTI MOTS and MOTSChallenge; 10 = a region that nobody labelled
    "MOTS", {0: "N/A", 1: "car", 2: "pedestrian", 10: "ignored"}, free=3
)


def find_class(name: str, known: Mapping[str, int]) -> int | None:
    """Return the number of a name, or else of another name for the same class; None without."""
    numbers = {_plain(key): number for key, number in known.items()}
    own = _plain(name)
    alike = next((group for group in _ALIKE if own in group), ())
    return next((numbers[word] for word in (own, *alike) if word in numbers), None)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


@dataclass(slots=True)
class Numbering:
    """Gives a log's labels the numbers of a format, and notes which were asked for.

    Classes that the format does not know are counted from its first free number, in the order of
    the categories: a class has one number in all logs of a model. A label without a name keeps it.
    """

    numbers: FixedNumbers
    categories: Sequence[str]
    used: dict[int, int] = field(default_factory=dict)  # label -> number
    _all: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {name: number for number, name in self.numbers.names.items()}
        free = (number for number in count(self.numbers.free) if number not in self.numbers.names)
        for label, name in enumerate(self.categories):
            if name not in NAMELESS:
                number = find_class(name, known)
                self._all[label] = next(free) if number is None else number

    def __getitem__(self, label: int) -> int:
        return self.used.setdefault(label, self._all.get(label, label))

    def name(self, label: int) -> str:
        """Return what the log calls a class; the label where it has no name for it."""
        return self.categories[label] if label in self._all else str(label)

    def notes(self) -> Iterator[str]:
        """Say which classes got a number that the format does not fix, or share one."""
        by_number: dict[int, list[str]] = {}
        for label, number in sorted(self.used.items()):
            if label in self._all:
                by_number.setdefault(number, []).append(self.categories[label])
        others = [
            f"{', '.join(names)} is {number}"
            for number, names in by_number.items()
            if number not in self.numbers.names
        ]
        if others:
            yield f"{self.numbers.format} has no number for some classes: {', '.join(others)}"
        for number, names in by_number.items():
            if len(names) > 1:
                yield f"{' and '.join(names)} are one class in {self.numbers.format}: {number}"
