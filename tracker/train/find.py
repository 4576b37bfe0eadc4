"""Read labelled pictures of whatever form lies in a file or a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from tracker.errors import ConfigError, FormatError
from tracker.files import JsonObject
from tracker.train.crowds import without_false_crowds
from tracker.train.labels import (
    clip_labels,
    coco_labels,
    datumaro,
    label_images,
    labelme,
    supervisely,
    voc,
)
from tracker.train.labels.finder import below
from tracker.train.labels.label_json import read_label_json
from tracker.train.problems import Problem
from tracker.train.samples import Dataset, checked, join

Split = Literal["", "train", "val", "test"]

_SPLITS: dict[str, Split] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
_LABEL_FOLDERS = {"annotations", "labels"}
_NO_INSTANCES = {"captions", "keypoints", "panoptic", "stuff"}  # that lie beside COCO's instances
_BESIDE = {"set", "data", "images", "split", "part"}  # words beside a split in a folder's name
_MOST_LOOKED_AT = 10_000  # files, to say what else a folder holds
_DEEPEST = 4  # folders in folders
_MALFORMED = (AttributeError, IndexError, KeyError, OSError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Source:
    """Labels of one form in one place, before they are read."""

    path: Path
    split: Split
    read: Callable[[], Dataset]


def read_data(
    paths: Sequence[Path], pictures: Path | None = None, *, whole: bool = False
) -> tuple[Dataset, Dataset | None]:
    """Return the training samples of all paths and, where a folder has some, those to validate by.

    A path is a file or a folder of COCO, YouTube-VIS, MOTS, Pascal VOC, labelme, Supervisely,
    Datumaro, or label pictures. Folders and files named train, val (valid, validation) and test
    are used as they are named, test not at all. Every picture is looked for, with `whole` also
    decoded to its end. Raises ConfigError and FormatError.
    """
    train, held, problems = _gather(paths, pictures)
    if not train:
        raise ConfigError(
            f"{paths[0]}: holds labels to {'validate' if held else 'test'} by, but none to train "
            "on; give the file or folder itself to train on it"
        )
    data = join(train)
    others = join(held, data.categories[1:]) if held else None
    data, others = without_false_crowds(data, others)
    data = checked(dataclasses.replace(data, problems=(*data.problems, *problems)), whole=whole)
    return data, checked(others, whole=whole) if others else None


def read_validation(
    paths: Sequence[Path], pictures: Path | None = None, *, whole: bool = False
) -> Dataset:
    """Return the samples of all paths to validate by: those named so, else all but test's.

    Raises ConfigError and FormatError.
    """
    train, held, _ = _gather(paths, pictures)
    if not train and not held:
        raise ConfigError(f"{paths[0]}: holds only labels to test by; give the file itself")
    data, _ = without_false_crowds(join(held or train))
    return checked(data, whole=whole)


def _gather(
    paths: Sequence[Path], pictures: Path | None
) -> tuple[list[Dataset], list[Dataset], list[Problem]]:
    """Return what is read to train on and to validate by, and a note about each test set."""
    train: list[Dataset] = []
    held: list[Dataset] = []
    problems: list[Problem] = []
    for path in paths:
        for source in _sources_of(path, pictures):
            if source.split == "test":
                text = "is named test: neither trained on nor validated by"
                problems.append(Problem(str(source.path), "", text, False, "split"))
            else:
                (held if source.split == "val" else train).append(_read(source))
    return train, held, problems


def fingerprint(data: Dataset) -> str:
    """Return a hash of the labels: a training may only be resumed on the same."""
    digest = hashlib.sha256(repr(data.categories).encode())
    for sample in data.samples:
        name = f"{sample.path.name} {sample.width} {sample.height}"
        digest.update(name.encode("utf-8", "surrogateescape"))
        for one in sample.instances:
            digest.update(f"{one.label} {one.crowd} {one.rle['counts']}".encode())
    return digest.hexdigest()


def _read(source: Source) -> Dataset:
    """Read a source; raise FormatError, also for what no reader foresaw."""
    try:
        return source.read()
    except (*_MALFORMED, RecursionError) as exc:
        raise FormatError(f"{source.path}: is malformed ({exc!r:.200})") from exc


def _sources_of(path: Path, pictures: Path | None) -> list[Source]:
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    if path.is_file():
        content = read_label_json(path)
        return [Source(path, "", _reader(path, content, pictures))]
    try:
        found = _in_folder(path, pictures, 0)
    except OSError as exc:
        raise FormatError(f"{exc.filename or path}: cannot be read: {exc.strerror}") from exc
    if not found:
        raise FormatError(f"{path}: holds {label_images.NEITHER}{_name_others(path)}")
    return found


# ---- folders --------------------------------------------------------------------------------


def _in_folder(folder: Path, pictures: Path | None, depth: int) -> list[Source]:
    """Return what lies in a folder, in the first form that is found; nothing where none is.

    Raises FormatError where there is nothing but a file that cannot be read.
    """
    damaged: FormatError | None = None
    for look in (_mots, _supervisely, _voc, _json_files, _label_pictures):
        try:
            found = list(look(folder, pictures))
        except FormatError as exc:
            damaged = exc
            continue
        if found:
            return found
    found = _further_below(folder, pictures, depth + 1) if depth < _DEEPEST else []
    if not found and damaged is not None:
        raise damaged
    return found


def _further_below(folder: Path, pictures: Path | None, depth: int) -> list[Source]:
    folders = [
        child
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith((".", "__"))
    ]
    named = [child for child in folders if _folder_split(child)]
    if named:
        return [source for child in named for source in _in_split(child, pictures, depth)]
    if len(folders) == 1:
        return _in_folder(folders[0], pictures, depth)
    return list(_labelme_below(folder, pictures))


def _in_split(folder: Path, pictures: Path | None, depth: int) -> list[Source]:
    """Return what lies in a folder that is named as a split."""
    split = _folder_split(folder)
    if split == "test":
        return [Source(folder, "test", lambda: Dataset((), ()))]
    found = _in_folder(folder, pictures, depth)
    return [dataclasses.replace(source, split=source.split or split) for source in found]


def _mots(folder: Path, _: Path | None) -> Iterator[Source]:
    if clip_labels.find_mots(folder) is not None:
        yield Source(folder, "", partial(clip_labels.read_mots, folder))


def _supervisely(folder: Path, pictures: Path | None) -> Iterator[Source]:
    for place in supervisely.find_sets(folder):
        split = _folder_split(place) if place != folder else ""
        yield Source(place, split, partial(supervisely.read, folder, place, pictures))


def _voc(folder: Path, pictures: Path | None) -> Iterator[Source]:
    for root in voc.find_roots(folder):
        for name in voc.splits(root):
            yield Source(root, _split(name), partial(voc.read, root, name, pictures))


def _label_pictures(folder: Path, _: Path | None) -> Iterator[Source]:
    for part in label_images.parts(folder):
        yield Source(folder / part, _split(part), partial(label_images.read, folder, part=part))


def _json_files(folder: Path, pictures: Path | None) -> Iterator[Source]:
    """Yield the COCO files that lie in a folder, else labelme's; raise FormatError for damage."""
    contents, damaged = _read_each(_json_paths(folder))
    found = {path: content for path, content in contents.items() if _is_list_of_labels(content)}
    for path, content in found.items():
        split = _split(path.stem)
        used = split if len(found) > 1 or split == "test" else ""
        yield Source(path, used, _reader(path, content, pictures))
    if found:
        return
    if any(map(labelme.is_labelme, contents.values())):
        yield Source(folder, "", partial(labelme.read, _json_paths(folder), pictures))
    elif damaged is not None:
        raise damaged


def _read_each(paths: Sequence[Path]) -> tuple[dict[Path, JsonObject], FormatError | None]:
    """Return what each file holds, and why the last of the others cannot be read."""
    contents: dict[Path, JsonObject] = {}
    damaged: FormatError | None = None
    for path in paths:
        try:
            content = read_label_json(path)
        except FormatError as exc:
            damaged = exc
            continue
        if labelme.is_labelme(content):
            content = {"shapes": []}  # its picture may be in it: thousands of them fill the memory
        contents[path] = content
    return contents, damaged


def _json_paths(folder: Path) -> list[Path]:
    places = [child for child in sorted(folder.iterdir()) if child.name.lower() in _LABEL_FOLDERS]
    paths = [path for place in (folder, *places) for path in sorted(place.glob("*.json"))]
    return [
        path
        for path in paths
        if not path.name.startswith(".") and not _words(path.stem) & _NO_INSTANCES
    ]


def _labelme_below(folder: Path, pictures: Path | None) -> Iterator[Source]:
    """Yield labelme's files wherever they lie below a folder."""
    paths = below(folder, "*.json")
    try:
        if paths and labelme.is_labelme(read_label_json(paths[0])):
            yield Source(folder, "", partial(labelme.read, paths, pictures))
    except FormatError:
        return


# ---- files ----------------------------------------------------------------------------------


def _is_list_of_labels(content: JsonObject) -> bool:
    if datumaro.is_datumaro(content):
        return True
    return "annotations" in content and ("images" in content or "videos" in content)


def _reader(path: Path, content: JsonObject, pictures: Path | None) -> Callable[[], Dataset]:
    """Return what reads a file of this content."""
    if isinstance(content.get("videos"), list):
        return partial(clip_labels.read_youtube_vis, path, pictures, content)
    if labelme.is_labelme(content):
        return partial(labelme.read, [path], pictures)
    if datumaro.is_datumaro(content):
        content = datumaro.as_coco(content)
    return partial(coco_labels.read, path, pictures, content)


def _name_others(folder: Path) -> str:
    """Say which form of labels a folder holds instead, and what to do."""
    suffixes = {path.suffix.lower() for path in islice(folder.rglob("*"), _MOST_LOOKED_AT)}
    if ".xml" in suffixes:
        return "; its XML files (CVAT's own, or boxes of VOC) are not read: export COCO"
    if ".txt" in suffixes:
        return "; if its text files are YOLO's, export the labels as COCO"
    return ""


def _split(name: str) -> Split:
    """Return what a file is for by its name; nothing where it says two things."""
    found = {_SPLITS[word] for word in _words(name) & _SPLITS.keys()}
    return found.pop() if len(found) == 1 else ""


def _folder_split(folder: Path) -> Split:
    """Return what a folder is for by its name, as train or val_images; not test_project."""
    return _split(folder.name) if _words(folder.name) <= _SPLITS.keys() | _BESIDE else ""


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+", name.lower()))
