"""Find what lies in a file or a folder to train on, and what each part of it is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from tracker.errors import ConfigError, FormatError
from tracker.files import JsonObject
from tracker.train.labels import (
    clip_labels,
    coco_labels,
    datumaro,
    label_images,
    labelme,
    supervisely,
    voc,
)
from tracker.train.labels.finder import Where
from tracker.train.labels.label_folders import find_places
from tracker.train.labels.label_json import OtherFormError, name_form, read_label_json
from tracker.train.labels.splits import Split, folder_split, is_both, split_of, words
from tracker.train.picture_file import SUFFIXES
from tracker.train.samples import Dataset

_LABEL_FOLDERS = {"annotations", "annotation", "labels"}
_NO_INSTANCES = {"captions", "keypoints", "panoptic", "stuff"}  # that lie beside COCO's instances
_MOST_LOOKED_AT = 10_000  # files, to say what else a folder holds
_DEEPEST = 4  # folders in folders
_IS_TEST = "is named test: neither trained on nor validated by"
_UNNAMED = "its name says not whether it is to train on or to validate by: trained on"


@dataclass(frozen=True, slots=True)
class Source:
    """Labels of one form in one place, before they are read."""

    path: Path
    split: Split
    read: Callable[[], Dataset] | None  # None where nothing is
    said: str = ""  # what is told about it
    fatal: bool = False  # it cannot be read, but should be


def sources_of(path: Path, pictures: Path | None) -> list[Source]:
    """Return what a file is, or what lies in a folder; raise ConfigError and FormatError."""
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    if path.is_file():
        content = read_label_json(path)
        return [Source(path, "", _reader(path, content, Where(pictures)))]
    try:
        found = _in_folder(path, Where(pictures, path), 0)
    except OSError as exc:
        raise FormatError(f"{exc.filename or path}: cannot be read: {exc.strerror}") from exc
    if not _is_something(found):
        raise FormatError(f"{path}: holds {label_images.NEITHER}{_name_others(path)}")
    return found


def _is_something(sources: Iterable[Source]) -> bool:
    return any(source.read is not None or source.split == "test" for source in sources)


# ---- folders --------------------------------------------------------------------------------


def _in_folder(folder: Path, where: Where, depth: int) -> list[Source]:
    """Return what lies in a folder, in the first form that is found; nothing where none is.

    Raises FormatError where there is nothing but a file that cannot be read.
    """
    damaged: FormatError | None = None
    for look in (_mots, _supervisely, _voc, _json_files, _label_pictures):
        try:
            found = list(look(folder, where))
        except FormatError as exc:
            damaged = damaged or exc
            continue
        if found:
            return found
    found = _further_below(folder, where, depth + 1) if depth < _DEEPEST else []
    if not _is_something(found) and damaged is not None:
        raise damaged
    return found


def _further_below(folder: Path, where: Where, depth: int) -> list[Source]:
    """Return what lies in the folders of a folder: those named as splits, else all."""
    folders = [
        child
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith((".", "__"))
    ]
    named = [child for child in folders if folder_split(child.name)]
    if not named:
        return _in_each(folders, where, depth)
    found = [source for child in named for source in _in_split(child, where, depth)]
    others = [child for child in folders if child not in named]
    if not any(source.read for source in found):
        elsewhere = _in_each(others, where, depth)
        return elsewhere if _is_something(elsewhere) else found
    return [*found, *(_left_out(child) for child in others if _holds_labels(child, where, depth))]


def _in_each(folders: Sequence[Path], where: Where, depth: int) -> list[Source]:
    """Return what lies in any of some folders; raise FormatError where all is damaged."""
    found: list[Source] = []
    damaged: FormatError | None = None
    for folder in folders:
        try:
            found += _in_folder(folder, where, depth)
        except FormatError as exc:
            damaged = exc
            found.append(_unreadable(folder, exc))
    if not _is_something(found) and damaged is not None:
        raise damaged
    return found


def _in_split(folder: Path, where: Where, depth: int) -> list[Source]:
    """Return what lies in a folder that is named as a split."""
    split = folder_split(folder.name)
    if split == "test":
        return [Source(folder, "test", None, _IS_TEST)]
    found = _in_folder(folder, where, depth)
    if not found and _holds_pictures(folder):
        return [Source(folder, "", None, "holds pictures, but no labels: not used")]
    return [dataclasses.replace(source, split=source.split or split) for source in found]


def _left_out(folder: Path) -> Source:
    text = "holds labels, but its name is none of train, val and test, as that of others: not read"
    return Source(folder, "", None, text)


def _holds_labels(folder: Path, where: Where, depth: int) -> bool:
    try:
        return _is_something(_in_folder(folder, where, depth))
    except FormatError:
        return True


def _holds_pictures(folder: Path) -> bool:
    found = islice(folder.rglob("*"), _MOST_LOOKED_AT)
    return any(path.suffix.lower() in SUFFIXES for path in found)


def _unreadable(path: Path, error: FormatError) -> Source:
    is_damaged = not isinstance(error, OtherFormError)
    return Source(path, "", None, str(error).removeprefix(f"{path}: "), is_damaged)


def _mots(folder: Path, _: Where) -> Iterator[Source]:
    if clip_labels.find_mots(folder) is not None:
        yield Source(folder, "", partial(clip_labels.read_mots, folder))
        return
    clips = clip_labels.find_challenge(folder)
    if clips:
        yield Source(folder, "", partial(clip_labels.read_challenge, clips))


def _supervisely(folder: Path, where: Where) -> Iterator[Source]:
    root = supervisely.find_project(folder)
    if root is None:
        return
    for place in supervisely.find_sets(folder):
        split = folder_split(place.name) if place != folder else ""
        if split == "test":
            yield Source(place, split, None, _IS_TEST)
        else:
            yield Source(place, split, partial(supervisely.read, root, place, where.pictures))


def _voc(folder: Path, where: Where) -> Iterator[Source]:
    for root in voc.find_roots(folder):
        for split in voc.splits(root):
            if split == "test":
                yield Source(root, split, None, f"its list {_IS_TEST}")
            else:
                yield Source(root, split, partial(voc.read, root, split, where.pictures))


def _label_pictures(folder: Path, _: Where) -> Iterator[Source]:
    for place in find_places(folder):
        if place.split == "test":
            yield Source(place.masks, "test", None, _IS_TEST)
        else:
            yield Source(place.masks, place.split, partial(label_images.read, place))


def _name_others(folder: Path) -> str:
    """Say which form of labels a folder holds instead, and what to do."""
    suffixes = {path.suffix.lower() for path in islice(folder.rglob("*"), _MOST_LOOKED_AT)}
    if ".xml" in suffixes:
        return "; its XML files (CVAT's own, or boxes of VOC) are not read: export COCO"
    if ".txt" in suffixes:
        return "; if its text files are YOLO's, export the labels as COCO"
    return ""


# ---- files ----------------------------------------------------------------------------------


def _json_files(folder: Path, where: Where) -> Iterator[Source]:
    """Yield the COCO files that lie in a folder, else labelme's; raise FormatError for damage."""
    contents, damaged, others = _read_each(_json_paths(folder))
    found = {path: content for path, content in contents.items() if _is_list_of_labels(content)}
    own = [path for path, content in contents.items() if labelme.is_labelme(content)]
    if found:
        yield from _of_files(folder, found, where)
        if own:
            text = f"{len(own)} files of labelme lie beside {next(iter(found)).name}: not read"
            yield Source(folder, "", None, text)
    elif own:
        yield from _of_labelme(folder, own, where)
    if found or own:
        yield from (_unreadable(path, error) for path, error in damaged.items())
        return
    for error in (*damaged.values(), *others):
        raise error


def _of_files(folder: Path, found: dict[Path, JsonObject], where: Where) -> Iterator[Source]:
    """Yield COCO files with what their names, or those of their folders, say they are for."""
    splits = {path: split_of(path.stem) or _split_of_parent(path, folder) for path in found}
    alone = len(found) == 1
    for path, content in found.items():
        split = splits[path]
        reader = _reader(path, content, where)
        if split == "test":
            yield Source(path, split, None, _IS_TEST)
        elif is_both(path.stem) and list(splits.values()).count("train") > 1:
            text = "is training and validation together, beside its parts: not read"
            yield Source(path, "", None, text)
        elif alone:
            yield Source(path, "", reader)
        else:
            told = "" if split or not any(splits.values()) else _UNNAMED
            yield Source(path, split, reader, told)


def _of_labelme(folder: Path, paths: Sequence[Path], where: Where) -> Iterator[Source]:
    """Yield labelme's files of each folder with what that is for, as labels/train/ says."""
    for parent in dict.fromkeys(path.parent for path in paths):
        own = [path for path in paths if path.parent == parent]
        split = _split_of_parent(own[0], folder)
        if split == "test":
            yield Source(parent, split, None, _IS_TEST)
        else:
            yield Source(parent, split, partial(labelme.read, own, where))


def _split_of_parent(path: Path, folder: Path) -> Split:
    """Return what the folder of a file is for by its name, where it lies below `folder`."""
    return "" if path.parent == folder else folder_split(path.parent.name)


def _read_each(
    paths: Sequence[Path],
) -> tuple[dict[Path, JsonObject], dict[Path, FormatError], list[FormatError]]:
    """Return what each file holds, why others cannot be read, and what the rest are instead."""
    contents: dict[Path, JsonObject] = {}
    damaged: dict[Path, FormatError] = {}
    others: list[FormatError] = []
    for path in paths:
        try:
            content = read_label_json(path)
        except OtherFormError as exc:
            others.append(exc)
            continue
        except FormatError as exc:
            damaged[path] = exc
            continue
        if labelme.is_labelme(content):
            content = {"shapes": []}  # its picture may be in it: thousands of them fill the memory
        elif form := name_form(content):
            others.append(OtherFormError(f"{path}: is no COCO instance file; {form}"))
        contents[path] = content
    return contents, damaged, others


def _json_paths(folder: Path) -> list[Path]:
    """Return the JSON files of a folder, of its folder of labels, and of the splits in that."""
    places = [child for child in sorted(folder.iterdir()) if child.name.lower() in _LABEL_FOLDERS]
    inner = [
        child
        for place in places
        if place.is_dir()
        for child in sorted(place.iterdir())
        if child.is_dir() and folder_split(child.name)
    ]
    paths = [path for place in (folder, *places, *inner) for path in sorted(place.glob("*.json"))]
    return [
        path
        for path in paths
        if not path.name.startswith(".") and not words(path.stem) & _NO_INSTANCES
    ]


def _is_list_of_labels(content: JsonObject) -> bool:
    if datumaro.is_datumaro(content):
        return True
    if "videos" in content and "categories" in content:
        return True
    return "annotations" in content and "images" in content


def _reader(path: Path, content: JsonObject, where: Where) -> Callable[[], Dataset]:
    """Return what reads a file of this content."""
    if clip_labels.is_youtube_vis(content):
        return partial(clip_labels.read_youtube_vis, path, where, content)
    if labelme.is_labelme(content):
        return partial(labelme.read, [path], where)
    if datumaro.is_datumaro(content):
        content = datumaro.as_coco(content)
    return partial(coco_labels.read, path, where, content)
