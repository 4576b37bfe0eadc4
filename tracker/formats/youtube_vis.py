"""YouTube-VIS JSON: one video, one annotation a track with a mask or null for each frame.

"length" is the number of the last frame + 1, so position = frame index. Masks are RLE with plain
counts, as in the data set: some readers take no others. Beyond the standard fields, the video
carries "times" (s, null for frames that were not logged), annotations "scores" and "track_boxes"
(the tracker's; `bboxes` are the masks').
Source: youtube-vos.org/dataset/vis.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tracker.errors import FormatError
from tracker.files import JsonObject, new_file, read_json
from tracker.formats.coco import (
    categories_json,
    check_one_video,
    info_from_json,
    info_json,
    mask_box,
)
from tracker.formats.rows import Row, ids_from_one, need_size, to_rows, to_tracks
from tracker.masks import Rle, mask_to_rle, plain_counts, rle_to_mask
from tracker.types import LoggedFrame, TrackLog

SUFFIX = ".json"
_PER_FRAME = ("segmentations", "bboxes", "areas", "scores", "predicted", "track_boxes")


@dataclass(slots=True)
class Collected:
    """A log by track, as the format wants it: of each frame that has it, a value."""

    width: int  # px
    height: int  # px
    times: list[float | None] = field(default_factory=list)  # s; None where nothing was logged
    tracks: dict[int, JsonObject] = field(default_factory=dict)

    def listed(self, id_: int, key: str) -> list[Any]:
        """Return what a track has of `_PER_FRAME`, null where it is not there."""
        values = self.tracks[id_][key]
        return [values.get(index) for index in range(len(self.times))]


def collect(log: TrackLog, path: Path) -> Collected:
    """Read a whole log; raise SinkError where it does not tell the frames' size.

    The RLE of all frames lie in memory at the end.
    """
    found = Collected(log.info.width, log.info.height)
    for frame in log.frames:
        need_size(path, frame.width, frame.height, "YouTube-VIS")
        found.width, found.height = found.width or frame.width, found.height or frame.height
        found.times += [None] * (frame.index - len(found.times)) + [round(frame.time, 6)]
        for row in to_rows(frame.tracks):
            track = found.tracks.setdefault(row.id, {key: {} for key in _PER_FRAME})
            track["category_id"] = row.label  # the vote of the track's whole life
            x1, y1, x2, y2 = row.box
            rle = mask_to_rle(row.mask, frame.width, frame.height) if row.mask else None
            box = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            values = (
                rle,
                mask_box(row.mask, frame) if row.mask else box,
                row.mask.area if row.mask else None,
                row.score,
                row.source < 0,
                box,
            )
            for key, value in zip(_PER_FRAME, values, strict=True):
                track[key][frame.index] = value
    return found


def write(log: TrackLog, path: Path) -> list[str]:
    """Write a log; raise SinkError, also where it does not tell the frames' size."""
    found, info = collect(log, path), log.info
    names = [f"{index:06d}.jpg" for index in range(len(found.times))]
    video = {
        "id": 1,
        "width": found.width,
        "height": found.height,
        "length": len(found.times),
        "file_names": names,
        "times": found.times,
    }
    labels = {track["category_id"] for track in found.tracks.values()}
    content = {
        "info": info_json(info),
        "videos": [video],
        "categories": categories_json(info, labels),
        "annotations": [_annotation(found, id_) for id_ in sorted(found.tracks)],
    }
    with new_file(path) as file:
        json.dump(content, file)
    return []


def _annotation(found: Collected, id_: int) -> JsonObject:
    listed = {key: found.listed(id_, key) for key in _PER_FRAME}
    return {
        "id": id_,
        "video_id": 1,
        "category_id": found.tracks[id_]["category_id"],
        "iscrowd": 0,
        "width": found.width,
        "height": found.height,
        **listed,
        "segmentations": [rle and _plain(rle) for rle in listed["segmentations"]],
    }


def _plain(rle: Rle) -> Rle:
    return {"size": rle["size"], "counts": plain_counts(rle)}


def read(path: Path) -> TrackLog:
    """Read a log of one video. Raises FormatError."""
    content = read_json(path)
    check_one_video(path, content)
    try:
        info = info_from_json(content)
        video = content["videos"][0]
        length = int(video["length"])
        rows: dict[int, list[Row]] = {}
        for item in content["annotations"]:
            if item["video_id"] == video["id"]:
                for index, row in _rows(item):
                    if index >= length:
                        raise ValueError(f"annotation {item['id']} goes beyond the video's length")
                    rows.setdefault(index, []).append(row)
        notes = ids_from_one(rows.values())
        frames = list(_frames(video, rows))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as exc:
        raise FormatError(f"{path}: is malformed: {exc!r}") from exc
    if not info.width * info.height:
        info = replace(info, width=int(video["width"]), height=int(video["height"]))
    return TrackLog(info, frames, tuple(notes))


def _rows(item: JsonObject) -> Iterator[tuple[int, Row]]:
    boxes = item.get("track_boxes") or item.get("bboxes") or [None] * len(item["segmentations"])
    for index, (rle, box) in enumerate(zip(item["segmentations"], boxes, strict=True)):
        if rle is None and box is None:
            continue
        mask = rle_to_mask(rle) if rle is not None else None
        if box is not None:
            x, y, w, h = (float(v) for v in box)
            corners = (x, y, x + w, y + h)
        else:
            x1, y1, x2, y2 = mask.box if mask else (0, 0, 0, 0)
            corners = (float(x1), float(y1), float(x2), float(y2))
        score = item["scores"][index] if "scores" in item else item.get("score")
        predicted = bool(item["predicted"][index]) if "predicted" in item else False
        yield (
            index,
            Row(
                id=int(item["id"]),
                label=int(item["category_id"]),
                score=1.0 if score is None else float(score),
                box=corners,
                mask=mask,
                source=-1 if predicted else 0,
            ),
        )


def _frames(video: JsonObject, rows: dict[int, list[Row]]) -> Iterator[LoggedFrame]:
    times = video.get("times") or [index / 25 for index in range(int(video["length"]))]
    for index, time in enumerate(times):
        if time is not None:
            yield LoggedFrame(
                index,
                float(time),
                int(video["width"]),
                int(video["height"]),
                to_tracks(rows.get(index, [])),
            )
