"""Remember a whole video's tracks while they are made, to refine them in the end."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.associate.mask_tracker import LONGEST_PAST, MaskTracker
from tracker.associate.refine import Sighting, pack, refined, unpack
from tracker.config import RefineConfig
from tracker.types import Detections, Image, Tracks


class Archive:
    """A tracker that remembers: the online result goes on as it comes, the refined one follows.

    It is used in the tracker's place; `refined` then gives the whole video's tracks, frame by
    frame. It keeps one to two kilobytes for every object and frame: for files, not for cameras.
    """

    def __init__(
        self, tracker: MaskTracker, config: RefineConfig | None = None, *, spills: bool = False
    ) -> None:
        """Remember; with `spills`, also as lines of text for `recall`, taken by `spilled`."""
        self._tracker = tracker
        self._config = config or RefineConfig()
        self._first = tracker.frames
        self._size: tuple[int, int] | None = None
        self._stretch = 0  # of frames of one size: between two, nothing is joined or filled
        self._stretches: list[int] = []
        self._times: list[float] = []
        self._looks: list[bool] = []  # whether the frame was detected
        self._tracks: dict[int, list[Sighting]] = defaultdict(list)
        self._recent: deque[tuple[int, Detections]] = deque(maxlen=LONGEST_PAST + 1)
        self._lines: list[str] | None = [] if spills else None

    def update(self, detections: Detections, time: float, image: Image | None = None) -> Tracks:
        """Advance to `time` (s) and return the confirmed tracks present there."""
        if image is not None:
            self.resize(image.shape[1], image.shape[0])
        tracks = self._tracker.update(detections, time, image)
        frame = self._note(time, detected=True)
        self._recent.append((frame, detections))
        recent = dict(self._recent)
        for id_, number, row in self._tracker.late:
            earlier = number - self._first
            if earlier in recent:
                found = recent[earlier]
                label = int(found.labels[row])
                self._add(id_, earlier, found.boxes[row], found.scores[row], label, found, row)
        for k in np.flatnonzero(tracks.observed).tolist():
            row, label = int(tracks.sources[k]), int(tracks.labels[k])
            box, score = tracks.boxes[k], tracks.scores[k]
            self._add(int(tracks.ids[k]), frame, box, score, label, detections, row)
        return tracks

    def carry(self, time: float, image: Image | None = None) -> Tracks:
        """Advance to `time` (s) over a frame that was not detected; return the tracks, carried."""
        if image is not None:
            self.resize(image.shape[1], image.shape[0])
        tracks = self._tracker.carry(time, image)
        self._note(time, detected=False)
        return tracks

    def resize(self, width: int, height: int) -> None:
        """Follow a change of the picture's size, px."""
        if self._size not in (None, (width, height)):
            self._stretch += 1
        self._size = (width, height)
        self._tracker.resize(width, height)

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs but for what `spilled` gives, as JSON types."""
        recent = [[frame, _to_json(found)] for frame, found in self._recent]
        return {
            "tracker": self._tracker.state(),
            "first": self._first,
            "size": self._size,
            "stretch": self._stretch,
            "recent": recent,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; `recall` gives back what was archived by then."""
        self._tracker.restore(state["tracker"])
        self._first, self._stretch = state["first"], state["stretch"]
        self._size = tuple(state["size"]) if state["size"] else None
        for frame, found in state["recent"]:
            self._recent.append((frame, _from_json(found)))

    def spilled(self) -> str:
        """Return what was archived since it was last asked, as lines of text."""
        lines, self._lines = self._lines or [], []
        return "".join(lines)

    def recall(self, lines: Iterable[str]) -> None:
        """Take in again what `spilled` gave; raise ValueError for anything else."""
        for line in lines:
            kind, *values = json.loads(line)
            if kind == "frame":
                time, stretch, detected = values
                self._times.append(float(time))
                self._stretches.append(int(stretch))
                self._looks.append(bool(detected))
            else:
                id_, frame, box, score, label, mask, source = values
                place = (mask[0], mask[1], mask[2]) if mask else None
                sighting = Sighting(frame, np.array(box), score, label, place, source)
                self._tracks[id_].append(sighting)

    def _spill(self, *values: Any) -> None:
        if self._lines is not None:
            self._lines.append(json.dumps(values, separators=(",", ":")) + "\n")

    def refined(self) -> Iterator[Tracks]:
        """Yield the refined tracks of each frame, in the order of the frames."""
        tracks = list(self._tracks.values())
        return refined(tracks, self._times, self._stretches, self._looks, self._config)

    def _note(self, time: float, *, detected: bool) -> int:
        """Take in one frame and return its position."""
        self._times.append(time)
        self._stretches.append(self._stretch)
        self._looks.append(detected)
        self._spill("frame", time, self._stretch, detected)
        return len(self._times) - 1

    def _add(
        self,
        id_: int,
        frame: int,
        box: npt.NDArray[Any],
        score: float,
        label: int,
        detections: Detections,
        row: int,
    ) -> None:
        mask = pack(detections.masks[row])
        one = Sighting(frame, box.astype(np.float64), float(score), label, mask, row)
        self._tracks[id_].append(one)
        self._spill("seen", id_, frame, one.box.tolist(), one.score, label, mask, row)


def _to_json(found: Detections) -> list[Any]:
    masks = [pack(mask) for mask in found.masks]
    return [found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), masks]


def _from_json(content: list[Any]) -> Detections:
    boxes, scores, labels, masks = content
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels=np.array(labels, np.int64),
        masks=tuple(unpack(mask) for mask in masks),
    )
