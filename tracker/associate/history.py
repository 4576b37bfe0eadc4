"""Remember a whole video's tracks while they are made, to refine them in the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from tracker.associate.refine import Seen, refined
from tracker.config import RefineConfig
from tracker.masks import Mask, MaskJson
from tracker.snapshot import State
from tracker.types import Detections, Tracks


class SeenLine(State):
    """One track in one frame, as it is written down."""

    id: int
    frame: int  # position in the video, from 0
    box: tuple[float, ...]
    score: float
    label: int
    mask: MaskJson | None
    source: int


class HistoryLine(State):
    """One frame, as it is written down, and what was seen by then and not yet told."""

    time: float  # s
    size: tuple[int, int] | None  # px
    stretch: int
    detected: bool
    seen: tuple[SeenLine, ...]


class History:
    """All that a tracker saw of a video, frame by frame; `refined` makes better tracks of it.

    It keeps one to two kilobytes for every object and frame: for files, not for cameras.
    """

    def __init__(self, config: RefineConfig | None = None) -> None:
        self._config = config or RefineConfig()
        self._size: tuple[int, int] | None = None
        self._stretch = 0  # of frames of one size: between two, nothing is joined or filled
        self._stretches: list[int] = []
        self._times: list[float] = []
        self._detected: list[bool] = []
        self._tracks: dict[int, list[Seen]] = defaultdict(list)

    def add(
        self,
        tracks: Tracks,
        detections: Detections,
        time: float,
        size: tuple[int, int] | None = None,
        *,
        detected: bool = True,
    ) -> HistoryLine:
        """Take in the next frame, of this width and height, px; return all that was new in it."""
        if size is not None:
            self._stretch += self._size not in (None, size)
            self._size = size
        frame = len(self._times)
        seen = [
            SeenLine(
                id=one.id,
                frame=frame - one.frames_ago,
                box=one.box,
                score=one.score,
                label=one.label,
                mask=_packed(one.mask),
                source=one.source,
            )
            for one in tracks.earlier
            if one.frames_ago <= frame
        ]
        for row in np.flatnonzero(tracks.observed).tolist():
            source = int(tracks.sources[row])
            seen.append(
                SeenLine(
                    id=int(tracks.ids[row]),
                    frame=frame,
                    box=tuple(tracks.boxes[row].tolist()),
                    score=float(tracks.scores[row]),
                    label=int(tracks.labels[row]),
                    mask=_packed(detections.masks[source]),
                    source=source,
                )
            )
        line = HistoryLine(
            time=time, size=self._size, stretch=self._stretch, detected=detected, seen=tuple(seen)
        )
        self.recall([line])
        return line

    def recall(self, lines: Iterable[HistoryLine]) -> None:
        """Take in what `add` gave."""
        for line in lines:
            self._times.append(line.time)
            self._stretches.append(line.stretch)
            self._detected.append(line.detected)
            self._stretch, self._size = line.stretch, line.size
            for one in line.seen:
                box: npt.NDArray[np.float64] = np.array(one.box, np.float64)
                seen = Seen(one.frame, box, one.score, one.label, one.mask, one.source)
                self._tracks[one.id].append(seen)

    def refined(self) -> Iterator[Tracks]:
        """Yield the refined tracks of each frame, in the order of the frames."""
        tracks = list(self._tracks.values())
        return refined(tracks, self._times, self._stretches, self._detected, self._config)


def _packed(mask: Mask | None) -> MaskJson | None:
    return mask.to_json() if mask is not None and mask.bits.size else None
