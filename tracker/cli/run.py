"""`tracker run`: track videos into run folders."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.assemble import RunResult, load_detector, run_to_folder
from tracker.cli.progress import Progress, print_summary
from tracker.config import load_config
from tracker.errors import ConfigError, TrackerError, redact


def run(
    videos: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders or globs of images, camera indices, rtsp/http/udp URLs, or - for "
            "standard input.",
            metavar="VIDEO",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Run folder; with several videos the folder of their run folders. "
            "[default: runs/NAME]",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            "-c",
            help="TOML file with settings, or the name of a shipped one: default, people, traffic, "
            "fast-cpu.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", help="One setting, as detector.score_threshold=0.4; may be repeated."
        ),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names to keep, as person,car. [default: all]")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="torchvision builder, package.module:function or file.py:function."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="default, or a .pth or .safetensors file.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")] = None,
    line: Annotated[
        list[str] | None,
        typer.Option(
            help="Counting line NAME=x1,y1,x2,y2 in px or fractions of the frame; may be repeated."
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="First moment: 12.5 (s), 1:02:03, or 300f (frame).")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Last moment, not included.")] = None,
    stride: Annotated[
        str | None, typer.Option(help="Take every k-th frame (5), or one each 0.5s.")
    ] = None,
    video: Annotated[bool, typer.Option(help="Write the annotated video.")] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a run that is already in the folder.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON summary per video and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Track videos: annotated video, counts, track log and report, a run folder each.

    [bold]Examples[/bold]

    tracker run street.mp4  [dim]# video, counts and log in runs/street[/dim]

    tracker run street.mp4 --classes person,car -o out  [dim]# two classes only[/dim]

    tracker run street.mp4 --line door=0.2,0.6,0.8,0.6  [dim]# who crosses a line[/dim]

    tracker run street.mp4 --start 1:30 --end 2:00 --stride 2

    tracker run 'frames/*.jpg' --set source.fps=12  [dim]# a folder or glob[/dim]

    tracker run 0  [dim]# the first camera; Ctrl-C ends it properly[/dim]

    tracker run a.mp4 b.mp4 -o out  [dim]# one run folder each: out/a, out/b[/dim]

    tracker run street.mp4 --config traffic --json  [dim]# settings; for scripts[/dim]

    tracker run street.mp4 --model my_model.py:build --weights my.safetensors
    """
    overrides = [
        *_option("source.start", start),
        *_option("source.end", end),
        *_option("source.stride", stride),
        *_option("detector.model", model),
        *_option("detector.weights", weights),
        *_option("detector.device", device),
        *([f"detector.classes={json.dumps(_split(classes))}"] if classes is not None else []),
        *map(_line_setting, line or ()),
        *([] if video else ["output.video=false"]),
        *(settings or ()),
    ]
    resolved = load_config(_find_config(config), overrides)
    folders = _folders(videos, output, replace=force)
    get_detector = cache(lambda: load_detector(resolved))  # one model for all videos
    failures = 0
    with _stop_on_signal() as stopped:
        for uri, folder in zip(videos, folders, strict=True):
            if stopped():
                break
            progress = Progress(uri, show=not (quiet or as_json))
            try:
                with progress:
                    result = run_to_folder(
                        uri,
                        resolved,
                        folder,
                        get_detector=get_detector,
                        replace=force,
                        on_start=progress.start,
                        on_result=progress.advance,
                        should_stop=stopped,
                    )
            except TrackerError as exc:
                if len(videos) == 1:
                    raise
                failures += 1
                sys.stderr.write(f"tracker: {redact(str(exc))}\n")
                continue
            if as_json:
                sys.stdout.write(json.dumps(_summary(result)) + "\n")
                sys.stdout.flush()
            elif not quiet:
                print_summary(result)
    if failures:
        sys.stderr.write(f"tracker: {failures} of {len(videos)} videos failed\n")
        raise typer.Exit(1)
    if stopped():
        raise typer.Exit(130)


def _option(key: str, value: str | None) -> list[str]:
    return [] if value is None else [f"{key}={json.dumps(_number(value))}"]


def _number(value: str) -> int | float | str:
    """Keep what looks like a number a number: settings are strict about types."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _line_setting(text: str) -> str:
    name, separator, points = text.partition("=")
    values = points.split(",")
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if not separator or len(numbers) != 4:
        raise ConfigError(f"--line takes NAME=x1,y1,x2,y2, got {text!r}")
    return f"count.lines.{name.strip()}={numbers}"


def _find_config(name: str | None) -> Path | None:
    """Return a file the user named, or a shipped configuration of this name."""
    if name is None:
        return None
    if Path(name).is_file() or name.endswith(".toml"):
        return Path(name)
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    raise ConfigError(f"--config {name}: is neither a file nor a shipped configuration")


def _folders(videos: list[str], output: Path | None, *, replace: bool) -> list[Path]:
    """Choose a folder for each video; no two are the same, none of an earlier run is reused."""
    if output is not None and len(videos) == 1:
        return [output]
    parent = output or Path("runs")
    chosen: list[Path] = []
    for uri in videos:
        name = _name(uri)
        folder, number = parent / name, 1
        while folder in chosen or (output is None and not replace and folder.exists()):
            number += 1
            folder = parent / f"{name}-{number}"
        chosen.append(folder)
    return chosen


def _name(uri: str) -> str:
    """Return a safe folder name for a source."""
    text = {"-": "stdin"}.get(uri) or redact(uri)
    if "://" in text:
        text = text.partition("://")[2].replace("***@", "").partition("?")[0]
        text = text.strip("/").replace("/", "-")
    else:
        text = f"camera{uri}" if uri.isdecimal() else Path(text.rstrip("/")).stem
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in text).strip("._")
    return safe[:64] or "video"


@contextmanager
def _stop_on_signal() -> Iterator[Any]:
    """Yield a function that tells whether to stop; a second signal stops at once."""
    caught: list[int] = []

    def handle(number: int, _: Any) -> None:
        caught.append(number)
        if len(caught) > 1:
            raise KeyboardInterrupt

    previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _summary(result: RunResult) -> dict[str, Any]:
    report, counts = result.report, result.counts
    return {
        "folder": str(result.folder),
        "source": report["source"],
        "finished": report["finished"],
        "frames": report["frames"],
        "input_complete": report["input"]["complete"],
        "classes": counts["classes"],
        "lines": counts["lines"],
        "speed": report["speed"],
    }
