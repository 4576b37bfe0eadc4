"""Turn Datumaro's own files into what COCO files hold."""

from __future__ import annotations

from typing import Any

from tracker.files import JsonObject
from tracker.train.labels.coco_labels import NO_OUTLINE
from tracker.train.labels.shapes import around, ellipse
from tracker.train.labels.values import listed


def is_datumaro(content: JsonObject) -> bool:
    """Tell whether a JSON object is Datumaro's."""
    return isinstance(content.get("items"), list) and isinstance(content.get("categories"), dict)


def as_coco(content: JsonObject) -> JsonObject:
    """Return COCO's lists of a Datumaro file; those of one label and group are one object."""
    labels = content["categories"].get("label")
    entries = listed(labels.get("labels")) if isinstance(labels, dict) else None
    names = [item.get("name") if isinstance(item, dict) else item for item in entries or []]
    images: list[JsonObject] = []
    annotations: list[JsonObject] = []
    for number, item in enumerate(content["items"]):
        if isinstance(item, dict):
            images.append(_image(number, item))
            annotations += _objects(number, item)
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _image(number: int, item: JsonObject) -> JsonObject:
    image = item.get("image")
    image = image if isinstance(image, dict) else {}
    size = image.get("size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (None, None)
    name = image.get("path") or f"{item.get('id', number)}.jpg"
    return {"id": number, "file_name": str(name), "width": width, "height": height}


def _objects(number: int, item: JsonObject) -> list[JsonObject]:
    found: dict[Any, JsonObject] = {}
    for place, one in enumerate(listed(item.get("annotations")) or []):
        if not isinstance(one, dict) or one.get("type") in ("label", "caption", "points"):
            continue
        group = one.get("group")
        key = (one.get("label_id"), f"group {group}") if group else place
        attributes = one.get("attributes")
        crowd = attributes.get("is_crowd", False) if isinstance(attributes, dict) else False
        known = found.setdefault(
            key,
            {
                "id": f"{item.get('id', number)}:{place}",
                "image_id": number,
                "category_id": one.get("label_id"),
                "iscrowd": crowd,
                "segmentation": [],
            },
        )
        _add_outline(known, one)
    return list(found.values())


def _add_outline(known: JsonObject, one: JsonObject) -> None:
    """Add the outline of an annotation to its object, or say why there is none."""
    kind, points = one.get("type"), one.get("points")
    outline = {"polygon": points, "mask": one.get("rle"), "ellipse": ellipse(points)}.get(str(kind))
    if kind == "bbox":
        known["bbox"] = one.get("bbox")
    elif outline is not None:
        known["segmentation"].append(outline)
    else:
        known["bbox"] = around(points)
        known[NO_OUTLINE] = f"a {kind!s:.20} has no area: draw a polygon"
