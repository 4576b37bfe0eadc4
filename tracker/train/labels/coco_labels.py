"""Read COCO instance labels as the tools write them; each mistake is found, with file and id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracker.errors import FormatError
from tracker.files import JsonObject
from tracker.train.labels.drawn import Drawn, Page, read_size, to_samples
from tracker.train.labels.finder import PictureFinder, Where
from tracker.train.labels.label_json import name_form, read_label_json
from tracker.train.labels.shapes import ShapeError
from tracker.train.labels.values import ById, clean, entries, is_id, mark, named
from tracker.train.problems import Findings
from tracker.train.samples import BACKGROUND, Dataset

_NAMES = ("file_name", "filename", "path", "coco_url")  # of a picture; LVIS has an address
_CATEGORIES = 'add "categories": [{"id": 1, "name": "..."}], one for each category_id'
NO_OUTLINE = "tracker:no outline"  # why an object of another form has none
_HEADINGS = {"background", "_background_", BACKGROUND}  # categories that no object has


@dataclass(slots=True)
class Categories:
    """The categories of a file: label by id, and the names in the order of the labels."""

    labels: ById[int] = field(default_factory=ById)
    names: list[str] = field(default_factory=list)


def read(path: Path, where: Where | None = None, content: JsonObject | None = None) -> Dataset:
    """Read a COCO file; pictures lie where `where` says, or are looked for beside the file.

    A crowd whose category is 0 is one of any category. `content` is what the file holds, where it
    has been read already.

    Objects and pictures that cannot be used are left out and told as problems. Raises FormatError
    where the file as a whole is none.
    """
    content = read_label_json(path) if content is None else content
    images, annotations, items = (
        _list(path, content, key) for key in ("images", "annotations", "categories")
    )
    findings = Findings(str(path))
    categories = read_categories(without_headings(items, annotations), findings)
    pages = _pages(images, findings)
    objects = _Objects(pages, categories, findings)
    for number, item in enumerate(annotations):
        objects.add(number, item)
    objects.note()
    _note_ids("image ids", pages, findings)
    _note_ids("category ids", categories.labels, findings)
    samples = to_samples(pages, PictureFinder(path, where), findings)
    return Dataset(samples, (BACKGROUND, *categories.names), tuple(findings.problems))


def _list(path: Path, content: JsonObject, key: str) -> list[Any]:
    found = entries(content.get(key))
    if found is None:
        form = name_form(content) or (_CATEGORIES if key == "categories" else "")
        what = f"; {form}" if form else ""
        raise FormatError(f"{path}: is no COCO instance file: it has no list {key!r}{what}")
    return found


class _Objects:
    """Puts annotations on their pages."""

    def __init__(self, pages: ById[Page], categories: Categories, findings: Findings) -> None:
        self._pages, self._labels, self._findings = pages, categories.labels, findings
        self._seen: dict[Any, JsonObject] = {}
        self._ignored = 0

    def add(self, number: int, item: Any) -> None:
        """Take up one annotation, the `number`th from 0."""
        if not isinstance(item, dict) or isinstance(item.get("id"), (dict, list)):
            text = f"is malformed: {item!r:.60}"
            self._findings.refuse("annotation", f"annotation {number} (from 0)", text)
            return
        id_ = item.get("id")
        name = f"annotation {number} (from 0)" if id_ is None else f"annotation {id_}"
        if id_ is not None and self._is_copy(id_, name, item):
            return
        page = self._pages.get(item.get("image_id"))
        if page is None:
            text = f"image_id {item.get('image_id')!r} is none of the images"
            self._findings.refuse("id", name, text)
            return
        page.objects.append(self._drawn(str(number if id_ is None else id_), name, item))

    def note(self) -> None:
        """Note how many objects are marked to be ignored."""
        if self._ignored:
            text = f"{self._ignored} objects are marked ignore: regions that are not judged"
            self._findings.note("crowd", "", text)

    def _is_copy(self, id_: Any, name: str, item: JsonObject) -> bool:
        """Tell whether an annotation is there twice; an id may be given to other objects too."""
        first = self._seen.setdefault(id_, item)
        if first is item:
            return False
        keys = ("image_id", "category_id", "segmentation")
        if all(first.get(key) == item.get(key) for key in keys):
            self._findings.refuse("id", name, "its id is given twice")
            return True
        self._findings.note("id", name, "its id is given twice, for different objects")
        return False

    def _drawn(self, id_: str, name: str, item: JsonObject) -> Drawn:
        category = item.get("category_id")
        crowd = mark(item.get("iscrowd", 0))
        if crowd is None:
            text = f"iscrowd {item['iscrowd']!r:.40} is neither 0 nor 1: taken as 0"
            self._findings.note("crowd", name, text)
        label = self._labels.get(category)
        if label is None and not (crowd and category == 0):
            text = f"category_id {category!r:.40} is none of the categories"
            self._findings.refuse("category", name, text)
            crowd = True  # of whatever it is, it is no background
        ignored = bool(mark(item.get("ignore")))
        self._ignored += ignored
        reason = item.get(NO_OUTLINE)
        return Drawn(
            id_,
            name,
            label or 0,
            item.get("segmentation"),
            item.get("bbox"),
            crowd=bool(crowd) or ignored,
            # What `tracker export` was not sure of is no tool's way to write an object.
            marked=bool(crowd) and label is not None and not ignored and "track_id" not in item,
            error=ShapeError(str(reason)) if reason else None,
        )


def read_categories(items: Sequence[Any], findings: Findings) -> Categories:
    """Return COCO's categories, labelled from 1 in their order; names given twice are one."""
    found = Categories()
    for item in items:
        id_ = item.get("id") if isinstance(item, dict) else None
        if not is_id(id_) or not named(item.get("name")):
            findings.refuse("category", "", f"a category has no id or no name: {item!r:.60}")
            continue
        name = clean(item["name"])
        label = found.names.index(name) + 1 if name in found.names else len(found.names) + 1
        if not found.labels.add(id_, label, name):
            findings.refuse("category", f"category {id_}", "its id is given twice")
        elif name not in found.names:
            found.names.append(name)
    return found


def without_headings(items: Sequence[Any], annotations: Sequence[Any]) -> list[Any]:
    """Return the categories without those that only head others, as Roboflow's, and background.

    One that an annotation names is none of them.
    """
    used = {clean(item.get("category_id")) for item in annotations if isinstance(item, dict)}
    heads = {clean(item.get("supercategory")) for item in items if isinstance(item, dict)}
    return [
        item
        for item in items
        if not isinstance(item, dict)
        or clean(item.get("id")) in used
        or not _is_heading(item, heads)
    ]


def _is_heading(item: JsonObject, heads: set[str]) -> bool:
    name = clean(item.get("name"))
    own = clean(item.get("supercategory"))
    heads_others = item.get("id") == 0 and name in heads and name != own
    return heads_others or name.lower() in _HEADINGS


def _pages(items: Sequence[Any], findings: Findings) -> ById[Page]:
    """Return the pages of a file by id, and by the bare names of their pictures."""
    pages: ById[Page] = ById()
    for item in items:
        entry = item if isinstance(item, dict) else {}
        file_name = next((entry[key] for key in _NAMES if entry.get(key)), None)
        id_ = entry.get("id", entry.get("image_id", file_name))
        name = f"image {'' if id_ is None else id_}"
        if not is_id(id_) or not isinstance(file_name, (str, int)):
            findings.refuse("picture entry", name, "needs an id and a file_name")
            continue
        try:
            size = read_size(entry.get("width"), entry.get("height"))
        except ValueError as exc:
            findings.refuse("picture entry", name, str(exc))
            continue
        group = str(entry.get("video") or entry.get("video_id") or "")
        bare = str(file_name).replace("\\", "/").rpartition("/")[2]
        page = Page(str(file_name), size, name, group)
        if not pages.add(id_, page, bare, Path(bare).stem):
            _tell_twice(pages.get(id_), page, findings)
    return pages


def _tell_twice(first: Page | None, second: Page, findings: Findings) -> None:
    if first is not None and first.file_name == second.file_name:
        findings.note("picture twice", second.name, "is listed twice")
    else:
        findings.refuse("picture entry", second.name, "its id is given twice")


def _note_ids(what: str, things: ById[Any], findings: Findings) -> None:
    if things.by_value:
        text = f"{things.by_value} {what} are written otherwise where they are used: told by value"
        findings.note("id", "", text)
    for id_ in dict.fromkeys(things.ambiguous):
        text = f"{what}: {id_!r} is the name of one and the id of another: taken as the name"
        findings.note("id", "", text)
