"""Write files under a temporary name until they are whole; read lines that know their number."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tracker.errors import FormatError, SinkError

LONGEST_LINE = 64 << 20  # bytes; a frame of a thousand large masks takes about one
LARGEST_JSON = 4 << 30  # bytes


@contextmanager
def new_file(path: Path, mode: str = "w", *, durable: bool = False) -> Iterator[IO[Any]]:
    """Open NAME.part for writing and rename it when the block ends well; raise SinkError.

    A link is followed; a device or a pipe, as /dev/stdout, is written as it is. A `durable` file is
    on the disk before it has its name.
    """
    try:
        if not path.name or path.is_dir():
            raise SinkError(f"{path}: is a folder, a file must have a name")
        path = path.resolve() if path.is_symlink() else path
        if not path.parent.is_dir():
            raise SinkError(f"{path}: cannot be written: its folder does not exist")
        special = path.exists() and not path.is_file()
    except OSError as exc:  # the disk is gone
        raise SinkError(f"{path}: cannot be written: {exc.strerror}") from exc
    part = path if special else path.with_name(path.name + ".part")
    encoding = None if "b" in mode else "utf-8"
    newline = None if "b" in mode else ""
    errors = None if "b" in mode else "backslashreplace"  # names of files need not be UTF-8
    try:
        with part.open(mode, encoding=encoding, newline=newline, errors=errors) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if not special:
            part.replace(path)
    except OSError as exc:
        with suppress(OSError):
            if not special:
                part.unlink(missing_ok=True)
        raise SinkError(f"{path}: cannot be written: {exc.strerror or exc}") from exc
    except BaseException:
        if not special:
            part.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file that people read, in one step; raise SinkError."""
    with new_file(path) as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_lines(path: Path, *, drop_cut: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line numbers from 1 and lines without their ends; raise FormatError.

    With `drop_cut` a last line without an end, as a crash leaves it, is left out.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise FormatError(f"{path}:{number}: is longer than {LONGEST_LINE} bytes")
                if not line.endswith(b"\n") and drop_cut:
                    return
                yield number, line.decode("utf-8").rstrip("\r\n")
    except OSError as exc:
        raise FormatError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise FormatError(f"{path}: is not UTF-8 text") from exc


def read_json(path: Path) -> dict[str, Any]:
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
