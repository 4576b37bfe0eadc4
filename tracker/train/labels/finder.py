"""Find the pictures that label files name, wherever they were when the labels were made."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tracker.train.labels.splits import Split, folder_split, split_of, words
from tracker.train.picture_file import SUFFIXES
from tracker.train.problems import Findings

_FOLDERS = {
    "images", "image", "imgs", "img", "frames", "jpegimages", "pngimages", "data", "pictures",
    "pics", "photos", "img1",
}  # fmt: skip
_LABELS = {"annotations", "annotation", "labels", "label", "ann", "anns", "json", "jsons"}
_NO_PICTURES = {*_LABELS, "instances", "masks", "mask", "coco"}
_MOST_FILES = 300_000  # that are looked through for a picture which is not where it should be
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts it before the names of uploaded files


@dataclass(frozen=True, slots=True)
class Where:
    """Where pictures are looked for."""

    pictures: Path | None = None  # the folder that the settings name
    root: Path | None = None  # the folder of the data set, where one was given


class PictureFinder:
    """Where the pictures of a label file lie."""

    def __init__(self, path: Path, where: Where | None = None) -> None:
        where = where or Where()
        self._path = path
        self._split = _split_of_file(path)
        self._folders = [where.pictures] if where.pictures else self._likely()
        roots = [path.parent, _root(path), *([where.root] if where.root else [])]
        self._roots = [where.pictures] if where.pictures else list(dict.fromkeys(roots))
        self._files: dict[Path, dict[str, list[Path]]] = {}  # below each root, by bare names
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
            self._renamed.clear()  # where a file a picture is read, each tells its own

    def _likely(self) -> list[Path]:
        """Return the folders that pictures are looked for in first, the likeliest in front.

        These are the folder that the file is named after (val2017/ of instances_val2017.json), then
        the file's own and that above it, and the folders of pictures in them. Folders of another
        split are none of them.
        """
        parents = _parents(self._path)
        found = dict.fromkeys(parents, 0)
        for child in (child for parent in parents for child in _children(parent)):
            rank = self._rank(child.name)
            is_pictures = child.name.lower() in _FOLDERS
            if rank or is_pictures:
                found.setdefault(child, rank)
                for inner in _children(child):
                    own = self._rank(inner.name)
                    if own or (rank and inner.name.lower() in _FOLDERS):
                        found.setdefault(inner, max(rank, own))
        return sorted(found, key=lambda folder: -found[folder])

    def _rank(self, name: str) -> int:
        """Return how sure a folder is the file's by its name, 0 where the name says nothing."""
        if not name or words(name) & _NO_PICTURES:
            return 0
        pattern = rf"(?<![^\W_]){re.escape(name.casefold())}(?![^\W_])"
        if re.search(pattern, self._path.stem.casefold()):
            return 2
        return 1 if self._split and folder_split(name) == self._split else 0

    def _fitness(self, path: Path, root: Path) -> int:
        """Return 2 for a path below a root that is named as the file, 0 for another split's."""
        names = path.parent.parts[len(root.parts) :]
        if any(map(self._rank, names)):
            return 2
        return 0 if self._split and any(map(folder_split, names)) else 1

    def _find_beside(self, name: str) -> Path | None:
        for folder in self._folders:
            try:
                if (folder / name).is_file():
                    return folder / name
            except (OSError, ValueError):  # a name that no file system takes
                return None
        return None

    def _find_below(self, plain: str) -> Path | None:
        """Return the one file below the folder, or else the data set, that a name may mean."""
        for root in self._roots:
            for same in _SAMENESS:
                fitting = self._fitting(root, plain, same)
                if len(fitting) == 1:
                    return fitting[0]
                if fitting:
                    return None
        return None

    def _fitting(self, root: Path, plain: str, same: Callable[[str], str]) -> list[Path]:
        """Return the files that a name fits best; of equals those of the label file's split."""
        parts = [same(part) for part in plain.split("/")]
        found = self._files_below(root).get(_stem_of(parts[-1]), [])
        ranked = [
            ((_common_end(parts, [same(p) for p in path.parts]), self._fitness(path, root)), path)
            for path in found
        ]
        best = max((rank for rank, _ in ranked), default=(0, 0))
        return [path for rank, path in ranked if rank == best and best[0]]

    def _files_below(self, root: Path) -> dict[str, list[Path]]:
        """Return the pictures below a folder, by their bare names in small letters."""
        if root not in self._files:
            found: dict[str, list[Path]] = {}
            for path in islice(_walk(root), _MOST_FILES):
                if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                    found.setdefault(_stem_of(path.name), []).append(path)
            self._files[root] = found
        return self._files[root]


def _split_of_file(path: Path) -> Split:
    """Return what a label file is for by its name, or else by the folders that it lies in."""
    folders = [parent.name for parent in _parents(path)]
    return next(filter(None, (split_of(path.stem), *map(folder_split, folders))), "")


def _parents(path: Path) -> list[Path]:
    """Return the folders that a label file belongs to: its own, and that above.

    Of annotations/train/ it is the one above both, too.
    """
    found = [path.parent, _above(path.parent)]
    if _is_for_labels(found[1]):
        found.append(_above(found[1]))
    return found


def _children(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []


def _is_for_labels(folder: Path) -> bool:
    said = words(folder.resolve().name)
    return bool(said & _LABELS) and said <= _NO_PICTURES


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
    if _is_for_labels(folder):
        return _above(folder)
    return _above(_above(folder)) if _is_for_labels(_above(folder)) else folder


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
