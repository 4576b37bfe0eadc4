"""`tracker associate`: link saved detections into tracks, without a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from tracker.assemble import associate as link
from tracker.assemble import refine as improve
from tracker.associate.mask_tracker import MaskTracker
from tracker.associate.refine import Archive
from tracker.cli.run import find_config, split_names
from tracker.config import load_config
from tracker.errors import ConfigError
from tracker.formats import FORMATS, get_format
from tracker.formats.detections import read
from tracker.types import LoggedFrame, TrackLog, Tracks

_BY_SUFFIX = {".jsonl": "jsonl", ".json": "coco", ".csv": "csv", ".parquet": "parquet"}


def associate(
    detections: Annotated[
        Path,
        typer.Argument(
            help="MOTChallenge det.txt, MOTS-style text (frame x y w h score class H W rle), COCO "
            "results JSON, or the tracks.jsonl of a run.",
            metavar="DETECTIONS",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write; its ending tells the format."),
    ],
    fps: Annotated[
        float | None,
        typer.Option(help="Frames a second; needed where the file knows no times.", min=0.001),
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
    labels: Annotated[
        str | None, typer.Option(help="Class numbers to keep, as 1,3. \\[default: all]")
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

      tracker associate runs/street/tracks.jsonl -o again.jsonl --set tracker.memory_s=4
    """
    resolved = load_config(find_config(config), settings or ())
    if to is not None and to not in FORMATS:
        raise ConfigError(f"--to must be one of {', '.join(FORMATS)}, got {to!r}")
    wanted = _labels(labels)
    log = read(detections, fps)
    if wanted:
        log = replace(log, frames=(frame.only(wanted) for frame in log.frames))
    tracker = MaskTracker(resolved.tracker)
    archive = Archive(tracker, resolved.refine) if refine else None
    tracks = link(log, archive or tracker)
    frames = iter(tracks.frames)
    # Whether there are masks only the frames tell: those up to the first object are read ahead.
    ahead: list[LoggedFrame] = []
    for frame in frames:
        ahead.append(frame)
        if len(frame.tracks):
            break
    objects = ahead[-1].tracks.masks if ahead else ()
    has_masks = any(mask is not None for mask in objects)
    name = to or _BY_SUFFIX.get(output.suffix.lower()) or ("mots" if has_masks else "mot")
    if name == "mots" and objects and not has_masks:
        raise ConfigError(
            f"{detections}: has no masks, and MOTS is a format of masks; use --to mot"
        )
    counted = _Count()
    online = output.with_name(f"{output.stem}-online{output.suffix}") if archive else output
    everything = TrackLog(tracks.info, counted.count(chain(ahead, frames)))
    get_format(name).write(everything, online)
    if archive:
        bare, counted = TrackLog(tracks.info, counted.seen), _Count()
        refined = improve(bare, archive)
        get_format(name).write(TrackLog(refined.info, counted.count(refined.frames)), output)
    summary = {
        "output": str(output),
        "format": name,
        "frames": len(counted.seen),
        "tracks": len(counted.ids),
    }
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        typer.echo(f"{len(counted.seen)} frames, {len(counted.ids)} tracks -> {output}")


class _Count:
    """Notes frames and ids on their way to the file."""

    def __init__(self) -> None:
        self.seen: list[LoggedFrame] = []  # without their tracks
        self.ids: set[int] = set()

    def count(self, frames: Iterable[LoggedFrame]) -> Iterator[LoggedFrame]:
        for frame in frames:
            self.seen.append(replace(frame, tracks=Tracks.empty()))
            self.ids.update(frame.tracks.ids.tolist())
            yield frame


def _labels(text: str | None) -> frozenset[int]:
    try:
        return frozenset(int(label) for label in split_names(text or ""))
    except ValueError as exc:
        raise ConfigError(f"--labels takes class numbers, as 1,3, got {text!r}") from exc
