"""Track logs in the field's formats; each module reads and writes one, all through `TrackLog`."""

from __future__ import annotations

import importlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, cast

from tracker.files import read_json_value, read_lines
from tracker.types import TrackLog


class Format(Protocol):
    """What each module of this package offers."""

    SUFFIX: str

    def write(self, log: TrackLog, path: Path) -> list[str]:
        """Write a whole log; the final name appears only when it is complete.

        Return what must be known of what was written, a sentence each. Raises SinkError.
        """

    def read(self, path: Path) -> TrackLog:
        """Read a log; raise FormatError that names file and line."""


FORMATS = {
    "jsonl": "tracker.formats.jsonl",
    "mot": "tracker.formats.mot",
    "mots": "tracker.formats.mots",
    "mots-challenge": "tracker.formats.mots_challenge",
    "youtube-vis": "tracker.formats.youtube_vis",
    "youtube-vis-results": "tracker.formats.youtube_vis_results",
    "coco": "tracker.formats.coco",
    "csv": "tracker.formats.table",
    "parquet": "tracker.formats.parquet",
}
TIMELESS = ("mot", "mots", "mots-challenge", "youtube-vis-results")  # they tell no times
USUAL_FPS = 25.0  # frames a second, where nothing tells them


def get_format(name: str) -> Format:
    """Return the module for a name of `FORMATS`; it is imported only now."""
    return cast(Format, importlib.import_module(FORMATS[name]))


def is_log(path: Path) -> bool:
    """Whether a file is a log with times, and not bare text, by its ending and its first line."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        first = next((text for _, text in read_lines(path)), "")
        fields = [field.strip(" \"'") for field in first.split(",")]
        return "frame" in fields and not _module("mot").names_fields(first)
    return suffix in (".jsonl", ".json", ".parquet")


def open_log(path: Path, fps: float | None = None, shift: int | None = None) -> TrackLog:
    """Read a log of any of the formats; what it is, its name and content tell. Raises FormatError.

    Text knows no times: it gets `fps` frames a second, else those of a seqinfo.ini beside it, which
    also tells the frames' size, else 25. `shift` is added to the numbers of its frames, by default
    -1 for MOTSChallenge's. What tells nothing is read as tracks.jsonl.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet" or (suffix == ".csv" and is_log(path)):
        return get_format(suffix.lstrip(".")).read(path)
    if suffix == ".json":
        return get_format(_kind_of_json(path)).read(path)
    if suffix in (".txt", ".csv"):
        return _open_text(path, fps, shift)
    return get_format("jsonl").read(path)


def _kind_of_json(path: Path) -> str:
    content = read_json_value(path)
    if isinstance(content, list):
        return "youtube-vis-results"
    is_vis = isinstance(content, dict) and "videos" in content and "images" not in content
    return "youtube-vis" if is_vis else "coco"


def _open_text(path: Path, fps: float | None, shift: int | None) -> TrackLog:
    """Read MOTChallenge or MOTS text, with what a seqinfo.ini beside it tells."""
    beside = importlib.import_module("tracker.formats.seqinfo").find_seqinfo(path)
    rate = fps or (beside.fps if beside else None)
    mots = _module("mots")
    holds_masks = mots.holds_masks(path)
    if shift is None:
        shift = -1 if holds_masks and mots.counts_from_one(path) else 0
    module = mots if holds_masks else _module("mot")
    log: TrackLog = module.read(path, rate or USUAL_FPS, shift)
    if rate:
        log = replace(log, info=replace(log.info, rate=Fraction(rate).limit_denominator(1001)))
    if beside and beside.width and beside.height:
        adapt = importlib.import_module("tracker.formats.adapt")
        log = adapt.sized(log, beside.width, beside.height)
    return log


def _module(name: str) -> Any:
    return importlib.import_module(FORMATS[name])
