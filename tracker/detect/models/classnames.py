"""Names of classes: in whatever form a checkpoint has them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tracker.detect.models.pickled import children

BACKGROUND = "__background__"
ABSENT = "N/A"  # of a label that no class has, as torchvision's COCO names have it
_COCO_CLASSES = 91  # labels of COCO, gaps and background counted
_COCO_NAMES = 80
_BACKGROUNDS = {"background", "bg", "back ground"}
# In small letters, without marks, and "to" for 2; those that surely mean names stand first.
_KEYS = (
    "classes",
    "categories",
    "classnames",
    "categorynames",
    "labelnames",
    "classlabels",
    "targetnames",
    "catnames",
    "thingclasses",
    "classlist",
    "instancecategorynames",
    "cocoinstancecategorynames",
    "labels",
    "names",
    "cats",
    "classmap",
    "classdict",
    "classesdict",
    "labelmap",
    *(
        f"{one}to{other}"
        for text in ("class", "label", "name", "category", "cat")
        for number in ("id", "idx", "index", "ind", "num", "int", "label")
        for one, other in ((number, text), (text, number))
    ),
)
_SINGLE = ("classes", "classnames", "classname", "categories")  # where one name may be plain text
_LONGEST_TEXT = 100_000  # characters of a list that is written as text
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
            found += [(held[key].strip(),) for key in _SINGLE if _is_one_name(held.get(key))]
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
        value = _listed(value)
    if isinstance(value, Mapping):
        return _by_ids(_ids_of(value))
    if not isinstance(value, list | tuple) or not value:
        return []
    named = [one.get("name") for one in value if isinstance(one, Mapping)]
    if len(named) == len(value) and not any("id" in one for one in value):
        value = named
    first, *rest = (_decoded(one) for one in value)
    texts = [BACKGROUND if first is None and rest else first, *rest]
    if all(isinstance(one, str) for one in texts):
        return [tuple(map(str.strip, texts))]
    return _by_ids([(one.get("id"), one.get("name")) for one in value if isinstance(one, Mapping)])


def _listed(text: str) -> Any:
    """Return a list that is written as text: JSON, Python's, or names between marks; else None."""
    text = text.strip()
    if text[:1] in ("[", "{", "(") and len(text) <= _LONGEST_TEXT:
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
        return None
    mark = next((mark for mark in ("\n", ";", ",") if mark in text), None)
    return text.split(mark) if mark else None


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _is_one_name(value: Any) -> bool:
    """Whether a text may be the name of the only class: no list, number or path."""
    return isinstance(value, str) and bool(re.fullmatch(r"[^\W\d][\w -]{0,60}", value.strip()))


def fit_names(names: Sequence[str], classes: int) -> Names | None:
    """Return a name for each of so many labels, the background first; None where they do not fit.

    80 names are COCO's where there are 91 labels, which leave gaps.
    """
    own = without_background(tuple(names))
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


def without_background(names: Names) -> Names:
    """Return names without that of the background, wherever the one that means it stands."""
    own = tuple(name for name in names if not is_background(name))
    return own if len(own) == len(names) - 1 else names


def tidied(names: Names, fitting: Names) -> tuple[Names, list[str]]:
    """Return the names that fit a model, all distinct, and what is to be said of them.

    `names` are as a file has them: the background may stand elsewhere than first.
    """
    notes = []
    place = next((k for k, name in enumerate(names) if is_background(name)), 0)
    if place and fitting[0] == BACKGROUND:
        notes.append(
            f"the weights name the background in place {place}, and their model has it in 0: "
            "the other names are taken in their order"
        )
    distinct = list(fitting)
    for label, name in enumerate(fitting):
        if not name or (name in distinct[:label] and name != ABSENT):
            distinct[label] = f"{name} {label}" if name else f"class {label}"
    changed = [k for k, name in enumerate(fitting) if name != distinct[k]]
    if changed:
        first = changed[0]
        labels = "a class" if len(changed) == 1 else f"{len(changed)} classes"
        notes.append(
            f"the weights name {labels} as another or not at all: label {first} is "
            f"called {distinct[first]!r}; --classes-file FILE gives others"
        )
    return tuple(distinct), notes


def _held(part: Any) -> Iterator[tuple[str, Any]]:
    return children(part) if not isinstance(part, list | tuple) else iter(())


def _plain_key(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold().replace("2", "to")


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
    texts = [(number, _decoded(name)) for number, name in pairs]
    numbered = {_number(number): name.strip() for number, name in texts if isinstance(name, str)}
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
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
