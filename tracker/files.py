"""Files that are whole or absent, files that grow line by line, and JSON for people."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tracker.errors import FormatError, SinkError

JsonObject = dict[str, Any]  # what a JSON object holds before anything of it is checked

LONGEST_LINE = 64 << 20  # bytes; a frame of a thousand large masks takes about one
LARGEST_JSON = 4 << 30  # bytes
if sys.platform == "win32":
    _BINARY = os.O_BINARY
else:
    _BINARY = 0
_REFRESH_S = 2.0
_REFRESH_SHARE = 0.05  # of the time that refreshing may take


@contextmanager
def new_file(path: Path, mode: str = "w", *, durable: bool = False) -> Iterator[IO[Any]]:
    """Open NAME.part for writing and rename it when the block ends well; raise SinkError.

    A link is followed; a device or a pipe, as /dev/stdout, is written as it is. A `durable` file is
    on the disk before it has its name.
    """
    path, part = _places(path)
    try:
        with _open(part, mode) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if part != path:
            part.replace(path)
    except OSError as exc:
        with suppress(OSError):
            if part != path:
                part.unlink(missing_ok=True)
        raise SinkError(f"{path}: cannot be written: {exc.strerror or exc}") from exc
    except BaseException:
        if part != path:
            part.unlink(missing_ok=True)
        raise


def _places(path: Path) -> tuple[Path, Path]:
    """Return the file that a path means and the one to write until it is whole; raise SinkError."""
    try:
        if not path.name or path.is_dir():
            raise SinkError(f"{path}: is a folder, a file must have a name")
        path = path.resolve() if path.is_symlink() else path
        if not path.parent.is_dir():
            raise SinkError(f"{path}: cannot be written: its folder does not exist")
        special = path.exists() and not path.is_file()
    except OSError as exc:  # the disk is gone
        raise SinkError(f"{path}: cannot be written: {exc.strerror}") from exc
    return path, path if special else path.with_name(path.name + ".part")


def _open(path: Path, mode: str) -> IO[Any]:
    if "b" in mode:
        return path.open(mode)
    # Names of files, which a text may hold, need not be UTF-8.
    return path.open(mode, encoding="utf-8", newline="", errors="backslashreplace")


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file that people read, in one step; raise SinkError."""
    with new_file(path) as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_lines(path: Path, *, drop_cut: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line numbers from 1 and lines without their ends and BOM; raise FormatError.

    Lines end with LF, CR LF or CR; UTF-16 is told by its BOM. With `drop_cut` a last line without
    an end, as a crash leaves it, is left out.
    """
    number = 0
    try:
        with path.open("rb") as file:
            for line in _encoded_lines(file):
                if len(line) > LONGEST_LINE:
                    raise FormatError(f"{path}:{number + 1}: is longer than {LONGEST_LINE} bytes")
                bare = line.rstrip(b"\r\n")
                parts = bare.split(b"\r")  # more than one where CR alone ends the lines
                if drop_cut and line == bare:
                    parts.pop()
                for part in parts:
                    number += 1
                    yield number, part.decode("utf-8-sig" if number == 1 else "utf-8")
    except OSError as exc:
        raise FormatError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise FormatError(f"{path}: is not UTF-8 text") from exc


def _encoded_lines(file: io.BufferedReader) -> Iterator[bytes]:
    """Yield lines as UTF-8, none of them read much beyond `LONGEST_LINE`."""
    if file.peek(2)[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        while line := file.readline(LONGEST_LINE + 1):
            yield line
        return
    with io.TextIOWrapper(file, encoding="utf-16", newline="\n") as text:
        while row := text.readline(LONGEST_LINE + 1):
            yield row.encode("utf-8")


def read_rows(path: Path, *, keep_tabs: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the lines of a table that people write, bare: no blank ones, comments (#) or BOM.

    With `keep_tabs` those at a line's ends stay: the fields that they part may be empty.
    """
    for number, text in read_lines(path):
        row = text.lstrip("\ufeff")
        bare = row.strip()
        if bare and not bare.startswith("#"):
            yield number, row.strip(" ") if keep_tabs else bare


def read_json(path: Path) -> JsonObject:
    """Read a JSON object; raise FormatError."""
    content = read_json_value(path)
    if not isinstance(content, dict):
        raise FormatError(f"{path}: must hold a JSON object")
    return content


def read_json_value(path: Path) -> Any:
    """Read any JSON value; raise FormatError."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise FormatError(f"{path}: is larger than {LARGEST_JSON} bytes")
        return json.loads(path.read_bytes(), parse_constant=_refuse)
    except OSError as exc:
        raise FormatError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{path}: is not valid JSON: {exc}") from exc


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not allowed")


class GrowingFile:
    """A text file called NAME.part until it is complete; every append is one write to the disk."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Open the file; of one that a run left only the first `keep` bytes stay."""
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self.size = keep  # bytes
        self._broken = False  # it lacks what could not be written, so it gets no final name
        try:
            if keep and not self._part.exists():
                path.replace(self._part)  # a run that was stopped gave it its final name
            self._descriptor: int | None = os.open(
                self._part, os.O_WRONLY | os.O_CREAT | _BINARY, 0o666
            )
            if os.fstat(self._descriptor).st_size < keep:
                os.close(self._descriptor)
                raise SinkError(f"{path}: cannot be continued: it is shorter than when it was left")
            os.truncate(self._descriptor, keep)
            os.lseek(self._descriptor, keep, os.SEEK_SET)
        except OSError as exc:
            raise SinkError(f"{path}: cannot be written: {exc.strerror}") from exc

    def append(self, text: str) -> None:
        """Write `text` through; raise SinkError."""
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        descriptor = self._checked()
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError as exc:
            self._broken = True
            with suppress(OSError):
                os.truncate(descriptor, self.size)  # no half lines
            raise SinkError(f"{self._path}: cannot be written: {exc.strerror}") from exc
        self.size = os.lseek(descriptor, 0, os.SEEK_CUR)

    def _checked(self) -> int:
        """Return the descriptor of a file that can be written; raise SinkError."""
        if self._descriptor is None:
            raise SinkError(f"{self._path}: is closed")
        if self._broken:
            raise SinkError(f"{self._path}: lacks what could not be written")
        return self._descriptor

    def sync(self) -> None:
        """Wait until all is on the disk, not only with the system; raise SinkError."""
        descriptor = self._checked()
        try:
            os.fsync(descriptor)
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
            # A folder that was removed and made again is another run's.
            if not os.path.samestat(os.fstat(descriptor), self._part.stat()):
                raise FileNotFoundError(errno.ENOENT, "it is gone")
            if not keep:
                self._part.unlink()
            elif not self._broken:
                self._part.replace(self._path)
        except OSError as exc:
            raise SinkError(f"{self._path}: cannot be finished: {exc.strerror}") from exc
        finally:
            os.close(descriptor)


class Refresh:
    """Replaces a file of a run that goes on every few seconds; may take a twentieth of the time."""

    def __init__(self, write: Callable[[], object]) -> None:
        self._write = write
        self._next = time.monotonic() + _REFRESH_S

    def __call__(self) -> None:
        """Write the file where it is time; what fails is told when it is written at the end."""
        began = time.monotonic()
        if began < self._next:
            return
        with suppress(SinkError):
            self._write()
        now = time.monotonic()
        self._next = now + max(_REFRESH_S, (now - began) / _REFRESH_SHARE)
