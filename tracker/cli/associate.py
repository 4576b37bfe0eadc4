"""`tracker associate`: link saved detections into tracks, without a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tracker.associate.history import History
from tracker.associate.mask_tracker import MaskTracker
from tracker.associate.saved import associate as link
from tracker.cli.options import Shift, find_config, parse_size, split_names, split_numbers
from tracker.config import load_config
from tracker.errors import ConfigError
from tracker.formats import FORMATS, get_format
from tracker.formats.adapt import sized
from tracker.formats.detections import read
from tracker.sinks.archive import refined_log
from tracker.types import DetectionLog, LoggedFrame, TrackLog, Tracks

_NOTHING = Tracks.empty()
_BY_SUFFIX = {".jsonl": "jsonl", ".json": "coco", ".csv": "csv", ".parquet": "parquet"}


def associate(
    detections: Annotated[
        Path,
        typer.Argument(
            help="MOTChallenge det.txt, MOTS-style text (frame x y w h score class H W rle), COCO "
            "results JSON (image ids count frames, from 0 where there is an image 0), or the "
            "detections.jsonl or tracks.jsonl of a run.",
            metavar="DETECTIONS",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write; its ending tells the format."),
    ],
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames a second, where the file knows no times. \\[default: those of a "
            "seqinfo.ini beside it]",
            min=0.001,
            max=1000,
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help=f"{', '.join(FORMATS)}. \\[default: by the ending; .txt is mots with masks, else "
            "mot]",
            metavar="FORMAT",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="TOML file with settings, or a shipped one's name."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="One setting, as tracker.memory_s=4; may be repeated."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Size of the frames, as 640x480, where the file tells none and the output needs "
            "it.",
            metavar="WIDTHxHEIGHT",
        ),
    ] = None,
    shift: Shift = None,
    labels: Annotated[
        str | None, typer.Option(help="Class numbers to keep, as 1,3. \\[default: all]")
    ] = None,
    score_range: Annotated[
        str | None,
        typer.Option(
            help="Scores that mean 0 and 1, as 0,100 for per cent. [dim]\\[default: 0,1][/dim]"
        ),
    ] = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="Refine the tracks with the whole video known: gaps filled, ghosts dropped, "
            "beginnings added. The online result stays in NAME-online.*",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON summary.")] = False,
) -> None:
    """Link saved detections into tracks: try settings, or track with another detector's output.

    [bold]Examples[/bold]

      tracker associate det.txt -o tracks.txt --fps 25             MOTChallenge in and out

      tracker associate 0002.txt -o out.txt --fps 10 --to mots     masks in, KITTI MOTS out

      tracker associate det.txt -o tracks.txt --fps 25 --refine    refined afterwards

      tracker associate runs/street/detections.jsonl -o again.jsonl --set tracker.memory_s=4
    """
    resolved = load_config(find_config(config), settings or ())
    if to is not None and to not in FORMATS:
        raise ConfigError(f"--to must be one of {', '.join(FORMATS)}, got {to!r}")
    log = _read(detections, fps, score_range, labels, shift)
    tracker = MaskTracker(resolved.tracker)
    history = History(resolved.refine) if refine else None
    tracks = link(log, tracker, history)
    if (wanted := parse_size(size)) is not None:
        tracks = sized(tracks, *wanted)
    if to in ("mots", "mots-challenge") and not log.has_masks:
        raise ConfigError(
            f"{detections}: has no masks, and MOTS is a format of masks; use --to mot"
        )
    name = to or _format_of(output, log)
    online = output.with_name(f"{output.stem}-online{output.suffix}") if history else output
    _check_output(output, online, detections)
    counted = _Count(keep=history is not None)
    with Console(stderr=True).status("") as status:
        counted.show = lambda: status.update(f"{counted.frames} frames, {len(counted.ids)} tracks")
        notes = get_format(name).write(TrackLog(tracks.info, counted.count(tracks.frames)), online)
    if history:
        refined = refined_log(TrackLog(tracks.info, counted.bare), history)
        counted = _Count(keep=False)
        notes = get_format(name).write(
            TrackLog(refined.info, counted.count(refined.frames)), output
        )
    summary = {
        "output": str(output),
        "format": name,
        "frames": counted.frames,
        "tracks": len(counted.ids),
        "notes": notes,
    }
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        for note in notes:
            sys.stderr.write(f"note: {note}\n")
        typer.echo(f"{counted.frames} frames, {len(counted.ids)} tracks -> {output} ({name})")


def _read(
    path: Path, fps: float | None, score_range: str | None, labels: str | None, shift: int | None
) -> DetectionLog:
    """Read detections, of the named classes alone."""
    wanted = split_numbers(labels, "--labels")
    log = read(path, fps, _range(score_range), shift or 0)
    if not wanted:
        return log
    return replace(log, frames=(frame.only(wanted) for frame in log.frames))


def _format_of(output: Path, log: DetectionLog) -> str:
    """Return the format that a file's ending tells; .txt is MOTS where there are masks."""
    return _BY_SUFFIX.get(output.suffix.lower()) or ("mots" if log.has_masks else "mot")


def _check_output(output: Path, online: Path, detections: Path) -> None:
    """Raise ConfigError where the results would replace what is read, or a folder."""
    if detections.resolve() in (output.resolve(), online.resolve()):
        raise ConfigError(f"{output}: is the file that is read; give another --output")
    if not output.name or output.is_dir():
        raise ConfigError(f"{output}: is a folder; give a file to write")


class _Count:
    """Notes frames and ids on their way to the file."""

    def __init__(self, *, keep: bool) -> None:
        self.frames = 0
        self.ids: set[int] = set()
        self.bare: list[LoggedFrame] = []  # with `keep`: the frames without their tracks
        self.show: Callable[[], None] = lambda: None  # called now and then
        self._keep = keep

    def count(self, frames: Iterable[LoggedFrame]) -> Iterator[LoggedFrame]:
        for frame in frames:
            self.frames += 1
            self.ids.update(frame.tracks.ids.tolist())
            if self.frames % 50 == 0:
                self.show()
            if self._keep:
                self.bare.append(replace(frame, tracks=_NOTHING))
            yield frame


def _range(text: str | None) -> tuple[float, float]:
    parts = split_names(text or "0,1")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise ConfigError(f"--score-range takes two ascending numbers, as 0,100, got {text!r}")
    return low, high
