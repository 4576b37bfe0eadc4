"""Find the pictures that a folder or a pattern names, and tell what is left out."""

from __future__ import annotations

import glob
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tracker.errors import SourceError

_SUFFIXES = {
    ".apng",
    ".avif",
    ".avifs",
    ".bmp",
    ".bw",
    ".cur",
    ".dds",
    ".dib",
    ".exr",
    ".fit",
    ".fits",
    ".gif",
    ".hdr",
    ".icb",
    ".icns",
    ".ico",
    ".j2k",
    ".jfif",
    ".jp2",
    ".jpc",
    ".jpe",
    ".jpeg",
    ".jpf",
    ".jpg",
    ".jpx",
    ".mpo",
    ".pam",
    ".pbm",
    ".pcx",
    ".pfm",
    ".pgm",
    ".phm",
    ".png",
    ".pnm",
    ".ppm",
    ".psd",
    ".qoi",
    ".ras",
    ".rgb",
    ".rgba",
    ".sgi",
    ".tga",
    ".tif",
    ".tiff",
    ".vda",
    ".vst",
    ".webp",
    ".xbm",
    ".xpm",
}  # read by FFmpeg or Pillow
# Kinds that neither reads: a folder that holds some holds more pictures than are shown.
_UNREADABLE = {
    ".3fr",
    ".arw",
    ".cr2",
    ".cr3",
    ".dcm",
    ".dcr",
    ".dng",
    ".emf",
    ".eps",
    ".erf",
    ".heic",
    ".heif",
    ".hif",
    ".iiq",
    ".insp",
    ".jps",
    ".jxl",
    ".jxr",
    ".kdc",
    ".mrw",
    ".nef",
    ".nrw",
    ".orf",
    ".pef",
    ".raf",
    ".raw",
    ".rw2",
    ".rwl",
    ".srw",
    ".svg",
    ".wdp",
    ".wmf",
    ".x3f",
    ".xcf",
}
_VIDEOS = {
    ".mp4",
    ".mov",
    ".mkv",
    ".avi",
    ".ts",
    ".m4v",
    ".webm",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".3gp",
}
_RESOURCE_FORK = "._"  # begins the name of what macOS writes beside each file on foreign disks
_MAGIC = re.compile(r"[*?[]|%0?\d*d")  # of patterns, and of numbered names in other programs


@dataclass(frozen=True, slots=True)
class Listing:
    """The pictures that were found, in natural order, and a sentence on each kind left out."""

    paths: tuple[Path, ...]
    left_out: tuple[str, ...] = ()


def is_image(path: Path) -> bool:
    """Tell by the name whether this is a still picture or an animation."""
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(_RESOURCE_FORK)


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts if part]


def is_pattern(place: str) -> bool:
    """Whether this names files by a pattern: none is called so, and it has signs of one."""
    return not Path(place).exists() and _MAGIC.search(place) is not None


def find_images(place: str) -> Listing:
    """Return the pictures of a file, a folder or a pattern, in natural order; maybe none.

    Raises OSError.
    """
    path = Path(place)
    if path.is_dir():
        found = [one for one in path.iterdir() if not one.name.startswith(".")]
    elif path.exists():
        return Listing((path,))
    else:
        found = [Path(name) for name in glob.glob(_literal_folders(place))]  # noqa: PTH207
    images = [one for one in found if is_image(one)]
    readable = sorted(
        (one for one in images if one.is_file()),
        key=lambda one: [natural_key(part) for part in one.parts],
    )
    broken = [f"{one.name}: is a link that leads nowhere" for one in images if not one.exists()]
    return Listing(tuple(readable), (*broken, *_unreadable(found)))


def no_images(place: str) -> SourceError:
    """Return the error of a folder or pattern without pictures."""
    path = Path(place)
    kinds = "jpg, png, tif, webp, bmp and other kinds of pictures"
    if not path.is_dir():
        if re.search(r"%0?\d*d", place):
            numbered = re.sub(r"%0?\d*d", "*", place)
            return SourceError(f"{place}: is no file; numbered images are named by '{numbered}'")
        return SourceError(f"{place}: matches no image ({kinds})")
    videos = sum(one.suffix.lower() in _VIDEOS for one in path.iterdir())
    hint = f"; it holds videos: {videos}; name them themselves" if videos else f" ({kinds})"
    return SourceError(f"{place}: the folder holds no images{hint}")


def _unreadable(found: list[Path]) -> list[str]:
    """Return a sentence on each kind of picture that is left out."""
    kinds = Counter(
        one.suffix.lower().lstrip(".")
        for one in found
        if one.suffix.lower() in _UNREADABLE and not one.name.startswith(_RESOURCE_FORK)
    )
    return [
        f"{count} {kind} {'picture is' if count == 1 else 'pictures are'} left out: that kind is "
        "not read; save it as jpg or png"
        for kind, count in sorted(kinds.items())
    ]


def _literal_folders(pattern: str) -> str:
    """Return a pattern in which folders that are called so, as `cam[1]`, stand for themselves."""
    place = Path(pattern)
    literal = Path(place.anchor)
    parts = place.parts[1:] if place.anchor else place.parts
    for number, part in enumerate(parts):
        if not (literal / part).exists():
            return str(Path(glob.escape(str(literal)), *parts[number:]))
        literal = literal / part
    return glob.escape(str(literal))
