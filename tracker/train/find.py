"""Read labelled pictures of whatever form lies in a file or a folder."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from tracker.errors import ConfigError, FormatError
from tracker.train.crowds import without_false_crowds
from tracker.train.problems import Kind, Problem
from tracker.train.samples import Dataset, checked, foreign, join
from tracker.train.sources import Source, sources_of

_MALFORMED = (AttributeError, IndexError, KeyError, OSError, OverflowError, TypeError, ValueError)


def read_data(
    paths: Sequence[Path], pictures: Path | None = None, *, whole: bool = False
) -> tuple[Dataset, Dataset | None]:
    """Return the training samples of all paths and, where a folder has some, those to validate by.

    A path is a file or a folder of COCO, YouTube-VIS, MOTS, Pascal VOC, labelme, Supervisely,
    Datumaro, or label pictures. Folders and files named train, val (valid, validation) and test
    are used as they are named, test not at all. Every picture is looked for, with `whole` also
    decoded to its end. Raises ConfigError and FormatError.
    """
    train, held, problems = _gather(paths, pictures)
    if not train:
        raise ConfigError(
            f"{paths[0]}: holds labels to {'validate' if held else 'test'} by, but none to train "
            "on; give the file or folder itself to train on it"
        )
    data = join(train)
    problems += foreign(data, join(held)) if held else []
    others = join(held, data.categories[1:]) if held else None
    data, others = without_false_crowds(data, others)
    data = checked(dataclasses.replace(data, problems=(*data.problems, *problems)), whole=whole)
    return data, checked(others, whole=whole) if others else None


def read_validation(
    paths: Sequence[Path], pictures: Path | None = None, *, whole: bool = False
) -> Dataset:
    """Return the samples of all paths to validate by: those named so, else all but test's.

    Raises ConfigError and FormatError.
    """
    train, held, problems = _gather(paths, pictures)
    if not train and not held:
        raise ConfigError(f"{paths[0]}: holds only labels to test by; give the file itself")
    data, _ = without_false_crowds(join(held or train))
    data = dataclasses.replace(data, problems=(*data.problems, *problems))
    return checked(data, whole=whole)


def _gather(
    paths: Sequence[Path], pictures: Path | None
) -> tuple[list[Dataset], list[Dataset], list[Problem]]:
    """Return what is read to train on and to validate by, and what is told about the rest."""
    train: list[Dataset] = []
    held: list[Dataset] = []
    problems: list[Problem] = []
    for source in (source for path in paths for source in sources_of(path, pictures)):
        if source.said:
            kind: Kind = "file" if source.fatal else "split"
            problems.append(Problem(str(source.path), "", source.said, source.fatal, kind))
        if source.read is None:
            continue
        data = _read(source, source.read)
        if source.split == "val" and _is_blank(data):
            text = (
                "is named to validate by, but labels nothing: not used; without others a part "
                "of the training is held back"
            )
            problems.append(Problem(str(source.path), "", text, False, "split"))
        else:
            (held if source.split == "val" else train).append(data)
    return train, held, problems


def _is_blank(data: Dataset) -> bool:
    """Tell whether data label nothing, as the files of a contest, whose labels are kept back."""
    labelled = any(sample.instances for sample in data.samples)
    return not labelled and not any(problem.fatal for problem in data.problems)


def fingerprint(data: Dataset) -> str:
    """Return a hash of the labels: a training may only be resumed on the same."""
    digest = hashlib.sha256(repr(data.categories).encode())
    for sample in data.samples:
        name = f"{sample.path.name} {sample.width} {sample.height}"
        digest.update(name.encode("utf-8", "surrogateescape"))
        for one in sample.instances:
            digest.update(f"{one.label} {one.crowd} {one.rle['counts']}".encode())
    return digest.hexdigest()


def _read(source: Source, read: Callable[[], Dataset]) -> Dataset:
    """Read a source; raise FormatError, also for what no reader foresaw."""
    try:
        return read()
    except (*_MALFORMED, RecursionError) as exc:
        raise FormatError(f"{source.path}: is malformed ({exc!r:.200})") from exc
