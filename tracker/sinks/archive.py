"""Keep on the disk what a tracker remembers of the whole video, so that its run can go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracker.associate.archive import Archive
from tracker.errors import FormatError
from tracker.sinks.folder import GrowingFile

NAME = "archive.jsonl"  # while the run lasts


class ArchiveFile:
    """Appends what an Archive spills; one that goes on recalls it first."""

    def __init__(self, folder: Path, archive: Archive, state: dict[str, Any] | None = None) -> None:
        """Open the file; raise SinkError, FormatError."""
        self._path, self._archive = folder / NAME, archive
        kept = int(state["bytes"]) if state else 0
        self._file = GrowingFile(self._path, kept)
        if kept:
            with self._path.with_name(NAME + ".part").open("rb") as file:
                lines = file.read(kept).decode("utf-8").splitlines()
            try:
                archive.recall(lines)
            except (ValueError, TypeError, IndexError) as exc:
                raise FormatError(f"{self._path}: is malformed; --force starts over") from exc

    def take(self) -> str:
        """Return what was archived since the last time."""
        return self._archive.spilled()

    def keep(self, lines: str) -> None:
        """Append it; raise SinkError."""
        self._file.append(lines)

    def state(self) -> dict[str, Any]:
        """Return what a run that goes on needs; all is on the disk by then."""
        self._file.sync()
        return {"bytes": self._file.size}

    def close(self, *, keep: bool) -> None:
        """Release the file, and remove it where the run is finished."""
        self._file.close(keep=keep)
