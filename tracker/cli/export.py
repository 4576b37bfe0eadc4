"""`tracker export`: turn a run's log into another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracker.errors import ConfigError
from tracker.formats import FORMATS, get_format
from tracker.sinks.folder import FILES


def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or its tracks.jsonl.", metavar="RUN")],
    to: Annotated[
        str, typer.Option("--to", help=f"{', '.join(name for name in FORMATS)}.", metavar="FORMAT")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write. \\[default: RUN/tracks-FORMAT.*]"),
    ] = None,
) -> None:
    """Export a run's tracks for other tools.

    [bold]Examples[/bold]

      tracker export runs/street --to mot                  MOTChallenge text

      tracker export runs/street --to youtube-vis -o street.json
    """
    if to not in FORMATS:
        raise ConfigError(f"--to must be one of {', '.join(FORMATS)}, got {to!r}")
    log_path = run / "tracks.jsonl" if run.is_dir() else run
    if not log_path.is_file():
        log_path = run / "tracks.jsonl.part"  # what a killed run left
    if not log_path.is_file():
        raise ConfigError(f"{run}: holds no tracks.jsonl; give the folder of a run")
    target_format = get_format(to)
    suffix = target_format.SUFFIX
    name = "tracks" if to == suffix.lstrip(".") else f"tracks-{to}"
    target = output or log_path.with_name(name + suffix)
    if target.name in FILES and target.resolve().parent == log_path.resolve().parent:
        raise ConfigError(f"{target}: is a file of the run itself; give another --output")
    target_format.write(get_format("jsonl").read(log_path), target)
    typer.echo(str(target))
