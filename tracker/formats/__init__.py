"""Track logs in the field's formats; each module reads and writes one, all through `TrackLog`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

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
