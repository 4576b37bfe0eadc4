"""Write the annotated video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from tracker.config import CountConfig, OutputConfig
from tracker.count.lines import LineCounter, line_counter
from tracker.count.totals import Totals
from tracker.drawing import Annotator, LineTotal
from tracker.types import AudioTrack, FrameResult
from tracker.video.writer import VideoWriter


class VideoSink:
    """Draw every frame and encode it at its own time; the file opens with the first frame."""

    def __init__(
        self,
        path: Path,
        categories: Sequence[str],
        *,
        output: OutputConfig | None = None,
        count: CountConfig | None = None,
        rate: Fraction | None = None,
        pixel_aspect: Fraction = Fraction(1),
        find_audio: Callable[[], AudioTrack | None] = lambda: None,
        state: dict[str, Any] | None = None,
        counted: dict[str, Any] | None = None,
    ) -> None:
        """Open a video, or go on with one whose `state` was taken with the `counted` objects."""
        self._path, self._categories = path, categories
        self._output, self._count = output or OutputConfig(), count or CountConfig()
        self._rate, self._find_audio = rate, find_audio
        self._pixel_aspect = pixel_aspect
        self._annotator = Annotator(categories, self._output)
        self._totals = Totals(self._count.bin_s)
        self._lines: LineCounter | None = None
        self._size: tuple[int, int] | None = None  # px, of the first frame
        self._writer: VideoWriter | None = None
        if state and counted:
            self._totals.restore(counted["totals"])
            self._annotator.restore(state["annotator"])
            width, height = state["size"]
            self._open(width, height, state["writer"]).restore(counted["lines"])

    @property
    def durable(self) -> int:
        """Number of frames that a kill can no longer take."""
        return self._writer.durable if self._writer else 0

    def state(self) -> dict[str, Any] | None:
        """Return what a video that goes on needs, as JSON types."""
        if self._writer is None:
            return None
        return {
            "size": self._size,
            "annotator": self._annotator.state(),
            "writer": self._writer.state(),
        }

    @property
    def notes(self) -> list[str]:
        """What went differently from what was asked, a sentence each."""
        return self._writer.notes if self._writer else []

    def write(self, result: FrameResult) -> None:
        """Draw and append one frame."""
        frame, tracks = result.frame, result.tracks
        if self._writer is None:
            self._open(frame.width, frame.height)
        assert self._writer is not None
        assert self._lines is not None
        self._lines.resize(frame.width, frame.height)
        self._totals.update(tracks, frame.time)
        self._lines.update(tracks, frame.index, frame.time)
        unique = {self._categories[k]: n for k, n in self._totals.unique.items() if n}
        image = self._annotator.draw(result, unique=unique, lines=self._line_totals(self._lines))
        self._writer.write(image, frame.time)

    def close(self) -> None:
        """Finish the file."""
        if self._writer:
            self._writer.close()

    def _open(self, width: int, height: int, state: dict[str, Any] | None = None) -> LineCounter:
        self._size = (width, height)
        self._lines = line_counter(self._count, width, height)
        self._writer = VideoWriter(
            self._path,
            width,
            height,
            rate=self._rate,
            pixel_aspect=self._pixel_aspect,
            crf=self._output.crf,
            preset=self._output.preset,
            audio=self._find_audio() if self._output.audio else None,
            state=state,
        )
        return self._lines

    @staticmethod
    def _line_totals(counter: LineCounter) -> list[LineTotal]:
        def total(name: str, direction: str) -> int:
            return sum(
                n for (li, d, _), n in counter.counts.items() if (li, d) == (name, direction)
            )

        return [
            LineTotal(line, total(line.name, "in"), total(line.name, "out"))
            for line in counter.lines
        ]
