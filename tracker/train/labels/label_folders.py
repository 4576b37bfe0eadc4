"""Find folders of pictures beside folders of label pictures, however they are called."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracker.train.labels.finder import below
from tracker.train.labels.splits import Split, folder_split, split_of
from tracker.train.picture_file import SUFFIXES

_PICTURES = (
    "pngimages", "jpegimages", "images", "image", "imgs", "img", "frames", "pictures", "pics",
    "photos", "data", "rgb",
)  # fmt: skip  # the likelier first
_LABELS = (
    "pedmasks", "masks", "mask", "labels", "label", "instances", "segmentations", "segmentation",
    "annotations", "annotation", "gt", "groundtruth", "seg",
)  # fmt: skip
_MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif")
_LOSSY = (".jpg", ".jpeg")  # are looked at where there is no other label picture
_ENDINGS = (
    "_gtFine_instanceIds", "_instance_mask", "_segmentation", "_instances", "_instance", "_labels",
    "_label", "_masks", "_mask", "_seg", "_gt", "-mask", "-seg",
)  # fmt: skip  # of label pictures
_PICTURE_ENDINGS = ("_leftImg8bit", "_image", "_img", "_sat")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of pictures and that of their label pictures."""

    pictures: Path
    masks: Path
    split: Split = ""
    classes: tuple[str, ...] = ()  # folders of the label pictures that are named as classes
    clips: frozenset[str] = frozenset()  # folders of both that are read; none stands for all
    form: str = ""  # "cityscapes", or "objects": a folder a picture, with a file an object

    def label_pictures(self) -> Iterator[Path]:
        """Yield the label pictures."""
        if self.form == "cityscapes":
            yield from below(self.masks, "*_instanceIds.png")
            return
        found = [path for path in below(self.masks, "*") if self.has(path, self.masks)]
        exact = [path for path in found if path.suffix.lower() in _MASKS]
        yield from exact or (path for path in found if path.suffix.lower() in _LOSSY)

    def has(self, path: Path, folder: Path) -> bool:
        """Tell whether a file below a folder is of the clips that are read."""
        return not self.clips or path.relative_to(folder).parts[0] in self.clips


class Pictures:
    """The pictures of a folder, by where they lie and what they are called."""

    def __init__(self, folder: Path) -> None:
        self.paths = [path for path in below(folder, "*") if path.suffix.lower() in SUFFIXES]
        self._by_place: dict[tuple[Path, str], Path] = {}
        self._by_stem: dict[str, set[Path]] = defaultdict(set)
        for path in self.paths:
            for stem in {path.stem, _without(path.stem, _PICTURE_ENDINGS)}:
                self._by_place.setdefault((path.parent.relative_to(folder), stem), path)
                self._by_stem[stem].add(path)

    def of(self, path: Path, place: Path) -> Path | None:
        """Return the picture of a label picture, that at the same place if there are several."""
        for stem in _stems(path):
            if (place, stem) in self._by_place:
                return self._by_place[place, stem]
            if len(self._by_stem.get(stem, ())) == 1:
                (only,) = self._by_stem[stem]
                return only
        return None


def find_places(root: Path) -> list[Place]:
    """Return the pairs of folders that lie in `root`, a split each; nothing where there is none."""
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return _parts(Place(root / "leftImg8bit", root / "gtFine", form="cityscapes"))
    found: list[Place] = []
    for key, (pictures, masks) in _folders(root).items():
        place = _of_one_size(Place(pictures, masks, split_of(" ".join(key))))
        if any(place.label_pictures()):
            found += _listed(root, place) or _parts(place)
    return found


def _folders(root: Path) -> dict[tuple[str, ...], tuple[Path, Path]]:
    """Return the folders of pictures and label pictures by what their names have in common."""
    folders = [child for child in sorted(root.iterdir()) if child.is_dir()]
    tokens = {child: re.findall(r"[a-z]+|\d+", child.name.lower()) for child in folders}
    pictures: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    masks: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for child, said in tokens.items():
        kind, names = (masks, _LABELS) if set(said) & {*_LABELS} else (pictures, _PICTURES)
        key = tuple(word for word in said if word not in names)
        if key or set(said) & {*names}:
            kind[key].append(child)

    def place_of(child: Path, names: tuple[str, ...]) -> int:
        return min((names.index(word) for word in tokens[child] if word in names), default=99)

    found = {}
    for key in masks.keys() & pictures.keys():
        holding = [child for child in masks[key] if any(Place(child, child).label_pictures())]
        if holding:
            found[key] = (
                min(pictures[key], key=lambda child: place_of(child, _PICTURES)),
                min(holding, key=lambda child: place_of(child, _LABELS)),
            )
    return dict(sorted(found.items()))


def _of_one_size(place: Place) -> Place:
    """Return a place without DAVIS' other resolutions."""
    small = place.pictures / "480p", place.masks / "480p"
    if all(folder.is_dir() for folder in small):
        return dataclasses.replace(place, pictures=small[0], masks=small[1])
    return place


def _listed(root: Path, place: Place) -> list[Place]:
    """Return a place a split where lists of clips tell them apart, as DAVIS' ImageSets/2017."""
    clips = {child.name for child in place.masks.iterdir() if child.is_dir()}
    for folder in sorted((root / "ImageSets").glob("*"), reverse=True):
        lists: dict[Split, set[str]] = defaultdict(set)
        for path in below(folder, "*.txt"):
            if folder_split(path.stem):
                text = path.read_text(encoding="utf-8-sig", errors="replace")
                lists[folder_split(path.stem)] |= clips.intersection(text.split())
        if lists.get("train"):
            return [
                dataclasses.replace(place, split=split, clips=frozenset(names))
                for split, names in lists.items()
                if names
            ]
    return []


def _parts(place: Place) -> list[Place]:
    """Return a place a split where both folders hold folders of splits, else the one."""
    names = sorted(child.name for child in place.masks.iterdir() if child.is_dir())
    both = [name for name in names if (place.pictures / name).is_dir()]
    if both and all(map(folder_split, both)):
        return [
            _with_classes(
                dataclasses.replace(
                    place,
                    pictures=place.pictures / name,
                    masks=place.masks / name,
                    split=folder_split(name),
                )
            )
            for name in both
        ]
    return [_with_classes(place)]


def _with_classes(place: Place) -> Place:
    """Return a place with its classes, where the label pictures lie in a folder a class.

    Such folders are not beside the pictures, and are no numbered parts: they hold label pictures
    of the same pictures, or their names are words alone.
    """
    folders = [child for child in sorted(place.masks.iterdir()) if child.is_dir()]
    if not folders or any((place.pictures / child.name).is_dir() for child in folders):
        return place
    stems = [{path.stem for path in place_.label_pictures()} for place_ in map(_alone, folders)]
    names = tuple(child.name for child, found in zip(folders, stems, strict=True) if found)
    known = Pictures(place.pictures)
    if names and all(known.of(Path(f"{name}.png"), Path()) for name in names):
        return dataclasses.replace(place, form="objects")
    overlap = sum(map(len, stems)) > len(set().union(*stems))
    is_words = not any(any(map(str.isdigit, name)) or folder_split(name) for name in names)
    flat = any(path.is_file() and path.suffix.lower() in _MASKS for path in place.masks.iterdir())
    paired = [known.of(Path(stem), Path()) for found in stems for stem in found]
    if names and not flat and (overlap or is_words) and any(paired):
        return dataclasses.replace(place, classes=names)
    return place


def _alone(folder: Path) -> Place:
    return Place(folder, folder)


def _stems(path: Path) -> list[str]:
    """Return what the picture of a label picture may be called, without suffixes."""
    names = [path.stem]
    if path.stem.lower().endswith(SUFFIXES):
        names.append(Path(path.stem).stem)
    names += [_without(name, _ENDINGS) for name in names]
    names += [name.removeprefix("mask_") for name in names]
    return list(dict.fromkeys(names))


def _without(stem: str, endings: tuple[str, ...]) -> str:
    for ending in endings:
        if stem.endswith(ending) and stem != ending:
            return stem.removesuffix(ending)
    return stem
