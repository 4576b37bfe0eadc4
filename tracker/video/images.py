"""Read a folder or glob of images as a video, in natural order."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.snapshot import SourceMark
from tracker.types import Frame, SourceReport, StreamInfo
from tracker.video.file import VideoFile
from tracker.video.picture import Wanted, checksum, report_state, restore_report

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def is_image(path: Path) -> bool:
    """Tell by the name whether this is a still picture."""
    return path.suffix.lower() in _SUFFIXES


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts if part]


class ImageSequence:
    """Still pictures at a fixed rate, `source.fps`; unreadable ones are skipped and counted."""

    def __init__(self, pattern: str, config: SourceConfig) -> None:
        self.name = pattern
        self._index, self._size = -1, (0, 0)  # of the latest frame; height, width
        self._trouble = ""  # with the first image that could not be read
        self._config = config
        self._paths = self._find(pattern)
        self._rate = Fraction(config.fps).limit_denominator(1000)
        self.report = SourceReport(declared_frames=len(self._paths))
        width, height = self._first_size()
        self.info = StreamInfo(width, height, self._rate, len(self._paths))

    def frames(
        self, wanted: Wanted, finished: Wanted, mark: SourceMark | None = None
    ) -> Iterator[Frame]:
        """Yield the frames for which `wanted(index, time)`, until `finished(index, time)`.

        With a `mark`, only those behind it; raises SourceError where another picture is there.
        """
        report = self.report
        if mark is not None:
            self._go_behind(mark)
        first = self._index + 1
        for index, path in enumerate(self._paths[first:], first):
            time = float(index / self._rate)
            if finished(index, time):
                return
            report.packets += 1
            if not wanted(index, time):
                report.skipped += 1
                continue
            frame = self._read(path)
            if frame is None:
                report.bad_packets += 1
                report.notes.append(f"{path.name} cannot be read")
                continue
            size = (frame.height, frame.width)
            report.size_changes += self._index >= 0 and self._size != size
            suspect = frame.suspect or _is_cut(path)
            report.suspect += suspect
            report.frames += 1
            self._index, self._size = index, size
            yield Frame(index, time, frame.image, suspect)

    def mark(self) -> SourceMark | None:
        """Return where the latest frame lay; None before the first."""
        if self._index < 0:
            return None
        return SourceMark(index=self._index, size=self._size, report=report_state(self.report))

    def _go_behind(self, mark: SourceMark) -> None:
        """Go on behind a mark; raise SourceError where another picture is there."""
        known = mark.index < len(self._paths)
        marked = self._read(self._paths[mark.index]) if known else None
        if marked is None or mark.picture not in (None, checksum(marked.image)):
            raise SourceError(
                f"{self.name}: holds other pictures than the run began with: frame {mark.index} "
                "is another"
            )
        restore_report(self.report, mark.report)
        self._index, self._size = mark.index, (mark.size[0], mark.size[1])

    def close(self) -> None:
        """Do nothing: no file stays open between pictures."""

    def _find(self, pattern: str) -> list[Path]:
        folder = Path(pattern)
        try:
            if folder.is_dir():
                found = [p for p in folder.iterdir() if is_image(p) and p.is_file()]
            else:
                found = [Path(p) for p in glob.glob(pattern) if is_image(Path(p))]  # noqa: PTH207
        except OSError as exc:
            raise SourceError(f"{pattern}: {exc.strerror}") from None
        if not found:
            kinds = ", ".join(sorted(s.lstrip(".") for s in _SUFFIXES))
            what = "the folder holds no images" if folder.is_dir() else "matches no image"
            raise SourceError(f"{pattern}: {what} ({kinds})")
        return sorted(found, key=lambda path: [natural_key(part) for part in path.parts])

    def _first_size(self) -> tuple[int, int]:
        for path in self._paths:
            if frame := self._read(path):
                return frame.width, frame.height
        why = self._trouble or f"{self._paths[0]}: holds no picture"
        if len(self._paths) == 1:
            raise SourceError(why)
        raise SourceError(f"{self.name}: none of {len(self._paths)} images can be read; {why}")

    def _read(self, path: Path) -> Frame | None:
        try:
            image = VideoFile(path, name=str(path), config=self._config)
            return next(image.frames(lambda *_: True, lambda *_: False), None)
        except SourceError as exc:
            self._trouble = self._trouble or str(exc)
            return None


def _is_cut(path: Path) -> bool:
    """Whether a JPEG lacks its end mark: decoders fill the rest with grey and say nothing."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))  # some cameras append data of their own
        return b"\xff\xd9" not in file.read()
