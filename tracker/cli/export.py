"""`tracker export`: turn a run's log into another format, or a run into labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracker.config import parse_stride
from tracker.errors import ConfigError
from tracker.formats import FORMATS, get_format, open_log
from tracker.runs.folder import FILES
from tracker.runs.labels import Selection, export_labels

_LABELS = Selection()


def export(
    run: Annotated[
        Path, typer.Argument(help="A run folder, or a log in any format.", metavar="RUN")
    ],
    to: Annotated[
        str, typer.Option("--to", help=f"{', '.join(name for name in FORMATS)}.", metavar="FORMAT")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write; with --frames a folder. "
            "\\[default: RUN/tracks-FORMAT.*; with --frames RUN/labels]",
        ),
    ] = None,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames",
            help="With coco: write the frames as pictures too, and good tracks only: labels to "
            "correct, and to train on.",
        ),
    ] = False,
    every: Annotated[
        str, typer.Option(help="With --frames: one frame of so many (5), or one each 0.5s.")
    ] = str(_LABELS.every),
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="With --frames: least mean score of a track.")
    ] = _LABELS.min_score,
    min_length: Annotated[
        float, typer.Option(min=0, help="With --frames: least length of a track, s.")
    ] = _LABELS.min_length_s,
    still_score: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="With --frames: least mean score of a track that stays put for 2 s, as posts do.",
        ),
    ] = _LABELS.still_score,
    unsure: Annotated[
        bool,
        typer.Option(
            "--unsure",
            help="With --frames: keep the other tracks as crowds, which training does not judge.",
        ),
    ] = False,
    video: Annotated[
        Path | None, typer.Option(help="With --frames: the video, where it has moved.")
    ] = None,
) -> None:
    """Export a run's tracks for other tools, or its frames with labels to train on.

    [bold]Examples[/bold]

      tracker export runs/street --to mot                  MOTChallenge text

      tracker export runs/street --to youtube-vis -o street.json

      tracker export street.csv --to coco                  from any format to any other

      tracker export runs/street --to coco --frames        correct these, then: tracker train
    """
    if to not in FORMATS:
        raise ConfigError(f"--to must be one of {', '.join(FORMATS)}, got {to!r}")
    if frames:
        if to != "coco":
            raise ConfigError("--frames goes with --to coco")
        selection = Selection(every, min_score, min_length, still_score, unsure)
        _export_labels(run, output, selection, video)
        return
    log_path = _find_log(run)
    target_format = get_format(to)
    suffix = target_format.SUFFIX
    kind = "" if to == suffix.lstrip(".") else f"-{to}"
    stem = log_path.name.removesuffix(".part").rpartition(".")[0]
    target = output or log_path.with_name(f"{stem}{kind}{suffix}")
    own = target.name in FILES and target.resolve().parent == log_path.resolve().parent
    if own or target.resolve() == log_path.resolve():
        raise ConfigError(f"{target}: is a file of the run itself; give another --output")
    target_format.write(open_log(log_path), target)
    typer.echo(str(target))


def _export_labels(
    run: Path, output: Path | None, selection: Selection, video: Path | None
) -> None:
    """Write a run's frames as pictures with labels, and say how many."""
    try:
        parse_stride(selection.every)
    except ValueError as exc:
        raise ConfigError(f"--every {exc}") from exc
    made = export_labels(run, output or run / "labels", selection, video)
    typer.echo(
        f"{made.frames} frames, {made.objects} objects of {made.tracks} tracks "
        f"({made.dropped} tracks were not good enough) -> {made.path}"
    )


def _find_log(run: Path) -> Path:
    """Return a run's log, or a log itself; raise ConfigError."""
    path = run / "tracks.jsonl" if run.is_dir() else run
    if not path.is_file():
        path = run / "tracks.jsonl.part"  # what a killed run left
    if not path.is_file():
        raise ConfigError(f"{run}: holds no tracks.jsonl; give the folder of a run")
    return path
