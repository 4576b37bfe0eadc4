"""`tracker bench`: what cheaper settings gain on this machine, and what they cost."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tracker.cli.options import Device, Model, Start, Weights, find_config, given
from tracker.config import load_config
from tracker.measure.bench import Row, measure, read_frames


def bench(
    video: Annotated[str, typer.Argument(help="A video like those to be tracked.")],
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="TOML file with settings, or a shipped one."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="One setting, as detector.min_size=600; repeatable."),
    ] = None,
    model: Model = None,
    weights: Weights = None,
    device: Device = None,
    start: Start = None,
    frames: Annotated[int, typer.Option(min=4, max=1000, help="Frames in a row to use.")] = 24,
    reference: Annotated[
        bool,
        typer.Option(help="Measure torchvision's own loop too, and compare everything with it."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure this machine: frames per second of cheaper settings, and what they miss.

    Everything runs on the same frames. "found" is the share of the reference's objects (score 0.5
    or more) that a setting finds too, "extra" what only it finds, "IoU" how well the masks match;
    of "every k-th frame" the same for tracks, against all frames detected. Nothing is written.

    [bold]Examples[/bold]

    tracker bench street.mp4  [dim]# a few minutes on a laptop[/dim]

    tracker bench street.mp4 --start 1:30 --frames 60 --no-reference

    tracker bench street.mp4 --config people --model my_model.py:build --json
    """
    overrides = [
        *given(source__start=start, detector__device=device),
        *given(detector__model=model, detector__weights=weights),
    ]
    resolved = load_config(find_config(config), [*overrides, *(settings or ())])
    pictures = read_frames(video, resolved, frames)
    errors = Console(stderr=True)
    shown = sys.stderr.isatty()
    with errors.status("loading the model") as status:

        def on_start(name: str) -> None:
            if shown:
                status.update(f"measuring {name}")

        rows = list(measure(pictures, resolved, reference=reference, on_start=on_start))
    if as_json:
        typer.echo(json.dumps([_plain(row) for row in rows], indent=2))
        return
    console = Console()
    console.print(_table(rows))
    console.print("Use a row with --set detector.NAME=VALUE for each of its values.", style="dim")


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("setting", no_wrap=True)
    for title in ("s/frame", "fps", "times", "found", "extra", "IoU"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        agrees = row.agreement
        table.add_row(
            " ".join(f"{key}={value}" for key, value in row.settings.items()) or row.name,
            f"{row.seconds:.3f}",
            f"{1 / row.seconds:.2f}" if row.seconds < 10 else f"{1 / row.seconds:.3f}",
            f"{rows[0].seconds / row.seconds:.1f}",
            f"{agrees.share:.1%}" if agrees else "",
            str(agrees.extra) if agrees else "",
            f"{agrees.overlap:.3f}" if agrees else "",
        )
    return table


def _plain(row: Row) -> dict[str, Any]:
    agrees = row.agreement
    return {
        "name": row.name,
        "settings": {f"detector.{key}": value for key, value in row.settings.items()},
        "seconds_per_frame": round(row.seconds, 5),
        "least_s": round(row.spread[0], 5),
        "largest_s": round(row.spread[1], 5),
        "found": None if agrees is None else round(agrees.share, 5),
        "extra": None if agrees is None else agrees.extra,
        "mask_iou": None if agrees is None else round(agrees.overlap, 5),
    }
