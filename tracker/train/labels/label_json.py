"""Read the JSON of a label file, and name what else the file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tracker.errors import FormatError
from tracker.files import LARGEST_JSON, JsonObject
from tracker.train.picture_file import SUFFIXES

_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_VIDEOS = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"}


class OtherFormError(FormatError):
    """A file that is sound, but no labels in a form that is read."""


def read_label_json(path: Path) -> JsonObject:
    """Read a JSON object; NaN and infinite numbers are what one item may hold, not the file's end.

    Raises FormatError, which names the encoding, the packing, or the form that the file has;
    OtherFormError for JSON that is no object.
    """
    content = _parse(path, _read_bytes(path))
    if isinstance(content, list) and len(content) == 1 and "images" in _keys(content[0]):
        content = content[0]
    if not isinstance(content, dict):
        raise OtherFormError(f"{path}: must hold a JSON object, {_what_list(content)}")
    return content


def name_form(content: JsonObject) -> str:
    """Say whose form an object is that holds no COCO lists, and what to do; empty if unknown."""
    first = next(iter(content.values()), None)
    if "_via_img_metadata" in content or "regions" in _keys(first):
        return "it is VGG Image Annotator's own form: export it as COCO"
    if {"objects", "size"} <= content.keys():
        return "it is one picture of Supervisely: give the project's folder"
    if "images" in content and "categories" in content:
        return "it has no annotations: is it the list of the test pictures?"
    if isinstance(content.get("samples"), list):
        return "it is FiftyOne's own form: export it as COCODetectionDataset"
    if "features" in content:
        return "it is GeoJSON: export COCO, in px of the pictures"
    return ""


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise FormatError(f"{path}: is larger than {LARGEST_JSON} bytes; split it")
        return path.read_bytes()
    except OSError as exc:
        raise FormatError(f"{path}: cannot be read: {exc.strerror}") from exc


def _parse(path: Path, data: bytes) -> Any:
    what = _what_file(path, data)
    if what:
        raise FormatError(f"{path}: {what}")
    for start, name in _PACKED.items():
        if data.startswith(start):
            raise FormatError(f"{path}: is packed ({name}); unpack it and give what was in it")
    try:
        return json.loads(data)
    except UnicodeDecodeError as exc:
        raise FormatError(
            f"{path}: is not UTF-8 text (byte 0x{data[exc.start]:02x} at {exc.start}); save it as "
            "UTF-8, it may be Latin-1 or another encoding of one country"
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{path}: is not valid JSON{_hint(data)}: {exc}") from exc


def _what_file(path: Path, data: bytes) -> str:
    """Say what a file is that is plainly no JSON, and what to do; empty where it may be."""
    suffix = path.suffix.lower()
    if not data.strip():
        return "is empty: export the labels anew"
    if data.startswith(b"version https://git-lfs"):
        return "is not the file, but Git LFS's pointer to it: fetch it with `git lfs pull`"
    if suffix in SUFFIXES:
        return "is a picture: give the label file, or the folder with the labels"
    if suffix in _VIDEOS:
        return "is a video: training takes labelled pictures; give the labels' file or folder"
    if suffix in (".yaml", ".yml"):
        return "is YAML, maybe YOLO's: export the labels as COCO and give that file"
    if suffix in (".csv", ".tsv", ".txt"):
        return f"is a table or text ({suffix}): export the labels as COCO and give that file"
    return ""


def _hint(data: bytes) -> str:
    start = data.lstrip()[:1]
    if start == b"<":
        return " but XML (export COCO, or VOC with SegmentationObject/)"
    try:
        json.loads(data.lstrip().partition(b"\n")[0])
    except (ValueError, RecursionError):
        return ""
    return " but one JSON value a line (join them to one object with images and annotations)"


def _what_list(content: Any) -> str:
    keys = _keys(content[0]) if isinstance(content, list) and content else set()
    if {"file_name", "annotations"} <= keys:
        return "not Detectron2's list of dicts: write it by its convert_to_coco_json"
    if {"image", "id"} <= keys:
        return "not Label Studio's JSON-MIN: export it as COCO"
    if "data" in keys:
        return "not Label Studio's own list: export it as COCO"
    if "score" in keys:
        return "not COCO results: those are a detector's; labels have images and categories too"
    if "image_id" in keys:
        return (
            "not a list of annotations alone: put it under `annotations`, beside `images` and "
            "`categories`"
        )
    return "with the lists images, annotations and categories"


def _keys(value: Any) -> set[str]:
    return set(value) if isinstance(value, dict) else set()
