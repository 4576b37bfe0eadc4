"""What a run counted, event by event: its log of events, with running totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from tracker.config import parse_position
from tracker.errors import ConfigError
from tracker.files import read_json
from tracker.formats import jsonl
from tracker.formats.events import LoggedEvent, read
from tracker.runs.record import RunRecord

_TELLING = ("run.toml", "events.jsonl", "events.jsonl.part", "counts.json", "tracks.jsonl")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events are wanted."""

    lines: tuple[str, ...] = ()  # none = all
    classes: tuple[str, ...] = ()  # none = all
    since: str | None = None  # a position in the video, as of source.start
    until: str | None = None  # not included


@dataclass(frozen=True, slots=True)
class CountedEvent:
    """An event, and which one of its line and direction it is."""

    event: LoggedEvent
    total: int  # of the chosen classes, from the beginning of the run


@dataclass(frozen=True, slots=True)
class RunEvents:
    """The events of one run, by their times."""

    folder: Path
    lines: tuple[str, ...]  # that the run counted by
    classes: tuple[str, ...]  # that it could find; none where its log is not there
    events: tuple[CountedEvent, ...]
    totals: Counter[tuple[str, str]]  # line, direction -> all up to the last moment wanted


def log_of(run: Path) -> Path | None:
    """Return the track log of a run, or what there is of it so far; None where there is none."""
    files = (run / "tracks.jsonl", run / "tracks.jsonl.part")
    return next((file for file in files if file.is_file()), None)


def clock(seconds: float) -> str:
    """Return a time as h:mm:ss.mmm."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"


def find_runs(paths: Collection[Path]) -> list[Path]:
    """Return run folders, and those in folders of run folders; raise ConfigError."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: is no folder; give the folder of a run")
        inner = [path] if _is_run(path) else sorted(p for p in path.iterdir() if _is_run(p))
        if not inner:
            raise ConfigError(f"{path}: holds no run; give the folder of a run")
        found += inner
    return found


def read_events(folder: Path, choice: Choice) -> RunEvents:
    """Read what the run in a folder counted, or has counted so far.

    Raises ConfigError where its log of events is not there, FormatError where it is malformed.
    """
    lines = _lines_of(folder)
    files = (folder / "events.jsonl", folder / "events.jsonl.part")  # of a run that goes on
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        if lines:
            raise ConfigError(
                f"{folder}: its events.jsonl is gone; only a new run can tell its events again"
            )
        return RunEvents(folder, (), (), (), Counter())
    logged = sorted(read(path), key=lambda event: (event.time, event.frame))
    names = tuple(dict.fromkeys([*lines, *(event.line for event in logged)]))
    totals: Counter[tuple[str, str]] = Counter()
    wanted, is_over = _after(choice.since), _after(choice.until)
    chosen: list[CountedEvent] = []
    for event in logged:
        if choice.until is not None and is_over(event):
            break
        if _fits(event, choice):
            totals[event.line, event.direction] += 1
            if wanted(event):
                chosen.append(CountedEvent(event, totals[event.line, event.direction]))
    return RunEvents(folder, names, _classes_of(folder), tuple(chosen), totals)


def _is_run(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in _TELLING)


def _lines_of(folder: Path) -> tuple[str, ...]:
    """Return the names of a run's lines, as its settings or its counts tell."""
    config = RunRecord.read(folder).config()
    if config is not None:
        return tuple(config.count.lines)
    path = folder / "counts.json"
    lines = read_json(path).get("lines") if path.is_file() else None
    return tuple(map(str, lines)) if isinstance(lines, dict) else ()


def _classes_of(folder: Path) -> tuple[str, ...]:
    log = log_of(folder)
    return jsonl.read(log, ()).info.categories if log else ()


def _fits(event: LoggedEvent, choice: Choice) -> bool:
    in_lines = not choice.lines or event.line in choice.lines
    return in_lines and (not choice.classes or event.category in choice.classes)


def _after(position: str | None) -> Callable[[LoggedEvent], bool]:
    """Return what tells whether an event is not before a position in the video."""
    unit, value = parse_position(position or 0.0)
    if unit == "frames":
        return lambda event: event.frame >= value
    return lambda event: event.time + 1e-6 >= value
