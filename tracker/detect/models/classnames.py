"""Names of classes: in whatever form a checkpoint or a file of names has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tracker.detect.models.pickled import children
from tracker.errors import ConfigError, FormatError
from tracker.files import read_json_value, read_rows

BACKGROUND = "__background__"
ABSENT = "N/A"  # of a label that no class has, as torchvision's COCO names have it
_COCO_CLASSES = 91  # labels of COCO, gaps and background counted
_COCO_NAMES = 80
_BACKGROUNDS = {"background", "bg", "back ground"}
_KEYS = (
    "classes",
    "categories",
    "class_names",
    "category_names",
    "classnames",
    "label_names",
    "labels",
    "names",
    "class_list",
    "thing_classes",
    "idx_to_class",
    "id2label",
    "id_to_name",
    "label_map",
    "labelmap",
    "class_map",
    "class_to_idx",
    "label2id",
)
_DEEPEST = 5  # levels of dictionaries in dictionaries
Names = tuple[str, ...]


def find_names(content: Any) -> tuple[Names, ...]:
    """Return every list of class names in a checkpoint, those that lie least deep first."""
    found: list[Names] = []
    level = [content]
    for _ in range(_DEEPEST):
        below = []
        for part in level:
            held = {_plain_key(name): value for name, value in _held(part)}
            found += [names for key in _KEYS if key in held for names in read_forms(held[key])]
            below += [value for value in held.values() if _may_hold_names(value)]
        level = below
    return tuple(dict.fromkeys(found))


def read_forms(value: Any) -> list[Names]:
    """Return the lists of names that a value may mean; none where it is no list of names.

    A list in the order of the labels, with or without the background; objects with id and name;
    a dictionary from ids to names or from names to ids: by their ids, and packed without gaps.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")] if "," in value else None
    if isinstance(value, Mapping):
        return _by_ids(_ids_of(value))
    if not isinstance(value, list | tuple) or not value:
        return []
    if all(isinstance(one, str) for one in value):
        return [tuple(value)]
    return _by_ids([(one.get("id"), one.get("name")) for one in value if isinstance(one, Mapping)])


def fit_names(names: Sequence[str], classes: int) -> Names | None:
    """Return a name for each of so many labels, the background first; None where they do not fit.

    80 names are COCO's where there are 91 labels, which leave gaps.
    """
    own = tuple(names[1:]) if names and is_background(names[0]) else tuple(names)
    if len(own) == classes - 1:
        return (BACKGROUND, *own)
    if len(names) == classes:
        return tuple(names)
    if (classes, len(own)) == (_COCO_CLASSES, _COCO_NAMES):
        rest = iter(own)
        known = coco_names(classes) or ()
        return (BACKGROUND, *(ABSENT if name == ABSENT else next(rest) for name in known[1:]))
    return None


def coco_names(classes: int) -> Names | None:
    """Return COCO's names for 91 labels (its ids) or 81 (without their gaps); else None."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    names: Names = tuple(MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
    packed = tuple(name for name in names if name != ABSENT)
    return next((known for known in (names, packed) if len(known) == classes), None)


def is_background(name: str) -> bool:
    """Whether a name is one that people give to the background."""
    return name.strip("_- ").replace("_", " ").casefold() in _BACKGROUNDS


def read_names(path: Path, classes: int | None) -> Names:
    """Return the names in a file, one a line or in JSON, for so many labels.

    None takes as many as there are. Raises ConfigError that says how many are needed.
    """
    try:
        is_json = path.suffix == ".json" or path.read_bytes().lstrip()[:1] in (b"[", b"{")
        forms = read_forms(read_json_value(path)) if is_json else [_lines(path)]
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    except FormatError as exc:
        raise ConfigError(str(exc)) from exc
    own = [_without_background(names) for names in forms]
    if not any(own):
        raise ConfigError(f"{path}: holds no names of classes; write one a line, or a JSON list")
    for names in own:
        fitting = fit_names(names, len(names) + 1 if classes is None else classes)
        if fitting is not None and fitting[0] == BACKGROUND:
            return _distinct(fitting, path)
    raise ConfigError(
        f"{path}: holds {len(own[-1])} names, the model has {(classes or 0) - 1} classes beside "
        "the background; give one name for each, in the order of their labels"
    )


def _lines(path: Path) -> Names:
    return tuple(text for _, text in read_rows(path))


def _without_background(names: Names) -> Names:
    return names[1:] if names and is_background(names[0]) else names


def _distinct(names: Names, path: Path) -> Names:
    twice = [name for name in names if names.count(name) > 1 and name != ABSENT]
    if twice:
        raise ConfigError(f"{path}: names {twice[0]!r} twice; every class needs a name of its own")
    return names


def _held(part: Any) -> Iterator[tuple[str, Any]]:
    return children(part) if not isinstance(part, list | tuple) else iter(())


def _plain_key(name: str) -> str:
    return re.sub(r"\W", "_", name).casefold()


def _may_hold_names(value: Any) -> bool:
    """Whether to look further into a value: not into weights."""
    if not isinstance(value, Mapping):
        return False
    return not any(isinstance(one, torch.Tensor) for one in list(value.values())[:3])


def _ids_of(names: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Return pairs of id and name of a dictionary that goes either way."""
    if all(isinstance(key, str) and _number(key) is None for key in names):
        return [(number, name) for name, number in names.items()]
    return list(names.items())


def _by_ids(pairs: Sequence[tuple[Any, Any]]) -> list[Names]:
    """Return names at the places of their ids, and packed in their order."""
    numbered = {_number(number): name for number, name in pairs if isinstance(name, str)}
    ids = sorted(number for number in numbered if number is not None)
    if not ids or len(ids) < len(pairs) or ids[-1] > 10 * len(ids) + 100:
        return []
    packed = tuple(numbered[number] for number in ids)
    named = tuple(numbered.get(number, ABSENT) for number in range(ids[-1] + 1))
    placed = (BACKGROUND, *named[1:]) if 0 not in numbered else named
    return [placed, packed]


def _number(value: Any) -> int | None:
    """Return an id as a number, however it is written; None where it is none."""
    if isinstance(value, torch.Tensor | np.generic):
        value = value.item() if value.ndim == 0 else None
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\d{1,6}", value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
