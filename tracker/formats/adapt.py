"""Fit a log to what a format needs of it: the frames' size, and some of its classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from tracker.errors import ConfigError
from tracker.formats.numbers import NAMELESS, find_class
from tracker.formats.rows import to_rows, to_tracks
from tracker.types import LoggedFrame, TrackLog


def sized(log: TrackLog, width: int, height: int) -> TrackLog:
    """Return a log whose frames have this size, px, where it does not tell one."""
    info = log.info
    if not info.width * info.height:
        info = replace(info, width=width, height=height)
    return replace(log, info=info, frames=_sized(log.frames, width, height))


def of_classes(log: TrackLog, names: Iterable[str]) -> TrackLog:
    """Return a log's objects of the named classes alone; raise ConfigError for one it lacks."""
    categories = enumerate(log.info.categories)
    known = {name: label for label, name in categories if name not in NAMELESS}
    labels = set()
    for name in names:
        label = known.get(name, find_class(name, known))
        if label is None:
            has = ", ".join(known) or "no names of classes"
            raise ConfigError(f"--classes: the log has no class {name!r}; it has {has}")
        labels.add(label)
    return replace(log, frames=_of_labels(log.frames, labels))


def _sized(frames: Iterable[LoggedFrame], width: int, height: int) -> Iterator[LoggedFrame]:
    for frame in frames:
        known = frame.width * frame.height
        yield frame if known else replace(frame, width=width, height=height)


def _of_labels(frames: Iterable[LoggedFrame], labels: set[int]) -> Iterator[LoggedFrame]:
    for frame in frames:
        rows = [row for row in to_rows(frame.tracks) if row.label in labels]
        yield replace(frame, tracks=to_tracks(rows))
