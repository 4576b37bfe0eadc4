"""Track logs in the field's formats; each module reads and writes one, all through `TrackLog`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from tracker.files import read_json, read_lines
from tracker.types import TrackLog


class Format(Protocol):
    """What each module of this package offers."""

    SUFFIX: str

    def write(self, log: TrackLog, path: Path) -> None:
        """Write a whole log; the final name appears only when it is complete."""

    def read(self, path: Path) -> TrackLog:
        """Read a log; raise FormatError that names file and line."""


FORMATS = {
    "jsonl": "tracker.formats.jsonl",
    "mot": "tracker.formats.mot",
    "mots": "tracker.formats.mots",
    "youtube-vis": "tracker.formats.youtube_vis",
    "coco": "tracker.formats.coco",
    "csv": "tracker.formats.table",
    "parquet": "tracker.formats.parquet",
}


def get_format(name: str) -> Format:
    """Return the module for a name of `FORMATS`; it is imported only now."""
    return cast(Format, importlib.import_module(FORMATS[name]))


def is_log(path: Path) -> bool:
    """Whether a file is a log with times, and not bare text, by its ending and its first line."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return "frame" in next((text for _, text in read_lines(path)), "").split(",")
    return suffix in (".jsonl", ".json", ".parquet")


def open_log(path: Path) -> TrackLog:
    """Read a log of any of the formats; what it is, its name and content tell. Raises FormatError.

    Formats that know no times get 25 frames a second; what tells nothing is read as tracks.jsonl.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet" or (suffix == ".csv" and is_log(path)):
        return get_format(suffix.lstrip(".")).read(path)
    if suffix == ".json":
        content = read_json(path)
        is_vis = "videos" in content and "images" not in content
        return get_format("youtube-vis" if is_vis else "coco").read(path)
    if suffix not in (".txt", ".csv"):
        return get_format("jsonl").read(path)
    mots = importlib.import_module(FORMATS["mots"])
    return cast(Format, mots if mots.holds_masks(path) else get_format("mot")).read(path)
