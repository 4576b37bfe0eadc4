"""Read COCO instance labels: polygons, RLE, crowds; each mistake is found, with file and id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from tracker.errors import FormatError
from tracker.files import JsonObject, read_json
from tracker.masks import rle_to_mask
from tracker.train.samples import BACKGROUND, Dataset, Instance, Problem, Sample

_FOLDERS = ("", "images", "frames", "JPEGImages", "train2017", "val2017", "train", "val")
_FARTHEST = 4  # picture sizes that a corner may lie outside
_LARGEST_SIDE = 1 << 16  # px of a picture
_MOST_POINTS = 500  # of a polygon that is looked at for crossings: the test is quadratic


def read(path: Path, pictures: Path | None = None, content: JsonObject | None = None) -> Dataset:
    """Read a COCO file; pictures lie in `pictures`, or are looked for beside the file.

    A crowd whose category is 0 is one of any category. `content` is what the file holds, where it
    has been read already.

    Objects and pictures that cannot be used are left out and told as problems. Raises FormatError
    where the file as a whole is none.
    """
    content = read_json(path) if content is None else content
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise FormatError(f"{path}: is no COCO instance file: it has no list {key!r}")
    problems: list[Problem] = []

    def tell(id_: object, text: str, *, fatal: bool = True) -> None:
        problems.append(Problem(str(path), str(id_), text, fatal))

    labels, names = read_categories(content["categories"], tell)
    images = _by_id(content["images"], "image", tell)
    objects: dict[Any, list[Instance]] = {id_: [] for id_ in images}
    seen: set[Any] = set()
    for number, item in enumerate(content["annotations"]):
        try:
            name = f"annotation {item['id']}"
            again = item["id"] in seen
            seen.add(item["id"])
            image, category = images.get(item.get("image_id")), item.get("category_id")
            crowd = bool(item.get("iscrowd", 0))
            label = labels.get(category, 0 if crowd and category == 0 else None)
        except (AttributeError, KeyError, TypeError):
            tell(f"annotation {number} (from 0)", f"is malformed: {item!r:.60}")
            continue
        if again:
            tell(name, "its id is given twice")
        elif image is None:
            tell(name, f"image_id {item.get('image_id')!r} is none of the images")
        elif label is None:
            tell(name, f"category_id {category!r} is none of the categories")
        else:
            rle, faults, fatal = to_rle(
                item.get("segmentation"), int(image["width"]), int(image["height"])
            )
            for fault in faults:
                tell(name, fault, fatal=fatal)
            if rle is not None:
                objects[item["image_id"]].append(Instance(str(item["id"]), label, rle, crowd))
    root = PictureFinder(path, pictures)
    samples = tuple(
        Sample(
            path=root.find(str(image["file_name"])),
            width=int(image["width"]),
            height=int(image["height"]),
            instances=tuple(objects[id_]),
            group=str(image.get("video") or image.get("video_id") or ""),
        )
        for id_, image in images.items()
    )
    return Dataset(samples, (BACKGROUND, *names), tuple(problems))


def to_rle(segmentation: Any, width: int, height: int) -> tuple[JsonObject | None, list[str], bool]:
    """Return an object's RLE, or None; what is wrong with it; whether it cannot be used."""
    try:
        if isinstance(segmentation, dict):
            if [int(v) for v in segmentation["size"]] != [height, width]:
                return (
                    None,
                    [f"its RLE has size {segmentation['size']}, not {[height, width]}"],
                    True,
                )
            if not rle_to_mask(segmentation).area:  # also checks the runs
                return None, ["its mask is empty"], True
            if isinstance(segmentation["counts"], list):
                segmentation = coco.frPyObjects(segmentation, height, width)
            return _plain(segmentation), [], False
        if not isinstance(segmentation, list) or not segmentation:
            return None, ["has no segmentation"], True
        polygons = [np.asarray(part, np.float64).reshape(-1, 2) for part in segmentation]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as exc:
        return None, [f"its segmentation is malformed ({exc!s:.80})"], True
    if any(len(part) < 3 or not np.isfinite(part).all() for part in polygons):
        return None, ["a polygon has fewer than three points, or some that are not finite"], True
    farthest = max(float(np.abs(part).max()) for part in polygons)
    if farthest > _FARTHEST * max(width, height):  # pycocotools walks along every side
        return None, ["its polygon lies far outside the picture"], True
    rle = coco.merge(coco.frPyObjects([part.ravel().tolist() for part in polygons], height, width))
    if not coco.area(rle):
        return None, ["its polygon is empty"], True
    faults = []
    if any(crosses_itself(part) for part in polygons):
        faults.append("its polygon crosses itself")
    low = min(float(part.min()) for part in polygons)
    far = np.max([part.max(axis=0) for part in polygons], axis=0)
    if low < -1 or far[0] > width + 1 or far[1] > height + 1:
        faults.append("its polygon leaves the picture")
    return _plain(rle), faults, False


def crosses_itself(polygon: npt.NDArray[np.float64]) -> bool:
    """Tell whether two sides of a polygon (N, 2) properly cross; touching is no crossing."""
    n = len(polygon)
    if n < 4 or n > _MOST_POINTS:
        return False
    start, end = polygon, np.roll(polygon, -1, axis=0)

    def side(p: npt.NDArray[Any], q: npt.NDArray[Any], r: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the sign of the turn p -> q -> r, pairwise, (N, N)."""
        d, e = (q - p)[:, None], r[None] - p[:, None]
        turn: npt.NDArray[Any] = np.sign(d[..., 0] * e[..., 1] - d[..., 1] * e[..., 0])
        return turn

    a, b = side(start, end, start), side(start, end, end)
    apart = a * b < 0  # the ends of side j lie on different sides of side i
    return bool((apart & apart.T).any())


def _plain(rle: JsonObject) -> JsonObject:
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(v) for v in rle["size"]], "counts": text}


def read_categories(items: list[Any], tell: Any) -> tuple[dict[Any, int], list[str]]:
    """Return COCO's category id -> label from 1, and the names in this order."""
    labels: dict[Any, int] = {}
    names: list[str] = []
    for item in items:
        if (
            not isinstance(item, dict)
            or not isinstance(item.get("id"), int)
            or not item.get("name")
        ):
            tell("", f"a category has no id or no name: {item!r:.60}")
        elif item["id"] in labels:
            tell(f"category {item['id']}", "its id is given twice")
        else:
            if item["name"] not in names:
                names.append(str(item["name"]))
            labels[item["id"]] = names.index(str(item["name"])) + 1
    return labels, names


def _by_id(items: list[Any], kind: str, tell: Any) -> dict[Any, JsonObject]:
    found: dict[Any, JsonObject] = {}
    for item in items:
        try:
            id_ = item["id"]
            sides = (int(item["width"]), int(item["height"]))
            usable = bool(item["file_name"]) and 0 < min(sides) <= max(sides) <= _LARGEST_SIDE
            hash(id_)
        except (KeyError, TypeError, ValueError, OverflowError):
            usable, id_ = False, item.get("id", "") if isinstance(item, dict) else ""
        if not usable:
            tell(f"{kind} {id_}", "needs an id, a file_name, a width and a height")
        elif id_ in found:
            tell(f"{kind} {id_}", "its id is given twice")
        else:
            found[id_] = item
    return found


class PictureFinder:
    """Where the pictures of a label file lie."""

    def __init__(self, path: Path, pictures: Path | None) -> None:
        parents = (path.parent, path.parent.parent)
        folders = [parent / name for parent in parents for name in _FOLDERS]
        # Of instances_val2017.json's pictures, val2017/ is looked through before train2017/.
        folders.sort(key=lambda folder: not (folder.name and folder.name in path.stem))
        self._folders = [pictures] if pictures else folders
        self._last = self._folders[0]  # where the last one was: most lie together

    def find(self, name: str) -> Path:
        """Return the path of a picture, of a missing one where it was looked for first."""
        for folder in (self._last, *self._folders):
            try:
                if (folder / name).is_file():
                    self._last = folder
                    return folder / name
            except (OSError, ValueError):  # a name that no file system takes
                break
        return self._folders[0] / name
