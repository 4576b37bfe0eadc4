"""`tracker events`: list what a run counted, event by event, with pictures to audit it by."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tracker.cli.options import Start, split_names
from tracker.config import parse_position
from tracker.errors import ConfigError
from tracker.files import JsonObject
from tracker.runs.counted import Choice, CountedEvent, RunEvents, clock, find_runs, read_events
from tracker.runs.moments import FOLDER, write_moments

_COLUMNS = ("run", "time", "frame", "event", "line", "direction", "class", "id", "total", "x", "y")


def events(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, or folders of run folders.", metavar="RUN...")
    ],
    line: Annotated[
        str | None, typer.Option(help="Names of lines, as door,gate. \\[default: all]")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--class", help="Names of classes, as person,car. \\[default: all]"),
    ] = None,
    since: Start = None,
    until: Annotated[str | None, typer.Option(help="Last moment, not included.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, times in s.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    crops: Annotated[
        bool,
        typer.Option(
            "--crops",
            help="Write a picture of each event into RUN/events, sheets of all of them in order, "
            "and events.html.",
        ),
    ] = False,
    video: Annotated[
        Path | None, typer.Option(help="With --crops: the video, where it has moved.")
    ] = None,
) -> None:
    """List the events of runs: who went over which line, which way and when.

    The total is that of the line and direction since the run began, of the chosen classes.

    [bold]Examples[/bold]

      tracker events runs/street                  every crossing

      tracker events runs/street --since 8:00     from a moment on

      tracker events runs/street --crops          pictures: is the count right?

      tracker events runs/night --csv > n.csv     of all runs in a folder
    """
    if as_csv and as_json:
        raise ConfigError("--csv and --json exclude each other")
    folders = find_runs(runs)
    if video is not None and (not crops or len(folders) > 1):
        raise ConfigError("--video goes with --crops and one run")
    choice = Choice(_names(line), _names(classes), since, until)
    _check_positions(choice)
    found = [read_events(folder, choice) for folder in folders]
    _check_names(found, choice)
    found = [_only(run, choice) for run in found if run.lines]
    if as_json:
        typer.echo(json.dumps({"runs": [_to_json(run) for run in found]}, ensure_ascii=False))
    elif as_csv:
        typer.echo(_to_csv(found), nl=False)
    else:
        _print(found, with_names=len(folders) > 1)
    for run in found if crops else ():
        _write_crops(run, video, quiet=as_csv or as_json)


def _only(run: RunEvents, choice: Choice) -> RunEvents:
    """Return a run with the chosen lines alone."""
    names = tuple(name for name in run.lines if not choice.lines or name in choice.lines)
    return replace(run, lines=names)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(split_names(text or ""))


def _check_positions(choice: Choice) -> None:
    """Raise ConfigError for a moment that is none."""
    for option, position in (("--since", choice.since), ("--until", choice.until)):
        try:
            parse_position(position or 0.0)
        except ValueError as exc:
            raise ConfigError(f"{option} {exc}") from exc


def _check_names(found: Sequence[RunEvents], choice: Choice) -> None:
    """Say which runs counted by no line; raise ConfigError where none did, or a name is unknown."""
    without = [str(run.folder) for run in found if not run.lines]
    said = f"no lines were counted in {', '.join(without)}; run with --line"
    lines = dict.fromkeys(name for run in found for name in run.lines)
    if not lines:
        raise ConfigError(said)
    classes = dict.fromkeys(name for run in found for name in run.classes)
    for option, names, known in (
        ("--line", choice.lines, lines),
        ("--class", choice.classes, classes),
    ):
        unknown = [name for name in names if known and name not in known]
        if unknown:
            raise ConfigError(f"{option} {unknown[0]}: is none of {', '.join(known)}")
    if without:
        typer.echo(said, err=True)


def _print(found: Sequence[RunEvents], *, with_names: bool) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=250)  # a pipe has no width that a table must be cut to
    for run in found:
        if with_names:
            console.print(f"[bold]{escape(str(run.folder))}[/bold]", highlight=False)
        if run.events:
            console.print(_table(run.events))
        for name in run.lines:
            sums = ", ".join(f"{run.totals[name, way]} {way}" for way in ("in", "out"))
            console.print(f"{escape(name)}: {sums}", highlight=False)


def _table(listed: Sequence[CountedEvent]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("time", "frame"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("event", "class"):
        table.add_column(name, overflow="fold")
    for name in ("id", "total"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in listed:
        event = one.event
        table.add_row(
            clock(event.time),
            str(event.frame),
            escape(f"{event.line} {event.direction}"),
            escape(event.category),
            str(event.id),
            str(one.total),
        )
    return table


def _to_json(run: RunEvents) -> JsonObject:
    sums = {name: {way: run.totals[name, way] for way in ("in", "out")} for name in run.lines}
    listed = [dict(zip(_COLUMNS[1:], _values(one), strict=True)) for one in run.events]
    return {"run": str(run.folder), "lines": sums, "events": listed}


def _to_csv(found: Sequence[RunEvents]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for run in found:
        table.writerows([str(run.folder), *_values(one)] for one in run.events)
    return text.getvalue()


def _values(one: CountedEvent) -> tuple[object, ...]:
    """Return an event's values in the order of the columns."""
    event = one.event
    place = (event.time, event.frame, event.kind, event.line, event.direction)
    return (*place, event.category, event.id, one.total, *event.point)


def _write_crops(run: RunEvents, video: Path | None, *, quiet: bool) -> None:
    """Write the pictures of a run's events, and say where they are."""
    if not run.events:
        typer.echo(f"{run.folder}: no events to show", err=True)
        return
    write_moments(run, video)
    place = run.folder / FOLDER / "events.html"
    typer.echo(f"{len(run.events)} pictures -> {place}", err=quiet)
