"""Open labelled pictures: upright, 8 bits, and within the limits of `tracker run`."""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image as Pillow

from tracker.config import SourceConfig
from tracker.train.problems import Kind, Problem
from tracker.types import Image

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".jp2",
    ".avif",
)  # fmt: skip
_FORMATS = (
    "JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF", "JPEG2000", "AVIF",
)  # fmt: skip  # Pillow's EPS would run a program
_TURN = 0x0112  # EXIF's orientation: from 5 on, width and height are exchanged
_UPRIGHT = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
_MOST_PIXELS = int(SourceConfig().max_pixels)
_WIDE = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of 16-bit grey
Size = tuple[int, int]  # width, height, px


@contextmanager
def opened(path: Path) -> Iterator[Pillow.Image]:
    """Open a picture; a labelme file is the one that it holds. Raises OSError and its like."""
    Pillow.init()
    formats = [name for name in _FORMATS if name in Pillow.OPEN]
    with warnings.catch_warnings():  # Pillow warns of sizes that are refused below
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
        with _file(path) as file, Pillow.open(file, formats=formats) as picture:
            yield picture


def _file(path: Path) -> IO[bytes]:
    if path.suffix.lower() != ".json":
        return path.open("rb")
    content = json.loads(path.read_bytes())
    data = content.get("imageData") if isinstance(content, dict) else None
    if not isinstance(data, str):
        raise FileNotFoundError(f"{path}: holds no picture")
    if data.startswith("data:"):  # as a browser writes it: data:image/png;base64,...
        data = data.partition(",")[2]
    return io.BytesIO(base64.b64decode(data))


def upright_size(path: Path) -> Size | None:
    """Return width and height as the picture is shown; None where it cannot be read."""
    try:
        with opened(path) as picture:
            return _turned(picture.size, _turn(picture))
    except Exception:  # Pillow's decoders let out what they stumble over
        return None


def decode(path: Path, size: Size) -> Image:
    """Decode a picture of this size to RGB, upright; unturned where only so it has the size.

    16-bit grey is scaled by 257, as `tracker run` does. Raises OSError.
    """
    try:
        with opened(path) as picture:
            turn = _turn(picture)
            if size not in (picture.size, _turned(picture.size, turn)):
                raise OSError(f"{path}: is {picture.size}, not {size}")
            if turn in _UPRIGHT and size == _turned(picture.size, turn):
                return _rgb(picture.transpose(_UPRIGHT[turn]))
            return _rgb(picture)
    except OSError:
        raise
    except Exception as exc:  # Pillow's decoders let out what they stumble over
        raise OSError(f"{path}: cannot be decoded ({exc})") from exc


def _rgb(picture: Pillow.Image) -> Image:
    if picture.mode in (*_WIDE, "I"):
        wide = np.clip(np.asarray(picture, np.int64), 0, 0xFFFF)
        grey = ((wide + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(picture.convert("RGB"))


def find_problem(path: Path, size: Size, *, whole: bool = False) -> Problem | None:
    """Look at a picture's header: whether it is there, can be read, and has the labels' size.

    With `whole` it is decoded to the end.
    """
    try:
        with opened(path) as picture:
            problem = _header_problem(path, picture, size)
            if whole and (problem is None or not problem.fatal):
                picture.load()
            return problem
    except FileNotFoundError:
        return Problem(str(path), "", "no such picture", kind="picture missing")
    except Pillow.DecompressionBombError:
        return _unreadable(path, f"has more than {_MOST_PIXELS} px: {_LIMIT}")
    except Exception as exc:  # Pillow's decoders let out what they stumble over
        return _unreadable(path, f"cannot be read as a picture ({_reason(path, exc)})")


_LIMIT = (
    f"source.max_pixels of `tracker run`, {_MOST_PIXELS}, holds here too; scale it and its labels "
    "down, or cut it into pieces"
)


def _header_problem(path: Path, picture: Pillow.Image, size: Size) -> Problem | None:
    width, height = picture.size
    if width * height > _MOST_PIXELS:
        return _unreadable(path, f"is {width}x{height} px: {_LIMIT}")
    if picture.mode == "F" or (picture.mode == "I" and picture.format == "TIFF"):
        return _unreadable(path, "has numbers of 32 bits, whose white nobody knows; 8 or 16 do")
    # Only where it matters is a PNG decoded to its end, as Pillow does for EXIF behind the pixels.
    known = picture.size != size or "exif" in picture.info or picture.format != "PNG"
    upright = _turned(picture.size, _turn(picture) if known else 1)
    if upright == size:
        return None
    said = f"{size[0]}x{size[1]}"
    if picture.size == size:
        text = f"is shown turned, but its labels are {said} px as it lies: learnt lying"
        return Problem(str(path), "", text, False, "picture turned")
    text = f"is {upright[0]}x{upright[1]} px, its labels say {said}"
    exchanged = " (width and height are exchanged)" if upright == size[::-1] else ""
    return _problem(path, text + exchanged, "picture size")


def _turn(picture: Pillow.Image) -> int:
    """Return EXIF's orientation, 1 to 8; broken EXIF says nothing, and TIFF Pillow turns itself."""
    if picture.format == "TIFF":
        return 1
    try:
        turn = picture.getexif().get(_TURN, 1)
    except Exception:  # Pillow raises what its parser stumbles over, struct.error among others
        return 1
    return turn if turn in _UPRIGHT else 1


def _turned(size: Size, turn: int) -> Size:
    return size[::-1] if turn >= 5 else size


def _reason(path: Path, exc: BaseException) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except (OSError, ValueError):  # a folder, or a name that no file system takes
        return type(exc).__name__
    if head[4:8] == b"ftyp":
        return "HEIC or the like: convert it to JPEG"
    if not head:
        return "the file is empty"
    return type(exc).__name__


def _unreadable(path: Path, text: str) -> Problem:
    return _problem(path, text, "picture unreadable")


def _problem(path: Path, text: str, kind: Kind) -> Problem:
    return Problem(str(path), "", text, True, kind)
