"""Write the annotated video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

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
    ) -> None:
        self._path, self._categories = path, categories
        self._output, self._count = output or OutputConfig(), count or CountConfig()
        self._rate, self._find_audio = rate, find_audio
        self._pixel_aspect = pixel_aspect
        self._annotator = Annotator(categories, self._output)
        self._totals = Totals(self._count.bin_s)
        self._lines: LineCounter | None = None
        self._writer: VideoWriter | None = None

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

    def _open(self, width: int, height: int) -> None:
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
        )

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
