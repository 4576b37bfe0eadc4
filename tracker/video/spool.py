"""Bring still pictures that come by an address or a pipe onto the disk.

They are read as files are: what reads all pictures of an animation goes back and forth in it.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import urllib.request
import weakref
from http.client import HTTPException
from pathlib import Path
from typing import IO

from tracker.errors import SourceError
from tracker.video.address import to_address
from tracker.video.listing import is_image
from tracker.video.stills import holds_several

_LOOK = 4096  # bytes
_CHUNK = 1 << 20  # bytes
_LARGEST = 1 << 30  # bytes of an animation


class Spooled:
    """A file on the disk that is there as long as this is."""

    def __init__(self, content: IO[bytes], name: str) -> None:
        """Copy what comes; raise SourceError where it is too large, OSError where it breaks off."""
        folder = tempfile.mkdtemp(prefix="tracker-")
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = Path(folder) / name
        with self.path.open("wb") as file:
            while chunk := content.read(_CHUNK):
                file.write(chunk)
                if file.tell() > _LARGEST:
                    raise SourceError(f"{name}: is larger than pictures are; name a file")

    def close(self) -> None:
        """Remove the file; safe to call twice."""
        self._remove()


def from_pipe(stream: IO[bytes]) -> Spooled | None:
    """Return the pictures that a pipe gives; None, and nothing taken, where it gives a video."""
    if isinstance(stream, io.BufferedReader) and holds_several(stream.peek(_LOOK)):
        return Spooled(stream, "standard input")
    return None


def from_address(uri: str, *, timeout_s: float) -> Spooled | None:
    """Return what lies at an address of HTTP that has the name of a picture; else None.

    None too where it cannot be had: FFmpeg, asked next, says why.
    """
    name = uri.partition("?")[0].rpartition("/")[2]
    if not uri.lower().startswith("http") or not is_image(Path(name)):
        return None
    try:
        with urllib.request.urlopen(to_address(uri), timeout=timeout_s) as answer:
            return Spooled(answer, name)
    except (OSError, ValueError, HTTPException):
        return None
