"""MOTS text, one mask a line: frame id class height width rle.

Frames count from 0 (frame = index) as in KITTI MOTS, or from 1 as in MOTSChallenge (see
mots_challenge.py); classes have MOTS' numbers by their names (car is 1, person 2; see numbers.py).
The mask is compressed COCO RLE, and no two masks of a frame overlap: a pixel that several claim
goes to the one that stands nearest, whose lower edge is the lowest; what hardly keeps anything of
itself is a double and left out. Objects without a mask, times, scores and names have no place in
it. Source: vision.rwth-aachen.de/page/mots.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tracker.errors import FormatError
from tracker.files import new_file, read_rows
from tracker.formats.numbers import MOTS, Numbering
from tracker.formats.rows import Row, check_frame, ids_from_one, need_size, to_tracks
from tracker.formats.seqinfo import find_seqinfo
from tracker.masks import Mask, Rle, mask_to_rle, rle_to_mask
from tracker.types import LoggedFrame, LogInfo, TrackLog, Tracks

SUFFIX = ".txt"
SHARE_LEFT = 0.3  # of its own pixels a mask must keep
_FIRST_NAMES = ("frame", "frame_id", "time_frame", "timeframe")  # of a header's first field
CHALLENGE = "mots-challenge"  # what a file's name says where its frames count from 1


class Line(NamedTuple):
    """One mask as the text tells it."""

    frame: int  # its number in the text
    id: int
    label: int  # 10 = a region to be ignored, in ground truth
    rle: Rle


def write(log: TrackLog, path: Path, first: int = 0) -> list[str]:
    """Write a log whose frames count from `first`; those without masks have no line.

    Return what must be known of its classes and of objects that have no place in it.
    """
    numbering = Numbering(MOTS, log.info.categories)
    written = maskless = 0
    with new_file(path) as file:
        for frame in log.frames:
            tracks = frame.tracks
            if any(mask is not None for mask in tracks.masks):
                need_size(path, frame.width, frame.height, "MOTS")
            masks = [mask and mask.clipped(frame.width, frame.height) for mask in tracks.masks]
            masks = [mask if mask and mask.area else None for mask in masks]
            maskless += masks.count(None)
            for row, mask in without_overlap(replace(tracks, masks=tuple(masks))):
                rle = mask_to_rle(mask, frame.width, frame.height)
                file.write(
                    f"{frame.index + first} {tracks.ids[row]} "
                    f"{numbering[int(tracks.labels[row])]} "
                    f"{frame.height} {frame.width} {rle['counts']}\n"
                )
                written += 1
    notes = list(numbering.notes())
    if maskless:
        remedy = "" if written else ", so the file is empty; --to mot writes boxes"
        notes.append(f"{maskless} boxes without a mask are left out: MOTS is of masks{remedy}")
    return notes


def read(path: Path, fps: float = 25.0, shift: int = 0) -> TrackLog:
    """Read a log; the format knows no times, so they are made from `fps`. Raises FormatError.

    `shift` is added to the numbers of the frames: -1 where they count from 1.
    """
    rows: dict[int, list[Row]] = defaultdict(list)
    sizes: dict[int, tuple[int, int]] = {}
    for number, line in read_objects(path):
        try:
            index = check_frame(line.frame + shift)
            mask = rle_to_mask(line.rle)
            height, width = line.rle["size"]
            if sizes.setdefault(index, (width, height)) != (width, height):
                raise ValueError("masks of one frame must have one size")
            x1, y1, x2, y2 = mask.box
            rows[index].append(Row(line.id, line.label, 1.0, (x1, y1, x2, y2), mask))
        except (ValueError, OverflowError) as exc:
            raise FormatError(f"{path}:{number}: {exc}") from exc
    notes = ids_from_one(rows.values())
    frames = []
    for index, members in sorted(rows.items()):
        try:
            tracks = to_tracks(members)
        except ValueError as exc:
            raise FormatError(f"{path}: frame {index - shift}: {exc}") from exc
        frames.append(LoggedFrame(index, index / fps, *sizes[index], tracks))
    categories = MOTS.categories([row.label for members in rows.values() for row in members])
    size = sizes[frames[0].index] if frames else (0, 0)
    return TrackLog(LogInfo(*size, categories), frames, tuple(notes))


def counts_from_one(path: Path) -> bool:
    """Whether a file is MOTSChallenge's by its name or its place: SEQ/gt/gt.txt, SEQ/seqinfo.ini.

    Raises FormatError for a seqinfo.ini that cannot be read.
    """
    return CHALLENGE in path.name or find_seqinfo(path) is not None


def without_overlap(tracks: Tracks) -> list[tuple[int, Mask]]:
    """Return (row, mask) of every mask that keeps enough of itself after nearer ones took theirs.

    On the ground, what has the lowest lower edge is nearest and hides the others: measured, this
    order agrees better with the truth than the order of the scores.
    """
    order = sorted(
        (row for row, mask in enumerate(tracks.masks) if mask is not None),
        key=lambda row: (-_foot(tracks, row), -float(tracks.scores[row]), int(tracks.ids[row])),
    )
    kept: list[tuple[int, Mask]] = []
    for row in order:
        mask = tracks.masks[row]
        if mask is None:
            continue
        bits = mask.bits.copy()
        x1, y1, x2, y2 = mask.box
        for _, other in kept:
            ox1, oy1, ox2, oy2 = other.box
            left, top, right, bottom = max(x1, ox1), max(y1, oy1), min(x2, ox2), min(y2, oy2)
            if left < right and top < bottom:
                mine = bits[top - y1 : bottom - y1, left - x1 : right - x1]
                mine &= ~other.bits[top - oy1 : bottom - oy1, left - ox1 : right - ox1]
        rest = Mask(mask.x, mask.y, bits).tight()
        if rest.area >= max(1, SHARE_LEFT * mask.area):
            kept.append((row, rest))
    return sorted(kept, key=lambda item: item[0])


def _foot(tracks: Tracks, row: int) -> int:
    mask = tracks.masks[row]
    return mask.box[3] if mask is not None else 0


def holds_masks(path: Path) -> bool:
    """Tell MOTS from MOTChallenge text by the first line: five whole numbers and no sixth."""
    first = next((text for _, text in _rows(path)), "")
    return bool(re.fullmatch(r"(\d+\s+){5}(?![\d.,eE+-]+$)\S+", first))


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line, without a header of six names."""
    for position, (number, text) in enumerate(read_rows(path)):
        names = text.casefold().split()
        if position or len(names) != len(Line._fields) + 2 or names[0] not in _FIRST_NAMES:
            yield number, text


def read_objects(path: Path) -> Iterator[tuple[int, Line]]:
    """Yield the number of each line and what it says; raise FormatError that names both."""
    for number, text in _rows(path):
        fields = text.split()
        if len(fields) != 6 or not all(field.isdecimal() for field in fields[:5]):
            what = f"must be frame id class height width rle, got {text!r:.80}"
            raise FormatError(f"{path}:{number}: {what}")
        frame, id_, label, height, width = (int(field) for field in fields[:5])
        yield number, Line(frame, id_, label, {"size": [height, width], "counts": fields[5]})
