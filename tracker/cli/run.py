"""`tracker run`: track videos into run folders."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.assemble import load_detector, run_to_folder
from tracker.checkpoint import begun, check_finished
from tracker.cli.folders import choose_folders
from tracker.cli.progress import Progress, print_summary
from tracker.cli.signals import Signals
from tracker.config import load_config
from tracker.errors import ConfigError, TrackerError, redact
from tracker.formats.text import read_json

# Options that other commands have too.
Model = Annotated[
    str | None,
    typer.Option(
        help="torchvision builder, package.module:function or file.py:function. "
        "\\[default: what --weights says]"
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="default (COCO, downloaded once), embedded (small, in the package: people and "
        "vehicles), or a .pth or .safetensors file."
    ),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Start = Annotated[
    str | None, typer.Option(help="First moment: 12.5 (s), 1:02:03, or 300f (frame).")
]


def run(
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders or globs of images, camera indices, rtsp/http/udp URLs (a "
            "password may be written as '${NAME}' of the environment), or - for standard input. "
            "With --resume it may be left out.",
            metavar="VIDEO",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Run folder; with several videos the folder of their run folders. "
            "\\[default: runs/NAME]",
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
        str | None, typer.Option(help="Class names to keep, as person,car. \\[default: all]")
    ] = None,
    model: Model = None,
    weights: Weights = None,
    device: Device = None,
    line: Annotated[
        list[str] | None,
        typer.Option(
            help="Counting line NAME=x1,y1,x2,y2 in px or fractions of the frame; may be repeated. "
            "In is from its left to its right side, seen from the first point to the second: "
            "downwards for a line drawn from left to right."
        ),
    ] = None,
    start: Start = None,
    end: Annotated[str | None, typer.Option(help="Last moment, not included.")] = None,
    stride: Annotated[
        str | None, typer.Option(help="Take every k-th frame (5), or one each 0.5s.")
    ] = None,
    video: Annotated[bool, typer.Option(help="Write the annotated video.")] = True,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine", help="Write tracks-refined.jsonl too, made when the whole video is known."
        ),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with the run in this folder, which was stopped or killed; the log will be "
            "that of a run that never was. With several videos the folder of their run folders.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a run that is already in the folder.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 3 where frames were lost or suspect.")
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

    tracker run --resume runs/street  [dim]# after a power cut, go on where it was[/dim]

    tracker run a.mp4 b.mp4 -o out  [dim]# one run folder each: out/a, out/b[/dim]

    tracker run a.mp4 b.mp4 --resume out  [dim]# do what is not done yet; may be repeated[/dim]

    tracker run street.mp4 --config traffic --json  [dim]# settings; for scripts[/dim]

    tracker run street.mp4 --weights embedded  [dim]# no download; small and fast[/dim]

    tracker run street.mp4 --weights runs/train/best.safetensors  [dim]# of `tracker train`[/dim]

    tracker run street.mp4 --model my_model.py:build --weights my.safetensors
    """
    overrides = [
        *option("source.start", start),
        *option("source.end", end),
        *option("source.stride", stride),
        *option("detector.model", model),
        *option("detector.weights", weights),
        *option("detector.device", device),
        *([f"detector.classes={json.dumps(split_names(classes))}"] if classes is not None else []),
        *_line_settings(line or ()),
        *([] if video else ["output.video=false"]),
        *(["output.refine=true"] if refine else []),
        *(settings or ()),
    ]
    videos = videos or []
    named, goes_on = bool(videos), resume is not None and not force
    if resume is not None:
        if output is not None:
            raise ConfigError("--resume goes without --output: it names the folder itself")
        if not videos and (past := begun(resume)):
            videos = [past.uri]
    if not videos:
        what = f"{resume}: holds no run yet" if resume else "no VIDEO is given"
        raise ConfigError(f"{what}; name a file, a camera or a URL, or see `tracker run --help`")
    folders = choose_folders(videos, output, resume, replace=force)
    if resume is not None and config is None:
        made = [str(path) for folder in folders if (path := folder / "run.toml").is_file()]
        config = made[0] if made else None
    resolved = load_config(find_config(config), overrides).anchored()
    load = cache(lambda: load_detector(resolved))  # one model for all videos
    failures, losses, broken_off = 0, 0, False
    with Signals() as signals:
        for uri, folder in zip(videos, folders, strict=True):
            if signals.stopped():
                broken_off = True
                break
            progress = Progress(uri, show=not (quiet or as_json))
            try:
                past = begun(folder) if goes_on else None
                if past and past.report:
                    check_finished(folder, past.report, uri if named else None, resolved)
                    report = past.report
                    counts = read_json(folder / "counts.json") if as_json else {}
                    if not (quiet or as_json):
                        sys.stderr.write(f"tracker: {folder}: is finished; --force does it again\n")
                else:
                    with progress, signals.noted() as frames_flow:
                        result = run_to_folder(
                            uri,
                            resolved,
                            folder,
                            get_detector=progress.while_loading(load),
                            replace=force,
                            resume=goes_on,
                            on_start=progress.when_started(frames_flow),
                            on_result=progress.advance,
                            should_stop=signals.stopped,
                        )
                    report, counts = result.report, result.counts
                    if not (quiet or as_json):
                        print_summary(result)
            except TrackerError as exc:
                if len(videos) == 1:
                    raise
                failures += 1
                sys.stderr.write(f"tracker: {redact(str(exc))}\n")
                if as_json:
                    failure = {"source": redact(uri), "finished": False, "error": redact(str(exc))}
                    sys.stdout.write(json.dumps(failure) + "\n")
                continue
            broken_off |= report["stopped"]
            losses += not report["input"].get("complete")
            if as_json:
                sys.stdout.write(json.dumps(_summary(folder, report, counts)) + "\n")
                sys.stdout.flush()
    if broken_off:
        raise typer.Exit(130)
    if failures:
        sys.stderr.write(f"tracker: {failures} of {len(videos)} videos failed\n")
        raise typer.Exit(1)
    if strict and losses:
        raise typer.Exit(3)


def option(key: str, value: str | None) -> list[str]:
    """Return an option as the override of a setting, none where it was not given."""
    return [] if value is None else [f"{key}={json.dumps(value)}"]


def split_names(names: str) -> list[str]:
    """Return the parts of a list with commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def split_numbers(text: str | None, option: str) -> frozenset[int]:
    """Return the class numbers of a list with commas; raise ConfigError that names the option."""
    try:
        return frozenset(int(number) for number in split_names(text or ""))
    except ValueError as exc:
        raise ConfigError(f"{option} takes class numbers, as 1,2, got {text!r}") from exc


def _line_settings(lines: Sequence[str]) -> list[str]:
    settings: dict[str, str] = {}
    for text in lines:
        name, _, points = text.partition("=")
        try:
            numbers = [float(value) for value in points.split(",")]
        except ValueError:
            numbers = []
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or len(numbers) != 4:
            raise ConfigError(
                "--line takes NAME=x1,y1,x2,y2 with a name of letters, digits, - and _, "
                f"got {text!r}"
            )
        if name in settings:
            raise ConfigError(f"--line {name} is given twice; every line needs a name of its own")
        settings[name] = f"count.lines.{name}={numbers}"
    return list(settings.values())


def find_config(name: str | None) -> Path | None:
    """Return a file the user named, or a shipped configuration of this name."""
    if name is None:
        return None
    if Path(name).is_file() or name.endswith(".toml"):
        return Path(name)
    package = Path(__file__).parents[1]
    shipped = {
        path.stem: path
        for folder in (package.parent / "configs", package / "configs")
        for path in sorted(folder.glob("*.toml"))
    }
    if name not in shipped:
        raise ConfigError(
            f"--config {name}: is neither a file nor a shipped configuration ({', '.join(shipped)})"
        )
    return shipped[name]


def _summary(folder: Path, report: dict[str, Any], counts: dict[str, Any]) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "source": report["source"],
        "finished": report["finished"],
        "frames": report["frames"],
        "input_complete": report["input"].get("complete"),
        "classes": counts.get("classes"),
        "lines": counts.get("lines"),
        "speed": report["speed"],
    }
