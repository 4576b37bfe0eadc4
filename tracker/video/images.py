"""Read still pictures as a video: a folder or glob of them, or all that one file holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.snapshot import SourceMark
from tracker.types import Frame, Image, SourceReport, StreamInfo
from tracker.video.file import VideoFile
from tracker.video.listing import find_images, no_images
from tracker.video.picture import Wanted, checksum, report_state, restore_report
from tracker.video.stills import Pages, is_animated_avif, may_hold_several

_USUAL_FPS = 10.0


@dataclass(frozen=True, slots=True)
class _Still:
    """Where one picture lies, and when it is shown."""

    path: Path
    page: int
    time: float  # s


class ImageSequence:
    """Still pictures at a fixed rate, `source.fps`; unreadable ones are skipped and counted.

    The pages of a TIFF are pictures of their own. An animation that is named itself is shown at its
    own times; of one in a folder the first picture is shown.
    """

    def __init__(self, place: str, config: SourceConfig, *, name: str | None = None) -> None:
        """List the pictures at a place, which may have another name for people."""
        self.name = name or place
        self._config = config
        self._index, self._size = -1, (0, 0)  # of the latest frame; height, width
        self._trouble = ""  # with the first image that could not be read
        self._pages: tuple[Path, Pages] | None = None  # that are open
        self._rate = Fraction(config.fps or _USUAL_FPS).limit_denominator(1000)
        self._notes: list[str] = []
        self._said: tuple[str, ...] = ()  # on the first image
        self._stills = self._list(place)
        self.report = SourceReport(declared_frames=len(self._stills), notes=self._notes)
        width, height = self._first_size()
        self.close()
        count = len(self._stills)
        self.info = StreamInfo(width, height, self._rate, count, remarks=self._said)

    def frames(
        self, wanted: Wanted, finished: Wanted, mark: SourceMark | None = None
    ) -> Iterator[Frame]:
        """Yield the frames for which `wanted(index, time)`, until `finished(index, time)`.

        With a `mark`, only those behind it; raises SourceError where another picture is there.
        """
        try:
            if mark is not None:
                self._go_behind(mark)
            yield from self._frames(wanted, finished)
        finally:
            self.close()

    def _frames(self, wanted: Wanted, finished: Wanted) -> Iterator[Frame]:
        report, first = self.report, self._index + 1
        for index, still in enumerate(self._stills[first:], first):
            if finished(index, still.time):
                return
            report.packets += 1
            if not wanted(index, still.time):
                report.skipped += 1
                continue
            shown = self._read(still)
            if shown is None:
                report.bad_packets += 1
                report.notes.append(f"{still.path.name} cannot be read")
                continue
            image, suspect = shown
            size = (image.shape[0], image.shape[1])
            report.size_changes += self._index >= 0 and self._size != size
            report.suspect += suspect
            report.frames += 1
            self._index, self._size = index, size
            yield Frame(index, still.time, image, suspect)

    def mark(self) -> SourceMark | None:
        """Return where the latest frame lay; None before the first."""
        if self._index < 0:
            return None
        return SourceMark(index=self._index, size=self._size, report=report_state(self.report))

    def close(self) -> None:
        """Release the file that is open."""
        if self._pages:
            self._pages[1].close()
            self._pages = None

    def _go_behind(self, mark: SourceMark) -> None:
        """Go on behind a mark; raise SourceError where another picture is there."""
        known = mark.index < len(self._stills)
        marked = self._read(self._stills[mark.index]) if known else None
        if marked is None or mark.picture not in (None, checksum(marked[0])):
            raise SourceError(
                f"{self.name}: holds other pictures than the run began with: frame {mark.index} "
                "is another"
            )
        restore_report(self.report, mark.report)
        self._index, self._size = mark.index, (mark.size[0], mark.size[1])

    # ---- opening ----------------------------------------------------------------------------

    def _list(self, place: str) -> list[_Still]:
        """Return where all pictures lie; note what is left out. Raises SourceError."""
        try:
            listing = find_images(place)
            if not listing.paths:
                raise no_images(place)
        except OSError as exc:
            raise SourceError(f"{place}: {exc.strerror}") from None
        self._notes += listing.left_out
        stills: list[_Still] = []
        for path in listing.paths:
            pages = self._open(path) if may_hold_several(path) else None
            if pages and pages.is_animation and Path(place).is_file():
                return self._animation(path, pages)
            count = pages.count if pages else 1
            if pages and pages.is_cut:
                self._notes.append(f"{path.name}: is cut off behind picture {count}")
            elif not pages and is_animated_avif(path):
                self._notes.append(f"{path.name}: only its first picture can be read")
            if pages and count > 1 and not pages.are_pages:
                self._notes.append(f"{path.name}: all but the first of {count} pictures left out")
                count = 1
            for page in range(count):
                stills.append(_Still(path, page, float(len(stills) / self._rate)))
        return stills

    def _animation(self, path: Path, pages: Pages) -> list[_Still]:
        """Return the pictures of an animation at their own times, and take its rate."""
        if pages.is_cut:
            self._notes.append(f"{path.name}: is cut off behind picture {pages.count}")
        times = pages.times()
        mean = Fraction(times[-1]).limit_denominator(1000) / (pages.count - 1)
        self._rate = 1 / mean
        return [_Still(path, page, time) for page, time in enumerate(times)]

    def _first_size(self) -> tuple[int, int]:
        for still in self._stills:
            if shown := self._read(still):
                return shown[0].shape[1], shown[0].shape[0]
        why = self._trouble or f"{self._stills[0].path}: holds no picture"
        self.close()
        if len(self._stills) == 1:
            raise SourceError(why)
        raise SourceError(f"{self.name}: none of {len(self._stills)} images can be read; {why}")

    # ---- reading ----------------------------------------------------------------------------

    def _read(self, still: _Still) -> tuple[Image, bool] | None:
        """Return a picture and whether it is suspect; None where it cannot be read."""
        pages = self._open(still.path) if may_hold_several(still.path) else None
        if pages is None or not pages.is_only_read_here:
            if shown := self._decode(still.path):
                return shown
            pages = self._open(still.path)
        try:
            return (pages.picture(still.page), False) if pages else None
        except SourceError as exc:
            self._trouble = self._trouble or str(exc)
            return None

    def _decode(self, path: Path) -> tuple[Image, bool] | None:
        """Return the picture of a file as FFmpeg reads it, which tells where it is damaged."""
        try:
            file = VideoFile(path, name=str(path), config=self._config)
            frame = next(file.frames(lambda *_: True, lambda *_: False), None)
        except SourceError as exc:
            self._trouble = self._trouble or str(exc)
            return None
        self._said = self._said or file.info.remarks
        return (frame.image, frame.suspect) if frame else None

    def _open(self, path: Path) -> Pages | None:
        """Return the pictures of a file as Pillow reads them; None where it reads none."""
        if self._pages and self._pages[0] == path:
            return self._pages[1]
        self.close()
        try:
            self._pages = (path, Pages(path, max_pixels=self._config.max_pixels))
        except SourceError as exc:
            self._trouble = self._trouble or str(exc)
            return None
        return self._pages[1]
