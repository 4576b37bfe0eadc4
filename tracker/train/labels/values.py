"""Values of label files as tools write them: numbers and marks as text, ids of either type."""

from __future__ import annotations

import math
import string
import unicodedata
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_UNSEEN = string.whitespace + "\u00a0\u200b\u200e\u200f\u3000\ufeff"
_NO = {"", "0", "0.0", "false", "no", "none", "null"}
_YES = {"1", "1.0", "true", "yes"}


def whole(value: object) -> int | None:
    """Return a number without a fraction, also one written as text; else None."""
    if isinstance(value, str):
        try:
            value = float(value) if len(value) < 40 else None
        except ValueError:
            return None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value == int(value) else None
    return int(value) if isinstance(value, int) else None


def mark(value: object) -> bool | None:
    """Return a mark such as iscrowd, also one written as text; None for what is none."""
    text = "" if value is None else str(value).strip().lower()
    if text in _NO:
        return False
    return True if text in _YES else None


def clean(text: object) -> str:
    """Return a name without blanks around it, composed, and without what no file can hold."""
    plain = unicodedata.normalize("NFC", str(text)).strip(_UNSEEN)
    return plain.encode("utf-8", "replace").decode("utf-8")


def named(value: object) -> str:
    """Return a name, also one that is a number; empty for none."""
    return "" if value is None or isinstance(value, (bool, dict, list)) else clean(value)


def is_id(value: object) -> bool:
    """Tell whether something can be an id."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (int, str))


def listed(value: object) -> list[Any] | None:
    """Return a list, also one written as an object of numbered items; else None."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else None


def entries(value: object) -> list[Any] | None:
    """Return a list of entries, also where they are written as an object by their ids."""
    if not isinstance(value, dict):
        return listed(value)
    found: list[Any] = []
    for id_, entry in value.items():
        if isinstance(entry, str):  # a category's name
            found.append({"id": id_, "name": entry})
        else:
            found.append({"id": id_, **entry} if isinstance(entry, dict) else entry)
    return found


class ById(Generic[T]):
    """Things by id: by the id itself, else by a name, else by its value, where one thing has that.

    So "7", "007" and 7.0 find what is called 7.
    """

    def __init__(self) -> None:
        self._exact: dict[tuple[bool, Any], T] = {}
        self._values: dict[int, list[T]] = {}
        self._names: dict[str, list[T]] = {}
        self.by_value = 0  # how often only the name or the value told
        self.ambiguous: list[Any] = []  # what is the name of one thing and the value of another

    def add(self, id_: Any, thing: T, *names: str) -> bool:
        """Take a thing up, also under other names of it; return False where the id is taken."""
        key = (isinstance(id_, str), id_)
        if key in self._exact:
            return False
        self._exact[key] = thing
        number = whole(id_)
        if number is not None:
            self._values.setdefault(number, []).append(thing)
        for name in {*names}:
            self._names.setdefault(name, []).append(thing)
        return True

    def get(self, id_: Any) -> T | None:
        """Return what has this id, if it is one thing."""
        if not is_id(id_):
            return None
        found = self._exact.get((isinstance(id_, str), id_))
        if found is not None:
            return found
        number = whole(id_)
        by_value = [] if number is None else self._values.get(number, [])
        others = self._names.get(id_, []) if isinstance(id_, str) else []
        if len(others) == 1 and by_value and by_value != others:
            self.ambiguous.append(id_)
        others = others or by_value
        if len(others) != 1:
            return None
        self.by_value += 1
        return others[0]

    def __iter__(self) -> Iterator[T]:
        return iter(self._exact.values())
