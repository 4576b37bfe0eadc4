"""`tracker train`: fine-tune a model on labelled pictures."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tracker.cli.options import Device, given, split_names
from tracker.cli.signals import Signals
from tracker.config import parse_value
from tracker.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from tracker.train.loop import Losses
    from tracker.train.records import Epoch
    from tracker.train.samples import Dataset
    from tracker.train.session import Prepared, TrainingResult
    from tracker.train.settings import TrainConfig

_PLAIN_EVERY_S = 20.0  # a line so often where there is no terminal
_MOST_PROBLEMS = 20  # that are printed; --check prints all
_MOST_IN_FULL = 10  # of each kind, by --check


def train(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            help="File or folder of labels: COCO (as of CVAT, Roboflow, Label Studio, FiftyOne), "
            "YouTube-VIS, MOTS, Pascal VOC, labelme, Supervisely, Datumaro, label pictures.",
            metavar="DATA",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the training. \\[default: runs/train]"),
    ] = None,
    val: Annotated[
        list[Path] | None,
        typer.Option(
            help="Data to validate by; may be repeated. \\[default: DATA's own, else a part]"
        ),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Categories to learn, as person,car. \\[default: all]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A builder of `tracker models`. \\[default: by --weights]")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="To start from: default (COCO), embedded, a file, or none."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="ImageNet weights of the backbone, with --weights none.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data. \\[default: 20]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures a step. \\[default: 8]")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Highest learning rate. \\[default: 0.0005]")
    ] = None,
    device: Device = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes on this machine: one a GPU, or on the CPU.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file of settings, as train.toml.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="One setting, as paste=0.5; may be repeated."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the training in --output, exactly; with --force start it over.",
        ),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="List the data and their problems, train nothing.")
    ] = False,
    skip_problems: Annotated[
        bool, typer.Option("--skip-problems", help="Leave out what cannot be used.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a training that is already there.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line an epoch and a last one.")
    ] = False,
) -> None:
    """Fine-tune Mask R-CNN on your own objects; the result runs with --weights.

    [bold]Examples[/bold]

    tracker train labels.json -o runs/bottles  [dim]# COCO; starts from COCO weights[/dim]

    tracker train data --weights embedded --epochs 10  [dim]# small, for two CPU cores[/dim]

    tracker train labels.json --check  [dim]# what is wrong with the labels, and where[/dim]

    tracker train --resume -o runs/bottles  [dim]# after a kill: as if nothing had been[/dim]

    tracker train data --device cuda --processes 4 --batch-size 32

    tracker run video.mp4 --weights runs/bottles/best.safetensors
    """
    _check_extra()
    from tracker.train import session
    from tracker.train.loop import Hooks
    from tracker.train.settings import read

    overrides = given(
        data=_texts(data),
        val=_texts(val),
        categories=split_names(classes) if classes is not None else None,
        model=model,
        weights=weights,
        backbone=backbone,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        device=device,
        processes=processes,
    )
    if resume and (overrides or config or settings):
        raise ConfigError("--resume takes all settings from the folder; leave out the others")
    resolved = _settings(config, dict(overrides), settings or ())
    folder = output or Path("runs/train")
    if check:
        _check_data(read(folder / "train.toml") if resume else resolved)
    # The other processes of a training run this same command; only the first one speaks.
    silent = os.environ.get("LOCAL_RANK", "0") != "0"
    with Signals() as signals, _View(signals, as_json=as_json, silent=silent) as view:
        result = session.train(
            resolved,
            folder,
            resume=resume,
            replace_old=force,
            skip_problems=skip_problems,
            on_data=view.show,
            on_start=view.start,
            hooks=Hooks(on_step=view.step, on_epoch=view.epoch, should_stop=signals.stopped),
        )
    view.end(result)
    if not result.finished and not silent:
        raise typer.Exit(130)


def _check_extra() -> None:
    """Raise MissingExtraError where what training alone needs is not installed."""
    try:
        import tracker.train.session  # noqa: F401 (torch takes seconds to import)
    except ImportError as exc:
        if exc.name and exc.name.startswith("tracker"):
            raise
        raise MissingExtraError("tracker train", "train") from exc


def _texts(paths: list[Path] | None) -> list[str] | None:
    return [str(path) for path in paths] if paths else None


def _settings(config: Path | None, overrides: dict[str, Any], texts: Sequence[str]) -> TrainConfig:
    """Return the settings of a file, then the options, then --set."""
    from tracker.train.settings import build, read

    values: dict[str, Any] = read(config).model_dump(exclude_none=True) if config else {}
    values |= overrides
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"--set takes name=value, got {text!r}")
        values[name.strip()] = parse_value(value)
    return build(values)


def _check_data(config: TrainConfig) -> NoReturn:
    """Print the data and all their problems, and leave with the exit code that tells of them.

    Raises ConfigError, after the list, where there is nothing to train on or to validate by.
    """
    from tracker.train.problems import grouped, listing
    from tracker.train.session import check_usable, survey

    prepared = survey(config, whole=True)
    console = Console(stderr=True)
    for part, purpose in ((prepared.train, "to train on"), (prepared.val, "to validate by")):
        _print(console, f"{len(part.samples)} pictures {purpose}{_contents(part)}")
    for group in grouped(prepared.problems):
        console.print(_mark(fatal=group[0].fatal), end="")
        _print(console, f" ({len(group)} times) Remedy: {group[0].remedy}.")
        for line in listing(group, _MOST_IN_FULL):
            _print(console, f"  {line}")
    check_usable(prepared)
    raise typer.Exit(2 if any(problem.fatal for problem in prepared.problems) else 0)


def _contents(data: Dataset) -> str:
    """Say how many objects of each category, empty pictures and regions the data have."""
    every = [one for sample in data.samples for one in sample.instances]
    empty = sum(all(one.crowd for one in sample.instances) for sample in data.samples)
    regions = sum(one.crowd for one in every)
    said = [f"{count} {name}" for name, count in data.counts().items()]
    said += [f"{empty} pictures without an object"] if empty else []
    said += [f"{regions} regions that are not judged"] if regions else []
    return f": {', '.join(said)}" if said else ""


def _print_data(console: Console, prepared: Prepared) -> None:
    objects = prepared.train.counts()
    said = ", ".join(f"{count} {name}" for name, count in objects.items())
    pictures = f"{len(prepared.train.samples)} pictures to train on ({said})"
    _print(console, f"{pictures}, {len(prepared.val.samples)} to validate by")
    problems = sorted(prepared.problems, key=lambda one: not one.fatal)
    for problem in problems[:_MOST_PROBLEMS]:
        console.print(f"{_mark(fatal=problem.fatal)}  ", end="")
        _print(console, str(problem))
    rest = len(problems) - _MOST_PROBLEMS
    if rest > 0:
        console.print(f"and {rest} more; --check lists them all, with remedies")


def _mark(*, fatal: bool) -> str:
    return "[red]cannot be used[/red]" if fatal else "[yellow]look at it[/yellow]"


def _print(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


class _View:
    """What a user sees of a training."""

    def __init__(self, signals: Signals, *, as_json: bool, silent: bool) -> None:
        self._signals = signals
        self._json = as_json
        self._silent = silent
        self._console = Console(quiet=True) if silent else Console(stderr=True)
        self._epochs = 0
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, loss="")

    def __enter__(self) -> _View:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def show(self, prepared: Prepared) -> None:
        """Show the data and what is wrong with them."""
        if not self._json:
            _print_data(self._console, prepared)

    def start(self, prepared: Prepared, done: int, steps: int) -> None:
        """Show what is left to do; from now on a signal ends it between two steps."""
        self._signals.flowing = True
        self._epochs = prepared.config.epochs
        if done and not self._json:
            self._console.print(f"goes on after step {done} of {steps}")
        self._bar.update(self._task, total=steps, completed=done)
        if self._console.is_terminal and not self._json:
            self._bar.start()

    def step(self, step: int, steps: int, losses: Losses) -> None:
        """Show the newest step."""
        loss = sum(losses.values())
        self._bar.update(self._task, completed=step, loss=f"loss {loss:.3f}")
        if self._json or self._console.is_terminal:
            return
        if time.monotonic() - self._last_line >= _PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            self._console.print(f"step {step}/{steps}, loss {loss:.3f}", highlight=False)

    def epoch(self, epoch: Epoch) -> None:
        """Print one line an epoch."""
        if self._silent:
            return
        if self._json:
            sys.stdout.write(json.dumps(epoch.to_json()) + "\n")
            sys.stdout.flush()
            return
        scores = epoch.scores
        self._console.print(
            f"epoch {epoch.number}/{self._epochs}  loss {sum(epoch.losses.values()):.3f}  "
            f"box mAP {100 * scores.box:.1f}  mask mAP {100 * scores.mask:.1f}"
            f"{'  best' if epoch.best else ''}",
            highlight=False,
        )

    def end(self, result: TrainingResult) -> None:
        """Say what came of it and what to do next."""
        if self._silent:
            return
        best = result.best
        if self._json:
            last = {
                "folder": str(result.folder),
                "finished": result.finished,
                "steps": result.steps,
                "seconds": round(result.seconds, 1),
                "best": best.to_json() if best else None,
            }
            sys.stdout.write(json.dumps(last) + "\n")
            return
        if not result.finished:
            self._console.print(
                f"stopped after step {result.steps}; go on with: "
                f"tracker train --resume -o {result.folder}",
                soft_wrap=True,
                markup=False,
                highlight=False,
            )
            return
        if best is not None:
            typer.echo(
                f"mask mAP {100 * best.scores.mask:.1f}, box mAP {100 * best.scores.box:.1f} at "
                f"epoch {best.number}, {result.seconds:.0f} s -> "
                f"{result.folder}/best.safetensors (look at curves.png, predictions.png)"
            )
