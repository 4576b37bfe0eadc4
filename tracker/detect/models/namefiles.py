"""Files of class names that people have: a name a line, JSON, a data set's YAML, CVAT's labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tracker.detect.models.classnames import (
    ABSENT,
    BACKGROUND,
    Names,
    find_names,
    fit_names,
    read_forms,
    without_background,
)
from tracker.errors import ConfigError, FormatError
from tracker.files import read_json_value, read_rows

_QUOTED = re.compile(r"""(["'])(.*)\1,?""")
_LISTED = re.compile(r"[-*]\s+(.+)")
_NUMBERED = re.compile(r"(\d{1,6})(\s*[:=,.)\t]\s*|\s+)(.+)")
_COLOURED = re.compile(r"([^:]+):[\d,]*:[^:]*:[^:]*")  # CVAT's labelmap.txt
_YAML = re.compile(r"names\s*:\s*(.*)")


def read_names(path: Path, classes: int | None) -> Names:
    """Return the names in a file, one a line, in JSON or in YAML, for so many labels.

    None takes as many as there are. Raises ConfigError that says how many are needed.
    """
    try:
        is_json = path.suffix == ".json" or path.read_bytes().lstrip()[:1] in (b"[", b"{")
        forms = _in_json(path) if is_json else _in_lines([text for _, text in read_rows(path)])
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    except FormatError as exc:
        raise ConfigError(str(exc)) from exc
    own = [without_background(names) for names in forms]
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


def _in_json(path: Path) -> list[Names]:
    content = read_json_value(path)
    return read_forms(content) or list(find_names(content))


def _in_lines(lines: list[str]) -> list[Names]:
    """Return what the lines of a text may mean, the likeliest first."""
    start = next((k for k, line in enumerate(lines) if _YAML.fullmatch(line)), None)
    if start is not None:
        return _in_yaml(lines[start:])
    if len(lines) == 1 and "," in lines[0] and not _NUMBERED.fullmatch(lines[0]):
        return [tuple(map(_bare, lines[0].split(","))), (lines[0],)]
    for pattern in (_LISTED, _COLOURED):
        found = [pattern.fullmatch(line) for line in lines]
        if found and all(found):
            lines = [match[1].strip() for match in found if match]
    return _by_number(lines) or [_unquoted(lines)]


def _by_number(lines: list[str]) -> list[Names]:
    """Return names by the numbers before them; nothing where not all lines are numbered.

    Before a blank alone they may be of the name, as in "2 wheeler", unless they count the lines.
    """
    found = [match for line in lines if (match := _NUMBERED.fullmatch(line))]
    numbers = [int(match[1]) for match in found]
    if not found or len(found) < len(lines) or len(set(numbers)) < len(numbers):
        return []
    counts = numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    if not counts and any(match[2].isspace() and match[2] != "\t" for match in found):
        return []
    names = [_bare(match[3]) for match in found]
    return read_forms(dict(zip(numbers, names, strict=True)))


def _in_yaml(lines: list[str]) -> list[Names]:
    """Return the names of a data set's YAML, as YOLO has it: lines from `names:` on."""
    first = _without_comment(lines[0]).partition(":")[2].strip()
    if first:
        items = first.strip("[]{}").split(",")
        return _by_number([item.strip() for item in items]) or [tuple(map(_bare, items))]
    items = []
    for line in map(_without_comment, lines[1:]):
        listed = _LISTED.fullmatch(line)
        if not listed and not _NUMBERED.fullmatch(line):
            break
        items.append(listed[1] if listed else line)
    return _by_number(items) or [tuple(map(_bare, items))]


def _without_comment(line: str) -> str:
    return re.sub(r"\s#.*", "", line).strip()


def _unquoted(names: Sequence[str]) -> Names:
    """Return the names of lines without the quotes that all have, or a comma behind all."""
    if all(_QUOTED.fullmatch(name) for name in names):
        return tuple(map(_bare, names))
    commas = len(names) > 1 and all(name.endswith(",") for name in names[:-1])
    return tuple(name.rstrip(",") if commas else name for name in names)


def _bare(name: str) -> str:
    """Return a name without quotes and blanks."""
    found = _QUOTED.fullmatch(name.strip())
    return found[2].strip() if found else name.strip()


def _distinct(names: Names, path: Path) -> Names:
    twice = [name for name in names if names.count(name) > 1 and name != ABSENT]
    if "" in names:
        raise ConfigError(f"{path}: holds an empty name; every class needs a name of its own")
    if twice:
        raise ConfigError(f"{path}: names {twice[0]!r} twice; every class needs a name of its own")
    return names
