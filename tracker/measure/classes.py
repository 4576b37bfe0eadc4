"""Which classes of the truth are scored, and which of a result's classes count as them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tracker.errors import ConfigError
from tracker.formats import is_log
from tracker.formats.mots import holds_masks
from tracker.formats.numbers import MOT, MOTS, find_class
from tracker.measure.truth import Object, Sequence, read

NO_CLASS = -1  # label of what is none of the truth's classes
# Boxes matched to these are no mistakes: person on vehicle, static person, distractor, reflection;
# of MOT20 vehicles without a motor too.
_USUAL = frozenset({2, 7, 8, 12})
_IN_MOT20 = 6
BENCHMARKS = {
    "MOT15": frozenset[int](),
    "MOT16": _USUAL,
    "MOT17": _USUAL,
    "MOT20": _USUAL | {_IN_MOT20},
}
# By whether there are masks: MOTS, MOTChallenge; 0 = the file tells no class
_TITLES = {True: {1: "car", 2: "pedestrian"}, False: {0: "object", 1: "pedestrian"}}


@dataclass(frozen=True, slots=True)
class Classes:
    """The truth's classes, over all its sequences."""

    masks: bool
    wanted: list[int]  # that are scored
    present: frozenset[int]  # that may be scored
    distractors: Mapping[str, frozenset[int]]  # by sequence: boxes matched to them are no mistakes
    names: Mapping[int, str]  # of those present, and of all that the format knows
    is_log: bool
    notes: tuple[str, ...]

    def title(self, label: int) -> str:
        """Return what the figures of a class are called."""
        if self.is_log:
            return self.names.get(label, str(label))
        return _TITLES[self.masks].get(label, str(label))

    @property
    def unnamed(self) -> set[int]:
        """Labels of rows that tell no class, where these are welcome."""
        return {0} if not self.masks and len(self.wanted) == 1 else set()

    def mine(self, label: int, labels: Collection[int]) -> set[int]:
        """Return which of a result's labels count as the class `label`.

        Where box truth has one class and the result never names it, all of the result counts.
        """
        is_only = not self.masks and len(self.present) == 1
        if is_only and (label == 0 or label not in labels):
            return set(labels)
        return {label} | self.unnamed

    def listed(self, *, numbers: bool = False) -> str:
        """Name the classes that may be scored, of text or on demand with their numbers."""
        names = {label: self.names.get(label) for label in self.present}
        return _listed(names, numbers=numbers or not self.is_log)


def choose(
    truth_files: Mapping[str, Path],
    classes: Collection[int],
    benchmark: str | None = None,
    result_files: Collection[Path] = (),
) -> Classes:
    """Look at the truth's classes; raise ConfigError where one that is asked for is not there.

    Masks are scored where the truth is text of masks, or logs beside a result that is.
    """
    only_log = all(is_log(path) for path in truth_files.values())
    telling = result_files if only_log else truth_files.values()
    masks = any(not is_log(path) and holds_masks(path) for path in telling)
    counted: set[int] = set()  # that may be scored, or were distractors
    distractors: dict[str, frozenset[int]] = {}
    lost: set[int] = set()
    names: dict[int, str] = {}
    notes: list[str] = []
    fractions: list[float] = []
    number = 0
    for key, path in truth_files.items():
        truth = read(path, masks=masks, decode=False)
        told = benchmark or _benchmark_of(key, truth)
        distractors[key] = _distractors(told, truth) - set(classes)
        labels = {item.label for item in truth if item.counted}
        number += sum(1 for _ in truth)
        counted |= labels - distractors[key]
        lost |= labels & distractors[key]
        names |= _names_of(truth, labels)
        fractions += truth.fractions
        notes += _about_benchmark(key, told, truth, classes)
    present = frozenset(counted)
    doubt = _about_fractions(fractions)
    if not present:
        why = _why_nothing(number, lost, doubt, masks=masks)
        file = next(iter(truth_files.values()))
        where = file if len(truth_files) == 1 else f"{file} and {len(truth_files) - 1} more"
        raise ConfigError(f"{where}: the ground truth has no objects that count: {why}")
    if not present.issuperset(classes):
        raise ConfigError(
            f"the ground truth has no class {min(set(classes) - present)}; its classes are "
            f"{sorted(present)}"
        )
    if lost:
        notes.insert(
            0,
            f"classes {sorted(lost)} are distractors in MOTChallenge: they are not scored unless "
            "named",
        )
    notes += [f"the ground truth: {doubt}"] if doubt else []
    wanted = sorted(set(classes) or present)
    return Classes(masks, wanted, present, distractors, names, only_log, tuple(notes))


def _why_nothing(number: int, lost: set[int], doubt: str, *, masks: bool) -> str:
    """Say why nothing of the truth can be scored."""
    if doubt:
        return doubt
    if lost:
        first = min(lost)
        return f"its classes {sorted(lost)} are distractors unless named, as --classes {first}"
    if number:
        return f"the seventh field of all its {number} lines is 0, which leaves them out"
    return "it holds no masks" if masks else "it is empty"


def _names_of(truth: Sequence, labels: set[int]) -> dict[int, str]:
    """Return the names of a truth's labels, and of those that its format knows anyway."""
    if truth.is_log:
        return truth.categories
    fixed = (MOTS if truth.masks else MOT).names
    names = {label: name for label, name in fixed.items() if label > 0}
    return names | {label: str(label) for label in labels if label > 0 and label not in names}


def _benchmark_of(key: str, truth: Sequence) -> str | None:
    """Return the benchmark that a sequence is of, as its name, seqinfo.ini or folders say."""
    told = truth.seqinfo.name if truth.seqinfo else None
    for name in (key, told or "", *reversed(truth.path.resolve().parts)):
        match = re.fullmatch(r"(MOT(?:15|16|17|20))(?:[-_].*|Det.*|Labels.*)?", name, re.IGNORECASE)
        if match:
            return match[1].upper()
    return None


def _distractors(benchmark: str | None, truth: Sequence) -> frozenset[int]:
    if truth.masks or truth.is_log:
        return frozenset()
    return BENCHMARKS[benchmark] if benchmark else _USUAL


def _about_benchmark(
    key: str, benchmark: str | None, truth: Sequence, classes: Collection[int]
) -> Iterator[str]:
    """Say where MOT20's rule was applied, or might have to be."""
    if truth.masks or truth.is_log or _IN_MOT20 in classes:
        return
    if benchmark == "MOT20":
        numbers = ", ".join(map(str, sorted(BENCHMARKS[benchmark])))
        yield f"{key}: scored as MOT20, whose distractors are the classes {numbers}"
    elif benchmark is None and any(item.label == _IN_MOT20 for item in truth):
        yield f"{key}: its class 6 is a distractor in MOT20: if it is of that, --benchmark MOT20"


def _about_fractions(fractions: list[float]) -> str:
    """Say that a confidence is no part of ground truth, as TrackEval cuts it down to 0."""
    if not fractions:
        return ""
    rows = "a row has" if len(fractions) == 1 else f"{len(fractions)} rows have"
    return f"{rows} {fractions[0]:g} or the like in the seventh field: 1 counts, less does not"


@dataclass(slots=True)
class Translation:
    """Turns one result's classes into the truth's, by --map, by name, else by number."""

    classes: Classes
    mapping: Mapping[str, str]  # a result's class -> one of the truth's, by names or numbers
    seen: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))  # names by label
    mapped: set[str] = field(default_factory=set)  # what of `mapping` was met
    nameless: set[int] = field(default_factory=set)  # labels of logs that tell no name for them

    def __post_init__(self) -> None:
        for own, wanted in self.mapping.items():
            if self._label_of(wanted) is None:
                raise ConfigError(
                    f"--map {own}={wanted}: the truth has no class {wanted}; it has "
                    f"{self.classes.listed()}"
                )

    def apply(self, found: Sequence) -> None:
        """Give all objects of a result the truth's labels."""
        labels = {item.label for item in found}
        meant = {label: self._meant(label, found.name(label)) for label in sorted(labels)}
        self.nameless |= {k for k in labels if k and found.name(k) is None and not self._told(k)}
        for items in found.frames.values():
            for id_, item in items.items():
                items[id_] = _relabelled(item, meant[item.label])

    def notes(self) -> Iterator[str]:
        """Say which of the truth's classes the result lacks while it has others, and how to map.

        Also where numbers without names are taken for the truth's.
        """
        if self.nameless:
            first, wanted = min(self.nameless), self.classes.wanted
            other = next((label for label in wanted if label != first), wanted[0])
            name = self.classes.names.get(other, str(other))
            yield (
                f"it tells no names of its classes {sorted(self.nameless)}: their numbers are "
                f"taken for the truth's, {self.classes.listed(numbers=True)}; where they are "
                f"others', --map {first}={_quoted(name)}"
            )
        scored = set(self.classes.wanted)
        others = sorted(self.seen.get(NO_CLASS, ()))
        met = self.seen.keys() & scored
        is_only = not self.classes.masks and len(self.classes.present) == 1
        lacking = sorted(scored - self.seen.keys())
        if is_only and scored == {0}:
            return
        if lacking and others:
            have = ", ".join(sorted(set().union(*self.seen.values())))
            names = [self.classes.names.get(label, str(label)) for label in lacking]
            none = "no class" if not met else f"no {' or '.join(names)}"
            end = ", so all of it counts" if is_only else ""
            yield (
                f"{none} in common with the truth{end}: it has {have}, the truth "
                f"{self.classes.listed()}; where two are the same, --map "
                f"{_quoted(others[0])}={_quoted(names[0])}"
            )
        elif is_only and met and others:
            yield f"{', '.join(others)} left out: the truth has {self.classes.listed()} alone"

    def _meant(self, label: int, name: str | None) -> int:
        """Return the truth's label; of a label without a name, the label itself."""
        told = self._told(label, name)
        self.mapped.update(told)
        if told:
            meant = self._label_of(self.mapping[told[0]])
        elif name is None:
            meant = label
        else:
            meant = find_class(name, {name: label for label, name in self.classes.names.items()})
        is_known = meant in self.classes.present or (name is None and label == 0)
        result = meant if meant is not None and is_known else NO_CLASS
        self.seen[result].add(name or str(label))
        return result

    def _told(self, label: int, name: str | None = None) -> list[str]:
        """Return what of --map is of a label."""
        return [own for own in self.mapping if own in (str(label), name) or _same(own, name)]

    def _label_of(self, wanted: str) -> int | None:
        """Return the label of one of the truth's present classes, by its number or name."""
        present = self.classes.present
        if wanted.isdecimal() and int(wanted) in present:
            return int(wanted)
        names = self.classes.names
        return find_class(wanted, {names.get(k, self.classes.title(k)): k for k in present})


def check_mapping(translations: Collection[Translation], mapping: Mapping[str, str]) -> None:
    """Raise ConfigError for a class of --map that none of the results has."""
    met = {own for translation in translations for own in translation.mapped}
    for own, wanted in mapping.items():
        if own not in met:
            seen = [names for one in translations for names in one.seen.values()]
            have = ", ".join(sorted(set().union(*seen))) or "no objects"
            raise ConfigError(
                f"--map {own}={wanted}: no result has a class {own}; they have {have}"
            )


def _same(own: str, name: str | None) -> bool:
    return name is not None and own.casefold() == name.casefold()


def _relabelled(item: Object, label: int) -> Object:
    return item if item.label == label else item._replace(label=label)


def _listed(names: Mapping[int, str | None], *, numbers: bool) -> str:
    texts = []
    for label, name in sorted(names.items()):
        text = name or str(label)
        texts.append(f"{text} ({label})" if numbers and text != str(label) else text)
    return ", ".join(texts)


def _quoted(name: str) -> str:
    """Return a name as a shell takes it."""
    return f"'{name}'" if " " in name else name
