"""Read ground truth and results to be scored: MOTChallenge and MOTS text, and logs of runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tracker.errors import FormatError
from tracker.formats import is_log, mot, mots, open_log
from tracker.formats.mots import without_overlap
from tracker.masks import Mask, Rle, intersection, rle_to_mask
from tracker.types import LoggedFrame

_MOTS_NUMBERS = {"car": 1, "pedestrian": 2, "person": 2}  # of the class names in a run's log
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
    frames: dict[int, dict[int, Object]] = field(default_factory=lambda: defaultdict(dict))
    # Ignore regions are often as large as the frame: they stay RLE until one is asked for.
    ignored: dict[int, list[Rle]] = field(default_factory=lambda: defaultdict(list))
    size: tuple[int, int] | None = None  # height, width of the frames, px

    def __iter__(self) -> Iterator[Object]:
        return (item for items in self.frames.values() for item in items.values())

    def add(self, index: int, item: Object) -> None:
        """Take in one object; no two of a frame share an id or, of masks, a pixel."""
        items = self.frames[index]
        if item.id in items:
            raise ValueError(f"id {item.id} appears twice in frame {index + (not self.masks)}")
        for other in items.values() if item.mask else ():
            if item.mask and other.mask and intersection(item.mask, other.mask):
                raise ValueError(f"overlaps id {other.id} in frame {index}, which MOTS forbids")
        items[item.id] = item

    def add_box(self, line: mot.Line) -> None:
        """Take in a line of MOTChallenge text."""
        if line.id < 0:
            raise ValueError(f"id must not be negative, got {line.id}")
        label = (line.label or 0) if line.has_class else 0
        counted = line.fields < 7 or int(line.score) != 0
        self.add(line.frame, Object(line.id, label, line.box, counted=counted))

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

    def add_frame(self, frame: LoggedFrame, names: dict[int, str]) -> None:
        """Take in a frame of a log as its export would be; masks' classes go by their names."""
        tracks, self.size = frame.tracks, (frame.height, frame.width)
        masks = dict(without_overlap(tracks)) if self.masks else {}
        for row in masks if self.masks else range(len(tracks)):
            label, mask = int(tracks.labels[row]), masks.get(row)
            if mask and label in names:
                label = _MOTS_NUMBERS.get(names[label], 0)
            x1, y1, x2, y2 = mask.box if mask else tracks.boxes[row].tolist()
            self.add(frame.index, Object(int(tracks.ids[row]), label, (x1, y1, x2, y2), mask))


def read(path: Path, *, masks: bool, decode: bool = True) -> Sequence:
    """Read a file of boxes or masks; without `decode` only the classes of masks.

    Raises FormatError that names file and line.
    """
    sequence = Sequence(path, masks)
    if is_log(path):
        log = open_log(path)
        names = dict(enumerate(log.info.categories))
        for frame in log.frames:
            sequence.add_frame(frame, names)
        return sequence
    for number, line in mots.read_objects(path) if masks else mot.read_objects(path):
        try:
            if isinstance(line, mots.Line):
                sequence.add_mask(line, decode=decode)
            else:
                sequence.add_box(line)
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
    return sequence
