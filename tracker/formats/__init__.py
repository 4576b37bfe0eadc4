"""Track logs in the field's formats; each module reads and writes one, all through `TrackLog`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from tracker.errors import FormatError
from tracker.files import read_lines
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


def open_log(path: Path) -> TrackLog:
    """Read a log of any of the formats; what it is, its name and content tell. Raises FormatError.

    Formats that know no times get 25 frames a second.
    """
    suffix = path.suffix.lower()
    names = {".jsonl": "jsonl", ".part": "jsonl", ".csv": "csv", ".parquet": "parquet"}
    if suffix in names:
        return get_format(names[suffix]).read(path)
    if suffix == ".json":
        with path.open("rb") as file:
            is_vis = b'"videos"' in file.read(1 << 16)
        return get_format("youtube-vis" if is_vis else "coco").read(path)
    if suffix != ".txt":
        raise FormatError(f"{path}: its ending tells none of {', '.join(FORMATS)}")
    fields = next((text.split() for _, text in read_lines(path) if text.strip()), [])
    holds_rle = len(fields) == 6 and not fields[5].replace(".", "").isdecimal()
    return get_format("mots" if holds_rle else "mot").read(path)
