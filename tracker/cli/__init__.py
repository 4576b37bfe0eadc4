"""The command `tracker`: parse, build the stages, call, print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from tracker.cli import associate, bench, evaluate, events, export, models, run, train
from tracker.errors import ConfigError, TrackerError, UnexpectedError, explain, redact, trace

app = typer.Typer(
    name="tracker",
    help="Find, track and count objects in video with Mask R-CNN.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "events": events.events,
    "export": export.export,
    "associate": associate.associate,
    "evaluate": evaluate.evaluate,
    "models": models.models,
    "bench": bench.bench,
    "train": train.train,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"tracker {version('mask-tracker')}")
        except PackageNotFoundError:
            typer.echo("tracker (not installed)")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Find, track and count objects in video with Mask R-CNN."""


def _refuse_videos(arguments: list[str]) -> None:
    """Raise ConfigError where a video stands in a command's place: it may hold a password."""
    first = arguments[0] if arguments else ""
    if first not in _COMMANDS and ("://" in first or Path(first).is_file()):
        raise ConfigError(f"a command must come first, as in: tracker run {first}")


def main() -> None:
    """Run the command; what a user can mend is one line on standard error and exit code 2."""
    try:
        _refuse_videos(sys.argv[1:])
        app()
    except TrackerError as exc:
        sys.stderr.write(f"{trace(exc) or ''}tracker: {explain(exc)}\n")
        sys.exit(1 if isinstance(exc, UnexpectedError) else 2)
    except KeyboardInterrupt:
        sys.stderr.write("tracker: stopped\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as exc:
        if exc.filename is None:
            raise
        sys.stderr.write(f"tracker: {redact(f'{exc.filename}: {exc.strerror}')}\n")
        sys.exit(2)
