"""`tracker export`: turn a run's log into another format, or a run into labelled pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tracker.cli.options import Shift, parse_size, split_names
from tracker.config import parse_stride
from tracker.errors import ConfigError
from tracker.formats import FORMATS, TIMELESS, USUAL_FPS, get_format, is_log, open_log
from tracker.formats.adapt import of_classes, sized
from tracker.runs.folder import FILES
from tracker.runs.labels import Selection, export_labels
from tracker.types import TrackLog

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
    classes: Annotated[
        str | None, typer.Option(help="Names of the classes to export, as person,car; else all.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Size of the frames, as 640x480, for text that tells none. \\[default: that of a "
            "seqinfo.ini beside it]",
            metavar="WIDTHxHEIGHT",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames a second, for text that tells no times. \\[default: those of a "
            f"seqinfo.ini beside it, else {USUAL_FPS:g}]",
            min=0.001,
            max=1000,
            show_default=False,
        ),
    ] = None,
    shift: Shift = None,
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

      tracker export runs/street --to mot --classes person  MOTChallenge text for TrackEval

      tracker export runs/street --to mots                 KITTI MOTS; or mots-challenge

      tracker export det.txt --to coco --size 640x480      from text, which tells no size

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
    log = _open(log_path, size, fps, shift)
    if classes is not None:
        log = of_classes(log, split_names(classes))
    notes = [*log.notes, *_supposed(log, log_path, to), *target_format.write(log, target)]
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    typer.echo(str(target))


def _open(path: Path, size: str | None, fps: float | None, shift: int | None) -> TrackLog:
    """Read a log with what the options tell of it; raise ConfigError, FormatError."""
    wanted = parse_size(size)
    is_text = path.suffix.lower() in (".txt", ".csv") and not is_log(path)
    if not is_text and (fps is not None or shift is not None):
        option = "--fps" if fps is not None else "--shift"
        raise ConfigError(f"{path}: tells its frames and times itself; {option} goes with text")
    log = open_log(path, fps, shift)
    if wanted is None:
        return log
    own = (log.info.width, log.info.height)
    if all(own) and own != wanted:
        raise ConfigError(f"{path}: its frames are {own[0]}x{own[1]} px; leave out --size {size}")
    return sized(log, *wanted)


def _supposed(log: TrackLog, path: Path, to: str) -> Iterator[str]:
    """Say what a text does not tell and the new format has a place for."""
    if path.suffix.lower() not in (".txt", ".csv") or is_log(path) or to in TIMELESS:
        return
    if log.info.rate is None:
        yield f"{path} tells no times: {USUAL_FPS:g} frames a second are supposed; see --fps"
    if not log.info.width and to not in ("coco", "youtube-vis"):
        yield f"{path} tells no size of the frames: it is left empty; see --size"


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
