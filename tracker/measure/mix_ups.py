"""What makes a good result score near nothing: frames that are counted otherwise, or too many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tracker.boxes import box_iou
from tracker.measure.truth import Sequence

_BETTER_FIT = 0.03  # of mean IoU, from which a shift of frames is worth a word
_BEST_FIT = 0.003  # ... and from which it decides where the text may count from 0 or from 1
_LOOKED_AT = 100  # frames, about, to tell a shift by


class Shift(NamedTuple):
    """By how many frames a result seems to be off."""

    by: int  # to be added to the result's frames
    certain: bool  # the files' formats or their frames' range say so too
    fits: tuple[float, float]  # mean IoU as it is, and shifted

    def note(self) -> str:
        """Say what was done, or what may be done."""
        way = "later" if self.by > 0 else "earlier"
        fits = f"mean IoU {self.fits[1]:.2f} instead of {self.fits[0]:.2f}"
        if self.certain:
            return (
                f"its frames are not counted as the truth's, from 0 or from 1: taken one frame "
                f"{way} ({fits}); --shift 0 takes them as they are"
            )
        return (
            f"it would fit better one frame {way} ({fits}): where its frames count from another "
            f"number than the truth's, give --shift {self.by}"
        )


def held(sequence: Sequence) -> list[int]:
    """Return the frames that hold objects, ascending."""
    return sorted(index for index, items in sequence.frames.items() if items)


def frame_shift(truth: Sequence, found: Sequence) -> Shift | None:
    """Return by how many frames a result seems too early or too late; None where it does not."""
    fits = {by: _fit(truth, found, by) for by in (-1, 0, 1)}
    by = max(fits, key=lambda by: fits[by])
    is_unknown = by == _unknown(truth, found)
    if fits[by] <= fits[0] + (_BEST_FIT if is_unknown else _BETTER_FIT):
        return None
    first, last = _range(truth)
    frames = held(found)
    was_outside = frames[0] < first or frames[-1] > last
    is_inside = frames[0] + by >= first and frames[-1] + by <= last
    certain = is_unknown or (was_outside and is_inside)
    return Shift(by, certain, (fits[0], fits[by]))


def _unknown(truth: Sequence, found: Sequence) -> int | None:
    """Return the shift by which text that may count from 0 or from 1 would be the other's."""
    if truth.is_sure == found.is_sure:
        return None
    if not truth.is_sure:
        return 1  # it is taken to count from 0
    return 1 if found.first else -1


def wrong_frames(truth: Sequence, found: Sequence) -> Iterator[str]:
    """Say where a result has frames that the truth has not, or nothing at all."""
    frames = held(found)
    first, last = _range(truth)
    shown = truth.first  # as the truth's file counts
    if not frames:
        yield "the result holds no objects"
    elif not set(frames) & truth.frames.keys():
        yield (
            f"no frame of the result ({frames[0] + shown} to {frames[-1] + shown}) is one of the "
            f"truth's ({first + shown} to {last + shown})"
        )
    else:
        sides = (
            (sum(index > last for index in frames), "behind the truth's last", last),
            (sum(index < first for index in frames), "before the truth's first", first),
        )
        for number, where, edge in sides:
            if number:
                lie = "frame lies" if number == 1 else "frames lie"
                yield f"{number} {lie} {where} ({edge + shown}): all in them counts as false"


def _range(truth: Sequence) -> tuple[int, int]:
    """Return the first and the last frame of the truth; seqinfo.ini tells better than objects."""
    if truth.seqinfo and truth.seqinfo.length:
        return 0, truth.seqinfo.length - 1
    frames = truth.frames.keys() | truth.ignored.keys()
    return min(frames, default=0), max(frames, default=0)


def _fit(truth: Sequence, found: Sequence, shift: int) -> float:
    """Return the mean best box IoU of some of the result's objects, `shift` frames later."""
    common = [k for k in held(found) if truth.frames.get(k + shift)]
    best = []
    for index in common[:: len(common) // _LOOKED_AT + 1]:
        boxes = [
            np.array([item.box for item in sequence.frames[k].values()], np.float64)
            for sequence, k in ((truth, index + shift), (found, index))
        ]
        best += box_iou(*boxes).max(axis=0).tolist()
    return float(np.mean(best)) if best else 0.0
