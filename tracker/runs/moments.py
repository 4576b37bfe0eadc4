"""Pictures of a run's events, each cut from the frame in which it happened, to audit counts by."""

from __future__ import annotations

import html
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from tracker.config import SourceConfig
from tracker.count.lines import resolve_lines
from tracker.drawing.moment import ContactSheet, Moment, draw_moment
from tracker.errors import ConfigError, FormatError, SinkError
from tracker.files import new_file
from tracker.formats import jsonl
from tracker.formats.events import LoggedEvent
from tracker.formats.rows import Row, to_rows
from tracker.runs.counted import CountedEvent, RunEvents, clock, log_of
from tracker.runs.made import fingerprint
from tracker.runs.record import RunRecord
from tracker.types import Frame, Image, LogInfo
from tracker.types.counts import Point
from tracker.video.pick import pick_frames
from tracker.video.still import write_picture

FOLDER = "events"
_OURS = ("[0-9]*-*.jpg", "sheet-*.png", "events.html")
_LATER = 50  # frames in which an object that is not confirmed yet is looked for
_SMALLEST = 0.15  # of the frame's height: the size of an object that the log does not know
_SAME_TIME_S = 2e-3
_STYLE = (
    "body{background:#181818;color:#eee;font:14px sans-serif;margin:16px}"
    "figure{display:inline-block;margin:0 8px 8px 0}img{width:320px;display:block}"
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the log tells of the object of an event."""

    row: Row | None = None  # in the event's frame; None where the tracker was not sure of it yet
    size: Point | None = None  # px, of its box then or soon after
    frame: tuple[int, int, float] | None = None  # width and height, px, and time, s, of the frame


def write_moments(run: RunEvents, video: Path | None = None) -> list[Path]:
    """Write RUN/events: a picture of each event, sheets of them all, and events.html.

    The frames are those of the run's video, or of `video` where it has moved. Returns the sheets.
    Raises ConfigError, FormatError, SourceError, SinkError.
    """
    uri, config = _source_of(run.folder, video)
    log = log_of(run.folder)
    if log is None:
        raise ConfigError(f"{run.folder}: holds no tracks.jsonl, which tells where the objects are")
    seen = _look_up(log, run.events)
    lines = _lines_of(run.folder, jsonl.read(log, ()).info)
    wrong = f"{uri}: is not the video of {run.folder}"
    album = _Album(run.folder / FOLDER, str(run.folder))
    numbered = enumerate(run.events, 1)
    with closing(pick_frames(uri, (one.event.frame for one in run.events), config)) as frames:
        for index, items in groupby(numbered, key=lambda item: item[1].event.frame):
            frame = next(frames, None)
            if frame is None or frame.index != index:
                raise FormatError(f"{wrong}: it has no frame {index}")
            for number, one in items:
                known = seen[number - 1]
                if known.frame and not _is_same(frame, known.frame):
                    raise FormatError(f"{wrong}: frame {index} differs")
                line = lines.get(one.event.line)
                moment = _moment(one.event, known, frame, line)
                album.add(number, one, draw_moment(frame.image, moment, _caption(number, one)))
    return album.close()


class _Album:
    """Writes pictures as they come, a sheet when it is full, and a page that shows them all."""

    def __init__(self, folder: Path, title: str) -> None:
        """Make the folder, or empty it of an earlier album; raise SinkError."""
        self._folder, self._title = folder, title
        self._sheet = ContactSheet()
        self._sheets: list[Path] = []
        self._figures: list[str] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for pattern in _OURS:
                for path in folder.glob(pattern):
                    path.unlink()
        except OSError as exc:
            raise SinkError(f"{folder}: cannot be written: {exc.strerror}") from exc

    def add(self, number: int, one: CountedEvent, picture: Image) -> None:
        event = one.event
        name = f"{number:04d}-{event.line}-{event.direction}-{event.id}.jpg"
        write_picture(self._folder / name, picture)
        told = html.escape(", ".join(_caption(number, one)))
        self._figures.append(
            f'<figure><img src="{html.escape(name)}" alt="{told}" loading="lazy"></figure>'
        )
        self._sheet.add(picture)
        if self._sheet.is_full:
            self._write_sheet()

    def close(self) -> list[Path]:
        if self._sheet.pictures:
            self._write_sheet()
        title = html.escape(f"{self._title}: {len(self._figures)} events")
        head = f'<!doctype html><meta charset="utf-8"><title>{title}</title>'
        with new_file(self._folder / "events.html") as file:
            file.write(f"{head}<style>{_STYLE}</style>\n<h1>{title}</h1>\n")
            file.writelines(f"{figure}\n" for figure in self._figures)
        return self._sheets

    def _write_sheet(self) -> None:
        path = self._folder / f"sheet-{len(self._sheets) + 1:03d}.png"
        write_picture(path, self._sheet.image())
        self._sheets.append(path)
        self._sheet = ContactSheet()


def _caption(number: int, one: CountedEvent) -> tuple[str, str]:
    event = one.event
    return (
        f"{number}  {event.line} {event.direction} {one.total}  {event.category} #{event.id}",
        f"{clock(event.time)}  frame {event.frame}",
    )


def _moment(
    event: LoggedEvent, seen: _Seen, frame: Frame, line: tuple[Point, Point] | None
) -> Moment:
    """Return what to paint of an event; `line` in fractions of the frame."""
    side = _SMALLEST * frame.height
    if line is not None:
        ends = [(x * frame.width, y * frame.height) for x, y in line]
        line = (ends[0], ends[1])
    row = seen.row
    return Moment(
        id=event.id,
        point=event.point,
        box=row.box if row else None,
        size=seen.size or (side, side),
        mask=row.mask.clipped(frame.width, frame.height) if row and row.mask else None,
        line=line,
    )


def _look_up(log: Path, events: tuple[CountedEvent, ...]) -> list[_Seen]:
    """Find the objects of events in a track log."""
    found = [_Seen() for _ in events]
    by_frame: dict[int, list[int]] = {}
    for number, one in enumerate(events):
        by_frame.setdefault(one.event.frame, []).append(number)
    for frame in jsonl.read(log, by_frame).frames:
        rows = {row.id: row for row in to_rows(frame.tracks)}
        for number in by_frame[frame.index]:
            row = rows.get(events[number].event.id)
            size = _size_of(row) if row else None
            found[number] = _Seen(row, size, (frame.width, frame.height, frame.time))
    unknown = {number for number, seen in enumerate(found) if seen.row is None}
    frames = {events[number].event.frame + k for number in unknown for k in range(1, _LATER)}
    for frame in jsonl.read(log, frames).frames if frames else ():
        rows = {row.id: row for row in to_rows(frame.tracks)}
        for number in list(unknown):
            event = events[number].event
            row = rows.get(event.id)
            if row and event.frame < frame.index:
                found[number] = replace(found[number], size=_size_of(row))
                unknown.discard(number)
    return found


def _size_of(row: Row) -> Point:
    x1, y1, x2, y2 = row.box
    return x2 - x1, y2 - y1


def _is_same(frame: Frame, logged: tuple[int, int, float]) -> bool:
    width, height, time = logged
    same_size = (frame.width, frame.height) == (width, height)
    return same_size and abs(frame.time - time) < _SAME_TIME_S


def _lines_of(run: Path, info: LogInfo) -> dict[str, tuple[Point, Point]]:
    """Return a run's lines in fractions of the frame; none where its settings are not there."""
    config = RunRecord.read(run).config()
    if config is None:
        return {}
    width, height = info.width, info.height

    def share(point: Point) -> Point:
        return point[0] / width, point[1] / height

    lines = resolve_lines(config.count.lines, width, height)
    return {line.name: (share(line.start), share(line.end)) for line in lines}


def _source_of(run: Path, video: Path | None) -> tuple[str, SourceConfig]:
    """Return a run's video and how it is read; raise ConfigError where it is not there."""
    record = RunRecord.read(run)
    uri = str(video) if video is not None else record.uri
    if uri is None:
        raise ConfigError(f"{run}: does not say what its video is; give it with --video")
    now = fingerprint(uri)
    if "://" in uri or uri == "-" or len(now) < 2:
        raise ConfigError(f"{uri}: the video of {run} is not there any more; give it with --video")
    then = record.source or {}
    if any(now.get(key) != value for key, value in then.items() if key != "uri"):
        raise FormatError(f"{uri}: is not the video of {run}: its content is another")
    config = record.config()
    return uri, config.source if config else SourceConfig()
