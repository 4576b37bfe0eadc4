"""MOTS text as MOTSChallenge has it: that of mots.py, but frames count from 1."""

from __future__ import annotations

from pathlib import Path

from tracker.formats import mots
from tracker.types import TrackLog

SUFFIX = ".txt"


def write(log: TrackLog, path: Path) -> list[str]:
    """Write a log; return what must be known of it."""
    return mots.write(log, path, first=1)


def read(path: Path, fps: float = 25.0, shift: int = 0) -> TrackLog:
    """Read a log; `shift` is added to the numbers of the frames. Raises FormatError."""
    return mots.read(path, fps, shift - 1)
