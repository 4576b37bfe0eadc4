"""The folder of a run: who may write there, and how its files come to be."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tracker.errors import ConfigError, SinkError

if sys.platform != "win32":
    import fcntl

_LOCK = ".lock"
_LOOK_EVERY_S = 5.0
_TELLING_FRAMES = 50  # from so many on it is believed how much a frame takes
log = logging.getLogger(__name__)
FILES = (
    "tracks.jsonl",
    "tracks-refined.jsonl",
    "detections.jsonl",
    "video.mp4",
    "counts.json",
    "counts.csv",
    "events.jsonl",
    "report.json",
    "run.toml",
    "checkpoint.json",
    "archive.jsonl",
)
_TELLING = ("report.json", "checkpoint.json")
_GROWING = (
    "tracks.jsonl.part",
    "events.jsonl.part",
    "archive.jsonl.part",
    "detections.jsonl.part",
    "video.part.mp4",
)
_REPLACED = tuple(f"{name}.part" for name in FILES if f"{name}.part" not in _GROWING)
_UNFINISHED = (*_GROWING, "video.joined.part.mp4")
_OLD = ".old"  # behind the names of a run's files until the one that replaces it has a frame


def is_own(path: Path, folder: Path) -> bool:
    """Whether this is a file that a run in `folder` would write or remove."""
    names = (*FILES, *_UNFINISHED, *_REPLACED)
    return path.resolve() in {(folder / name).resolve() for name in names}


def present_in(folder: Path) -> list[str]:
    """Return which files of a run are in a folder; not what a kill left of a replacement."""
    return [name for name in (*FILES, *_UNFINISHED) if (folder / name).exists()]


class RunFolder:
    """One run's folder. It is made when first needed and removed if nothing came into it."""

    def __init__(self, path: Path, *, replace: bool = False, resume: bool = False) -> None:
        self.path = path
        self._made: list[Path] = []
        self._begun = False  # what is there by the names of a run's files is this run's
        if path.exists() and not path.is_dir():
            raise SinkError(f"{path}: is a file, a run needs a folder")
        self._lock: IO[str] | None = None
        self._make()
        self._take()
        present = present_in(path)
        if present and not (replace or resume):
            self.release()
            raise ConfigError(
                f"{path}: already holds a run ({present[0]}); give another --output, --resume to "
                "go on with one that was broken off, or --force to replace it"
            )
        self._old = present if replace else []

    def __truediv__(self, name: str) -> Path:
        """Return the path of one of the run's files."""
        return self.path / name

    def set_aside(self) -> None:
        """Put the run that was there aside, until `settle` or `discard`; raise SinkError."""
        try:
            # What says that the run is finished or can go on goes before what it speaks of.
            for name in sorted(self._old, key=lambda name: name not in _TELLING):
                aside = self.path / f"{name}{_OLD}"
                if aside.exists():  # a kill kept an even older run from coming back
                    (self.path / name).unlink()
                else:
                    (self.path / name).replace(aside)
        except OSError as exc:
            self._bring_back()
            raise SinkError(f"{self.path}: cannot be cleared: {exc.strerror}") from exc
        self._begun = True

    def _bring_back(self) -> None:
        """Give what was set aside its names again."""
        with suppress(OSError):  # its disk may be gone
            for name in sorted((*FILES, *_UNFINISHED), key=lambda name: name in _TELLING):
                if (self.path / f"{name}{_OLD}").exists():
                    (self.path / f"{name}{_OLD}").replace(self.path / name)

    def settle(self) -> None:
        """Give up the run that was there: the new one has done its first frame."""
        for name in (*FILES, *_UNFINISHED):
            with suppress(OSError):
                (self.path / f"{name}{_OLD}").unlink(missing_ok=True)

    def check(self) -> None:
        """Raise SinkError where the folder is this run's no more."""
        if self._lock and not os.fstat(self._lock.fileno()).st_nlink:
            raise _gone(self.path)

    def release(self) -> None:
        """Let another run have the folder; safe to call twice."""
        if self._lock:
            with suppress(OSError):  # its disk may be gone
                if os.path.samestat((self.path / _LOCK).stat(), os.fstat(self._lock.fileno())):
                    (self.path / _LOCK).unlink()
            self._lock.close()
            self._lock = None

    def discard(self) -> None:
        """Remove every file of this run; what it replaced comes back, or its new folder goes."""
        if self._begun:
            with suppress(OSError):  # its disk may be gone
                for name in (*FILES, *_UNFINISHED, *_REPLACED):
                    (self.path / name).unlink(missing_ok=True)
            self._bring_back()
        self.remove_if_empty()

    def remove_if_empty(self) -> None:
        """Leave no trace of a run that never began."""
        self.release()
        for folder in reversed(self._made):
            try:
                folder.rmdir()
            except OSError:
                return

    def _take(self) -> None:
        """Keep other runs out; the system lets go of the lock of a run that dies."""
        if sys.platform == "win32":  # nothing keeps two runs apart there but their users
            return
        path = self.path / _LOCK
        while True:
            try:
                lock = path.open("a+", encoding="utf-8")
            except OSError as exc:
                self.remove_if_empty()
                raise SinkError(f"{self.path}: cannot be written: {exc.strerror}") from exc
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read(200).strip() or "another run"
                lock.close()
                raise ConfigError(
                    f"{self.path}: is being written by {owner}; wait, or give another --output"
                ) from None
            except OSError:  # a file system without locks: nothing keeps two runs apart there
                lock.close()
                return
            try:
                same = path.stat().st_ino == os.fstat(lock.fileno()).st_ino
            except OSError:
                same = False
            if same:
                break
            lock.close()  # its owner has just removed it: the name is free again
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()} since {now}\n")
        lock.flush()
        self._lock = lock

    def _make(self) -> None:
        try:
            missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
            for folder in reversed(missing):
                with suppress(FileExistsError):  # another run, just now
                    folder.mkdir()
                    self._made.append(folder)
        except OSError as exc:
            self.remove_if_empty()
            raise SinkError(f"{self.path}: cannot be written: {exc.strerror}") from exc


def _gone(folder: Path) -> SinkError:
    return SinkError(f"{folder}: is gone, removed or with its disk; what the run wrote is lost")


class SpaceGuard:
    """Stops a run while there is still room to finish its files; warns when it sees that coming."""

    def __init__(
        self, folder: Path, least_mb: float, *, copies_video: bool = False, refines: bool = False
    ) -> None:
        """Look once; raise SinkError.

        A run that goes on copies what there is of its video, one that refines writes a second log.
        """
        self._folder, self._least = folder, least_mb
        self._growing = (*_GROWING, *(["tracks.jsonl.part"] if refines else []))
        self._next = 0.0  # s, monotonic
        self._first: tuple[int, float] | None = None  # frames, and MB written with them
        self._warned = False
        self._copied = 0.0  # MB
        if copies_video:
            self._copied = _megabytes(folder, ("video.part.mp4", "video.mp4"))
        self.check()
        self._copied = 0.0

    def check(self, done: int = 0, expected: int | None = None) -> None:
        """Look now and then, after `done` frames of those that are expected; raise SinkError."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOOK_EVERY_S
        try:
            free = shutil.disk_usage(self._folder).free / 1e6
        except FileNotFoundError:  # open files could be written on, and nobody would find them
            raise _gone(self._folder) from None
        except OSError as exc:
            raise SinkError(f"{self._folder}: its disk cannot be reached: {exc.strerror}") from exc
        if free < self._least + self._copied:
            copied = f" and its video ({self._copied:.0f} MB) is copied" if self._copied else ""
            raise SinkError(
                f"{self._folder}: only {free:.0f} MB of the disk are free{copied}; make room (or "
                f"set output.least_free_mb below {self._least:g}), then --resume {self._folder}"
            )
        if done and expected and not self._warned:
            self._look_ahead(done, expected, free - self._least)

    def _look_ahead(self, done: int, expected: int, room: float) -> None:
        """Warn, once, where what is still to be written is more than `room` (MB)."""
        written = _megabytes(self._folder, self._growing)
        if self._first is None:
            self._first = done, written
        frames, grown = done - self._first[0], written - self._first[1]
        if frames < _TELLING_FRAMES or grown <= 0:
            return
        needed = grown / frames * (expected - done)
        if needed > room:
            self._warned = True
            log.warning(
                "%s: at this rate %.0f MB more will be written, and there is room for %.0f: the "
                "run will stop in good order at about frame %d of %d unless room is made",
                self._folder,
                needed,
                room,
                done + int(room / needed * (expected - done)),
                expected,
            )


def _megabytes(folder: Path, names: Iterable[str]) -> float:
    total = 0
    for name in names:
        with suppress(OSError):
            total += (folder / name).stat().st_size
    return total / 1e6
