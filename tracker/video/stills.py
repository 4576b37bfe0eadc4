"""Read by Pillow what FFmpeg does not read, or not right: animations, pages, odd kinds of TIFF."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import SEEK_END
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from tracker.errors import SourceError
from tracker.types import Image

_ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}  # the pictures of other formats are pages
_HEAD = 4096  # bytes, in which a PNG says that it is animated
_STILL_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"jxl "}
_VIDEOS = (b"\x1aE\xdf\xa3", b"FLV\1", b"OggS", b"\0\0\1\xba")  # Matroska, FLV, Ogg, MPEG-PS
_GIF_END = b"\0;"  # no more data of the last picture, and of the file
_SHORTEST_MS, _USUAL_MS = 20, 100  # browsers show shorter pictures for so long
_WIDE = 257  # 65535 / 255
_ORIENTATION = 0x112  # EXIF's tag
_JPEG_IN_TIFF = {"jpeg", "tiff_jpeg"}  # which FFmpeg decodes as black


class Pages:
    """All pictures of one file, as Pillow reads them."""

    def __init__(self, path: Path, *, max_pixels: int) -> None:
        """Open it; raise SourceError with the reason."""
        self._path = path
        with self._readable():
            self._file: Any = Pillow.open(path)
        try:
            self._examine(max_pixels)
        except SourceError:
            self.close()
            raise

    def _examine(self, max_pixels: int) -> None:
        width, height = self._file.size
        if width * height > max_pixels:
            raise SourceError(
                f"{self._path}: a picture of {width} x {height} px is larger than "
                f"source.max_pixels ({max_pixels}) allows"
            )
        kind = self._file.format
        self.count, self.is_cut = self._look_through() if kind in _ANIMATED else self._count()
        self.is_animation = self.count > 1 and kind in _ANIMATED
        self.are_pages = kind == "TIFF"  # else the others are views or layers of the first
        with self._readable():
            self.is_only_read_here = self.count > 1 or self._is_wrong_elsewhere()

    def _is_wrong_elsewhere(self) -> bool:
        """Whether FFmpeg, or PyAV, reads this kind of picture wrong."""
        if self._file.format == "PNG":
            return bool(self._file.getexif().get(_ORIENTATION, 1) != 1)
        is_jpeg = str(self._file.info.get("compression", "")) in _JPEG_IN_TIFF
        return self._file.format == "GIF" or is_jpeg

    def _count(self) -> tuple[int, bool]:
        """Return how many pages there are, and whether the file ends among them."""
        try:
            return int(getattr(self._file, "n_frames", 1)), False
        except Exception:
            return 1, True

    def _look_through(self) -> tuple[int, bool]:
        """Note how long each picture of an animation is shown; return as `_count` does."""
        self._lengths: list[float] = []
        count, is_cut = self._count()
        is_cut = is_cut or self._lacks_end()
        if count == 1 and not is_cut:
            return 1, False
        with suppress(Exception):  # at the end, or where the file is cut off
            while True:
                self._file.seek(len(self._lengths))
                self._file.load()  # only then some formats know how long it is shown
                length = float(self._file.info.get("duration") or 0)
                self._lengths.append(length if length >= _SHORTEST_MS else _USUAL_MS)
        found = len(self._lengths)
        return max(1, found), is_cut or found < count

    def _lacks_end(self) -> bool:
        """Whether a GIF ends without its end mark (GIF89a, 27)."""
        if self._file.format != "GIF":
            return False
        with self._path.open("rb") as file:
            file.seek(-min(_HEAD, self._path.stat().st_size), SEEK_END)
            return _GIF_END not in file.read()

    def times(self) -> list[float]:
        """Return when each picture of an animation is shown, s."""
        return [0.0, *(total / 1000 for total in itertools.accumulate(self._lengths[:-1]))]

    def picture(self, number: int) -> Image:
        """Return one picture, upright, RGB; raise SourceError."""
        with self._readable():
            self._file.seek(number)
            return _to_rgb(ImageOps.exif_transpose(self._file))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn whatever Pillow's readers raise for damaged files into SourceError."""
        try:
            yield
        except Exception as exc:
            if isinstance(exc, UnidentifiedImageError):
                why = "is no picture of a kind that is read here"
            elif isinstance(exc, Pillow.DecompressionBombError):
                why = "its picture is larger than source.max_pixels allows"
            else:
                why = f"cannot be read as a picture ({exc})"
            raise SourceError(f"{self._path}: {why}") from None


def holds_video(path: Path) -> bool:
    """Whether a file begins as videos do, though its name may be that of a picture."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    is_mp4 = head[4:8] == b"ftyp" and head[8:12] not in _STILL_BRANDS
    is_avi = head[:4] == b"RIFF" and head[8:11] == b"AVI"
    return is_mp4 or is_avi or head.startswith(_VIDEOS)


def is_animated_avif(path: Path) -> bool:
    """Whether a file says that it is a sequence of AVIF pictures."""
    with path.open("rb") as file:
        return file.read(12)[4:] == b"ftypavis"


def may_hold_several(path: Path) -> bool:
    """Whether a file is of a kind that may hold more than one picture, whatever its name."""
    try:
        with path.open("rb") as file:
            return path.suffix == ".mpo" or holds_several(file.read(_HEAD))
    except OSError:
        return False


def holds_several(head: bytes) -> bool:
    """Whether what begins so may hold more than one picture, or one that is read by Pillow."""
    if head.startswith(b"\x89PNG"):
        return b"acTL" in head or b"eXIf" in head
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    is_tiff = head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    is_avif = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    return head.startswith(b"GIF8") or is_webp or is_tiff or is_avif


def _to_rgb(picture: Any) -> Image:
    """Return (H, W, 3) uint8; 16 bits are scaled, floats are taken as 0 to 1 where they lie so."""
    if picture.mode[0] not in "IF":
        return np.asarray(picture.convert("RGB"))
    values = np.asarray(picture, np.float64)
    highest = np.nanmax(values, initial=0.0)
    if picture.mode == "F" and highest <= 1:
        values = values * 255
    elif highest > 255 or picture.mode.startswith("I;16"):
        values = values / _WIDE
    grey = np.nan_to_num(values).clip(0, 255).round().astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
