"""`tracker run`: track videos into run folders."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from tracker.cli.options import (
    Device,
    Model,
    Start,
    Weights,
    find_config,
    given,
    line_settings,
    split_names,
)
from tracker.cli.progress import Progress, print_summary
from tracker.cli.signals import Signals
from tracker.config import Override, RunConfig, load_config
from tracker.errors import ConfigError, explain, redact, trace
from tracker.runs.many import Job, Outcome, RunRequest, choose_folders, run_many, runs_together
from tracker.runs.record import RunRecord
from tracker.runs.resume import check_model
from tracker.runs.track import load_detector


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
    classes_file: Annotated[
        str | None,
        typer.Option(
            help="Names of the weights' classes in the order of their labels, one a line or a "
            "JSON list. \\[default: what the weights say]"
        ),
    ] = None,
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
    save_detections: Annotated[
        bool,
        typer.Option(
            "--save-detections",
            help="Write detections.jsonl too: try other settings on it with `tracker associate`.",
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

    tracker run street.mp4 --save-detections  [dim]# then: tracker associate[/dim]

    tracker run street.mp4 --config traffic --json  [dim]# settings; for scripts[/dim]

    tracker run street.mp4 --weights embedded  [dim]# no download; small and fast[/dim]

    tracker run street.mp4 --weights runs/train/best.safetensors  [dim]# of `tracker train`[/dim]

    tracker run street.mp4 --weights mine.pth --classes-file names.txt  [dim]# torchvision's[/dim]

    tracker run street.mp4 --model my_model.py:build --weights my.safetensors
    """
    overrides = [
        *given(source__start=start, source__end=end, source__stride=stride),
        *given(detector__model=model, detector__weights=weights, detector__device=device),
        *given(detector__classes_file=classes_file),
        *given(detector__classes=split_names(classes) if classes is not None else None),
        *line_settings(line or ()),
        *given(output__video=None if video else False, output__refine=refine or None),
        *given(output__detections=save_detections or None),
        *(settings or ()),
    ]
    jobs = _jobs(videos or [], output, resume, replace=force)
    resolved = _settings(config, overrides, jobs if resume is not None else ())
    shown, together = not (quiet or as_json), runs_together(jobs)
    with Signals() as signals:
        request = RunRequest(
            resolved,
            cache(lambda: load_detector(resolved)),  # one model for all videos
            lambda uri: Progress(uri, signals, show=shown, alone=not together),
            replace=force,
            resume=resume is not None and not force,
            named=bool(videos),
        )
        outcomes = []
        for outcome in run_many(jobs, request, should_stop=signals.stopped):
            outcomes.append(outcome)
            if outcome.error and len(jobs) == 1:
                raise outcome.error
            _tell(outcome, shown=shown, as_json=as_json)
    _exit(outcomes, len(jobs), strict=strict)


def _jobs(
    videos: list[str], output: Path | None, resume: Path | None, *, replace: bool
) -> list[Job]:
    """Return what is to be run where; raise ConfigError."""
    if resume is not None and output is not None:
        raise ConfigError("--resume goes without --output: it names the folder itself")
    if resume is not None and not videos:
        record = RunRecord.read(resume)
        goes_on = record.uri is not None and (record.checkpoint or record.finished)
        videos = [record.uri] if goes_on and record.uri else []
    if not videos:
        what = f"{resume}: holds no run yet" if resume else "no VIDEO is given"
        raise ConfigError(f"{what}; name a file, a camera or a URL, or see `tracker run --help`")
    folders = choose_folders(videos, output, resume, replace=replace)
    return [Job(uri, folder) for uri, folder in zip(videos, folders, strict=True)]


def _settings(
    config: str | None, overrides: Sequence[Override], resumed: Sequence[Job]
) -> RunConfig:
    """Return the settings, by default those of a run that is resumed; raise ConfigError."""
    begun = [job.folder for job in resumed if (job.folder / "run.toml").is_file()]
    if config is not None or not begun:
        return load_config(find_config(config), overrides).anchored()
    path = begun[0] / "run.toml"
    if not any(_names(override, "detector.model") for override in overrides):
        check_model(begun[0], load_config(path))
    return load_config(path, overrides).anchored()


def _names(override: Override, key: str) -> bool:
    said = override.partition("=")[0] if isinstance(override, str) else override[0]
    return said.strip() == key


def _tell(outcome: Outcome, *, shown: bool, as_json: bool) -> None:
    """Say what became of one video."""
    if outcome.error:
        sys.stderr.write(f"{trace(outcome.error) or ''}tracker: {explain(outcome.error)}\n")
    elif shown and outcome.result:
        print_summary(outcome.result)
    elif shown:
        sys.stderr.write(f"tracker: {outcome.job.folder}: is finished; --force does it again\n")
    if as_json:
        sys.stdout.write(json.dumps(_summary(outcome)) + "\n")
        sys.stdout.flush()


def _summary(outcome: Outcome) -> dict[str, object]:
    report, counts = outcome.report, outcome.counts or {}
    if report is None:
        error = explain(outcome.error) if outcome.error else ""
        return {"source": redact(outcome.job.uri), "finished": False, "error": error}
    return {
        "folder": str(outcome.job.folder),
        "source": report.source,
        "finished": report.finished,
        "frames": report.frames,
        "input_complete": report.input.complete,
        "classes": counts.get("classes"),
        "lines": counts.get("lines"),
        "speed": report.speed.model_dump(),
    }


def _exit(outcomes: Sequence[Outcome], wanted: int, *, strict: bool) -> None:
    """Leave with the exit code that says how it went."""
    reports = [outcome.report for outcome in outcomes if outcome.report]
    failures = sum(outcome.error is not None for outcome in outcomes)
    if len(outcomes) < wanted or any(report.stopped for report in reports):
        raise typer.Exit(130)
    if failures:
        sys.stderr.write(f"tracker: {failures} of {wanted} videos failed\n")
        raise typer.Exit(1)
    if strict and not all(report.input.complete for report in reports):
        raise typer.Exit(3)
