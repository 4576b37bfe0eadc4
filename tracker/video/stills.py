"""Read by Pillow what FFmpeg does not read, or not right: animations, pages, odd kinds of TIFF."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from tracker.errors import SourceError
from tracker.types import Image

_ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}  # the pictures of other formats are pages
_MANY = {".gif", ".webp", ".png", ".apng", ".avif", ".avifs", ".tif", ".tiff"}  # may hold several
_SHORTEST_MS, _USUAL_MS = 20, 100  # browsers show shorter pictures for so long
_WIDE = 257  # 65535 / 255
_JPEG_IN_TIFF = {"jpeg", "tiff_jpeg"}  # which FFmpeg decodes as black


class Pages:
    """All pictures of one file, as Pillow reads them."""

    def __init__(self, path: Path, *, max_pixels: int) -> None:
        """Open it; raise SourceError with the reason."""
        self._path = path
        try:
            self._file: Any = Pillow.open(path)
        except UnidentifiedImageError:
            raise SourceError(f"{path}: is no picture of a kind that is read here") from None
        except Pillow.DecompressionBombError:
            raise SourceError(
                f"{path}: its picture is larger than source.max_pixels ({max_pixels}) allows"
            ) from None
        except (OSError, ValueError, SyntaxError, MemoryError) as exc:
            raise SourceError(f"{path}: cannot be read as a picture ({exc})") from None
        width, height = self._file.size
        if width * height > max_pixels:
            self.close()
            raise SourceError(
                f"{path}: a picture of {width} x {height} px is larger than source.max_pixels "
                f"({max_pixels}) allows"
            )
        self.count = int(getattr(self._file, "n_frames", 1))
        self.is_animation = self.count > 1 and self._file.format in _ANIMATED
        compression = str(self._file.info.get("compression", ""))
        self.is_only_read_here = self.count > 1 or compression in _JPEG_IN_TIFF

    def times(self) -> list[float]:
        """Return when each picture of an animation is shown, s; raise SourceError."""
        try:
            return self._times()
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as exc:
            raise SourceError(f"{self._path}: cannot be read as a picture ({exc})") from None

    def _times(self) -> list[float]:
        lengths = []
        for number in range(self.count):
            self._file.seek(number)
            self._file.load()  # only then some formats know how long it is shown
            length = float(self._file.info.get("duration") or 0)
            lengths.append(length if length >= _SHORTEST_MS else _USUAL_MS)
        return [0.0, *(total / 1000 for total in itertools.accumulate(lengths[:-1]))]

    def picture(self, number: int) -> Image:
        """Return one picture, upright, RGB; raise SourceError."""
        try:
            self._file.seek(number)
            return _to_rgb(ImageOps.exif_transpose(self._file))
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as exc:
            raise SourceError(f"{self._path}: cannot be read as a picture ({exc})") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def may_hold_several(path: Path) -> bool:
    """Whether a file of this name may hold more than one picture."""
    return path.suffix.lower() in _MANY


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
