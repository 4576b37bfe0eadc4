"""A whole training: data read and checked, folder made, model built, trained, and drawn."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracker.errors import ConfigError, SinkError
from tracker.files import new_file
from tracker.train.build import StartedModel, build_model
from tracker.train.find import fingerprint, read_data, read_validation
from tracker.train.loop import Hooks, Trainer, start_fabric
from tracker.train.pictures import check_matplotlib, draw_curves, draw_sheet
from tracker.train.problems import Problem
from tracker.train.records import CHECKPOINT, CURVES, FILES, SETTINGS, SHEET, Epoch, Folder
from tracker.train.samples import Dataset, foreign, join, shared, split
from tracker.train.settings import TrainConfig, read

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training left behind."""

    folder: Path
    finished: bool  # False where it was stopped and can be resumed
    steps: int  # done
    epochs: Sequence[Epoch]
    best: Epoch | None  # whose model was kept; None before the first validation
    seconds: float  # of training and validation, over all sittings


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data to train on and to validate by, and what is wrong with the rest."""

    config: TrainConfig
    train: Dataset
    val: Dataset
    problems: tuple[Problem, ...]


def prepare(config: TrainConfig, *, whole: bool = False) -> Prepared:
    """Read and check all data, and hold a part back where none is given to validate by.

    With `whole` every picture is decoded to its end, not only its header read.
    Raises ConfigError and FormatError.
    """
    prepared = survey(config, whole=whole)
    check_usable(prepared)
    return prepared


def survey(config: TrainConfig, *, whole: bool = False) -> Prepared:
    """Do what `prepare` does, but also return what cannot be trained on, with its problems."""
    _check_paths(config)
    pictures = Path(config.pictures) if config.pictures else None
    train, held = read_data([Path(path) for path in config.data], pictures, whole=whole)
    others: list[Problem] = []
    if config.val:
        held = read_validation([Path(path) for path in config.val], pictures, whole=whole)
        others = foreign(train, held)
    train = _of_categories(train, config.categories)
    problems = (*train.problems, *(held.problems if held else ()), *others)
    if held is None:
        train, held = _hold_back(train, config)
    else:
        held = join([held], train.categories[1:])
        problems = (*problems, *shared(train, held))
    return Prepared(config, train, held, tuple(dict.fromkeys(problems)))


def check_usable(prepared: Prepared) -> None:
    """Raise ConfigError where there is nothing to train on or to validate by."""
    where = prepared.config.data[0]
    names = ", ".join(prepared.train.categories[1:]) or "(there are none)"
    if not sum(prepared.train.counts().values()):
        raise ConfigError(
            f"{where}: no picture to train on has an object of the categories {names}"
        )
    if not prepared.val.samples and not prepared.config.val:
        raise ConfigError(f"{where}: too few pictures to hold some back for validation")
    if not sum(prepared.val.counts().values()):
        others = "".join(
            f"; {problem.id}: {problem.text}"
            for problem in prepared.problems
            if problem.kind == "category lost"
        )
        raise ConfigError(
            f"{where}: no picture to validate by has an object of the categories {names}{others}"
        )


def _check_paths(config: TrainConfig) -> None:
    """Raise ConfigError where no data are named, or by what cannot be written down."""
    for path in (*config.data, *config.val):
        if not path.isprintable():
            raise ConfigError(f"{path!r}: rename it, its name cannot be written down")
    if config.pictures and not Path(config.pictures).is_dir():
        raise ConfigError(
            f"pictures = {config.pictures!r}: no such folder; name the folder of the pictures"
        )
    if not config.data:
        raise ConfigError("give a file or folder of labelled pictures to train on")


def _of_categories(data: Dataset, categories: Sequence[str]) -> Dataset:
    """Return the data with these categories only, all where none is named; raise ConfigError."""
    unknown = [name for name in categories if name not in data.categories]
    if unknown:
        known = ", ".join(data.categories[1:])
        raise ConfigError(f"{unknown[0]!r} is none of the data's categories: {known}")
    return join([data], categories) if categories else data


def _hold_back(data: Dataset, config: TrainConfig) -> tuple[Dataset, Dataset]:
    """Return what is left to train on and a part to validate by, nothing where it is too little."""
    try:
        return split(data, config.val_share, config.seed)
    except ValueError:
        return data, Dataset((), data.categories)


def train(
    config: TrainConfig,
    output: Path,
    *,
    resume: bool = False,
    replace_old: bool = False,
    skip_problems: bool = False,
    card: Mapping[str, Any] | None = None,
    on_data: Callable[[Prepared], None] = lambda _: None,
    on_start: Callable[[Prepared, int, int], None] = lambda *_: None,
    hooks: Hooks | None = None,
) -> TrainingResult:
    """Train a model into a folder, or go on with the training that is there.

    With `resume` the settings are those of the folder; with `replace_old` too it starts over.
    `on_data` is given the data as they were read, usable or not; `on_start` the data, the steps
    done and the steps in all; `card` is added to what the model's file says of itself. Raises
    TrackerError; ConfigError that counts the problems where items cannot be used and
    `skip_problems` is not set.
    """
    hooks = hooks or Hooks()
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    if resume:
        config = read(output / SETTINGS)
        resume = not replace_old
    prepared = survey(config)
    on_data(prepared)
    check_usable(prepared)
    if not resume and not skip_problems:
        _check_problems(prepared.problems)
    if not resume and first:
        _check_folder(output, config, replace_old=replace_old)
    check_matplotlib()
    fabric = start_fabric(config)
    started = build_model(config, prepared.train.categories)
    if fabric.is_global_zero and not resume:
        _make_folder(output, config)  # only now is a training that was there given up
    folder = Folder(
        output,
        fingerprint(prepared.train) + fingerprint(prepared.val),
        _card(prepared, started, card),
        writes=fabric.is_global_zero,
    )
    trainer = Trainer(fabric, config, started, (prepared.train, prepared.val), folder)
    if resume:
        _go_on(trainer, folder)
    on_start(prepared, trainer.progress.step, trainer.steps)

    def drawn(data: Dataset, found: Mapping[int, Any]) -> None:
        try:
            draw_curves(output / CURVES, trainer.progress.epochs)
            draw_sheet(output / SHEET, data, found)
        except Exception as exc:  # hours of training are worth more than a picture of them
            log.warning("the pictures of this epoch could not be drawn (%s)", exc)
        hooks.on_sheet(data, found)

    finished = trainer.run(replace(hooks, on_sheet=drawn))
    progress = trainer.progress
    return TrainingResult(
        output, finished, progress.step, progress.epochs, progress.best, progress.seconds
    )


def _go_on(trainer: Trainer, folder: Folder) -> None:
    """Go back to the checkpoint, or to the start where there is none yet."""
    if (folder.path / CHECKPOINT).is_file():
        trainer.restore()
    else:
        folder.rewind(0, [])


def _check_problems(problems: Sequence[Problem]) -> None:
    """Raise ConfigError where items cannot be used."""
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        raise ConfigError(
            f"{len(fatal)} items cannot be used, the first is {fatal[0]}; mend them, or leave them "
            "out with --skip-problems"
        )


def _check_folder(output: Path, config: TrainConfig, *, replace_old: bool) -> None:
    """Raise ConfigError or SinkError where a training must not be written."""
    if output.exists() and not output.is_dir():
        raise SinkError(f"{output}: is a file, a training needs a folder")
    present = [name for name in FILES if (output / name).exists()]
    if present and not replace_old:
        raise ConfigError(
            f"{output}: already holds a training ({present[0]}); go on with it by --resume, give "
            "another --output, or --force to replace it"
        )
    for start in (config.weights, config.backbone or ""):
        if present and output.resolve() in Path(start).resolve().parents:
            raise ConfigError(f"{start}: lies in the training that --force would replace")


def _card(
    prepared: Prepared, started: StartedModel, more: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what the model's file says of its training."""
    return {
        "trained_on": [Path(path).name for path in prepared.config.data],
        "pictures": len(prepared.train.samples),
        "objects": prepared.train.counts(),
        "validated_on": len(prepared.val.samples),
        "trained": datetime.now(UTC).date().isoformat(),
        "kept_from_start": list(started.kept[1:]),
        **(more or {}),
    }


def _make_folder(output: Path, config: TrainConfig) -> None:
    """Make the folder, or clear the training that is there; raise SinkError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (output / name).unlink(missing_ok=True)
    except OSError as exc:
        raise SinkError(f"{output}: cannot be written: {exc.strerror}") from exc
    with new_file(output / SETTINGS) as file:
        file.write("# A training of Tracker; repeat it with: tracker train --config train.toml\n")
        file.write(config.to_toml())
