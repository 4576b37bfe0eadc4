"""Find the pictures that label files name, wherever they were when the labels were made."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tracker.train.picture_file import SUFFIXES
from tracker.train.problems import Findings

_FOLDERS = (
    "", "images", "frames", "JPEGImages", "train2017", "val2017", "train", "val", "data", "img",
)  # fmt: skip
_MOST_FILES = 300_000  # that are looked through for a picture which is not where it should be
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts it before the names of uploaded files


class PictureFinder:
    """Where the pictures of a label file lie."""

    def __init__(self, path: Path, pictures: Path | None) -> None:
        parents = (path.parent, _above(path.parent))
        folders = [parent / name for parent in parents for name in _FOLDERS]
        # Of instances_val2017.json's pictures, val2017/ is looked through before train2017/.
        folders.sort(key=lambda folder: not (folder.name and folder.name in path.stem))
        # CVAT's images/train/ belongs to instances_train.json.
        subset = path.stem.removeprefix("instances_")
        folders += [parent / "images" / subset for parent in parents]
        self._folders = [pictures] if pictures else folders
        self._root = pictures or _root(path)
        self._last = self._folders[0]  # where the last one was: most lie together
        self._renamed: list[tuple[str, Path]] = []  # found under another name

    def find(self, name: str) -> Path:
        """Return the path of a picture, of a missing one where it was looked for first.

        Looked for is the path as it is written; then without what another machine put before it,
        with slashes turned, and decoded; then any one file whose name differs in nothing but case,
        the form of its accents, or the suffix.
        """
        plain = plain_name(name)
        for written in dict.fromkeys([name.strip(), name, plain]):
            found = self._find_beside(written)
            if found is not None:
                return found
        found = self._find_below(plain)
        if found is None:
            return self._folders[0] / (plain or "without a name")
        self._renamed.append((name, found))
        return found

    def note(self, findings: Findings) -> None:
        """Note how many pictures were found under other names than the labels say."""
        if self._renamed:
            name, path = self._renamed[0]
            text = f"{len(self._renamed)} pictures lie elsewhere than it says: {name} is {path}"
            findings.note("picture name", "", text)

    def _find_beside(self, name: str) -> Path | None:
        for folder in (self._last, *self._folders):
            try:
                if (folder / name).is_file():
                    self._last = folder
                    return folder / name
            except (OSError, ValueError):  # a name that no file system takes
                return None
        return None

    def _find_below(self, plain: str) -> Path | None:
        """Return the one file below the folder that a name may mean."""
        for same in _SAMENESS:
            parts = [same(part) for part in plain.split("/")]
            found = self._files.get(_stem_of(parts[-1]), [])
            ranked = [(_common_end(parts, [same(p) for p in path.parts]), path) for path in found]
            best = max((rank for rank, _ in ranked), default=0)
            fitting = [path for rank, path in ranked if rank == best and best]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                return None
        return None

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """The pictures below the folder, by their bare names in small letters."""
        found: dict[str, list[Path]] = {}
        for number, path in enumerate(_walk(self._root)):
            if number >= _MOST_FILES:
                break
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                found.setdefault(_stem_of(path.name), []).append(path)
        return found


def below(folder: Path, pattern: str) -> list[Path]:
    """Return the files below a folder, sorted, without the hidden ones that macOS leaves."""
    found = (path for path in folder.rglob(pattern) if not path.name.startswith("."))
    return sorted(found)


def plain_name(name: str) -> str:
    """Return a picture's path as it may be on this machine: no address, drive, `..` or %20."""
    text = _path_of(name.strip().replace("\\", "/"))
    pieces = [piece.strip() for piece in unquote(text).replace("\\", "/").split("/")]
    kept: list[str] = []
    for piece in pieces:
        if piece == ".." and kept:
            kept.pop()
        elif piece not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", piece):
            kept.append(piece)
    return "/".join(kept)


def _path_of(text: str) -> str:
    """Return the path in an address, or of a file that Label Studio serves (?d=...)."""
    if "://" in text or "?" in text:
        with suppress(ValueError):
            parts = urlsplit(text, allow_fragments=False)
            return parse_qs(parts.query).get("d", [parts.path])[0]
    return text


def _above(folder: Path) -> Path:
    return folder.parent if folder.name not in ("", "..") else folder / ".."


def _root(path: Path) -> Path:
    """Return the folder of a data set: above a folder that only holds the labels."""
    folder = path.parent
    name = folder.resolve().name.lower()
    return _above(folder) if name in ("annotations", "labels", "ann") else folder


def _walk(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield Path(folder) / name


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name).strip())


def _folded(name: str) -> str:
    return _composed(name).casefold()


def _bare(name: str) -> str:
    """Return a name without its suffix and what Label Studio puts before it."""
    name = _folded(name)
    stem, _, suffix = name.rpartition(".")
    return _UPLOAD.sub("", stem if f".{suffix}" in SUFFIXES and stem else name)


_stem_of: Callable[[str], str] = _bare
_SAMENESS: tuple[Callable[[str], str], ...] = (str, _composed, _folded, _bare)


def _common_end(one: list[str], other: list[str]) -> int:
    """Return how many parts two paths have in common at their ends."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count
