"""May a run go on: what lies in its folder, and whether it is made of the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracker.config import RunConfig
from tracker.errors import ConfigError
from tracker.runs import checkpoint
from tracker.runs.checkpoint import Checkpoint
from tracker.runs.made import Made, fingerprint
from tracker.runs.record import Report, RunRecord
from tracker.video.address import on_disk


def find(folder: Path) -> Checkpoint | None:
    """Return the checkpoint of the run in a folder; None if there is none and nothing else either.

    Raises ConfigError where the run is finished or cannot go on, FormatError.
    """
    record = RunRecord.read(folder)
    if record.checkpoint:
        return record.checkpoint
    if record.finished:
        raise ConfigError(
            f"{folder}: the run is finished, there is nothing to resume; --force does it again"
        )
    if record.report:
        raise ConfigError(
            f"{folder}: cannot be resumed: it has no {checkpoint.NAME}, as those of cameras, URLs "
            "and standard input have none; --force does it again"
        )
    if record.files not in ((), ("run.toml",)):  # which comes before the first checkpoint
        raise ConfigError(
            f"{folder}: holds no {checkpoint.NAME}, so it cannot be resumed; --force starts over"
        )
    return None


def check_finished(record: RunRecord, uri: str | None, config: RunConfig) -> None:
    """Raise ConfigError where the finished run in a folder is not the one that is asked for.

    `uri` is None where no video is named, only the run.
    """
    folder, report = record.folder, record.report
    if uri is not None and report and not _is_of(report, uri):
        raise ConfigError(
            f"{folder}: holds the finished run of {report.source}; give {uri} another --output"
        )
    before = record.config()
    if before and (found := _listed(before.deciding(), config.deciding())):
        raise ConfigError(
            f"{folder}: holds a run that was finished with other settings: {found}; give "
            "another --output, or --force to do it again"
        )


def check_same(before: Made, now: Made, folder: Path) -> None:
    """Raise ConfigError that names what a run is made of now that it was not made of before."""
    moved = now.source | {"uri": before.source["uri"]}  # a file may have moved
    now = now.model_copy(update={"source": moved})
    if found := _listed(before.model_dump(), now.model_dump()):
        raise ConfigError(
            f"{folder}: cannot be resumed: {found}; use what it began with, or --force to start "
            "over"
        )


def check_model(folder: Path, config: RunConfig) -> None:
    """Raise ConfigError where a run's settings name code of the user's own.

    What a folder says is never executed unless the user names it too.
    """
    if ":" in (config.detector.model or ""):
        raise ConfigError(
            f"{folder}: its run.toml names a model that is code ({config.detector.model}); if it "
            f"is to be executed, say so: --model {config.detector.model}"
        )


def differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Yield a sentence for each value in which two JSON values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name} was {_shown(before)}, is {_shown(now)}"


def _is_of(report: Report, uri: str) -> bool:
    """Whether a finished run is known to be that of a video."""
    before, now = report.input.file, fingerprint(uri)
    if on_disk(uri) is None or before is None:
        return False  # what a URL shows today may be something else
    if len(now) == 1:  # the file is gone: its name must do
        return bool(before.get("uri") == now["uri"])
    return {**before, "uri": ""} == {**now, "uri": ""}  # it may have moved


def _listed(before: Any, now: Any) -> str:
    found = list(differences(before, now))
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more


def _shown(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
