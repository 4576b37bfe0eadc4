"""Write the annotated video."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from tracker.config import CountConfig, OutputConfig
from tracker.count.stage import CountStage
from tracker.drawing import Annotator
from tracker.snapshot import VideoState
from tracker.types import AudioTrack, FrameResult
from tracker.video.writer import VideoWriter, WriterState


class VideoSink:
    """Draw every frame and encode it at its own time; the file opens with the first frame."""

    def __init__(
        self,
        path: Path,
        categories: Sequence[str],
        *,
        output: OutputConfig | None = None,
        count: CountConfig | None = None,
        counting: CountStage | None = None,
        rate: Fraction | None = None,
        pixel_aspect: Fraction = Fraction(1),
        audio: AudioTrack | None = None,
        state: VideoState | None = None,
    ) -> None:
        """Open a video, or go on with the one whose `state` was taken."""
        self.counting = counting or CountStage(count)
        self._path, self._output = path, output or OutputConfig()
        self._rate, self._pixel_aspect, self._audio = rate, pixel_aspect, audio
        self._annotator = Annotator(categories, self._output)
        self._size: tuple[int, int] | None = None  # px, of the first frame
        self._writer: VideoWriter | None = None
        if state:
            self._annotator.restore(state.trails, state.trail_size)
            past = WriterState(state.frames, state.first_time, state.last_tick)
            self._open(state.width, state.height, past)

    @property
    def durable(self) -> int:
        """Number of frames that a kill can no longer take."""
        return self._writer.durable if self._writer else 0

    def state(self) -> VideoState | None:
        """Return what a video that goes on needs."""
        if self._writer is None or self._size is None:
            return None
        written = self._writer.state()
        trails, trail_size = self._annotator.state()
        return VideoState(
            width=self._size[0],
            height=self._size[1],
            frames=written.frames,
            first_time=written.first_time,
            last_tick=written.last_tick,
            trails=trails,
            trail_size=trail_size,
        )

    @property
    def notes(self) -> list[str]:
        """What went differently from what was asked, a sentence each."""
        return self._writer.notes if self._writer else []

    def write(self, result: FrameResult) -> None:
        """Draw and append one frame."""
        result = self.counting.count(result)  # once, whoever asks first
        frame = result.frame
        writer = self._writer or self._open(frame.width, frame.height)
        writer.write(self._annotator.draw(result), frame.time)

    def close(self) -> None:
        """Finish the file."""
        if self._writer:
            self._writer.close()

    def _open(self, width: int, height: int, past: WriterState | None = None) -> VideoWriter:
        self._size = (width, height)
        self._writer = VideoWriter(
            self._path,
            width,
            height,
            rate=self._rate,
            pixel_aspect=self._pixel_aspect,
            crf=self._output.crf,
            preset=self._output.preset,
            audio=self._audio if self._output.audio else None,
            state=past,
        )
        return self._writer
