"""Read ground truth and results to be scored: MOTChallenge and MOTS text, and logs of runs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tracker.errors import FormatError
from tracker.files import read_rows
from tracker.formats import is_log, mot, mots, open_log
from tracker.formats.mots import without_overlap
from tracker.formats.numbers import MOT, MOTS, NAMELESS
from tracker.formats.seqinfo import SeqInfo, find_seqinfo
from tracker.masks import Mask, Rle, intersection, rle_to_mask
from tracker.types import LoggedFrame

_IGNORED = 10  # class of MOTS regions that nobody labelled
_NOTHING = Mask(0, 0, np.zeros((0, 0), np.bool_))


class Object(NamedTuple):
    """One object in one frame, as a file tells it."""

    id: int
    label: int  # 0 = the file tells no class
    box: tuple[float, float, float, float]  # xyxy px
    mask: Mask | None = None
    counted: bool = True  # false for a row of truth that is not to be considered


@dataclass(slots=True, eq=False)
class Sequence:
    """All objects of one file; what adds to it raises ValueError."""

    path: Path
    masks: bool
    is_log: bool = False
    first: int = 0  # number in the file of the frame whose key is 0
    is_sure: bool = True  # of that: MOTS text may count from 0 or from 1
    frames: dict[int, dict[int, Object]] = field(default_factory=lambda: defaultdict(dict))
    # Ignore regions are often as large as the frame: they stay RLE until one is asked for.
    ignored: dict[int, list[Rle]] = field(default_factory=lambda: defaultdict(list))
    size: tuple[int, int] | None = None  # height, width of the frames, px
    categories: dict[int, str] = field(default_factory=dict)  # of a log: names of its labels
    seqinfo: SeqInfo | None = None
    fractions: list[float] = field(default_factory=list)  # seventh fields between 0 and 1

    def __iter__(self) -> Iterator[Object]:
        return (item for items in self.frames.values() for item in items.values())

    def name(self, label: int) -> str | None:
        """Return the name of a class; None for a label that tells none."""
        if self.is_log:
            return self.categories.get(label)
        if self.masks:
            return MOTS.name(label)
        return MOT.name(label) if label else None

    def add(self, index: int, item: Object) -> None:
        """Take in one object; no two of a frame share an id or, of masks, a pixel."""
        items = self.frames[index]
        if item.id in items:
            raise ValueError(f"id {item.id} appears twice in frame {index + self.first}")
        for other in items.values() if item.mask else ():
            if item.mask and other.mask and intersection(item.mask, other.mask):
                raise ValueError(f"overlaps id {other.id} in frame {index}, which MOTS forbids")
        items[item.id] = item

    def add_box(self, line: mot.Line) -> None:
        """Take in a line of MOTChallenge text."""
        if line.id < 0:
            raise ValueError(f"id must not be negative, got {line.id}")
        if line.score is not None and 0 < abs(line.score) < 1:
            self.fractions.append(line.score)
        counted = line.score is None or int(line.score) != 0
        self.add(line.frame, Object(line.id, line.label or 0, line.box, counted=counted))

    def add_mask(self, line: mots.Line, *, decode: bool) -> None:
        """Take in a line of MOTS text."""
        height, width = line.rle["size"]
        if self.size not in (None, (height, width)):
            raise ValueError(f"frames must have one size, got {(height, width)} and {self.size}")
        self.size = height, width
        mask = rle_to_mask(line.rle) if decode else _NOTHING
        if line.label == _IGNORED:
            self.ignored[line.frame].append(line.rle)
        else:
            self.add(line.frame, Object(line.id, line.label, mask.box, mask))

    def add_frame(self, frame: LoggedFrame) -> None:
        """Take in a frame of a log as its export would be."""
        tracks, self.size = frame.tracks, (frame.height, frame.width)
        masks = dict(without_overlap(tracks)) if self.masks else {}
        for row in masks if self.masks else range(len(tracks)):
            label, mask = int(tracks.labels[row]), masks.get(row)
            x1, y1, x2, y2 = mask.box if mask else tracks.boxes[row].tolist()
            self.add(frame.index, Object(int(tracks.ids[row]), label, (x1, y1, x2, y2), mask))

    def move(self, by: int) -> None:
        """Add so much to the number of every frame."""
        if by:
            frames, ignored = self.frames.items(), self.ignored.items()
            self.frames = defaultdict(dict, {index + by: items for index, items in frames})
            self.ignored = defaultdict(list, {index + by: rles for index, rles in ignored})

    def count_from(self, first: int) -> None:
        """Take the first frame to have this number in the file."""
        self.move(self.first - first)
        self.first = first


def read(path: Path, *, masks: bool, decode: bool = True, shift: int = 0) -> Sequence:
    """Read a file of boxes or masks; without `decode` only the classes of masks.

    `shift` is added to the numbers of its frames. Raises FormatError that names file and line.
    """
    if is_log(path):
        sequence = _read_log(path, masks=masks)
        sequence.move(shift)
        return sequence
    _check_kind(path, masks=masks)
    if not masks:
        return _read_boxes(path, shift)
    sequence = _read_masks(path, decode=decode)
    sequence.move(shift)
    return sequence


def _check_kind(path: Path, *, masks: bool) -> None:
    """Raise FormatError for boxes where masks are scored, and the other way round."""
    if not masks and mots.holds_masks(path):
        raise FormatError(
            f"{path}: holds masks (MOTS), and boxes are scored: the ground truth, or another result"
            ", has no masks; `tracker export --to mot` makes boxes of them"
        )
    if masks and not mots.holds_masks(path) and _holds_boxes(path):
        raise FormatError(
            f"{path}: holds boxes (MOTChallenge), and masks are scored: they have none to compare"
        )


def _holds_boxes(path: Path) -> bool:
    """Whether the first line is an object of MOTChallenge's, and cannot be meant as a mask."""
    first = next((text for _, text in read_rows(path)), "")
    if re.fullmatch(r"(\d+\s+){5}\S+", first):
        return False
    try:
        return next(mot.read_objects(path, shift=1), None) is not None
    except FormatError:
        return False


def _read_log(path: Path, *, masks: bool) -> Sequence:
    log = open_log(path)
    names = {k: name for k, name in enumerate(log.info.categories) if name not in NAMELESS}
    sequence = Sequence(path, masks, is_log=True, categories=names)
    for frame in log.frames:
        sequence.add_frame(frame)
    return sequence


def _read_boxes(path: Path, shift: int) -> Sequence:
    sequence = Sequence(path, masks=False, first=1 - shift, seqinfo=find_seqinfo(path))
    for number, line in mot.read_objects(path, shift):
        try:
            sequence.add_box(line)
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
    return sequence


def _read_masks(path: Path, *, decode: bool) -> Sequence:
    sequence = Sequence(path, masks=True, is_sure=False, seqinfo=find_seqinfo(path))
    for number, line in mots.read_objects(path):
        try:
            sequence.add_mask(line, decode=decode)
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
    if min((*sequence.frames, *sequence.ignored), default=1) == 0:
        sequence.is_sure = True
    elif mots.counts_from_one(path):
        sequence.count_from(1)
        sequence.is_sure = True
    return sequence
