"""COCO instance JSON: images, annotations with RLE masks, categories.

Beyond the standard fields, images carry "frame" and "time" (s), annotations "track_id", "score",
"predicted" and "track_box" (the tracker's; `bbox` is the mask's), so that a log survives the round
trip; "attributes" tell CVAT which track an object is of. Of other tools' files, the id may be there
or be called "instance_id". Source: cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracker.errors import FormatError
from tracker.files import JsonObject, new_file, read_json
from tracker.formats.numbers import NAMELESS
from tracker.formats.rows import (
    Row,
    ids_from_one,
    need_size,
    to_rows,
    to_tracks,
    whole_number,
)
from tracker.masks import Mask, mask_to_rle, rle_to_mask
from tracker.types import LoggedFrame, LogInfo, TrackLog

SUFFIX = ".json"
_TRACK_IDS = ("track_id", "instance_id", "tracking_id", "object_id")


def write(log: TrackLog, path: Path) -> list[str]:
    """Write a log, one image entry a frame, streaming: a long log never lies in memory.

    Raises SinkError, also for a log that does not tell the frames' size.
    """
    annotations = path.with_name(path.name + ".annotations.part")
    count = 0
    labels: set[int] = set()
    try:
        with new_file(path) as file, annotations.open("w+", encoding="utf-8") as aside:
            file.write('{"images": [')
            for number, frame in enumerate(log.frames):
                need_size(path, frame.width, frame.height, "COCO")
                labels.update(frame.tracks.labels.tolist())
                file.write((",\n" if number else "") + json.dumps(image_json(frame)))
                for row in to_rows(frame.tracks):
                    count += 1
                    text = json.dumps(annotation_json(row, frame, count))
                    aside.write((",\n" if count > 1 else "") + text)
            file.write('],\n"annotations": [')
            aside.seek(0)
            while chunk := aside.read(1 << 20):
                file.write(chunk)
            file.write('],\n"categories": ' + json.dumps(categories_json(log.info, labels)))
            file.write(',\n"info": ' + json.dumps(info_json(log.info)) + "}\n")
    finally:
        annotations.unlink(missing_ok=True)
    return []


def read(path: Path) -> TrackLog:
    """Read a log of one video; annotations without a track_id are refused. Raises FormatError."""
    content = read_json(path)
    check_one_video(path, content)
    try:
        info = info_from_json(content)
        by_image: dict[int, list[Row]] = {}
        for item in content["annotations"]:
            by_image.setdefault(int(item["image_id"]), []).append(_row(item))
        notes = ids_from_one(by_image.values())
        images = sorted(content["images"], key=lambda item: int(item.get("frame", item["id"])))
        frames = list(_frames(images, by_image, info))
    except ValueError as exc:
        raise FormatError(f"{path}: {exc}") from exc
    except (KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise FormatError(f"{path}: is malformed: {exc!r}") from exc
    if frames and not info.width * info.height:
        info = replace(info, width=frames[0].width, height=frames[0].height)
    return TrackLog(info, frames, tuple(notes))


def categories_json(info: LogInfo, labels: Iterable[int] = ()) -> list[JsonObject]:
    """Return COCO's categories, ids are the labels; of `labels` also those without a name.

    A place in the list that holds no class, as the background's, is left out unless it is used.
    """
    names = dict(enumerate(info.categories))
    used = set(labels)
    known = {label for label, name in names.items() if name not in NAMELESS}
    return [{"id": label, "name": names.get(label) or str(label)} for label in sorted(known | used)]


def info_json(info: LogInfo) -> JsonObject:
    """Return what LogInfo knows and COCO has no field for."""
    return {
        "description": info.source,
        "width": info.width,
        "height": info.height,
        "rate": str(info.rate) if info.rate else None,
        "labels": list(info.categories),
    }


def info_from_json(content: JsonObject) -> LogInfo:
    """Return LogInfo from `info_json`, or from the categories of somebody else's file."""
    from fractions import Fraction

    info = content.get("info") or {}
    names = {int(item["id"]): str(item["name"]) for item in content.get("categories", [])}
    if max(names, default=0) > 100_000:
        raise ValueError(f"category id {max(names)} is out of range")
    by_id = [names.get(label, "N/A") for label in range(max(names, default=-1) + 1)]
    return LogInfo(
        width=int(info.get("width") or 0),
        height=int(info.get("height") or 0),
        categories=tuple(map(str, info.get("labels") or by_id)),
        rate=Fraction(info["rate"]) if info.get("rate") else None,
        source=str(info.get("description") or ""),
    )


def image_json(frame: LoggedFrame) -> JsonObject:
    """Return COCO's entry of one frame."""
    image: JsonObject = {
        "id": frame.index + 1,
        "file_name": f"{frame.index:06d}.jpg",
        "width": frame.width,
        "height": frame.height,
        "frame": frame.index,
        "time": round(frame.time, 6),
    }
    return image | ({"suspect": True} if frame.suspect else {})


def annotation_json(row: Row, frame: LoggedFrame, number: int) -> JsonObject:
    """Return COCO's entry of one object; `number` is its id in the file."""
    x1, y1, x2, y2 = row.box
    box = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
    item: JsonObject = {
        "id": number,
        "image_id": frame.index + 1,
        "category_id": row.label,
        "track_id": row.id,
        "bbox": box,
        "area": row.mask.area if row.mask else round((x2 - x1) * (y2 - y1), 2),
        "iscrowd": 0,
        "score": row.score,
        "predicted": row.source < 0,
        "attributes": {"track_id": row.id, "keyframe": True, "occluded": row.source < 0},
    }
    if row.mask is not None:
        item["segmentation"] = mask_to_rle(row.mask, frame.width, frame.height)
        item["bbox"] = mask_box(row.mask, frame)
        item["track_box"] = box
    return item


def mask_box(mask: Mask, frame: LoggedFrame) -> list[int]:
    """Return x, y, width and height of what a mask has in its frame, px."""
    left, top, right, bottom = mask.clipped(frame.width, frame.height).tight().box
    return [left, top, right - left, bottom - top]


def check_one_video(path: Path, content: JsonObject) -> None:
    """Raise FormatError for a file of several videos, whose frames and tracks would be mixed."""
    videos = content.get("videos")
    images = content.get("images")
    listed = {str(one.get("id")) for one in _objects(videos)}
    used = {str(one["video_id"]) for one in _objects(images) if "video_id" in one}
    number = max(len(listed), len(used))
    if number > 1:
        raise FormatError(f"{path}: holds {number} videos, a log is of one; make a file of each")


def _objects(items: Any) -> list[JsonObject]:
    return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []


def _track_id(item: JsonObject) -> int:
    """Return the track of an annotation, by any of its usual names; raise ValueError."""
    attributes = item.get("attributes")
    for place in (item, attributes if isinstance(attributes, dict) else {}):
        for name in _TRACK_IDS:
            if place.get(name) is not None:
                return whole_number(name, place[name])
    number = item.get("id")
    raise ValueError(f"annotation {number} has no track_id: which object it is in other frames")


def _row(item: JsonObject) -> Row:
    x, y, w, h = (float(v) for v in item.get("track_box") or item["bbox"])
    segmentation = item.get("segmentation")
    return Row(
        id=_track_id(item),
        label=int(item["category_id"]),
        score=1.0 if item.get("score") is None else float(item["score"]),
        box=(x, y, x + w, y + h),
        mask=rle_to_mask(segmentation) if isinstance(segmentation, dict) else None,
        source=-1 if item.get("predicted") else 0,
    )


def _frames(
    images: list[JsonObject], by_image: dict[int, list[Row]], info: LogInfo
) -> Iterator[LoggedFrame]:
    for position, image in enumerate(images):
        index = int(image.get("frame", position))
        yield LoggedFrame(
            index=index,
            time=float(image.get("time", index / 25)),
            width=int(image.get("width") or info.width),
            height=int(image.get("height") or info.height),
            tracks=to_tracks(by_image.get(int(image["id"]), [])),
            suspect=bool(image.get("suspect", False)),
        )
