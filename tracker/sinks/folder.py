"""The folder of a run: who may write there, and how its files come to be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tracker.errors import ConfigError, SinkError
from tracker.formats.text import new_file

FILES = (
    "tracks.jsonl",
    "tracks-refined.jsonl",
    "video.mp4",
    "counts.json",
    "counts.csv",
    "events.jsonl",
    "report.json",
    "run.toml",
)


class RunFolder:
    """One run's folder. It is made when first needed and removed if nothing came into it."""

    def __init__(self, path: Path, *, replace: bool = False) -> None:
        self.path = path
        self._made: list[Path] = []
        present = [name for name in FILES if (path / name).exists()] if path.is_dir() else []
        if path.exists() and not path.is_dir():
            raise SinkError(f"{path}: is a file, a run needs a folder")
        if present and not replace:
            raise ConfigError(
                f"{path}: already holds a run ({present[0]}); give another --output, or --force to "
                "replace it"
            )
        self._old = present
        self._make()

    def __truediv__(self, name: str) -> Path:
        """Return the path of one of the run's files."""
        return self.path / name

    def clear(self) -> None:
        """Remove the run that was there; to be called when the new one is sure to begin."""
        try:
            for name in self._old:
                (self.path / name).unlink(missing_ok=True)
        except OSError as exc:
            raise SinkError(f"{self.path}: cannot be cleared: {exc.strerror}") from exc

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file in one step."""
        with new_file(self.path / name) as file:
            json.dump(content, file, indent=2, ensure_ascii=False)
            file.write("\n")

    def write_text(self, name: str, content: str) -> None:
        """Replace a text file in one step."""
        with new_file(self.path / name) as file:
            file.write(content)

    def discard(self) -> None:
        """Remove every file of this run, whole or in part, and the folder if it was made for it."""
        for name in (*FILES, *(f"{name}.part" for name in FILES), "video.part.mp4"):
            (self.path / name).unlink(missing_ok=True)
        self.remove_if_empty()

    def remove_if_empty(self) -> None:
        """Leave no trace of a run that never began."""
        for folder in reversed(self._made):
            try:
                folder.rmdir()
            except OSError:
                return

    def _make(self) -> None:
        try:
            missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
            for folder in reversed(missing):
                folder.mkdir()
                self._made.append(folder)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as exc:
            self.remove_if_empty()
            raise SinkError(f"{self.path}: cannot be written: {exc.strerror}") from exc


class GrowingFile:
    """A text file called NAME.part until it is complete; every append is one write to the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        try:
            self._descriptor: int | None = os.open(
                self._part,
                os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0),
                0o666,
            )
        except OSError as exc:
            raise SinkError(f"{path}: cannot be written: {exc.strerror}") from exc

    def append(self, text: str) -> None:
        """Write `text` through; raise SinkError."""
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while data:
                if self._descriptor is None:
                    raise SinkError(f"{self._path}: is closed")
                data = data[os.write(self._descriptor, data) :]
        except OSError as exc:
            raise SinkError(f"{self._path}: cannot be written: {exc.strerror}") from exc

    def close(self, *, keep: bool = True) -> None:
        """Give the file its final name, or remove it; safe to call twice."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            if keep:
                os.fsync(descriptor)
            os.close(descriptor)
            if keep:
                self._part.replace(self._path)
            else:
                self._part.unlink()
        except OSError as exc:
            raise SinkError(f"{self._path}: cannot be finished: {exc.strerror}") from exc
