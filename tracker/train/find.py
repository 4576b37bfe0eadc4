"""Read labelled pictures of whatever form lies in a file or a folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from tracker.errors import ConfigError, FormatError
from tracker.files import JsonObject, read_json
from tracker.train import clip_labels, coco_labels, label_images
from tracker.train.samples import Dataset, checked, join

_VALIDATION = {"val", "valid", "validation", "test"}


def read_data(
    paths: Sequence[Path], pictures: Path | None = None, *, whole: bool = False
) -> tuple[Dataset, Dataset | None]:
    """Return the training samples of all paths and, where a folder has some, those to validate by.

    A path is a COCO or YouTube-VIS file, or a folder with one, with several (those named val or
    valid validate), with a MOTS set, or with pictures and label pictures. Every picture is looked
    for, with `whole` also decoded to its end. Raises ConfigError and FormatError.
    """
    train: list[Dataset] = []
    held: list[Dataset] = []
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
        for part, validates in _read(path, pictures):
            (held if validates else train).append(part)
    if not train:
        raise ConfigError(f"{paths[0]}: holds labels to validate by, but none to train on")
    data = checked(join(train), whole=whole)
    return data, checked(join(held, data.categories[1:]), whole=whole) if held else None


def fingerprint(data: Dataset) -> str:
    """Return a hash of the labels: a training may only be resumed on the same."""
    digest = hashlib.sha256(repr(data.categories).encode())
    for sample in data.samples:
        digest.update(f"{sample.path.name} {sample.width} {sample.height}".encode())
        for one in sample.instances:
            digest.update(f"{one.label} {one.crowd} {one.rle['counts']}".encode())
    return digest.hexdigest()


def _read(path: Path, pictures: Path | None) -> list[tuple[Dataset, bool]]:
    if path.is_file():
        return [(_read_file(path, read_json(path), pictures), False)]
    if clip_labels.find_mots(path) is not None:
        return [(clip_labels.read_mots(path), False)]
    found: list[tuple[Path, JsonObject]] = []
    damaged: FormatError | None = None
    for file in sorted([*path.glob("*.json"), *path.glob("annotations/*.json")]):
        # Captions and keypoints lie beside COCO's instances.
        if set(_words(file)) & {"captions", "keypoints", "panoptic", "stuff"}:
            continue
        try:
            content = read_json(file)
        except FormatError as exc:
            damaged = exc
            continue
        if "annotations" in content and ("images" in content or "videos" in content):
            found.append((file, content))
    if not found and damaged is not None:
        raise damaged
    if not found:
        return label_images.read_all(path)
    several = len(found) > 1
    return [
        (_read_file(file, content, pictures), several and bool({*_words(file)} & _VALIDATION))
        for file, content in found
    ]


def _words(path: Path) -> list[str]:
    return re.findall(r"[a-z]+", path.stem.lower())


def _read_file(path: Path, content: JsonObject, pictures: Path | None) -> Dataset:
    if isinstance(content.get("videos"), list):
        return clip_labels.read_youtube_vis(path, pictures, content)
    return coco_labels.read(path, pictures, content)
